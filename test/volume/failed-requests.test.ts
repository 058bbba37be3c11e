/** Requests that fail: with a code, and only once nothing of them is under way any more. */

import { describe, expect, it } from 'vitest';
import { StoreError } from '../../src/base/errors.ts';
import type { OpenDatabase } from '../../src/volume/index-builder.ts';
import { ticks, watched } from '../index/slow-database.ts';
import { CHUNK, MIB } from '../log/rig.ts';
import { CrashRig } from './crash-rig.ts';

async function withVolume(): Promise<CrashRig> {
  const rig = await CrashRig.begin();
  await rig.open();
  await rig.store.createVolume('disk', 4 * MIB);
  for (const offset of [0, MIB]) await rig.write('disk', offset, Buffer.alloc(CHUNK, 1));
  await rig.store.flush();
  return rig;
}

describe('a request of several parts', () => {
  it('that zeroes, and cannot read the chunk at its edge, is answered when its other parts have ended', async () => {
    const rig = await withVolume();
    await rig.read('disk', 0, CHUNK);
    let letGo: () => void = () => undefined;
    const gate = new Promise<void>((resolve) => {
      letGo = resolve;
    });
    // The chunks between the edges come first, then the edge at the end: that one stops on its way.
    let writes = 0;
    rig.storage.gate = async ({ operation }) => {
      if (operation === 'write' && ++writes > 1) await gate;
    };
    rig.storage.fail('read', { path: /seg$/ });
    let answer = 'none';
    const zeroed = rig
      .device('disk')
      .zero(100, 3 * CHUNK, false)
      .then(
        () => (answer = 'good'),
        (error: StoreError) => (answer = error.code),
      );
    await rig.rest();
    expect(answer).toBe('none');
    letGo();
    await zeroed;
    expect(answer).toBe('IO');
    rig.storage.gate = undefined;
    await rig.close();
  });

  it('that reads, and fails in one region while another is loaded, fails once', async () => {
    const rig = await withVolume();
    await rig.close();
    const { openDatabase } = rig.storage;
    const replaceable = rig.storage as { openDatabase: OpenDatabase };
    replaceable.openDatabase = async (path) => watched(await openDatabase(path), { before: () => ticks(3) });
    await rig.open();
    await rig.read('disk', 0, CHUNK);
    rig.storage.fail('read', { path: /seg$/ });
    // An error that nobody awaits would end the process, and this test.
    await expect(rig.read('disk', 0, 2 * MIB)).rejects.toMatchObject({ code: 'IO' });
    await rig.rest();
    expect((await rig.read('disk', 0, 2 * MIB)).subarray(0, CHUNK)).toEqual(Buffer.alloc(CHUNK, 1));
    await rig.close();
  });
});

describe('a store whose index cannot be made anew', () => {
  it('is refused with a code, and opens when it can', async () => {
    const rig = await withVolume();
    rig.crash();
    const { openDatabase } = rig.storage;
    const replaceable = rig.storage as { openDatabase: OpenDatabase };
    replaceable.openDatabase = async () => {
      throw Object.assign(new Error('Database failed to open'), { code: 'LEVEL_DATABASE_NOT_OPEN' });
    };
    const error: unknown = await rig.open().catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(StoreError);
    expect((error as StoreError).code).toBe('IO');
    replaceable.openDatabase = openDatabase;
    await rig.open();
    expect(await rig.read('disk', 0, CHUNK)).toEqual(Buffer.alloc(CHUNK, 1));
    await rig.close();
  });
});
