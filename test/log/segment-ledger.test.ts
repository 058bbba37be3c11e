/** Which segments hold the log, as ranges and back. */

import { describe, expect, it } from 'vitest';
import { inRanges, SegmentLedger } from '../../src/log/segment-ledger.ts';
import { Random, seeds } from '../support/random.ts';

const sorted = (numbers: Iterable<number>): number[] => [...numbers].sort((a, b) => a - b);

describe('the ledger of segments', () => {
  it('has ranges of numbers that follow each other, as few as there can be', () => {
    expect(new SegmentLedger().ranges()).toEqual([]);
    expect(new SegmentLedger([7]).ranges()).toEqual([[7, 7]]);
    expect(new SegmentLedger([3, 1, 2]).ranges()).toEqual([[1, 3]]);
    expect(new SegmentLedger([10, 9, 5, 1, 2]).ranges()).toEqual([
      [1, 2],
      [5, 5],
      [9, 10],
    ]);
    // By number, not as text.
    expect(new SegmentLedger([100, 20, 3]).ranges()).toEqual([
      [3, 3],
      [20, 20],
      [100, 100],
    ]);
  });

  for (const seed of seeds(3)) {
    it(`is the same when it is made from its ranges (SEED=${seed})`, () => {
      const random = new Random(seed);
      for (let round = 0; round < 200; round++) {
        const end = random.pick([3, 20, 500, 2 ** 32 - 1]);
        const numbers = Array.from({ length: random.below(60) }, () => 1 + random.below(end));
        const ledger = new SegmentLedger(numbers);
        const ranges = ledger.ranges();
        expect([...inRanges(ranges)]).toEqual(sorted(new Set(numbers)));
        expect([...inRanges(JSON.parse(JSON.stringify(ranges)) as typeof ranges)]).toEqual(
          sorted(new Set(numbers)),
        );
        ranges.forEach(([first, last], i) => {
          expect(last).toBeGreaterThanOrEqual(first);
          if (i > 0) expect(first).toBeGreaterThan(ranges[i - 1]![1] + 1);
        });
        expect(ledger.lowest).toBe(numbers.length === 0 ? Number.POSITIVE_INFINITY : Math.min(...numbers));
      }
    });
  }

  it('takes what is retired out of the log, and keeps it until its file is gone', () => {
    const ledger = new SegmentLedger([1, 2, 3], [9]);
    const replaced = ledger.replaced({ victims: [1], moves: [4] });
    expect([...ledger.segments]).toEqual([1, 2, 3]);
    ledger.replace({ victims: [1], moves: [4] });
    for (const each of [ledger, replaced]) {
      expect([...each.segments]).toEqual([2, 3, 4]);
      expect(sorted(each.retired)).toEqual([1, 9]);
      expect(each.lowest).toBe(2);
      expect(each.ranges()).toEqual([[2, 4]]);
    }
  });

  it('does not share its sets with whoever made it', () => {
    const segments = new Set([1, 2]);
    const ledger = new SegmentLedger(segments, segments);
    ledger.replace({ victims: [1], moves: [] });
    expect([...segments]).toEqual([1, 2]);
    expect(sorted(ledger.retired)).toEqual([1, 2]);
  });
});
