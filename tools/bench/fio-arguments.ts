// What fio is told. No I/O.
//
// What its nbd engine does, seen with fio 3.33:
// - --runtime is kept to a few milliseconds; commands in flight at the end are waited for.
// - --fsync=1 at QD 1 sends one NBD flush after each write.
// - --fsync=N at QD > 1 does not send one flush in N writes: fio learns of a flush only when it
//   completes, and until then fills its queue with more: about as many flushes as writes. Such a
//   load is replayed from a log of requests instead, which holds each flush where it belongs.
// - --fdatasync is not known to the engine: the run ends at the first one.
// - a write's latency leaves out the flush after it; flushes are counted apart.

import type { FioWork } from './loads.ts';
import type { Target } from './peer.ts';
import { isReplayed } from './replay-log.ts';

const READ_PERCENT = 70;

export interface FioRun {
  /** Several are worked on at once. */
  readonly targets: readonly Target[];
  readonly volumeBytes: number;
  readonly seconds: number;
  readonly seed: number;
  /** The log of a load that is replayed. */
  readonly replayLog: string;
  /** Requests a second at most, of each client; no bound if there is none. */
  readonly rateIops?: number;
}

export function fioArguments(work: FioWork, run: FioRun): string[] {
  const args = [
    `--rw=${work.rw}`,
    `--bs=${work.blockBytes}`,
    `--iodepth=${work.depth}`,
    `--randseed=${run.seed}`,
    // Every block stays as likely as any other, however often it was written.
    '--norandommap',
    `--runtime=${run.seconds}`,
  ];
  if (work.once !== true) args.push('--time_based');
  if (work.rw === 'randrw') args.push(`--rwmixread=${READ_PERCENT}`, '--unified_rw_reporting=mixed');
  if (run.rateIops !== undefined) args.push(`--rate_iops=${run.rateIops}`);
  if (work.clients > 1) {
    // Each client has a part of its own.
    const part = Math.floor(run.volumeBytes / work.clients / work.blockBytes) * work.blockBytes;
    args.push(`--numjobs=${work.clients}`, `--offset_increment=${part}`, `--size=${part}`);
  }
  if (isReplayed(work)) args.push(`--read_iolog=${run.replayLog}`);
  else if (work.flushEvery > 0) args.push(`--${flushOption(run.targets)}=${work.flushEvery}`);
  return jobArguments(run.targets, args);
}

/** `args` for a job on each target, reported as one. */
export function jobArguments(targets: readonly Target[], args: readonly string[]): string[] {
  const reported = [
    '--group_reporting',
    '--lat_percentiles=1',
    '--clat_percentiles=0',
    '--percentile_list=50:99:99.9',
    '--output-format=json',
    '--eta=never',
    '--verify_state_save=0',
  ];
  const jobs = targets.flatMap((target, i) =>
    target.kind === 'nbd'
      ? [`--name=bench${i}`, '--ioengine=nbd', `--uri=${target.uri}`]
      : [`--name=bench${i}`, '--ioengine=psync', `--filename=${target.path}`],
  );
  return [...reported, ...args, ...jobs];
}

function flushOption(targets: readonly Target[]): string {
  return targets.every(({ kind }) => kind === 'file') ? 'fdatasync' : 'fsync';
}
