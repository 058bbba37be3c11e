/**
 * Which segments hold the log: those of the chain that have not been removed, and those of moves that count. Every catalog
 * has it, so that a missing file is noticed and one that is left over is known for what it is. No I/O.
 *
 * Invariants: a segment of moves is in it once all of it is on the disk, in the step in which what it was made from is
 * *retired*: that stays here until its file is gone.
 */

import type { SegmentNumber } from '../base/units.ts';

/** Numbers that follow each other, the first and the last. */
export type SegmentRange = [first: SegmentNumber, last: SegmentNumber];

/** Segments of moves that have all of what lives in others. */
export interface Replacement {
  readonly victims: Iterable<SegmentNumber>;
  readonly moves: Iterable<SegmentNumber>;
}

export class SegmentLedger {
  readonly segments: Set<SegmentNumber>;
  readonly retired: Set<SegmentNumber>;

  constructor(segments: Iterable<SegmentNumber> = [], retired: Iterable<SegmentNumber> = []) {
    this.segments = new Set(segments);
    this.retired = new Set(retired);
  }

  /** As it is once segments of moves have taken the place of what they were made from. */
  replaced({ victims, moves }: Replacement): SegmentLedger {
    const ledger = this.copy();
    ledger.replace({ victims, moves });
    return ledger;
  }

  copy(): SegmentLedger {
    return new SegmentLedger(this.segments, this.retired);
  }

  replace({ victims, moves }: Replacement): void {
    for (const segment of moves) this.segments.add(segment);
    for (const segment of victims) {
      this.segments.delete(segment);
      this.retired.add(segment);
    }
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
