/** The checker about the log and the superblock: what hides behind a second copy is found too. */

import fs from 'node:fs';
import path from 'node:path';
import { expect, it } from 'vitest';
import { FIRST_RECORD_OFFSET } from '../../src/log/format.ts';
import { Store } from '../../src/volume/store.ts';
import { damageIn } from '../support/stores.ts';
import { filesOf, StoreFixture } from './store-fixture.ts';

function overwrite(file: string, at: number, bytes: Buffer): void {
  const handle = fs.openSync(file, 'r+');
  fs.writeSync(handle, bytes, 0, bytes.length, at);
  fs.closeSync(handle);
}

async function closedStore(): Promise<string> {
  const fixture = await StoreFixture.make();
  await fixture.store.close();
  expect(await damageIn(Store.check(fixture.directory))).toEqual([]);
  return fixture.directory;
}

it('a damaged record is found though the footer of its segment has a copy of its table', async () => {
  const directory = await closedStore();
  const [first] = filesOf(path.join(directory, 'log'), '.seg').sort();
  // The copy of header and table at its end as well.
  overwrite(first!, FIRST_RECORD_OFFSET + 30, Buffer.alloc(1000, 0x55));
  const found = await damageIn(Store.check(directory));
  expect(found.filter((each) => /^(LOG_RECORD_DAMAGED|FOOTER_DIFFERS)/.test(each)).length).toBeGreaterThan(0);
});

it('either damaged copy of the superblock is found, though the other one is whole', async () => {
  for (const copy of [1, 2]) {
    const directory = await closedStore();
    overwrite(path.join(directory, 'superblock'), 4096 * (copy - 1) + 60, Buffer.alloc(4, 0x55));
    const found = await damageIn(Store.check(directory));
    expect(found.filter((each) => each.startsWith('SUPERBLOCK_SLOT_DAMAGED'))).toEqual([
      expect.stringContaining(`copy ${copy} `),
    ]);
  }
});
