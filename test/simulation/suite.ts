/** The simulated disk in the suite: fresh seeds every time; SEED=n runs one alone, SEEDS=n that many in each half. */

import { describe, expect, it } from 'vitest';
import { missingIn, runSeeds } from './seeds.ts';

const SEEDS_PER_HALF = 5000;

export function simulate(half: 'even' | 'odd'): void {
  const parity = half === 'even' ? 0 : 1;
  const alone = process.env.SEED === undefined ? undefined : Number(process.env.SEED);
  const first = alone ?? 2 * Math.floor(Math.random() * 2 ** 29) + parity;
  const isOurs = first % 2 === parity;
  const count = alone === undefined ? Number(process.env.SEEDS ?? SEEDS_PER_HALF) : 1;

  describe('a store on a simulated disk', () => {
    it(`keeps its promises through every crash and fault of ${count} ${half} seeds from ${first} on`, {
      timeout: 900_000,
    }, async () => {
      if (!isOurs) return; // SEED is one of the other half
      const tally = await runSeeds({ first, count, step: 2 });
      expect(tally.failures).toEqual([]);
      if (count < SEEDS_PER_HALF) return;
      expect(missingIn([tally]), 'what the seeds should have come across, and have not').toEqual([]);
      expect(tally.crashStates).toBeGreaterThan(2 * count);
    });
  });
}
