/** The simulation itself: that it is deterministic, and that it notices. */

import { describe, expect, it } from 'vitest';
import { StoreError } from '../../src/base/errors.ts';
import { Store } from '../../src/volume/store.ts';
import { Random, seeds } from '../support/random.ts';
import { Faults } from './faults.ts';
import { IndexFolder } from './index-folder.ts';
import { Inode, SECTOR_BYTES } from './inode.ts';
import type { Machine } from './machine.ts';
import { Marks } from './marks.ts';
import { Oracle } from './oracle.ts';
import { runSeed } from './run.ts';
import { Scheduler } from './scheduler.ts';

describe('a run', () => {
  const [first] = seeds(1);
  it(`has the same trace whenever it is run with the same seed (SEED=${first})`, {
    timeout: 120_000,
  }, async () => {
    const run = async (seed: number): Promise<string> => {
      const { crashStates, traceHash } = await runSeed(seed, new Marks());
      return `${crashStates} ${traceHash}`;
    };
    const hashes = new Set<string>();
    for (let seed = first!; seed < first! + 40; seed++) {
      const hash = await run(seed);
      expect(await run(seed), `SEED=${seed}`).toBe(hash);
      hashes.add(hash);
    }
    expect(hashes.size).toBeGreaterThan(35);
  });

  it(`does not go on with a store that came when its process was gone (SEED=${first})`, {
    timeout: 120_000,
  }, async () => {
    let late = 0;
    for (let seed = first!; seed < first! + 10; seed++) {
      let isLate = false;
      let isRefused = false;
      await runSeed(seed, new Marks(), async (directory, options) => {
        const machine = options!.storage as Machine;
        if (isLate && !isRefused) {
          // With no store of its own the run must not take up the one before.
          isRefused = true;
          await machine.list('.');
          machine.faults.note();
          throw new StoreError('IO', 'the opening was made to fail');
        }
        const store = await Store.open(directory, options);
        if (isLate || store.list().length === 0) return store;
        isLate = true;
        late += 1;
        machine.endAfter(1);
        void machine.list('.');
        for (let turn = 0; turn < 20; turn++) await Promise.resolve();
        return store;
      });
    }
    expect(late).toBeGreaterThan(0);
  });
});

describe('a file of the simulated disk', () => {
  const sector = (byte: number): Buffer => Buffer.alloc(SECTOR_BYTES, byte);
  const lost = (): 'lost' => 'lost';

  it('keeps through a power cut what was written before a sync was issued, and nothing else', () => {
    const inode = new Inode();
    inode.write(sector(1), 0);
    const image = inode.beginSync();
    inode.write(sector(2), SECTOR_BYTES);
    inode.endSync(image, () => true);
    inode.crash(
      lost,
      () => undefined,
      () => false,
    );
    expect(inode.sizeBytes).toBe(SECTOR_BYTES);
    expect(inode.cache.subarray(0, SECTOR_BYTES).equals(sector(1))).toBe(true);
  });

  it('loses after a failed sync what a later one seems to have saved', () => {
    const inode = new Inode();
    inode.write(sector(1), 0);
    inode.endSync(inode.beginSync(), () => true);
    inode.write(sector(2), 0);
    inode.endSync(inode.beginSync(), () => false);
    inode.endSync(inode.beginSync(), () => true);
    const target = sector(0);
    inode.read(target, 0, SECTOR_BYTES, 0);
    expect(target.equals(sector(2))).toBe(true);
    inode.crash(
      lost,
      () => undefined,
      () => true,
    );
    inode.read(target, 0, SECTOR_BYTES, 0);
    expect(target.equals(sector(1))).toBe(true);
  });

  it('does not call a sector clean that was written again while it was synced', () => {
    const inode = new Inode();
    inode.write(sector(1), 0);
    const image = inode.beginSync();
    inode.write(sector(2), 0);
    inode.endSync(image, () => true);
    expect(inode.dirtySectors).toEqual([0]);
  });
});

describe('an index of the simulated disk', () => {
  it('loses what it acknowledged behind a failed batch, once it is opened again', async () => {
    const random = new Random(1);
    const marks = new Marks();
    const scheduler = new Scheduler(random, { latencyMaxUs: 1, slow: undefined, inOrder: true }, 0);
    const faults = new Faults(random, {});
    const life = { scheduler, faults, random, marks };
    const folder = new IndexFolder();
    const key = (name: string): Buffer => Buffer.from(name);
    const put = async (database: Awaited<ReturnType<IndexFolder['open']>>, name: string): Promise<void> => {
      await database.batch().put(key(name), key('value')).write();
    };
    const first = await folder.open(life);
    await put(first, 'before');
    faults.fill(true);
    const refusals = await Promise.allSettled(Array.from({ length: 8 }, () => put(first, 'failed')));
    expect(refusals.some(({ status }) => status === 'rejected')).toBe(true);
    faults.fill(false);
    await put(first, 'behind');
    expect(await first.get(key('behind'))).toEqual(key('value'));
    await first.close();
    const second = await folder.open(life);
    expect(await second.get(key('before'))).toEqual(key('value'));
    expect(await second.get(key('behind'))).toBeUndefined();
  });
});

describe('the oracle', () => {
  it('wants at least what was flushed', () => {
    const oracle = new Oracle(Buffer.alloc(16), new Marks());
    oracle.flushed = 5;
    oracle.recovered(0, new Map());
    expect(oracle.violation?.message).toContain('the cut is at 0, and 5 was flushed');
  });

  it('knows no version that nobody made', () => {
    const oracle = new Oracle(Buffer.alloc(16), new Marks());
    oracle.recovered(0, new Map([['ghost', { sizeBytes: 512, chunks: new Map() }]]));
    expect(oracle.violation?.message).toContain('versions that nobody made');
  });
});
