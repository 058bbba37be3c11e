/**
 * Which segments are worth emptying. Pure.
 *
 * To empty a segment of which the share u lives costs u / (1 - u) of what it frees, and less if it is left to decay for longer; while it
 * is left, its dead chunks take room. Of loads that are written at different rates the least is copied if each segment is emptied once
 * (1/u - 1 + ln u) / r reaches a value that is the same for all, where r is the rate at which its chunks die: found by minimising what is
 * copied, 1 / (1 - u) for each write, under the room that is taken, -ln u / (1 - u) for each live chunk (both of a log that is
 * emptied in order; Desnoyers 2014 has them for greedy cleaning). So the score is that value: at one rate the emptiest come first,
 * and what decays fast is left alone for longer.
 *
 * The rate is taken from what has died since a segment was first looked at, and to a small part from its age: what has not been
 * written over for long will not be soon (LFS, Rosenblum and Ousterhout 1991).
 */

import { CHUNK_BYTES } from '../base/units.ts';
import { movedBytes } from './moved-size.ts';

/** What lived in a segment when it was first looked at, and how many segments have been written since. */
export interface Decay {
  readonly liveChunks: number;
  readonly segmentsSince: number;
}

export interface SegmentUse {
  readonly segment: number;
  /** Length of the file. */
  readonly bytes: number;
  readonly liveChunks: number;
  /** What zeroed extents take of it that would be moved on. */
  readonly zerosBytes: number;
  /** Higher is younger; in segments. */
  readonly age: number;
  readonly decay?: Decay;
}

export interface VictimsWanted {
  /** The age of what would be written now. */
  readonly now: number;
  /** Live bytes that a round moves at most. */
  readonly liveBytesMax: number;
  readonly victimsMax: number;
  /** Share of a segment that must be dead for it to be worth while. */
  readonly deadShareMin: number;
}

/** How much the age counts beside what has been seen to die: as if this share of a segment had been seen to die at its rate. */
const AGE_WEIGHT = 1 / 32;
/** Shares of what lives that logarithms are taken of. */
const SHARE_MIN = 1e-6;
const SHARE_MAX = 1 - 1e-4;

function clamped(share: number): number {
  return Math.min(SHARE_MAX, Math.max(SHARE_MIN, share));
}

/** How long a chunk of the segment lives, in segments that are written: one by the rate at which they die. */
function lifetimeOf({ age, liveChunks, decay }: SegmentUse, now: number): number {
  const sinceWritten = Math.max(1, now - age);
  if (decay === undefined || decay.liveChunks === 0) return sinceWritten;
  const survived = clamped(liveChunks / decay.liveChunks);
  const died = 1 - survived;
  // As long as all chunks that were there have lived together, if they died at one rate.
  const lived = (decay.segmentsSince * died) / -Math.log(survived);
  return (lived + AGE_WEIGHT * sinceWritten) / (died + AGE_WEIGHT);
}

export function chooseVictims(candidates: readonly SegmentUse[], wanted: VictimsWanted): SegmentUse[] {
  const scored: { use: SegmentUse; score: number }[] = [];
  for (const use of candidates) {
    const utilisation = (movedBytes(use.liveChunks) + use.zerosBytes) / use.bytes;
    if (1 - Math.min(1, utilisation) < wanted.deadShareMin) continue;
    const u = clamped(utilisation);
    scored.push({ use, score: (1 / u - 1 + Math.log(u)) * lifetimeOf(use, wanted.now) });
  }
  scored.sort((a, b) => b.score - a.score || a.use.segment - b.use.segment);
  const chosen: SegmentUse[] = [];
  let liveBytes = 0;
  for (const { use } of scored) {
    const bytes = use.liveChunks * CHUNK_BYTES;
    if (chosen.length >= wanted.victimsMax) break;
    if (liveBytes + bytes > wanted.liveBytesMax) continue;
    chosen.push(use);
    liveBytes += bytes;
  }
  return chosen;
}

/** What emptying them gives back, bytes. */
export function gainOf(victims: readonly SegmentUse[]): number {
  const live = victims.reduce((sum, { liveChunks }) => sum + liveChunks, 0);
  return victims.reduce((sum, { bytes, zerosBytes }) => sum + bytes - zerosBytes, 0) - movedBytes(live);
}

/** Remembers what lived in segments when they were first looked at. */
export class SeenSegments {
  #seen = new Map<number, { liveChunks: number; written: number }>();
  /** Segments that users have written, of those that have been looked at. */
  #written = 0;

  /** All that there are now, with their decay; what is not among them is forgotten. `isMoves(segment)`: compaction wrote it. */
  decayed(uses: readonly SegmentUse[], isMoves: (segment: number) => boolean): SegmentUse[] {
    for (const { segment } of uses) if (!this.#seen.has(segment) && !isMoves(segment)) this.#written += 1;
    const seen = new Map<number, { liveChunks: number; written: number }>();
    const decayed = uses.map((use): SegmentUse => {
      const first = this.#seen.get(use.segment) ?? { liveChunks: use.liveChunks, written: this.#written };
      seen.set(use.segment, first);
      const { liveChunks, written } = first;
      return { ...use, decay: { liveChunks, segmentsSince: this.#written - written } };
    });
    this.#seen = seen;
    return decayed;
  }
}
