/** The checker about the log and the superblock: what hides behind a second copy is found too. */

import fs from 'node:fs';
import path from 'node:path';
import { expect, it } from 'vitest';
import { FIRST_RECORD_OFFSET } from '../../src/log/format.ts';
import type { Finding } from '../../src/volume/summary.ts';
import { Store } from '../../src/volume/store.ts';
import { damageIn } from '../support/stores.ts';
import { CrashRig } from './crash-rig.ts';
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

/** What the first step of a scrub says, which is about the superblock: with the others the clock would have to go on. */
async function* beginningOfScrub(store: Store): AsyncGenerator<Finding> {
  for await (const { findings } of store.scrub({ bytesPerSecond: 2 ** 40 })) {
    yield* findings;
    return;
  }
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

it.each(['check', 'scrub'] as const)(
  'a copy of the superblock that is being written is no damage to a %s',
  async (how) => {
    const rig = await CrashRig.begin();
    const store = await rig.open();
    await store.createVolume('v', 1 << 20);
    for (let i = 0; i < 600; i++) await rig.write('v', 4096 * ((i * 7) % 200), Buffer.alloc(4096, i));
    let goOn: () => void = () => undefined;
    const released = new Promise<void>((resolve) => {
      goOn = resolve;
    });
    let isHeld = false;
    rig.storage.gate = async ({ operation, path: file, position }) => {
      if (operation !== 'write' || file !== 'superblock') return;
      rig.storage.edit(file, (bytes) => bytes.fill(0x55, position, position + 100)); // half of it is there
      isHeld = true;
      await released;
    };
    const writing = store.compactOnce(); // the base moves
    while (!isHeld) await rig.rest(1);
    const found = how === 'check' ? damageIn(store.check()) : damageIn(beginningOfScrub(store));
    await rig.rest();
    goOn();
    await writing;
    expect(await found).toEqual([]);
    await rig.close();
  },
);

it('a segment that was begun for a record whose write failed is no damage to a check of a store in use', async () => {
  const rig = await CrashRig.begin({ segmentBytes: 1 << 20 });
  const store = await rig.open();
  await store.createVolume('v', 2 << 20);
  const bytes = Buffer.alloc(64 << 10, 7);
  // Half of the first record of the next segment lands.
  rig.storage.fail('write', { path: /0000000002/, position: 4096 });
  let failed = 0;
  for (let i = 0; failed === 0 && i < 20; i++) {
    await store.checkpoint(); // the check has no other
    await rig.write('v', i << 16, bytes).catch(() => (failed += 1));
  }
  expect(failed).toBe(1);
  expect(await damageIn(store.check())).toEqual([]);
  await rig.write('v', 0, bytes);
  expect(await damageIn(store.check())).toEqual([]);
  await rig.close();
});
