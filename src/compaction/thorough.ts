/**
 * Compaction to the end, when somebody asks for it: to a share of live bytes in every segment, and in the order of disks;
 * or so that nothing of what is dead is left in any file.
 *
 * Rounds are as large as room and memory allow, because within one all that is moved is put in order. Those come first that
 * gain room. What is scattered (scatter.ts) is moved once in a pass; a second pass merges what several rounds have made.
 */

import { hasCode, StoreError } from '../base/errors.ts';
import { CHUNK_BYTES } from '../base/units.ts';
import type { Compactor, RoundResult } from './compactor.ts';
import { liveBytesFor } from './moved-size.ts';
import type { Scatter } from './scatter.ts';
import { chooseVictims, gainOf, type SegmentUse } from './victims.ts';

/** Live bytes that a round moves at most: 32 bytes of memory a chunk. */
const ROUND_BYTES_MAX = 4 * 2 ** 30;
/** With a limit of its rate, rounds are short enough to keep to it. */
const LIMITED_ROUND_BYTES_MAX = 256 * 2 ** 20;
const VICTIMS_MAX = 4096;
const PASSES_MAX = 2;
/** Segments of room that a round leaves to others, unless that is more than half of it. */
const SEGMENTS_LEFT = 8;
/** Rounds that are tried again, each with half the room, where others have used it meanwhile. */
const REFUSALS_MAX = 8;
/** Rounds of a pass that may come to nothing, beside two for each segment: with others, and alone. */
const VAIN_ROUNDS_MIN = 16;
/** Who asks for less is content with the order that there is. */
const ORDER_TARGET_MIN = 0.9;

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
  /** As estimated when it began, and again when a pass begins. */
  readonly totalBytes: number;
}

export interface ThoroughSurroundings {
  readonly segments: Iterable<number>;
  liveChunks(segment: number): number;
  freeBytes(): Promise<number>;
  readonly segmentBytes: number;
  /** Everything is in the index, and what has been emptied may go. `isMoved`: so may all that stands before the segment that is written. */
  checkpoint(isMoved?: boolean): Promise<void>;
  /** The segment that is written. */
  readonly chainSegment: { readonly segment: number };
  /** What is appended from now on goes into another segment. */
  roll(): Promise<void>;
  sleep(ms: number): Promise<void>;
  now(): number;
}

/** What is to be emptied. */
interface Candidates {
  /** For what is dead in them. */
  readonly dead: SegmentUse[];
  /** For the order alone. */
  readonly scattered: SegmentUse[];
}

export class ThoroughCompaction {
  readonly #compactor: Compactor;
  readonly #around: ThoroughSurroundings;
  readonly #options: ThoroughOptions;
  /** As rows were when the pass began, and what has been moved since. */
  #scatter: Scatter | undefined;
  readonly #moved = new Set<number>();
  /** Those that were there when the pass began: what others write or kill meanwhile is not run after. */
  #segments: ReadonlySet<number> = new Set();
  /** Of the room that there is, what a round takes at most. */
  #share = 1;
  /** Why a segment could not be emptied: all else is done first. */
  #damage: StoreError | undefined;
  /** Why the last round came to nothing, if it was for want of room. */
  #refusal: StoreError | undefined;
  /** Rounds that may still come to nothing: for what is damaged, or has been emptied by others meanwhile. */
  #vainRoundsLeft = 0;

  constructor(compactor: Compactor, around: ThoroughSurroundings, options: ThoroughOptions) {
    this.#compactor = compactor;
    this.#around = around;
    this.#options = options;
  }

  /** @throws IO */
  async #candidates(): Promise<Candidates> {
    await this.#compactor.refresh();
    const candidates: Candidates = { dead: [], scattered: [] };
    for (const segment of [...this.#around.segments].sort((a, b) => a - b)) {
      if (!this.#segments.has(segment) || !this.#compactor.isEligible(segment)) continue;
      const { bytes } = this.#compactor.table.get(segment)!;
      const liveChunks = this.#around.liveChunks(segment);
      // Of one age: what gains most comes first.
      const zerosBytes = this.#compactor.table.zerosBytes(segment);
      const use = { segment, bytes, liveChunks, zerosBytes, age: 0 };
      const isWanted = this.#options.purge
        ? await this.#compactor.holdsDead(segment, liveChunks)
        : gainOf([use]) > (1 - this.#options.target) * bytes;
      if (isWanted) candidates.dead.push(use);
      else if (this.#scatter?.isScattered(segment) === true && !this.#moved.has(segment))
        candidates.scattered.push(use);
    }
    return candidates;
  }

  /** @throws IO, NO_SPACE */
  async estimate(): Promise<CompactionEstimate> {
    await this.#around.checkpoint();
    if (this.#options.purge || this.#options.target >= ORDER_TARGET_MIN)
      this.#scatter = await this.#compactor.scatter();
    this.#moved.clear();
    this.#segments = new Set(this.#around.segments);
    this.#vainRoundsLeft = VAIN_ROUNDS_MIN + 2 * this.#segments.size;
    const { dead, scattered } = await this.#candidates();
    const candidates = [...dead, ...scattered];
    const movedBytes = candidates.reduce((sum, { liveChunks }) => sum + liveChunks * CHUNK_BYTES, 0);
    return { victims: candidates.length, movedBytes, freedBytes: Math.max(0, gainOf(dead)) };
  }

  /** Those of the next round. @throws IO */
  async #victims(): Promise<number[]> {
    const { purge, bytesPerSecond } = this.#options;
    const free = await this.#around.freeBytes();
    const roundMax = bytesPerSecond === undefined ? ROUND_BYTES_MAX : LIMITED_ROUND_BYTES_MAX;
    const { segmentBytes } = this.#around;
    const room = this.#share * Math.max(free / 2, free - SEGMENTS_LEFT * segmentBytes);
    const liveBytesMax = Math.min(roundMax, liveBytesFor(room, segmentBytes));
    const { dead, scattered } = await this.#candidates();
    const choose = (liveMax: number, victimsMax: number): SegmentUse[] =>
      chooseVictims(dead, {
        now: 1,
        liveBytesMax: liveMax,
        victimsMax,
        deadShareMin: Number.NEGATIVE_INFINITY,
      });
    let chosen = choose(liveBytesMax, VICTIMS_MAX);
    // Nearly full: one at a time, with all the room that there is.
    if (purge && chosen.length === 0) chosen = choose(liveBytesFor(free, segmentBytes), 1);
    if (purge && chosen.length === 0 && dead.length > 0)
      throw new StoreError(
        'NO_SPACE',
        `what was deleted is still in ${dead.length} segments: there is no room to copy what lives in them`,
      );
    if (!purge && gainOf(chosen) <= 0) chosen = [];
    const takenBytes = chosen.reduce((sum, { liveChunks }) => sum + liveChunks * CHUNK_BYTES, 0);
    const besides = this.#scatter?.firstOf(scattered, liveBytesMax - takenBytes) ?? [];
    chosen = [...chosen, ...besides.slice(0, VICTIMS_MAX - chosen.length)];
    const alone = chosen.find(({ segment }) => this.#compactor.suspect.has(segment));
    return (alone === undefined ? chosen : [alone]).map(({ segment }) => segment);
  }

  /** Those in which nothing is written any more. */
  #sealedSegments(): number[] {
    const { segment: written } = this.#around.chainSegment;
    return [...this.#around.segments].filter((segment) => segment !== written);
  }

  /** Undefined if it is to be tried with others: there was less room than that, or something was damaged. @throws as `run` */
  async #round(victims: readonly number[]): Promise<RoundResult | undefined> {
    try {
      const result = await this.#compactor.round(victims, 'disk');
      this.#share = Math.min(1, 2 * this.#share);
      this.#refusal = undefined;
      return result;
    } catch (error) {
      // Tried one by one from here on, and what fails alone is left.
      if (hasCode(error, 'CORRUPTION') && this.#vainRoundsLeft-- > 0) {
        this.#damage ??= error as StoreError;
        return undefined;
      }
      if (!hasCode(error, 'NO_SPACE') || this.#share <= 2 ** -REFUSALS_MAX) throw error;
      this.#share /= 2;
      this.#refusal = error as StoreError;
      return undefined;
    }
  }

  /** Does it; tells how far it is behind each round. @throws IO, NO_SPACE, CORRUPTION, POISONED, CLOSED */
  async *run(): AsyncGenerator<CompactionProgress> {
    const { purge, bytesPerSecond } = this.#options;
    await this.#compactor.refresh(); // until it knows the files, each counts as one that is full
    this.#compactor.table.forgetZeros(); // they may be needed no more
    if (purge) await this.#around.roll();
    // Guests may fill the next one meanwhile: that is none of those, and the checkpoint may stand in it.
    const before = purge ? this.#sealedSegments() : [];
    if (purge) await this.#around.checkpoint(true);
    const began = this.#around.now();
    let [movedBytes, freedBytes] = [0, 0];
    for (let pass = 0; pass < PASSES_MAX; pass++) {
      const totalBytes = movedBytes + (await this.estimate()).movedBytes;
      yield { movedBytes, freedBytes, totalBytes };
      let rounds = 0;
      for (;;) {
        const victims = await this.#victims();
        if (victims.length === 0) {
          // For a part of the room, each may live too much.
          if (this.#share === 1) break;
          if (this.#vainRoundsLeft-- <= 0) {
            if (this.#refusal !== undefined) throw this.#refusal;
            break;
          }
          this.#share = 1;
          continue;
        }
        const result = await this.#round(victims);
        if (result === undefined) continue;
        for (const segment of victims) this.#moved.add(segment);
        rounds += 1;
        movedBytes += result.movedBytes;
        freedBytes += result.freedBytes - result.writtenBytes;
        await this.#around.checkpoint();
        await this.#compactor.removeRetired();
        yield { movedBytes, freedBytes, totalBytes };
        // Others have emptied them meanwhile, and what is left is looked for once more.
        if (result.victims === 0 && this.#vainRoundsLeft-- <= 0) break;
        if (bytesPerSecond === undefined) continue;
        const dueMs = (1000 * movedBytes) / bytesPerSecond - (this.#around.now() - began);
        if (dueMs > 0) await this.#around.sleep(dueMs);
      }
      if (rounds <= 1) break; // there is but one sorted sequence
    }
    await this.#around.checkpoint();
    await this.#compactor.removeRetired();
    if (this.#damage !== undefined) throw this.#damage;
    const there = new Set(this.#around.segments);
    const left = before.filter((segment) => there.has(segment) && !this.#compactor.isEligible(segment));
    if (left.length > 0)
      throw new StoreError(
        'CORRUPTION',
        `what was deleted may still be in ${left.length} segments that cannot be emptied (${left[0]} and others): \`coppice fsck\` tells what is damaged`,
      );
  }
}
