/** The keeper when the index cannot be written: repaired, nothing lost, and errors rather than zeros until then. */

import fs from 'node:fs';
import { describe, expect, it, vi } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { StoreError } from '../../src/base/errors.ts';
import { NodeStorage } from '../../src/base/node-storage.ts';
import { Store } from '../../src/volume/store.ts';
import type { IndexDatabase } from '../../src/index/directory.ts';
import { CHECKPOINT_KEY, decodeCheckpoint } from '../../src/index/rows.ts';
import { ticks } from '../index/slow-database.ts';
import { damageIn, write } from '../support/stores.ts';
import { Aged, type Step } from './aged.ts';
import { CHUNK, DISK_BYTES, StoreFixture } from './store-fixture.ts';

const NAMES = ['a', 'a@1', 'a@2', 'b'];

describe('commits that fail', () => {
  const diskFull = (): Error =>
    Object.assign(new Error('IO error: No space left on device'), { code: 'LEVEL_IO_ERROR' });

  for (let nth = 1; nth <= 2; nth++) {
    for (const after of [false, true]) {
      it(`batch ${nth} is rejected ${after ? 'though it was made' : 'and not made'}: repaired, nothing lost`, async () => {
        const fixture = await StoreFixture.make();
        await fixture.reopen();
        let batches = 0;
        const reject = (call: string): void => {
          if (call === 'write' && ++batches === nth) throw diskFull();
        };
        fixture.handles.watch = after ? { after: reject } : { before: reject };
        for (let i = 0; i < 3; i++) {
          await fixture.writeSome('a', 10);
          await fixture.store.checkpoint();
          await fixture.readAll();
        }
        expect(batches).toBeGreaterThan(nth);
        fixture.handles.watch = {};
        await fixture.reopen();
        await fixture.end();
      });
    }
  }

  it('no index can be written for a while: reads and writes go on, and it heals', async () => {
    const fixture = await StoreFixture.make();
    let now = 0;
    await fixture.store.close();
    await fixture.open({ ...systemClock, now: () => now });
    await fixture.writeSome('a', 20);
    fixture.handles.watch = {
      before(call) {
        if (call === 'write') throw diskFull();
      },
    };
    for (let i = 0; i < 3; i++) {
      await expect(fixture.store.checkpoint()).rejects.toBeInstanceOf(StoreError);
      await fixture.writeSome('b', 5);
      await fixture.readAll();
    }
    fixture.handles.watch = {};
    now = 10_000;
    await fixture.store.checkpoint();
    await fixture.end();
  });

  it('there is no room to write the index, nor to open it again: it is read as it is, and opened again before a write', async () => {
    const fixture = await StoreFixture.make();
    await fixture.reopen();
    await fixture.writeSome('a', 20);
    const room = vi.spyOn(NodeStorage.prototype, 'freeBytes').mockResolvedValue(1 << 30);
    try {
      let [opens, writes] = [0, 0];
      fixture.handles.refuseToOpen = () => {
        opens += 1;
        return diskFull();
      };
      fixture.handles.watch = {
        before(call) {
          if (call !== 'write') return;
          writes += 1;
          room.mockResolvedValue(1 << 20); // somebody else was faster
          throw diskFull();
        },
      };
      for (let i = 0; i < 3; i++) {
        await expect(fixture.store.checkpoint()).rejects.toMatchObject({ code: 'NO_SPACE' });
        await fixture.readAll();
      }
      expect([opens, writes]).toEqual([0, 1]);
      // LevelDB acknowledges behind a torn record of its own, and loses that.
      const torn = fixture.handles.opened.length;
      room.mockResolvedValue(1 << 30);
      fixture.handles.refuseToOpen = undefined;
      fixture.handles.watch = {
        before(call) {
          if (call === 'write' && fixture.handles.opened.length === torn) writes += 1;
        },
      };
      await fixture.store.checkpoint();
      expect([fixture.handles.opened.length, writes]).toEqual([torn + 1, 1]);
      await fixture.readAll();
    } finally {
      room.mockRestore();
    }
    fixture.handles.watch = {};
    await fixture.reopen();
    await fixture.end();
  });

  it('no index can be opened for a while: errors until then, never zeros, and it heals', async () => {
    const fixture = await StoreFixture.make();
    let now = 0;
    await fixture.store.close();
    await fixture.open({ ...systemClock, now: () => now });
    await fixture.store.createVolume('fresh', DISK_BYTES); // all of it is in the overlay
    fixture.contents.set('fresh', Buffer.alloc(DISK_BYTES));
    await fixture.writeSome('fresh', 20);
    let opens = 0;
    fixture.handles.refuseToOpen = () => {
      opens += 1;
      return diskFull();
    };
    fixture.handles.watch = {
      before(call) {
        if (call === 'write') throw diskFull();
      },
    };
    await expect(fixture.store.checkpoint()).rejects.toMatchObject({ code: 'NO_SPACE' });
    for (const name of [...NAMES, 'fresh'])
      await expect(fixture.readOne(name)).rejects.toMatchObject({ code: 'IO' });
    expect(opens).toBeLessThan(4); // not once for each read
    fixture.handles.refuseToOpen = undefined;
    fixture.handles.watch = {};
    now = 10_000;
    await fixture.readAll();
    await fixture.end();
  });

  it('the last commit fails when the store is closed: nothing works on its files afterwards', async () => {
    const fixture = await StoreFixture.make();
    await fixture.reopen();
    await fixture.writeSome('a', 20);
    fixture.handles.watch = {
      async before(call) {
        await ticks(5);
        if (call === 'write') throw diskFull();
      },
    };
    await fixture.store.close();
    fixture.handles.watch = {};
    const count = fixture.handles.opened.length;
    const listing = fs.readdirSync(fixture.directory).join();
    await new Promise((resolve) => setTimeout(resolve, 200));
    expect(fixture.handles.opened.length).toBe(count);
    expect(fs.readdirSync(fixture.directory).join()).toBe(listing);
    await fixture.open();
    await fixture.end();
  });

  it('an index that is lost while a checkpoint is written has all that the checkpoint says', async () => {
    const fixture = await StoreFixture.make();
    await fixture.reopen();
    await fixture.writeSome('a', 10);
    let isHeld = false;
    let goOn: () => void = () => undefined;
    let isLost = false;
    fixture.handles.watch = {
      async before(call) {
        if (call === 'getMany' && isLost) {
          isLost = false;
          throw Object.assign(new Error('Corruption: block checksum mismatch'), { code: 'LEVEL_CORRUPTION' });
        }
        if (call !== 'write' || isHeld) return;
        isHeld = true;
        await new Promise<void>((resolve) => {
          goOn = resolve;
        });
      },
    };
    const checkpoint = fixture.store.checkpoint();
    while (!isHeld) await ticks(1);
    isLost = true;
    const reading = fixture.readOne('b');
    while (isLost) await ticks(1);
    await ticks(5); // the repair has begun, and waits for the batch
    goOn();
    await Promise.all([checkpoint, reading]);
    fixture.handles.watch = {};
    await fixture.reopen();
    await fixture.end();
  });

  it('checkpoints that wait for a repair do not run at the same time', async () => {
    const fixture = await StoreFixture.make();
    await fixture.reopen();
    for (const [key] of await fixture.handles.rows('p')) await fixture.handles.current.del(key);
    const reading = fixture.readOne('a@1');
    let repairing = false;
    fixture.handles.watch = {
      async before(call) {
        if (call !== 'write' || repairing) return;
        repairing = true;
        await ticks(50);
      },
    };
    while (!repairing) await ticks(1);
    const writing = fixture.writeSome('a', 5);
    const checkpoints = [0, 1, 2, 3].map(() => fixture.store.checkpoint());
    const checking = damageIn(fixture.store.check());
    await Promise.all([reading, writing, ...checkpoints]);
    expect(await checking).toEqual([]);
    await fixture.end();
  });
});

describe('a store that is full', () => {
  it('is checked, is read, and an index that is lost while it is open is made anew', async () => {
    const fixture = new StoreFixture(5);
    await Store.init(fixture.directory, { segmentBytes: 1 << 20, capacityBytes: 5 << 20 });
    fixture.compacts = false;
    await fixture.open();
    await fixture.store.createVolume('a', DISK_BYTES);
    const content = Buffer.alloc(DISK_BYTES);
    fixture.contents.set('a', content);
    const device = fixture.store.device('a');
    let failure: unknown;
    for (let chunk = 0; failure === undefined; chunk++) {
      const bytes = fixture.random.bytes(CHUNK);
      if (chunk === 500) await fixture.store.checkpoint();
      await write(device, chunk * CHUNK, bytes).then(
        () => bytes.copy(content, chunk * CHUNK),
        (error: unknown) => {
          failure = error;
        },
      );
    }
    expect(failure).toMatchObject({ code: 'NO_SPACE' });
    // Trims go on for a segment more; then there is still room for a checkpoint.
    let trims = 0;
    for (let isFull = false; !isFull; trims++) {
      await device.zero(DISK_BYTES - CHUNK, CHUNK, false).catch((error: unknown) => {
        expect(error).toMatchObject({ code: 'NO_SPACE' });
        isFull = true;
      });
    }
    expect(trims).toBeGreaterThan(500);
    await fixture.store.checkpoint();
    expect(await damageIn(fixture.store.check())).toEqual([]);
    for (const [key] of await fixture.handles.rows('p')) await fixture.handles.current.del(key);
    device.release();
    await fixture.readAll();
    expect(await damageIn(fixture.store.check())).toEqual([]);
    await fixture.store.close();
    expect(await damageIn(Store.check(fixture.directory))).toEqual([]);
  });
});

describe('an index that is made anew while deletes are being finished', () => {
  it('has what the versions had that go, and it is handed on once more', async () => {
    const aged = await Aged.begin();
    const { rig } = aged;
    await aged.snapshot('v@1');
    await aged.writeOver();
    // Until a change is in the log, the tree forgets nothing.
    let change: Promise<unknown> | undefined;
    let onItsWay: Step | undefined;
    await aged.behindBatch(() => {
      onItsWay = aged.stopAt(({ operation }) => operation === 'write');
      change = rig.store.createVolume('w', DISK_BYTES);
    });
    await aged.delete('v@1');
    while (onItsWay?.hasCome !== true) await rig.rest(1);
    await rig.rest();
    await aged.loseIndex();
    onItsWay.goOn();
    await change;
    await rig.store.pruned();
    expect(rig.store.versionCount).toBe(2);
    // Who reads by the tree as it is now.
    await aged.snapshot('v@2');
    await aged.end();
  });
});

describe('an index that is being made anew', () => {
  it('has what its checkpoint has, and not what stands behind that in the same record', async () => {
    const aged = await Aged.begin();
    const { rig } = aged;
    await rig.store.checkpoint();
    await aged.write(0);
    await rig.store.flush();
    // While a record is on its way, the catalog of a check's checkpoint waits, and a write behind it.
    const onItsWay = aged.stopAt(({ operation, path }) => operation === 'write' && path.startsWith('log/'));
    const before = aged.write(1);
    await onItsWay.come();
    const damage = damageIn(rig.store.check());
    await rig.rest();
    const behind = aged.write(2);
    await rig.rest();
    // Its commit is reported as failed, and was made; the next one finds the index damaged.
    const database = await rig.storage.openDatabase('index');
    const batch = database.batch.bind(database);
    const codes = ['LEVEL_IO_ERROR', 'LEVEL_CORRUPTION'];
    database.batch = ((): ReturnType<IndexDatabase['batch']> => {
      const next = batch();
      const write = next.write.bind(next);
      next.write = async (): Promise<void> => {
        const code = codes.shift();
        if (code !== 'LEVEL_CORRUPTION') await write();
        if (code !== undefined) throw Object.assign(new Error(code), { code });
      };
      return next;
    }) as IndexDatabase['batch'];
    onItsWay.goOn();
    await Promise.all([before, behind]);
    expect(await damage).toEqual([]);
    expect(codes).toEqual([]);
    expect(rig.messages).toContain('the index is whole again');
    await aged.end();
  });

  it('states nothing before it is whole: without the last of its batches it is none', async () => {
    const aged = await Aged.begin();
    const { rig } = aged;
    await aged.snapshot('v@1');
    await aged.writeOver();
    await rig.close();
    rig.replayBytesMax = 2_000;
    await rig.open();
    await rig.store.checkpoint();
    const states: number[] = [];
    const { openDatabase } = rig.storage;
    const making = aged.loseIndex();
    while (!rig.messages.includes('the index is whole again')) {
      await rig.rest(1);
      if ((await rig.storage.list('index.new')).length === 0) continue;
      const row = await (await openDatabase('index.new')).get(CHECKPOINT_KEY).catch(() => undefined);
      if (row !== undefined) states.push(decodeCheckpoint(row)!.segment);
    }
    await making;
    expect(states.length).toBeGreaterThan(3);
    expect(states.indexOf(0)).toBe(0);
    expect(states.slice(0, -2).every((segment) => segment === 0)).toBe(true);
    await aged.end();
  });
});
