/** Locks on chunks under contention. SEED replays the random ones. */

import { setImmediate as turn } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { ChunkLocks } from '../../src/volume/chunk-locks.ts';
import { Random, seeds } from '../support/random.ts';

describe('locks on chunks', () => {
  it.each(seeds(20))('are held by one at a time, and everybody has a turn (SEED=%i)', async (seed) => {
    const random = new Random(seed);
    const locks = new ChunkLocks();
    const chunks = random.pick([1, 3, 20]);
    const held = Array.from({ length: chunks }, () => 0);
    let turns = 0;
    const isFree = (first: number, count: number): boolean =>
      held.slice(first, first + count).every((holders) => holders === 0);
    const use = async (isHeld: boolean, first: number, count: number): Promise<void> => {
      if (!isHeld) {
        await locks.whenFree(first, count, () => {
          expect(isFree(first, count)).toBe(true);
          turns += 1;
        });
        return;
      }
      const range = await locks.hold(first, count);
      expect(isFree(first, count)).toBe(true);
      for (let at = first; at < first + count; at++) held[at]! += 1;
      for (let left = random.below(4); left > 0; left--) await turn();
      turns += 1;
      for (let at = first; at < first + count; at++) held[at]! -= 1;
      locks.release(range);
    };
    const uses = Array.from({ length: 3000 }, async () => {
      if (random.chance(50)) await turn();
      const first = random.below(chunks);
      await use(random.chance(80), first, random.between(1, chunks - first));
    });
    await Promise.all(uses);
    expect(turns).toBe(3000);
    expect(locks.isFree(0, chunks)).toBe(true);
  });

  it('are had in the order in which they were asked for, by whoever wants the same', async () => {
    const locks = new ChunkLocks();
    const order: number[] = [];
    await Promise.all(
      Array.from({ length: 5000 }, async (_, i) => {
        const range = await locks.hold(7, 1);
        order.push(i);
        locks.release(range);
      }),
    );
    expect(order).toEqual(Array.from({ length: 5000 }, (_, i) => i));
  });

  it('cost each of 50,000 that wait for one chunk the same', async () => {
    const locks = new ChunkLocks();
    const startedAt = performance.now();
    const use = async (): Promise<void> => {
      const range = await locks.hold(0, 1);
      await Promise.resolve();
      locks.release(range);
    };
    await Promise.all(Array.from({ length: 50_000 }, use));
    // To wake all of them for each took minutes.
    expect(performance.now() - startedAt).toBeLessThan(5000);
  });
});
