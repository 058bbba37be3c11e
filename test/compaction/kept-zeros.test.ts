/** Zeroed extents that no later one covers, held against a count chunk by chunk. */

import { describe, expect, it } from 'vitest';
import { uncovered } from '../../src/compaction/kept-zeros.ts';
import type { Zeros } from '../../src/compaction/layout.ts';
import { Random, seeds } from '../support/random.ts';

const DISK_CHUNKS = 120;

/** By version and chunk, the sequences of all extents over it. */
function sequencesOf(zeros: readonly Zeros[]): Map<string, number[]> {
  const found = new Map<string, number[]>();
  for (const { label, first, count, sequence } of zeros) {
    for (let chunk = first; chunk < first + count; chunk++) {
      const key = `${label} ${chunk}`;
      found.set(key, [...(found.get(key) ?? []), sequence]);
    }
  }
  return found;
}

function randomZeros(random: Random): Zeros[] {
  return Array.from({ length: random.pick([0, 1, 2, 5, 40]) }, () => {
    const first = random.below(DISK_CHUNKS);
    return {
      label: random.between(1, 2),
      first,
      count: 1 + random.below(Math.min(random.pick([1, 4, 10, DISK_CHUNKS]), DISK_CHUNKS - first)),
      // The same extent may stand in two places of the log.
      sequence: random.between(1, 30),
    };
  });
}

describe('zeroed extents', () => {
  for (const seed of seeds(5)) {
    it(`are kept where no later one of their version covers them, each chunk once (SEED=${seed})`, () => {
      const random = new Random(seed);
      for (let round = 0; round < 300; round++) {
        const zeros = randomZeros(random);
        const before = JSON.stringify(zeros);
        const kept = uncovered(zeros);
        expect(JSON.stringify(zeros)).toBe(before);
        const expected = new Map<string, number[]>();
        for (const [key, all] of sequencesOf(zeros)) expected.set(key, [Math.max(...all)]);
        expect(sequencesOf(kept)).toEqual(expected);
        for (const { count } of kept) expect(count).toBeGreaterThan(0);
      }
    });
  }

  it('stay whole where nothing is over them, touching ones too', () => {
    const zeros = [
      { label: 1, first: 0, count: 10, sequence: 1 },
      { label: 1, first: 20, count: 10, sequence: 2 },
      { label: 1, first: 10, count: 10, sequence: 3 },
    ];
    expect(uncovered(zeros).sort((a, b) => a.sequence - b.sequence)).toEqual(zeros);
  });

  it('are cut in two by a later one in their middle, and nothing of another version cuts them', () => {
    const zeros = [
      { label: 1, first: 0, count: 2 ** 34, sequence: 1 },
      { label: 1, first: 100, count: 1, sequence: 2 },
      { label: 2, first: 0, count: 2 ** 34, sequence: 3 },
    ];
    const kept = uncovered(zeros).sort((a, b) => a.sequence - b.sequence || a.first - b.first);
    expect(kept).toEqual([
      { label: 1, first: 0, count: 100, sequence: 1 },
      { label: 1, first: 101, count: 2 ** 34 - 101, sequence: 1 },
      { label: 1, first: 100, count: 1, sequence: 2 },
      { label: 2, first: 0, count: 2 ** 34, sequence: 3 },
    ]);
  });
});
