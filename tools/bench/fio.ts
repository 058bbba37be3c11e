// One run of fio's nbd engine, and what is kept of its JSON.
//
// What that engine does, seen with fio 3.33:
// - --runtime is kept to a few milliseconds; commands in flight at the end are waited for.
// - --fsync=1 at QD 1 sends one NBD flush after each write.
// - --fsync=N at QD > 1 does not send one flush in N writes: fio learns of a flush only when it
//   completes, and until then fills its queue with more: about as many flushes as writes. Such a
//   load is replayed from a log of requests instead, which holds each flush where it belongs.
// - --fdatasync is not known to the engine: the run ends at the first one.
// - a write's latency leaves out the flush after it; flushes are counted apart.
// - the JSON is preceded by lines that are none.

import type { ChildProcess } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { startChild, runCommand } from './children.ts';
import type { Load } from './loads.ts';

export interface Latency {
  p50Us: number;
  p99Us: number;
  p999Us: number;
}

export interface Measurement {
  iops: number;
  megabytesPerSecond: number;
  latency: Latency;
  /** Absent from loads that do not flush. */
  flush?: Latency & { count: number };
  runtimeMs: number;
  /** Share of one CPU that fio itself used: near 100, the client is what was measured. */
  clientCpuPercent: number;
}

interface FioLatency {
  percentile?: Record<string, number>;
}

interface FioDirection {
  iops: number;
  bw_bytes: number;
  runtime: number;
  lat_ns: FioLatency;
}

interface FioJob {
  error: number;
  read: FioDirection;
  write: FioDirection;
  sync: { total_ios: number; lat_ns: FioLatency };
  usr_cpu: number;
  sys_cpu: number;
}

// What fio may take beyond its runtime, to connect and to drain: a server that hangs is an error.
const OVERTIME_MS = 60_000;
// Filling a volume and writing it back is bounded by the disk, not by a runtime.
const FILL_TIMEOUT_MS = 20 * 60_000;
const VERIFY_BYTES = 8 << 20;
// More than any server here answers: a replayed log must outlast the runtime.
const REPLAYED_WRITES_PER_SECOND = 150_000;

/** Writes the whole volume once, in sequence, and flushes it. */
export async function fillVolume(uri: string, cwd: string): Promise<void> {
  await runFio(uri, ['--rw=write', '--bs=1M', '--iodepth=8', '--end_fsync=1'], FILL_TIMEOUT_MS, cwd);
}

/** Writes blocks at random, reads them back and compares. @throws when a block differs. */
export async function verifyVolume(uri: string, cwd: string): Promise<void> {
  const args = ['--rw=randwrite', '--bs=4k', '--iodepth=32', `--size=${VERIFY_BYTES}`, '--verify=crc32c'];
  await runFio(uri, [...args, '--do_verify=1', '--verify_fatal=1'], OVERTIME_MS, cwd);
}

/** Starts a trickle of random writes that lasts until it is stopped with SIGINT. */
export function startTrickle(uri: string, cwd: string): ChildProcess {
  const args = ['--rw=randwrite', '--bs=4k', '--rate_iops=1000', '--time_based', '--runtime=3600'];
  return startChild('fio', fioArgs(uri, args), 'ignore', cwd);
}

/** Requires: `replayLog` is the log for this load when the load is replayed. */
export async function measureLoad(
  load: Load,
  run: { uri: string; seconds: number; seed: number; replayLog: string; cwd: string },
): Promise<Measurement> {
  const args = [
    `--rw=${load.rw}`,
    `--bs=${load.blockBytes}`,
    `--iodepth=${load.depth}`,
    `--randseed=${run.seed}`,
    // Every block stays as likely as any other, however often it was written.
    '--norandommap',
    '--time_based',
    `--runtime=${run.seconds}`,
  ];
  if (isReplayed(load)) args.push(`--read_iolog=${run.replayLog}`);
  else if (load.flushEvery > 0) args.push(`--fsync=${load.flushEvery}`);

  const job = await runFio(run.uri, args, run.seconds * 1000 + OVERTIME_MS, run.cwd);
  const direction = load.rw.endsWith('read') ? job.read : job.write;
  return {
    iops: direction.iops,
    megabytesPerSecond: direction.bw_bytes / 1e6,
    latency: latencyOf(direction.lat_ns),
    ...(load.flushEvery > 0 ? { flush: { count: job.sync.total_ios, ...latencyOf(job.sync.lat_ns) } } : {}),
    runtimeMs: direction.runtime,
    clientCpuPercent: job.usr_cpu + job.sys_cpu,
  };
}

export function isReplayed(load: Load): boolean {
  return load.flushEvery > 0 && load.depth > 1;
}

/** Writes the requests of a load that flushes, in fio's iolog version 2. */
export async function writeReplayLog(
  path: string,
  load: Load,
  volumeBytes: number,
  seconds: number,
): Promise<void> {
  const blockCount = Math.floor(volumeBytes / load.blockBytes);
  const lines = ['fio version 2 iolog', 'nbd add', 'nbd open'];
  for (let write = 1; write <= REPLAYED_WRITES_PER_SECOND * seconds; write++) {
    lines.push(`nbd write ${Math.floor(Math.random() * blockCount) * load.blockBytes} ${load.blockBytes}`);
    if (write % load.flushEvery === 0) lines.push('nbd sync 0 0');
  }
  lines.push('nbd close', '');
  await writeFile(path, lines.join('\n'));
}

async function runFio(uri: string, args: string[], timeoutMs: number, cwd: string): Promise<FioJob> {
  const output = await runCommand('fio', fioArgs(uri, args), { cwd, timeoutMs });
  const report = JSON.parse(output.slice(output.search(/^\{/m))) as { jobs: FioJob[] };
  const job = report.jobs[0];
  if (job === undefined || job.error !== 0)
    throw new Error(`fio failed with errno ${job?.error}: ${args.join(' ')}`);
  return job;
}

function fioArgs(uri: string, args: string[]): string[] {
  const measured = ['--lat_percentiles=1', '--clat_percentiles=0', '--percentile_list=50:99:99.9'];
  const quiet = ['--output-format=json', '--eta=never', '--verify_state_save=0'];
  return ['--name=bench', '--ioengine=nbd', `--uri=${uri}`, ...measured, ...quiet, ...args];
}

function latencyOf(latency: FioLatency): Latency {
  const percentileUs = (key: string): number => (latency.percentile?.[key] ?? 0) / 1000;
  return {
    p50Us: percentileUs('50.000000'),
    p99Us: percentileUs('99.000000'),
    p999Us: percentileUs('99.900000'),
  };
}
