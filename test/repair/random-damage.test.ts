/**
 * Random stores, each with clones, snapshots, trims, moves and several segments, damaged at random and repaired: what is still
 * there reads as it did, and all else as errors; where nobody can know what is lost, the repair says so first.
 */

import { describe, it, vi } from 'vitest';
import { segmentPath } from '../../src/log/format.ts';
import { SLOT_BYTES } from '../../src/log/superblock.ts';
import { DamagedStore } from '../check/damaged-store.ts';
import { Random, seeds } from '../support/random.ts';
import { contentOf, expectNothingOld, placeIndex } from './repair-rig.ts';

vi.setConfig({ testTimeout: 120_000 });

type Harm = (store: DamagedStore, segment: number, random: Random) => Promise<void> | void;

const HARMS: readonly Harm[] = [
  (store, segment, random) => store.flip(segment, random.below(store.bytes(segment).length)),
  (store, segment, random) => {
    const from = random.below(store.bytes(segment).length);
    const to = Math.min(from + random.between(1, 40_000), store.bytes(segment).length);
    store.fill(segment, from, to, random.pick([0, 0x55]));
  },
  (store, segment) => store.storage.remove(segmentPath(segment)),
  (store, segment, random) =>
    store.fill(segment, 0, Math.min(random.pick([100, 4096, 9000]), store.bytes(segment).length)),
  (store, segment, random) =>
    store.replace(segmentPath(segment), Buffer.from(store.bytes(segment).subarray(0, random.below(1 << 19)))),
  (store, _, random) =>
    store.storage.edit('superblock', (bytes) => {
      const slot = random.pick([0, 1, 2]);
      if (slot !== 1) bytes.fill(0x55, 30, 40);
      if (slot !== 0) bytes.fill(0x55, SLOT_BYTES + 30, SLOT_BYTES + 40);
    }),
  (store, _, random) => {
    if (random.chance(50)) store.rows = [];
    else if (store.rows.length > 0) store.rows.splice(random.below(store.rows.length), 1);
  },
];

describe('random damage', () => {
  it.each(seeds(8))('is repaired as far as the log and the index can prove (seed %i)', async (seed) => {
    const random = new Random(seed);
    const store = await DamagedStore.make('closed', random.below(1000));
    const contents = await contentOf(store);
    const count = random.between(1, 4);
    for (let i = 0; i < count; i++) {
      const segments = store.segments;
      await random.pick(HARMS)(store, random.pick(segments), random);
    }
    await store.storage.syncDirectory('log');
    if (store.rows.length === 0) await store.storage.remove('index');
    else await placeIndex(store);
    await expectNothingOld(store.storage, contents, { isSilent: store.rows.length === 0 });
  });
});
