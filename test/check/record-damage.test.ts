/** Damage of records and of the chunks in them: each kind, and what the checker must say of it. */

import { beforeAll, describe, it } from 'vitest';
import { CrashRig } from '../volume/crash-rig.ts';
import { CHUNK_DAMAGES, RECORD_DAMAGES, UNPROVEN_DAMAGES } from './damage-of-records.ts';
import { DamagedStore, expectFindings, type Plant } from './damaged-store.ts';

let closed: DamagedStore;
let killed: DamagedStore;
beforeAll(async () => {
  closed = await DamagedStore.make('closed');
  killed = await DamagedStore.make('killed');
}, 60_000);

async function expectIn(store: DamagedStore, plant: Plant): Promise<void> {
  const expected = await plant(store);
  expectFindings(await store.check(), expected);
}

describe.each([
  ['a record', RECORD_DAMAGES],
  ['a chunk', CHUNK_DAMAGES],
])('damage of %s', (_, table) => {
  it.each(table)('%s', async (_what, plant) => {
    await expectIn(closed.copy(), plant);
  });
});

describe('behind what was synced', () => {
  it.each(UNPROVEN_DAMAGES)('%s', async (_, plant) => {
    const store = killed.copy();
    const expected = await plant(store);
    expectFindings(await store.check(), [...expected, 'LEFTOVER_SEGMENT']);
  });
});

it('what a recovery has cut off is told where it still stands', async () => {
  const store = killed.copy();
  const { segment, offset } = store.placeOf('last');
  store.flip(segment, offset + 700);
  const rig = CrashRig.over(store.storage);
  await rig.open();
  await rig.close();
  store.rows = []; // the index that the rig has made
  expectFindings(await store.check(), [{ code: 'CUT_OFF_RECORDS', segment, severity: 'note' }, 'NO_FOOTER']);
});

describe('a whole store', () => {
  it('has no finding when it was closed', async () => {
    expectFindings(await closed.copy().check(), []);
    expectFindings(await closed.copy().check({ quick: true }), []);
  });

  it('has one when it was killed: the segment that was made ahead', async () => {
    expectFindings(await killed.copy().check(), ['LEFTOVER_SEGMENT']);
  });
});
