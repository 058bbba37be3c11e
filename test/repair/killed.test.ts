/**
 * A repair that is killed, or loses its power, at any step of it: what is there then is what was there before, or what a
 * repair makes of it; another repair, or an opening, goes on from there.
 */

import { beforeAll, describe, expect, it, vi } from 'vitest';
import { segmentPath } from '../../src/log/format.ts';
import { DamagedStore } from '../check/damaged-store.ts';
import type { MemoryStorage } from '../support/memory-storage.ts';
import { Random, seeds } from '../support/random.ts';
import { CrashRig } from '../volume/crash-rig.ts';
import {
  contentOf,
  expectNothingButLost,
  goneFrom,
  placeIndex,
  readAll,
  repair,
  type Version,
} from './repair-rig.ts';

vi.setConfig({ testTimeout: 240_000, hookTimeout: 60_000 });

let closed: DamagedStore;
let contents: Map<string, Version>;
beforeAll(async () => {
  closed = await DamagedStore.make('closed');
  contents = await contentOf(closed);
});

type Damage = (store: DamagedStore) => Promise<void>;

/** One that no opening gets past, and one that each does. */
const DAMAGES: [what: string, damage: Damage][] = [
  [
    'a store that lacks a segment, and whose chunks have rotten',
    async (store) => {
      const [, , third] = await store.chain();
      const { segment, offset } = store.placeOf('moved');
      store.flip(segment, offset);
      await store.storage.remove(segmentPath(third!));
      await store.storage.syncDirectory('log');
    },
  ],
  [
    'a store with a damaged header and a chunk that has rotten',
    async (store) => {
      const { segment, offset } = store.placeOf('shared');
      store.flip(segment, 50, offset);
    },
  ],
];

async function damaged(damage: Damage): Promise<{ storage: MemoryStorage; gone: string[] }> {
  const store = closed.copy();
  await damage(store);
  await placeIndex(store);
  return { storage: store.storage, gone: goneFrom(store.storage, contents).sort() };
}

/** How many changes of files a repair makes. */
async function changesOf(damage: Damage): Promise<number> {
  const { storage } = await damaged(damage);
  const before = storage.changes;
  await repair(storage);
  return storage.changes - before;
}

async function expectRead(storage: MemoryStorage, gone: readonly string[]): Promise<void> {
  const rig = CrashRig.over(storage);
  await rig.open();
  const { errors, others } = await readAll(rig, contents);
  await rig.close();
  expect({ errors: errors.sort(), others }).toEqual({ errors: gone, others: [] });
}

describe.each(DAMAGES)('%s', (_, damage) => {
  it.each(seeds(1))('is as it was, or repaired, wherever the repair ends (seed %i)', async (seed) => {
    const random = new Random(seed);
    const count = await changesOf(damage);
    expect(count).toBeGreaterThan(40);
    for (let at = 1 + random.below(3); at <= count; at += random.between(1, 4)) {
      const { storage, gone } = await damaged(damage);
      storage.turnOffAt(at);
      const hasFailed = await repair(storage).then(
        () => false,
        () => true,
      );
      const how = random.pick(['killed', 'power', 'some'] as const);
      if (how === 'killed') storage.kill();
      else storage.crash(how === 'power' ? () => false : () => random.chance(50), true);
      const where = `change ${at} of ${count}, ${how}`;
      // An opening may come first, where there is one to be had.
      if (random.chance(50)) {
        const rig = CrashRig.over(storage);
        const isOpen = await rig.open().then(
          () => true,
          () => false,
        );
        if (isOpen) {
          const { others } = await readAll(rig, contents);
          expect(others, where).toEqual([]);
          await rig.close();
        } else rig.kill();
      }
      const { after, result } = await repair(storage);
      expect(hasFailed || result.done.length === 0, where).toBe(true);
      expectNothingButLost(after);
      await expectRead(storage, gone);
      expect(storage.names('repair.new'), where).toEqual([]);
    }
  });
});
