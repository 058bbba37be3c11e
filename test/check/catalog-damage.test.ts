/**
 * Volumes, snapshots and versions that do not hold together, in records that have their checksums: what no disk does, and a
 * mistake might. Each kind, and what the checker must say of it.
 */

import { beforeAll, describe, expect, it } from 'vitest';
import { CATALOG_DAMAGES, CHANGE_DAMAGES } from './damage-of-catalogs.ts';
import { DamagedStore, expectFindings } from './damaged-store.ts';

const says = (text: string): string => expect.stringContaining(text) as string;

let closed: DamagedStore;
beforeAll(async () => {
  closed = await DamagedStore.make();
}, 60_000);

describe('a catalog with', () => {
  it.each(CATALOG_DAMAGES)('%s', async (_, plant) => {
    const store = closed.copy();
    const expected = await plant(store);
    expectFindings(await store.check(), expected);
  });

  it('texts that are no JSON', async () => {
    const store = closed.copy();
    await store.appendCatalogText('{"versions":[');
    const [finding] = await store.check();
    expect(finding).toMatchObject({ code: 'CATALOG_UNREADABLE', mend: 'repair' });
  });

  it('a ghost that nothing keeps, and a version that nobody can name', async () => {
    const store = closed.copy();
    // Where a change is lost, the check goes on with the next catalog, and judges that.
    await store.appendChange('nothing');
    await store.appendCatalog(({ versions, snapshots }) => {
      versions.push([8, 0, 200, 210]);
      snapshots.shift();
    });
    expectFindings(await store.check(), [
      'CHANGE_UNUSABLE',
      { code: 'CATALOG_DIFFERS', message: says('snapshot a@1 is missing') },
      { code: 'GHOST_IDLE', message: says('version 8 is deleted'), mend: 'repair' },
      { code: 'VERSION_UNNAMED', message: says('version 1 is neither'), mend: 'repair' },
      'NUMBERS_BEHIND',
    ]);
  });

  it('nothing wrong is no finding', async () => {
    const store = closed.copy();
    await store.appendCatalog(() => undefined);
    expectFindings(await store.check(), []);
  });
});

describe('a change', () => {
  it.each(CHANGE_DAMAGES)('%s', async (_, plant) => {
    const store = closed.copy();
    const expected = await plant(store);
    expectFindings(await store.check(), expected);
  });

  it('that is lost with its record: what it made is told by the next catalog', async () => {
    const store = closed.copy();
    const { volumes } = await store.newestCatalog();
    const change = { op: 'rename', at: 1, of: volumes[1]!.uuid, name: 'beta' };
    const { end } = await store.end();
    await store.appendChange(JSON.stringify(change));
    await store.appendCatalog((catalog) => void (catalog.volumes[1]!.name = 'beta'));
    const records = await store.records(end.segment);
    store.loseRecord(records.find(({ header }) => header.append === end.append + 1)!);
    expectFindings(await store.check(), [
      { code: 'LOG_RECORD_DAMAGED', segment: end.segment, mend: 'repair' },
      { code: 'CATALOG_DIFFERS', message: says('volume beta is in the catalog'), mend: 'repair' },
      { code: 'CATALOG_DIFFERS', message: says('volume b is missing in the catalog'), mend: 'repair' },
    ]);
  });
});
