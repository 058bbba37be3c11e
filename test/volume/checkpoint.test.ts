/** Checkpoints: where replay goes on from, and an index that does not belong to the log as it is. */

import fs from 'node:fs';
import { describe, expect, it } from 'vitest';
import { CHUNK, MIB } from '../log/rig.ts';
import { CrashRig } from './crash-rig.ts';
import { directoryOf, StoreFixture } from './store-fixture.ts';

const chunk = (text: string): Buffer => Buffer.alloc(CHUNK, `${text} `);

async function withVolume(): Promise<CrashRig> {
  const rig = await CrashRig.begin();
  await rig.open();
  await rig.store.createVolume('disk', 8 * MIB);
  await rig.write('disk', 0, chunk('first'));
  return rig;
}

describe('a checkpoint', () => {
  it('has, or leaves to replay, what is written while it begins', async () => {
    const rig = await withVolume();
    for (const { at, offset } of [
      { at: 1, offset: CHUNK },
      { at: 2, offset: 2 * CHUNK },
    ]) {
      let checkpoint: Promise<void> | undefined;
      let records = 0;
      rig.storage.gate = async ({ operation, path }) => {
        if (operation !== 'write' || !path.startsWith('log/') || checkpoint !== undefined) return;
        records += 1;
        if (records < at) return;
        // It begins while this record is on its way: first the only one, then the one behind another.
        checkpoint = rig.store.checkpoint();
        await rig.rest(5);
      };
      const writes = [rig.write('disk', offset, chunk(`one ${at}`))];
      await new Promise((resolve) => setImmediate(resolve));
      writes.push(rig.write('disk', offset + MIB, chunk(`two ${at}`)));
      await Promise.all(writes);
      expect(checkpoint).toBeDefined();
      await checkpoint;
      rig.kill();
      await rig.open();
      expect((await rig.read('disk', offset, CHUNK)).equals(chunk(`one ${at}`))).toBe(true);
      expect((await rig.read('disk', offset + MIB, CHUNK)).equals(chunk(`two ${at}`))).toBe(true);
    }
  });

  it('is never ahead of the log: nothing is in the index before the log is on the disk', async () => {
    const rig = await withVolume();
    await rig.store.checkpoint();
    await rig.write('disk', 0, chunk('second'));
    const forEver = new Promise<void>(() => undefined);
    rig.storage.gate = async ({ operation, path }) => {
      if (operation === 'datasync' && path.startsWith('log/')) await forEver;
    };
    void rig.store.checkpoint().catch(() => undefined);
    await rig.rest(200);
    rig.crash(() => false, true);
    await rig.open();
    expect(rig.messages).toEqual([]);
    expect((await rig.read('disk', 0, CHUNK)).equals(chunk('first'))).toBe(true);
  });

  it('is not one of this log though a catalog stands where it says', async () => {
    const before = await withVolume();
    await before.close();
    const [rig, other] = [before.fork(), before.fork()];
    // The same place by two ways: two records of one entry, or one record of many.
    await rig.open();
    await rig.device('disk').zero(0, CHUNK, false);
    await rig.device('disk').zero(5 * CHUNK, CHUNK, false);
    await rig.close();
    await other.open();
    const device = other.device('disk');
    await Promise.all(Array.from({ length: 120 }, (_, i) => device.zero((20 + i) * CHUNK, CHUNK, false)));
    await other.close();
    const [theirs, mine] = [
      await rig.storage.openDatabase('index'),
      await other.storage.openDatabase('index'),
    ];
    const position = (await theirs.get(Buffer.from('c')))!.subarray(26, 34);
    expect((await mine.get(Buffer.from('c')))!.subarray(26, 34).equals(position)).toBe(true);
    await mine.clear();
    for await (const [key, value] of theirs.iterator()) await mine.put(key, value);
    await mine.close();
    await other.open();
    expect((await other.read('disk', 0, CHUNK)).equals(chunk('first'))).toBe(true);
    await other.close();
  });
});

describe('an index that is opened again after a failed batch', () => {
  it('and has lost a batch that it had acknowledged is made anew', async () => {
    const fixture = await StoreFixture.make();
    await fixture.store.checkpoint();
    const older = directoryOf('older');
    fs.cpSync(fixture.index, older, { recursive: true });
    await fixture.writeSome('a', 20);
    await fixture.store.checkpoint();
    await fixture.writeSome('a', 5);
    let failures = 1;
    fixture.handles.watch = {
      before(call) {
        if (call === 'write' && failures-- > 0)
          throw Object.assign(new Error('no space'), { code: 'LEVEL_IO_ERROR' });
      },
    };
    let swaps = 1;
    fixture.handles.refuseToOpen = (location) => {
      if (location !== fixture.index || swaps-- <= 0) return undefined;
      fs.rmSync(fixture.index, { recursive: true });
      fs.cpSync(older, fixture.index, { recursive: true });
      return undefined;
    };
    await fixture.store.checkpoint();
    expect([failures <= 0, swaps <= 0]).toEqual([true, true]);
    fixture.handles.watch = {};
    fixture.handles.refuseToOpen = undefined;
    await fixture.end();
  });
});
