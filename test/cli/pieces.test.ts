/** The small parts of import and export: zero blocks, runs of a disk, work in flight. */

import { describe, expect, it } from 'vitest';
import { diskRuns, splitRuns } from '../../src/cli/disk-runs.ts';
import { PIECE_BYTES } from '../../src/cli/image-source.ts';
import { InFlight, inOrder } from '../../src/base/in-flight.ts';
import { nonZeroRuns } from '../../src/cli/zero-blocks.ts';
import type { AllocationRun } from '../../src/volume/device.ts';

const KIB = 1024;

async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  const list: T[] = [];
  for await (const item of items) list.push(item);
  return list;
}

async function* each<T>(...items: T[]): AsyncGenerator<T> {
  yield* items;
}

describe('nonZeroRuns', () => {
  it('finds nothing in zeros, whatever their length', () => {
    for (const length of [0, 1, 4095, 4096, 4097, 2 ** 20, 2 ** 20 + 1, 4 * 2 ** 20]) {
      expect(nonZeroRuns(Buffer.alloc(length))).toEqual([]);
    }
  });

  it('finds whole blocks around single bytes, and joins neighbours', () => {
    const piece = Buffer.alloc(40 * KIB + 100);
    for (const at of [0, 4095, 8192, 12288, 24 * KIB - 1, 40 * KIB + 99]) piece[at] = 1;
    expect(nonZeroRuns(piece)).toEqual([
      { start: 0, end: 4 * KIB },
      { start: 8 * KIB, end: 16 * KIB },
      { start: 20 * KIB, end: 24 * KIB },
      { start: 40 * KIB, end: 40 * KIB + 100 },
    ]);
  });

  it('agrees with a look at every byte', () => {
    let seed = 1;
    const random = (below: number): number => {
      seed = (seed * 1103515245 + 12345) % 2 ** 31;
      return seed % below;
    };
    for (let round = 0; round < 200; round++) {
      const piece = Buffer.alloc(1 + random(200_000));
      for (let i = 0; i < random(30); i++) piece[random(piece.length)] = random(3);
      const copy = Buffer.alloc(piece.length);
      for (const { start, end } of nonZeroRuns(piece)) {
        expect(piece.subarray(start, end).some((byte) => byte !== 0)).toBe(true);
        piece.copy(copy, start, start, end);
      }
      expect(copy.equals(piece)).toBe(true);
    }
  });
});

describe('the runs of a disk', () => {
  const reporting = (runs: AllocationRun[], runsAtOnce: number) => ({
    sizeBytes: runs.reduce((sum, { lengthBytes }) => sum + lengthBytes, 0),
    allocation: async (offset: number) => {
      let at = 0;
      const first = runs.findIndex(({ lengthBytes }) => {
        at += lengthBytes;
        return at > offset;
      });
      return runs.slice(first, first + runsAtOnce);
    },
  });
  const hole = (lengthBytes: number): AllocationRun => ({ lengthBytes, allocated: false });
  const stored = (lengthBytes: number): AllocationRun => ({ lengthBytes, allocated: true });

  it('are joined, however they are told', async () => {
    const told = [hole(200 * KIB), hole(200 * KIB), stored(4 * KIB), stored(4 * KIB), hole(512 * KIB)];
    for (const runsAtOnce of [1, 2, 100]) {
      expect(await all(diskRuns(reporting(told, runsAtOnce)))).toEqual([
        { offset: 0, lengthBytes: 400 * KIB, allocated: false },
        { offset: 400 * KIB, lengthBytes: 8 * KIB, allocated: true },
        { offset: 408 * KIB, lengthBytes: 512 * KIB, allocated: false },
      ]);
    }
  });

  it('swallow holes that are too short for a request of their own', async () => {
    const told = [stored(4 * KIB), hole(100 * KIB), stored(4 * KIB), hole(4 * KIB)];
    expect(await all(diskRuns(reporting(told, 3)))).toEqual([
      { offset: 0, lengthBytes: 112 * KIB, allocated: true },
    ]);
  });

  it('are cut into pieces', async () => {
    const run = { offset: 512, lengthBytes: 2 * PIECE_BYTES + 1, allocated: true };
    expect(await all(splitRuns(each(run)))).toEqual([
      { offset: 512, lengthBytes: PIECE_BYTES, allocated: true },
      { offset: 512 + PIECE_BYTES, lengthBytes: PIECE_BYTES, allocated: true },
      { offset: 512 + 2 * PIECE_BYTES, lengthBytes: 1, allocated: true },
    ]);
  });

  it('of a stored disk begin to be told before its end is reached', async () => {
    let asked = 0;
    const disk = {
      sizeBytes: 2 ** 40,
      allocation: async () => {
        asked++;
        return [stored(2 ** 20)];
      },
    };
    const runs = diskRuns(disk);
    expect((await runs.next()).value).toMatchObject({ offset: 0, allocated: true });
    expect(asked).toBeLessThan(1000);
  });
});

describe('work in flight', () => {
  it('is never more than the limit, and all done at the end', async () => {
    const work = new InFlight(3);
    let running = 0;
    let most = 0;
    let done = 0;
    for (let i = 0; i < 20; i++) {
      await work.add(async () => {
        most = Math.max(most, ++running);
        await new Promise((resolve) => setTimeout(resolve, i % 3));
        running--;
        done++;
      });
    }
    await work.settle();
    expect({ most, done, running }).toEqual({ most: 3, done: 20, running: 0 });
  });

  it('throws its first failure to whoever adds or settles', async () => {
    const work = new InFlight(2);
    await work.add(async () => {
      throw new Error('first');
    });
    await expect(
      (async () => {
        for (let i = 0; i < 5; i++) await work.add(async () => undefined);
      })(),
    ).rejects.toThrow('first');
    await expect(work.settle()).rejects.toThrow('first');
  });

  it('in order is taken in order, started ahead, and stops at a failure', async () => {
    const started: number[] = [];
    const answers = inOrder(
      each(30, 20, 10, 0, 5),
      async (ms) => {
        started.push(ms);
        await new Promise((resolve) => setTimeout(resolve, ms));
        if (ms === 0) throw new Error('fourth');
        return ms;
      },
      3,
    );
    expect((await answers.next()).value).toBe(30);
    expect(started).toEqual([30, 20, 10]);
    expect((await answers.next()).value).toBe(20);
    expect((await answers.next()).value).toBe(10);
    await expect(answers.next()).rejects.toThrow('fourth');
  });
});
