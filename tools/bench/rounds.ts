// The rounds of a benchmark: fresh servers, filled volumes, then each load on each peer in turn.
//
// A round in steps:
//  1. every peer starts on an empty directory of its own, is filled, and is verified once
//  2. for each load, the peers run it one after the other, in an order that rotates with the round
//  3. before each run what is dirty in the page cache is written back: no run pays for another
//  4. the servers stop and their directories are removed
//
// A log store only grows: a directory above SCRATCH_BYTES_MAX is made anew before a load without
// snapshots. A peer that fails is left out of the rest of its round, and the failure is kept.

import { mkdir, readdir, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import { runCommand, stopChild } from './children.ts';
import { cpuSeconds } from './cpu.ts';
import { fillVolume, isReplayed, measureLoad, startTrickle, verifyVolume, writeReplayLog } from './fio.ts';
import { type Load, groupLoads, snapshotsRequired } from './loads.ts';
import type { Peer, PeerName, Server } from './peers.ts';
import type { Sample } from './summary.ts';

export const SCRATCH_BYTES_MAX = 8 * 2 ** 30;
// Writing back a few GiB on a slow disk takes minutes.
const WRITE_BACK_TIMEOUT_MS = 20 * 60_000;
// st_blocks is in units of 512 bytes, whatever the file system's block.
const STAT_BLOCK_BYTES = 512;

export interface Plan {
  readonly scratch: string;
  readonly peers: readonly Peer[];
  readonly loads: readonly Load[];
  readonly roundCount: number;
  readonly seconds: number;
  readonly volumeBytes: number;
  /** Aborted when the benchmark is interrupted: what fails after that is no failure of a peer. */
  readonly interrupted: AbortSignal;
}

export interface Failure {
  round: number;
  peer: PeerName;
  load?: string;
  message: string;
}

export interface Outcome {
  samples: Sample[];
  failures: Failure[];
}

/** A peer at work in one round. */
interface Contestant {
  readonly peer: Peer;
  readonly directory: string;
  server: Server;
  snapshotCount: number;
}

/** Measures everything in the plan; `progress` is told of each step. */
export async function runRounds(plan: Plan, progress: (line: string) => void): Promise<Outcome> {
  const outcome: Outcome = { samples: [], failures: [] };
  for (const load of plan.loads.filter(isReplayed)) {
    await writeReplayLog(replayLogOf(plan, load), load, plan.volumeBytes, plan.seconds);
  }
  for (let round = 1; round <= plan.roundCount; round++) {
    await runRound(plan, round, outcome, progress);
  }
  return outcome;
}

async function runRound(
  plan: Plan,
  round: number,
  outcome: Outcome,
  progress: (line: string) => void,
): Promise<void> {
  const fail = (peer: PeerName, error: unknown, load?: Load): void => {
    plan.interrupted.throwIfAborted();
    const message = error instanceof Error ? error.message : String(error);
    outcome.failures.push({ round, peer, message, ...(load === undefined ? {} : { load: load.name }) });
    progress(`round ${round}: ${peer} failed${load === undefined ? '' : ` at ${load.name}`}: ${message}`);
  };

  const contestants = new Map<PeerName, Contestant>();
  for (const peer of rotate(plan.peers, round - 1)) {
    progress(`round ${round}: ${peer.name}: fill`);
    try {
      contestants.set(peer.name, await enter(plan, peer));
    } catch (error) {
      fail(peer.name, error);
    }
  }

  for (const group of groupLoads(plan.loads)) {
    for (const contestant of contestants.values()) {
      const { peer } = contestant;
      for (const load of group) {
        if (snapshotsRequired(load) > peer.snapshotsMax || !contestants.has(peer.name)) continue;
        try {
          const sample = await runLoad(plan, contestant, load, round);
          outcome.samples.push(sample);
          const value = load.unit === 'IOPS' ? sample.iops : sample.megabytesPerSecond;
          progress(`round ${round}: ${peer.name}: ${load.title}: ${Math.round(value)} ${load.unit}`);
        } catch (error) {
          fail(peer.name, error, load);
          contestants.delete(peer.name);
          await leave(contestant).catch((leaving: unknown) => fail(peer.name, leaving));
        }
      }
    }
  }
  for (const contestant of contestants.values()) {
    await leave(contestant).catch((error: unknown) => fail(contestant.peer.name, error));
  }
}

async function enter(plan: Plan, peer: Peer): Promise<Contestant> {
  const directory = path.join(plan.scratch, peer.name);
  // What a failed start left behind.
  await rm(directory, { recursive: true, force: true });
  await mkdir(directory);
  const server = await peer.start(directory, plan.volumeBytes);
  await fillVolume(server.uri, plan.scratch);
  await verifyVolume(server.uri, plan.scratch);
  return { peer, directory, server, snapshotCount: 0 };
}

async function leave(contestant: Contestant): Promise<void> {
  try {
    await contestant.server.stop();
  } finally {
    await rm(contestant.directory, { recursive: true, force: true });
  }
}

async function runLoad(plan: Plan, contestant: Contestant, load: Load, round: number): Promise<Sample> {
  if (load.snapshots === 0 && (await directoryBytes(contestant.directory)) > SCRATCH_BYTES_MAX) {
    await leave(contestant);
    Object.assign(contestant, await enter(plan, contestant.peer));
  }
  // All snapshots but the last come before the write back, the last one immediately before the run.
  await raiseSnapshots(plan, contestant, load.snapshots - 1);
  await writeBack(plan.scratch);
  await raiseSnapshots(plan, contestant, load.snapshots);

  const { server } = contestant;
  const cpuSecondsBefore = cpuSeconds(server.pid);
  const measurement = await measureLoad(load, {
    uri: server.uri,
    seconds: plan.seconds,
    // The same requests for every peer, others in every round.
    seed: round * plan.loads.length + plan.loads.indexOf(load),
    replayLog: replayLogOf(plan, load),
    cwd: plan.scratch,
  });
  const serverCpuSeconds = cpuSeconds(server.pid) - cpuSecondsBefore;
  return { round, load: load.name, peer: contestant.peer.name, ...measurement, serverCpuSeconds };
}

/** Takes snapshots until there are `count`; when it takes several, blocks are written meanwhile. */
async function raiseSnapshots(plan: Plan, contestant: Contestant, count: number): Promise<void> {
  const missing = count - contestant.snapshotCount;
  if (missing <= 0) return;
  const trickle = missing > 1 ? startTrickle(contestant.server.uri, plan.scratch) : undefined;
  try {
    while (contestant.snapshotCount < count) {
      await contestant.server.snapshot(`s${contestant.snapshotCount + 1}`);
      contestant.snapshotCount += 1;
    }
    if (trickle !== undefined && trickle.exitCode !== null) {
      throw new Error('the writes between snapshots ended early');
    }
  } finally {
    if (trickle !== undefined) await stopChild(trickle, 'SIGINT');
  }
}

async function writeBack(directory: string): Promise<void> {
  await runCommand('sync', ['-f', directory], { timeoutMs: WRITE_BACK_TIMEOUT_MS });
}

async function directoryBytes(directory: string): Promise<number> {
  const entries = await readdir(directory, { recursive: true });
  const sizes = entries.map((entry) =>
    // A file that the server removes meanwhile takes no space.
    stat(path.join(directory, entry)).then(
      (stats) => stats.blocks * STAT_BLOCK_BYTES,
      () => 0,
    ),
  );
  return (await Promise.all(sizes)).reduce((sum, bytes) => sum + bytes, 0);
}

function replayLogOf(plan: Plan, load: Load): string {
  return path.join(plan.scratch, `${load.name}.iolog`);
}

function rotate<T>(items: readonly T[], by: number): T[] {
  const start = by % items.length;
  return [...items.slice(start), ...items.slice(0, start)];
}
