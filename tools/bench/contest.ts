// A peer at work in one stage of a round: its volumes made and filled, loads run on it, everything removed.
//
// Before each run what is dirty in the page cache is written back: no run pays for another.

import { mkdir, rm } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { runCommand, stopChild } from './children.ts';
import { cpuSeconds } from './cpu.ts';
import { fillVolumes, measureFio, replay, scatterWrites, startTrickle, verifyVolumes } from './fio.ts';
import type { Kit } from './kit.ts';
import type { FioWork, Load } from './loads.ts';
import type { Peer, Server, Target } from './peer.ts';
import type { Figures } from './summary.ts';
import { type Stage } from './stages.ts';

// Writing back a few GiB on a slow disk takes minutes.
const WRITE_BACK_TIMEOUT_MS = 20 * 60_000;
/** Random writes between the snapshots of one that has to be stopped for each. */
const SCATTERED_BYTES = 16 * 2 ** 20;
/** So that some of the trickle falls between two snapshots. */
const SNAPSHOT_PAUSE_MS = 3;
/** Done by every server before anything is measured: what it has to compile, open and grow is behind it then. */
const WARM_UP: FioWork = {
  kind: 'fio',
  rw: 'randrw',
  blockBytes: 4096,
  depth: 32,
  flushEvery: 0,
  clients: 1,
};
const WARM_UP_SECONDS = 1;

export interface Entry {
  readonly peer: Peer;
  readonly stage: Stage;
  /** Of the stage that have been asked for. */
  readonly loads: readonly Load[];
  readonly volumeBytes: number;
  readonly kit: Kit;
}

export interface RunOptions {
  readonly seconds: number;
  /** The same requests for every peer, others in every round. */
  readonly seed: number;
  readonly rateIops?: number;
}

export class Contest {
  readonly #entry: Entry;
  readonly #directory: string;
  readonly #server: Server;
  #snapshotCount = 0;

  private constructor(entry: Entry, directory: string, server: Server) {
    this.#entry = entry;
    this.#directory = directory;
    this.#server = server;
  }

  static async enter(entry: Entry): Promise<Contest> {
    const { peer, stage, kit } = entry;
    const directory = path.join(kit.directory, peer.name);
    // What a failed start left behind.
    await rm(directory, { recursive: true, force: true });
    await mkdir(directory);
    const volumeCount = stage.volumeCount + (stage.hasSpare === true ? 1 : 0);
    const server = await peer.start({ directory, volumeCount, volumeBytes: entry.volumeBytes });
    const contest = new Contest(entry, directory, server);
    try {
      await contest.#fill();
      return contest;
    } catch (error) {
      await contest.leave();
      throw error;
    }
  }

  async leave(): Promise<void> {
    try {
      await this.#server.stop();
    } finally {
      await rm(this.#directory, { recursive: true, force: true });
    }
  }

  async run(load: Load, options: RunOptions): Promise<Figures> {
    await this.#makeReady(load, options);
    // All snapshots but the last come before the write back, the last one immediately before the run.
    await this.#raiseSnapshots(load.snapshots - 1);
    await this.#writeBack();
    await this.#raiseSnapshots(load.snapshots);
    const { pids } = this.#server;
    const cpuBefore = cpuSeconds(pids);
    const figures = await this.#measure(load, options);
    return pids.length === 0 ? figures : { ...figures, serverCpuSeconds: cpuSeconds(pids) - cpuBefore };
  }

  /** Makes what a run needs beside servers, so that no run has to. */
  async #makeReady(load: Load, { seconds, seed }: RunOptions): Promise<void> {
    const { kit, stage } = this.#entry;
    const { work } = load;
    if (work.kind === 'fio') await kit.replayLog({ ...load, work }, stage, seconds, seed);
    if (work.kind === 'import') await kit.image();
  }

  /** Those that are measured. */
  get #targets(): readonly Target[] {
    return this.#server.targets.slice(0, this.#entry.stage.volumeCount);
  }

  async #measure(load: Load, options: RunOptions): Promise<Figures> {
    const { kit, stage, volumeBytes } = this.#entry;
    const server = this.#server;
    const { work } = load;
    switch (work.kind) {
      case 'fio': {
        const replayLog = await kit.replayLog({ ...load, work }, stage, options.seconds, options.seed);
        const run = { ...options, targets: this.#targets, volumeBytes, replayLog };
        const measured = await measureFio(work, run, kit.directory);
        return { ...measured, value: load.unit === 'IOPS' ? measured.iops : measured.megabytesPerSecond };
      }
      case 'import': {
        const image = await kit.image();
        return await this.#copy(() => server.importImage(image));
      }
      case 'export':
        return await this.#copy(() => server.exportImage(path.join(this.#directory, 'exported.raw')));
      case 'boot':
        return { value: await kit.guests().boot(() => server.branch(`boot${options.seed}`)) };
      case 'untar':
        return { value: await kit.guests().untar(await server.branch(`untar${options.seed}`)) };
    }
  }

  async #copy(copy: () => Promise<void>): Promise<Figures> {
    const bytes = this.#entry.volumeBytes;
    const began = performance.now();
    await copy();
    return { value: bytes / 1e3 / (performance.now() - began), bytes };
  }

  async #fill(): Promise<void> {
    const { peer, stage, loads, kit } = this.#entry;
    const targets = this.#targets;
    for (const { work } of stage.hasSpare === true ? loads : [])
      if (work.kind === 'fio') await this.#warmUp(work, this.#server.targets.slice(stage.volumeCount));
    if (stage.fill === 'whole') {
      await fillVolumes(targets, kit.directory);
      if (peer.keepsBytes) await verifyVolumes(targets, kit.directory);
      await this.#raiseSnapshots(0);
      await this.#warmUp(WARM_UP, targets);
    } else if (stage.fill === 'places') {
      const places = loads.flatMap(({ work }) =>
        work.kind === 'fio' && work.places ? [work.places] : [],
      )[0]!;
      await replay(targets[0]!, await kit.sweep('write', places, stage, places.runBytes), kit.directory);
      // Whatever fits into a cache is in it.
      await replay(targets[0]!, await kit.sweep('read', places, stage, 4096), kit.directory);
    } else if (stage.fill === 'guest') {
      await this.#server.importImage(await kit.guests().disk());
    }
  }

  async #warmUp(work: FioWork, targets: readonly Target[]): Promise<void> {
    const { volumeBytes, kit } = this.#entry;
    const run = { targets, volumeBytes, seconds: WARM_UP_SECONDS, seed: 1, replayLog: '' };
    await measureFio(work, run, kit.directory);
  }

  /**
   * Takes snapshots until there are `count` beside those that the peer begins with; where it takes several, blocks are
   * written meanwhile.
   */
  async #raiseSnapshots(count: number): Promise<void> {
    const { peer, kit } = this.#entry;
    const target = this.#server.targets[0]!;
    for (; this.#snapshotCount < peer.snapshotsAtStart; this.#snapshotCount++) {
      await this.#server.snapshot(`s${this.#snapshotCount}`);
      await scatterWrites(target, SCATTERED_BYTES, kit.directory);
    }
    const missing = count + peer.snapshotsAtStart - this.#snapshotCount;
    if (missing <= 0) return;
    const trickle = missing > 1 ? startTrickle(target, kit.directory) : undefined;
    try {
      for (let taken = 0; taken < missing; taken++) {
        await this.#server.snapshot(`s${this.#snapshotCount++}`);
        if (trickle !== undefined) await delay(SNAPSHOT_PAUSE_MS);
      }
      if (trickle !== undefined && trickle.exitCode !== null) {
        throw new Error('the writes between snapshots ended early');
      }
    } finally {
      if (trickle !== undefined) await stopChild(trickle, 'SIGINT');
    }
  }

  async #writeBack(): Promise<void> {
    for (const directory of new Set([this.#server.home, this.#directory]))
      await runCommand('sync', ['-f', directory], { timeoutMs: WRITE_BACK_TIMEOUT_MS });
  }
}
