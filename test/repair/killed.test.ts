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

/**
 * One that no opening gets past, and one that each does; with the chunk in whose segment something is damaged, and which
 * steps around the switch are tried: each, or every third.
 */
const DAMAGES: [name: string, what: string, stride: number, damage: Damage][] = [
  [
    'a store that lacks a segment, and whose chunks have rotten',
    'moved',
    1,
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
    'shared',
    3,
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

/** How many changes of files a repair makes, and with which of them new names begin. */
async function changesOf(damage: Damage): Promise<{ count: number; naming: number }> {
  const { storage } = await damaged(damage);
  const { length } = storage.trace;
  await repair(storage);
  const made = storage.trace.slice(length);
  return { count: made.length, naming: made.findIndex(({ operation }) => operation === 'link') };
}

/** What a repair keeps of a damaged segment, wherever that is. */
function keptOf(storage: MemoryStorage, segment: number): Buffer[] {
  const kept: Buffer[] = [];
  for (let n = 1; n < 3000; n++) {
    const path = segmentPath(segment).replace('log', `replaced-${n}`);
    if (storage.has(path)) kept.push(storage.bytes(path));
  }
  return kept;
}

async function expectRead(storage: MemoryStorage, gone: readonly string[]): Promise<void> {
  const rig = CrashRig.over(storage);
  await rig.open();
  const { errors, others } = await readAll(rig, contents);
  await rig.close();
  expect({ errors: errors.sort(), others }).toEqual({ errors: gone, others: [] });
}

describe.each(DAMAGES)('%s', (_, what, stride, damage) => {
  it.each(seeds(1))('is as it was, or repaired, wherever the repair ends (seed %i)', async (seed) => {
    const random = new Random(seed);
    const { count, naming } = await changesOf(damage);
    expect(naming).toBeGreaterThan(10);
    const damagedSegment = closed.placeOf(what).segment;
    const original = (await damaged(damage)).storage.bytes(segmentPath(damagedSegment));
    for (let at = 1 + random.below(3); at <= count; at += at < naming ? random.between(2, 8) : stride) {
      const { storage, gone } = await damaged(damage);
      storage.turnOffAt(at);
      const hasFailed = await repair(storage).then(
        () => false,
        () => true,
      );
      // Around the switch nothing that is not synced may be needed.
      const how =
        at >= naming && random.chance(70) ? 'power' : random.pick(['killed', 'power', 'some'] as const);
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
      expect(
        keptOf(storage, damagedSegment).some((kept) => kept.equals(original)),
        where,
      ).toBe(true);
    }
  });
});
