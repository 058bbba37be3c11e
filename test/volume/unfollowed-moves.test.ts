/** A round whose catalog may be in the log though its sync failed: rows stay as they are until that is settled. */

import { expect, it, vi } from 'vitest';
import { CatalogAppender } from '../../src/volume/catalog-append.ts';
import { Random } from '../support/random.ts';
import { damageIn } from '../support/stores.ts';
import { CrashRig } from './crash-rig.ts';

const CHUNK = 4096;
const CHUNKS = 512;
const DELETES_FAILED = 'deleted versions could not be taken out of the index; trying again';

it('a delete that is finished behind a round whose sync failed takes nothing away from what was moved', async () => {
  const random = new Random(5);
  const rig = await CrashRig.begin();
  await rig.open();
  await rig.store.createVolume('v', CHUNKS * CHUNK);
  const content = Buffer.alloc(CHUNKS * CHUNK);
  const writeAt = async (chunk: number): Promise<void> => {
    const bytes = random.bytes(CHUNK);
    bytes.copy(content, chunk * CHUNK);
    await rig.write('v', chunk * CHUNK, bytes);
  };
  for (let chunk = 0; chunk < CHUNKS; chunk++) await writeAt(chunk);
  for (let chunk = 0; chunk < CHUNKS; chunk += 2) await writeAt(chunk);
  await rig.store.snapshot(['v@1']);
  for (let chunk = 0; chunk < CHUNKS; chunk += 8) await writeAt(chunk);
  await rig.store.checkpoint();

  // The delete is in the log, and is to be finished later.
  rig.storage.fail('write', { path: /^log\//, after: 1, code: 'NO_SPACE' });
  await rig.store.delete(['v@1']);
  await rig.rest();
  expect(rig.messages).toContain(DELETES_FAILED);
  rig.storage.clearFailures();

  // The catalog of a round gets to the log, and its sync fails.
  const announce = Reflect.get(CatalogAppender.prototype, 'announce') as CatalogAppender['announce'];
  vi.spyOn(CatalogAppender.prototype, 'announce').mockImplementationOnce(async function (
    this: CatalogAppender,
    replacement,
  ) {
    await announce.call(this, replacement);
    rig.storage.fail('datasync', { path: /^log\// });
  });
  await expect(rig.store.compactOnce()).rejects.toMatchObject({ code: 'POISONED' });
  rig.clock.advance(2000);
  await rig.rest();
  rig.kill();

  const isWhole = async (): Promise<void> => {
    const found = await rig.read('v', 0, content.length);
    expect(found.equals(content)).toBe(true);
  };
  await rig.open();
  await rig.rest();
  await isWhole();
  for await (const _ of rig.store.compact({ target: 0.98, purge: true, bytesPerSecond: undefined }));
  await isWhole();
  expect(await damageIn(rig.store.check())).toEqual([]);
  await rig.close();

  rig.storage = rig.storage.copy(); // without the index
  await rig.open();
  await isWhole();
  await rig.close();
});
