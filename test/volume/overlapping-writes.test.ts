/** Writes that overlap in bytes or only in chunks, all at once: none of those that were answered is lost. */

import fs from 'node:fs';
import path from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import type { BlockDevice } from '../../src/volume/device.ts';
import { Store } from '../../src/volume/store.ts';
import { SECTOR_BYTES } from '../../src/base/units.ts';
import { StoreHistory } from '../../tools/torture/store-history.ts';
import { Random, seeds } from '../support/random.ts';
import { read, scratchDirectory, write } from '../support/stores.ts';

const DISK_BYTES = 16 * 4096;
const SECTORS = DISK_BYTES / SECTOR_BYTES;
const BATCHES = 150;
const WAIT_MS_MAX = 20_000;

let store: Store | undefined;
let directory = '';
afterEach(async () => {
  // A write that waits for ever must not keep the test from its end.
  await Promise.race([store?.close(), new Promise((resolve) => setTimeout(resolve, 1_000))]);
  fs.rmSync(directory, { recursive: true, force: true });
});

async function openDisk(): Promise<BlockDevice> {
  directory = path.join(scratchDirectory(), 'store');
  await Store.init(directory, { segmentBytes: 1 << 20 });
  store = await Store.open(directory);
  await store.createVolume('disk', DISK_BYTES);
  return store.device('disk');
}

describe('writes that overlap', () => {
  // Of up to eight sectors none has a whole chunk between ragged edges.
  const runs = seeds(2).flatMap((seed) => [8, 24].map((sectorsMax) => [sectorsMax, seed] as const));
  const title = 'lose nothing that was answered: whole, ragged, of zeros, up to %i sectors (SEED=%i)';
  it.each(runs)(
    title,
    async (sectorsMax, seed) => {
      const random = new Random(seed);
      const device = await openDisk();
      const history = new StoreHistory(seed);
      const { history: disk } = history.addDisk('disk', Buffer.alloc(DISK_BYTES));
      const change = async (): Promise<void> => {
        const count = random.between(1, sectorsMax);
        const at = random.below(SECTORS - count + 1);
        const first = random.chance(50) ? at - (at % 8) : at;
        const sent = disk.send(first, count, { isZero: random.chance(20), isForced: false });
        const offset = first * SECTOR_BYTES;
        if (sent.isZero) await device.zero(offset, count * SECTOR_BYTES, false);
        else await write(device, offset, disk.content(sent));
        disk.answer(sent);
        if (random.chance(50)) await change();
      };
      for (let batch = 0; batch < BATCHES; batch++) {
        await Promise.all(Array.from({ length: random.between(2, 12) }, change));
        const actual = await read(device, 0, DISK_BYTES);
        const now = history.moments.next();
        expect(disk.wrong(actual, { from: now, until: now }), `batch ${batch}`).toBeUndefined();
        disk.settle(actual);
      }
      device.release();
    },
    WAIT_MS_MAX,
  );

  it(
    'do not wait for each other when each has an edge in the middle of the other',
    async () => {
      const device = await openDisk();
      const bytes = Buffer.alloc(8192, 7);
      await Promise.all([write(device, 2048, bytes), write(device, 2048 + 4096, bytes)]);
      expect((await read(device, 2048, 8192 + 4096)).every((byte) => byte === 7)).toBe(true);
      device.release();
    },
    WAIT_MS_MAX,
  );
});
