/** What is behind a checkpoint is bounded: while LevelDB is slow, writes wait, and go on when it is done. */

import fs from 'node:fs';
import path from 'node:path';
import { expect, it } from 'vitest';
import { POINTERS_BESIDE_MAX, POINTERS_MAX } from '../../src/volume/checkpoint-policy.ts';
import { openLevel, Store } from '../../src/volume/store.ts';
import { SparseStorage } from '../../tools/size/sparse-storage.ts';
import { watched } from '../index/slow-database.ts';
import { scratchDirectory } from '../support/stores.ts';

const CHUNK_BYTES = 4096;
const QUEUE_DEPTH = 64;

it('writes beside a checkpoint that does not end stop at a bound, none is lost, none fails', {
  timeout: 60_000,
}, async () => {
  const directory = path.join(scratchDirectory(), 'store');
  await Store.init(directory);
  let end: () => void = () => undefined;
  let held = Promise.resolve();
  const store = await Store.open(directory, {
    storage: new SparseStorage(directory),
    openDatabase: async (location) =>
      watched(await openLevel(location), { before: (call) => (call === 'write' ? held : undefined) }),
  });
  await store.createVolume('v', 2 ** 40);
  await store.checkpoint();
  held = new Promise<void>((resolve) => {
    end = resolve;
  });
  const device = store.device('v');
  const bound = POINTERS_MAX + POINTERS_BESIDE_MAX;
  const wanted = bound + 20_000;
  const chunk = Buffer.alloc(CHUNK_BYTES);
  let sent = 0;
  let done = 0;
  let lastAt = performance.now();
  const writer = (resolve: () => void): void => {
    if (sent === wanted) {
      resolve();
      return;
    }
    const offset = ((sent++ * 40_503) % 2 ** 28) * CHUNK_BYTES;
    const complete = (error: unknown): void => {
      if (error !== undefined) throw error;
      done += 1;
      lastAt = performance.now();
      writer(resolve);
    };
    device.write({ offset, lengthBytes: CHUNK_BYTES, slices: [chunk], forceUnitAccess: false, complete });
  };
  const all = Promise.all(Array.from({ length: QUEUE_DEPTH }, () => new Promise<void>(writer)));
  while (done < bound || performance.now() - lastAt < 500) {
    await new Promise((resolve) => setTimeout(resolve, 50));
    if (performance.now() - lastAt > 5000 || done === wanted) break;
  }
  // What was in records on their way, as the checkpoint began and as writes stopped, comes on top.
  expect(done).toBeGreaterThanOrEqual(bound);
  expect(done).toBeLessThanOrEqual(bound + 8 * QUEUE_DEPTH);
  end();
  await all;
  expect(done).toBe(wanted);
  device.release();
  await store.close();
  fs.rmSync(path.dirname(directory), { recursive: true });
});
