/**
 * Which segments are worth emptying. Pure.
 *
 * Cost-benefit: what is freed, times how long it is likely to stay so, by what it costs to read the segment and write again
 * what lives in it: (1 - u) * age / (1 + u) (LFS, Rosenblum and Ousterhout 1991). Age may be counted in anything; here its
 * root counts: with loads between uniform and 90/10 less is copied than with the age itself, or without it.
 */

import { CHUNK_BYTES } from '../base/units.ts';
import { movedBytes } from './layout.ts';

export interface SegmentUse {
  readonly segment: number;
  /** Length of the file. */
  readonly bytes: number;
  readonly liveChunks: number;
  /** Higher is younger. */
  readonly age: number;
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

export function chooseVictims(candidates: readonly SegmentUse[], wanted: VictimsWanted): SegmentUse[] {
  const scored: { use: SegmentUse; score: number }[] = [];
  for (const use of candidates) {
    const utilisation = Math.min(1, movedBytes(use.liveChunks) / use.bytes);
    if (1 - utilisation < wanted.deadShareMin) continue;
    const age = Math.sqrt(Math.max(1, wanted.now - use.age));
    scored.push({ use, score: ((1 - utilisation) * age) / (1 + utilisation) });
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
  return victims.reduce((sum, { bytes }) => sum + bytes, 0) - movedBytes(live);
}
