/**
 * Which segments hold the log: those of the chain that have not been removed, and those of moves that count. Every catalog
 * has it, so that a missing file is noticed and one that is left over is known for what it is. No I/O.
 *
 * Invariants: a segment of moves is in it once all of it is on the disk; one that compaction emptied stays as *retired*
 * until its file is gone, which may be once a rebuild begins behind the moves that emptied it.
 */

import type { SegmentNumber } from '../base/units.ts';

/** Numbers that follow each other, the first and the last. */
export type SegmentRange = [first: SegmentNumber, last: SegmentNumber];

export class SegmentLedger {
  readonly segments: Set<SegmentNumber>;
  readonly retired: Set<SegmentNumber>;

  constructor(segments: Iterable<SegmentNumber> = [], retired: Iterable<SegmentNumber> = []) {
    this.segments = new Set(segments);
    this.retired = new Set(retired);
  }

  /** Nothing lives in it any more. */
  retire(segment: SegmentNumber): void {
    this.segments.delete(segment);
    this.retired.add(segment);
  }

  /** The lowest number that is in the log; Infinity if none is. */
  get lowest(): SegmentNumber {
    let lowest = Number.POSITIVE_INFINITY;
    for (const segment of this.segments) lowest = Math.min(lowest, segment);
    return lowest;
  }

  ranges(): SegmentRange[] {
    const ranges: SegmentRange[] = [];
    for (const segment of [...this.segments].sort((a, b) => a - b)) {
      const last = ranges.at(-1);
      if (last?.[1] === segment - 1) last[1] = segment;
      else ranges.push([segment, segment]);
    }
    return ranges;
  }
}

/** The numbers that ranges hold. */
export function* inRanges(ranges: readonly SegmentRange[]): Generator<SegmentNumber> {
  for (const [first, last] of ranges) for (let segment = first; segment <= last; segment++) yield segment;
}
