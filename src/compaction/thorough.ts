/**
 * Compaction to the end, when somebody asks for it: to a share of live bytes in every segment, in the order of disks, or
 * so that nothing of what is dead is left in any file.
 *
 * Rounds are as large as room and memory allow, because within one all that is moved is put in order.
 */

import { CHUNK_BYTES } from '../base/units.ts';
import type { Compactor } from './compactor.ts';
import { chooseVictims, gainOf, type SegmentUse } from './victims.ts';

/** Live bytes that a round moves at most: 32 bytes of memory a chunk. */
const ROUND_BYTES_MAX = 4 * 2 ** 30;
/** With a limit of its rate, rounds are short enough to keep to it. */
const LIMITED_ROUND_BYTES_MAX = 256 * 2 ** 20;
const VICTIMS_MAX = 4096;

export interface ThoroughOptions {
  /** Share of each segment that is to be live, 0.5 to 1. */
  readonly target: number;
  /** Nothing that is dead is left in any file of the log. */
  readonly purge: boolean;
  /** Bytes moved in a second; undefined: as fast as it goes. */
  readonly bytesPerSecond: number | undefined;
}

/** What there is to do, as far as is known. Bytes. */
export interface CompactionEstimate {
  readonly victims: number;
  readonly movedBytes: number;
  readonly freedBytes: number;
}

/** A step on the way: what has been moved and freed until now. */
export interface CompactionProgress {
  readonly movedBytes: number;
  readonly freedBytes: number;
  /** As estimated when it began. */
  readonly totalBytes: number;
}

export interface ThoroughSurroundings {
  readonly segments: Iterable<number>;
  liveChunks(segment: number): number;
  freeBytes(): Promise<number>;
  readonly segmentBytes: number;
  /** Everything is in the index, and what has been emptied may go. */
  checkpoint(): Promise<void>;
  /** What is appended from now on goes into another segment. */
  roll(): Promise<void>;
  sleep(ms: number): Promise<void>;
  now(): number;
}

export class ThoroughCompaction {
  readonly #compactor: Compactor;
  readonly #around: ThoroughSurroundings;
  readonly #options: ThoroughOptions;

  constructor(compactor: Compactor, around: ThoroughSurroundings, options: ThoroughOptions) {
    this.#compactor = compactor;
    this.#around = around;
    this.#options = options;
  }

  /** What is to be emptied. @throws IO */
  async #candidates(): Promise<SegmentUse[]> {
    await this.#compactor.refresh();
    const candidates: SegmentUse[] = [];
    for (const segment of [...this.#around.segments].sort((a, b) => a - b)) {
      if (!this.#compactor.isEligible(segment)) continue;
      const { bytes } = this.#compactor.table.get(segment)!;
      const liveChunks = this.#around.liveChunks(segment);
      // Of one age: what gains most comes first.
      const use = { segment, bytes, liveChunks, age: 0 };
      const isWanted = this.#options.purge
        ? await this.#compactor.holdsDead(segment, liveChunks)
        : gainOf([use]) > (1 - this.#options.target) * bytes;
      if (isWanted) candidates.push(use);
    }
    return candidates;
  }

  /** @throws IO, NO_SPACE */
  async estimate(): Promise<CompactionEstimate> {
    await this.#around.checkpoint();
    const candidates = await this.#candidates();
    const movedBytes = candidates.reduce((sum, { liveChunks }) => sum + liveChunks * CHUNK_BYTES, 0);
    return { victims: candidates.length, movedBytes, freedBytes: Math.max(0, gainOf(candidates)) };
  }

  /** Does it; tells how far it is behind each round. @throws IO, NO_SPACE, CORRUPTION, POISONED, CLOSED */
  async *run(): AsyncGenerator<CompactionProgress> {
    const { purge, bytesPerSecond } = this.#options;
    if (purge) await this.#around.roll();
    const { movedBytes: totalBytes } = await this.estimate();
    const began = this.#around.now();
    let [movedBytes, freedBytes] = [0, 0];
    yield { movedBytes, freedBytes, totalBytes };
    for (;;) {
      const free = await this.#around.freeBytes();
      const roundMax = bytesPerSecond === undefined ? ROUND_BYTES_MAX : LIMITED_ROUND_BYTES_MAX;
      const chosen = chooseVictims(await this.#candidates(), {
        now: 1,
        liveBytesMax: Math.min(roundMax, Math.max(free / 2, free - this.#around.segmentBytes)),
        victimsMax: VICTIMS_MAX,
        deadShareMin: Number.NEGATIVE_INFINITY,
      });
      if (chosen.length === 0 || (!purge && gainOf(chosen) <= 0)) break;
      const alone = chosen.find(({ segment }) => this.#compactor.suspect.has(segment));
      const victims = (alone === undefined ? chosen : [alone]).map(({ segment }) => segment);
      const result = await this.#compactor.round(victims, 'disk');
      movedBytes += result.movedBytes;
      freedBytes += result.freedBytes - result.writtenBytes;
      await this.#around.checkpoint();
      await this.#compactor.removeRetired();
      yield { movedBytes, freedBytes, totalBytes };
      if (result.victims === 0) break;
      if (bytesPerSecond === undefined) continue;
      const dueMs = (1000 * movedBytes) / bytesPerSecond - (this.#around.now() - began);
      if (dueMs > 0) await this.#around.sleep(dueMs);
    }
    await this.#around.checkpoint();
    await this.#compactor.removeRetired();
  }
}
