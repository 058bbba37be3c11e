/** Many versions of one region: a cold read looks at what lies on its path, not at what siblings have. */

import { describe, expect, it } from 'vitest';
import { Random, seeds } from '../support/random.ts';
import { IndexRig, memoryDatabase } from './rig.ts';
import { type Watch, watched } from './slow-database.ts';

interface Counted {
  rig: IndexRig;
  /** Keys that were asked for since the last call. */
  keysRead: () => number;
}

async function countedRig(): Promise<Counted> {
  let keys = 0;
  const watch: Watch = {
    before(call, args) {
      if (call === 'get') keys += 1;
      if (call === 'getMany') keys += (args[0] as Buffer[]).length;
    },
  };
  const rig = await IndexRig.begin(watched(await memoryDatabase(), watch));
  const keysRead = (): number => {
    const read = keys;
    keys = 0;
    return read;
  };
  return { rig, keysRead };
}

describe('many versions of a region', () => {
  it('300 clones that all wrote over it: a read of one looks at its own rows', {
    timeout: 20_000,
  }, async () => {
    const { rig, keysRead } = await countedRig();
    rig.apply({ op: 'create' });
    rig.apply({ op: 'write', label: 1, first: 0, count: 256 });
    rig.apply({ op: 'snapshot', label: 1 });
    for (let i = 0; i < 300; i++) rig.apply({ op: 'clone', label: 1 });
    for (const [i, label] of rig.heads.entries()) {
      rig.apply({ op: 'write', label, first: i % 100, count: 100 });
      if (i % 50 === 49) await rig.commit();
    }
    await rig.commit();
    await rig.reopen();
    await rig.loadCold(1, 0); // the directory's nodes
    for (const label of [1, 2, 150, 301, 302]) {
      keysRead();
      const wrong = rig.wrong(await rig.loadCold(label, 0), label, 0);
      expect(wrong).toBeUndefined();
      // The list, the parent's row, its own rows.
      expect(keysRead()).toBeLessThanOrEqual(4);
    }
  });

  it('500 snapshots deep, each of the whole region: a read looks at the newest only', {
    timeout: 20_000,
  }, async () => {
    const { rig, keysRead } = await countedRig();
    rig.apply({ op: 'create' });
    for (let i = 0; i < 500; i++) {
      const label = rig.heads[0]!;
      rig.apply({ op: 'write', label, first: 0, count: 256 });
      rig.apply({ op: 'snapshot', label });
      if (i % 100 === 99) await rig.commit();
    }
    await rig.reopen();
    await rig.loadCold(1, 0);
    for (const label of [501, 500, 499, 250, 33, 1]) {
      keysRead();
      expect(rig.wrong(await rig.loadCold(label, 0), label, 0)).toBeUndefined();
      expect(keysRead()).toBeLessThanOrEqual(33); // the list, and one round of rows
    }
  });

  for (const seed of seeds(1)) {
    it(`500 snapshots deep, each of a few chunks: a read is right, and reads each row once (SEED=${seed})`, {
      timeout: 20_000,
    }, async () => {
      const random = new Random(seed);
      const { rig, keysRead } = await countedRig();
      rig.apply({ op: 'create' });
      for (let i = 0; i < 500; i++) {
        const label = rig.heads[0]!;
        const first = random.below(250);
        if (random.chance(20)) rig.apply({ op: 'zero', label, first, count: random.between(1, 6) });
        else rig.apply({ op: 'write', label, first, count: random.between(1, 6) });
        rig.apply({ op: 'snapshot', label });
        if (i % 50 === 49) await rig.commit();
      }
      await rig.reopen();
      await rig.loadCold(1, 0);
      for (const label of [501, 500, 400, 128, 32, 2, 1]) {
        keysRead();
        expect(rig.wrong(await rig.loadCold(label, 0), label, 0)).toBeUndefined();
        expect(keysRead()).toBeLessThanOrEqual(1 + label);
      }
    });
  }
});
