/** Damage of the index and of the store's directory: each kind, and what the checker must say of it. */

import { beforeAll, describe, it } from 'vitest';
import { DIRECTORY_DAMAGES, INDEX_DAMAGES } from './damage-of-index.ts';
import { DamagedStore, expectFindings } from './damaged-store.ts';

let closed: DamagedStore;
beforeAll(async () => {
  closed = await DamagedStore.make();
}, 60_000);

describe('damage of the index', () => {
  it.each(INDEX_DAMAGES)('%s', async (_, plant) => {
    const store = closed.copy();
    const expected = await plant(store);
    expectFindings(await store.check(), expected);
  });
});

describe('what lies in the directory', () => {
  it.each(DIRECTORY_DAMAGES)('%s', async (_, plant) => {
    const store = closed.copy();
    const expected = await plant(store);
    expectFindings(await store.check(), expected);
  });
});
