/** Damage of the superblock and of whole segments: each kind, and what the checker must say of it. */

import { beforeAll, describe, it } from 'vitest';
import { SEGMENT_DAMAGES, SUPERBLOCK_DAMAGES } from './damage-of-segments.ts';
import { DamagedStore, expectFindings, type Plant } from './damaged-store.ts';

let closed: DamagedStore;
beforeAll(async () => {
  closed = await DamagedStore.make('closed');
}, 60_000);

async function expectIn(store: DamagedStore, plant: Plant): Promise<void> {
  const expected = await plant(store);
  expectFindings(await store.check(), expected);
}

describe.each([
  ['the superblock', SUPERBLOCK_DAMAGES],
  ['a segment', SEGMENT_DAMAGES],
])('damage of %s', (_, table) => {
  it.each(table)('%s', async (_what, plant) => {
    await expectIn(closed.copy(), plant);
  });
});
