/** Rounds that something comes between, and recovery behind them: pointers follow again what catalogs have stated. */

import { describe, expect, it } from 'vitest';
import { REGION_CHUNKS } from '../../src/index/pointers.ts';
import { segmentPath } from '../../src/log/format.ts';
import { Aged, CHUNKS, DISK_BYTES, removal, Step } from './aged.ts';

const MISSING = 'segments of the log are missing: what lived in them cannot be read';
const UNSTATED = 'segments are in use that the log does not state: they are kept';

/** Opens the store after a power cut, once more after another, and without its index: all is there each time. */
async function isWhole(aged: Aged): Promise<void> {
  const withoutIndex = aged.fork();
  for (const each of [aged, aged, withoutIndex]) {
    await each.rig.open();
    expect(each.rig.messages).not.toContain(MISSING);
    expect(each.rig.messages).not.toContain(UNSTATED);
    await each.readAll();
    each.rig.crash(undefined, true);
  }
  await aged.rig.open();
  await aged.end();
}

/** Empties segments of which two fifths are dead. */
async function compact({ rig }: Aged): Promise<void> {
  await rig.store.checkpoint();
  for await (const _ of rig.store.compact({ target: 0.6, purge: false, bytesPerSecond: undefined }));
}

/** So much lives beside trims of before that they stay where they are. */
async function addVolume(aged: Aged): Promise<void> {
  await aged.rig.store.createVolume('u', DISK_BYTES);
  aged.contents.set('u', Buffer.alloc(DISK_BYTES));
  for (let chunk = 0; chunk < 500; chunk++) await aged.write(chunk, 'u');
}

/** What a closed store holds is read again from an index that is made anew of few changes at a time, of some, and of all. */
async function isSameInParts(aged: Aged): Promise<void> {
  for (const replayBytesMax of [1, 20_000, undefined]) {
    const other = aged.fork();
    other.rig.replayBytesMax = replayBytesMax;
    await other.rig.open();
    await other.end();
  }
}

describe('a store whose power went behind a round and before a checkpoint', () => {
  it('is read from where chunks have been moved, in several segments, when what rows lead to is gone', async () => {
    const aged = await Aged.beginCompacting();
    const before = aged.rig.segments();
    const cut = aged.powerGoesBehind(removal());
    await aged.beginRound();
    await cut();
    const after = aged.rig.segments();
    expect(before.filter((segment) => !after.includes(segment)).length).toBeGreaterThan(1);
    expect((await aged.moves()).length).toBeGreaterThan(1);
    await isWhole(aged);
    expect(await aged.moves()).not.toEqual([]);
  });

  it('has the files of victims until its base has moved: without an index, the chain goes through them', async () => {
    const aged = await Aged.beginCompacting();
    const before = aged.rig.segments();
    // What comes behind the names of what was moved is the catalog; behind that the base would move.
    const isNew = aged.isNew();
    let areNamed = false;
    const cut = aged.powerGoesBehind((entry) => {
      areNamed ||= entry.operation === 'syncDirectory';
      return areNamed && entry.operation === 'datasync' && entry.path.startsWith('log/') && !isNew(entry);
    });
    await aged.beginRound();
    await cut();
    const moves = await aged.moves();
    expect(moves).not.toEqual([]);
    await aged.rig.open();
    expect(aged.rig.segments()).toEqual(expect.arrayContaining([...before, ...moves]));
    aged.rig.crash(undefined, true);
    const withoutIndex = aged.fork();
    await isWhole(aged);
    // They go when an index leads to what was moved, be it one that was made anew.
    const { rig } = withoutIndex;
    await rig.open();
    await rig.store.compactOnce();
    expect(rig.segments().filter((segment) => segment < Math.max(...before))).toEqual([]);
    await withoutIndex.end();
  });

  it('does not get back what was trimmed and left the index while it was copied', async () => {
    const aged = await Aged.beginCompacting();
    const copy = aged.stopAt(aged.isNew());
    await aged.beginRound();
    await copy.come();
    await aged.trim(100, 300);
    await aged.rig.store.checkpoint();
    const cut = aged.powerGoesBehind(removal());
    copy.goOn();
    await cut();
    await isWhole(aged);
  });

  it('is whole though a checkpoint was asked for when the catalog that states the moves was on its way', async () => {
    const aged = await Aged.beginCompacting();
    const copy = aged.stopAt(aged.isNew());
    await aged.beginRound();
    await copy.come();
    const chain = new Set(aged.rig.segments().map(segmentPath));
    copy.goOn();
    const announcement = aged.stopAt(({ operation, path }) => operation === 'datasync' && chain.has(path));
    await announcement.come();
    const checkpoint = aged.rig.store.checkpoint().catch(() => undefined);
    await aged.rig.rest();
    const cut = aged.powerGoesBehind(removal());
    announcement.goOn();
    await checkpoint;
    await cut();
    await isWhole(aged);
  });
});

describe('a version that is taken over between the base and a round', () => {
  it('leaves its heir what it wrote last, when the index is made anew', async () => {
    const aged = await Aged.begin();
    const { rig } = aged;
    await aged.snapshot('v@1');
    // Of one version, zeros in a segment that is emptied, and data over them in one that stays.
    await aged.trim(20, 3);
    for (let i = 0; i < 2; i++) for (let chunk = 100; chunk < 700; chunk++) await aged.write(chunk);
    await aged.write(20);
    await aged.snapshot('v@2');
    await rig.close();
    rig.compacts = true;
    await rig.open();
    rig.compacts = false;
    await aged.write(0);
    await aged.delete('v@2');
    await rig.store.pruned();
    const before = rig.segments();
    const isOver = (): boolean => before.some((segment) => !rig.segments().includes(segment));
    await aged.beginRound();
    for (let i = 0; i < 1000 && !isOver(); i++) await rig.rest();
    expect(await aged.moves()).not.toEqual([]);
    expect(isOver()).toBe(true);
    const withoutIndex = aged.fork();
    await withoutIndex.rig.open();
    await withoutIndex.readAll();
    await withoutIndex.rig.close();
    await aged.end();
  });
});

describe('segments of the chain', () => {
  it('that were begun when the catalog of the base was on its way are known for what they are', async () => {
    const aged = await Aged.begin();
    await aged.writeOver();
    await aged.rig.store.checkpoint();
    const { storage } = aged.rig;
    const copy = aged.stopAt(aged.isNew());
    const round = aged.rig.store.compactOnce();
    await copy.come();
    const chain = new Set(aged.rig.segments().map(segmentPath));
    copy.goOn();
    const [announced, written] = [new Step(), new Step()];
    storage.gate = async ({ operation, path }) => {
      if (operation === 'datasync' && chain.has(path)) await announced.stop();
      else if (operation === 'write' && chain.has(path))
        await (announced.hasCome ? written.stop() : undefined);
    };
    await announced.come();
    // They wait to be written when the checkpoint behind the round makes its catalog, and fill segments before it.
    const writes: Promise<void>[] = [];
    for (let chunk = 0; chunk < 600; chunk++) writes.push(aged.write(chunk));
    await written.come();
    announced.goOn();
    await aged.rig.rest();
    written.goOn();
    await Promise.all(writes);
    expect((await round)?.victims).toBeGreaterThan(1);
    await aged.rig.store.flush();
    aged.rig.crash(undefined, true);
    await isWhole(aged);
  });
});

describe('a process that ended before the catalog that states the moves was synced', () => {
  it('leaves one that the next does not take over as it was: it states segments that go with the tail', async () => {
    const aged = await Aged.begin();
    await aged.writeOver();
    await aged.rig.store.checkpoint();
    const copy = aged.stopAt(aged.isNew());
    void aged.rig.store.compactOnce().catch(() => undefined);
    await copy.come();
    const before = aged.rig.segments();
    for (let chunk = 0; chunk < CHUNKS / 2; chunk++) await aged.write(chunk);
    const chain = aged.rig.segments();
    expect(chain.length).toBeGreaterThan(before.length);
    copy.goOn();
    const paths = new Set(chain.map(segmentPath));
    const flush = aged.stopAt(({ operation, path }) => operation === 'datasync' && paths.has(path));
    await flush.come();
    const moves = await aged.moves();
    aged.rig.kill();
    await aged.rig.open();
    expect(aged.rig.messages).toContain('writing the unproven tail of the log again');
    expect(aged.rig.segments()).toEqual(expect.arrayContaining(moves));
    expect(chain.filter((segment) => !aged.rig.segments().includes(segment))).not.toEqual([]);
    aged.rig.crash(undefined, true);
    await isWhole(aged);
  });
});

describe('an index that is made anew part by part, of a log whose tail is not proven', () => {
  it('leads to nothing that goes with the tail, though moves come behind it that are', async () => {
    const aged = await Aged.begin();
    const { rig } = aged;
    await aged.writeOver();
    await rig.store.checkpoint();
    const base = aged.stopAt(({ path }) => path === 'superblock');
    void rig.store.compactOnce().catch(() => undefined);
    await base.come();
    const chain = new Set<string>();
    rig.storage.beforeChange = ({ operation, path }) => {
      if (operation === 'write' && path.startsWith('log/')) chain.add(path);
    };
    for (let chunk = 0; chunk < CHUNKS / 2; chunk++) await aged.write(chunk);
    rig.storage.beforeChange = undefined;
    const flush = aged.stopAt(({ operation, path }) => operation === 'datasync' && chain.has(path));
    base.goOn();
    await flush.come();
    rig.kill();
    const withoutIndex = aged.fork();
    withoutIndex.rig.replayBytesMax = 10_000;
    await withoutIndex.rig.open();
    expect(withoutIndex.rig.messages).toContain('writing the unproven tail of the log again');
    expect(withoutIndex.rig.messages).not.toContain(UNSTATED);
    await withoutIndex.end();
  });
});

describe('a round that had no room for its catalog', () => {
  it('leaves what it has moved if the catalog is in the log all the same: the next process goes by it', async () => {
    const aged = await Aged.begin();
    const { rig } = aged;
    await aged.writeOver();
    await rig.store.checkpoint();
    const copy = aged.stopAt(aged.isNew());
    const round = rig.store.compactOnce();
    await copy.come();
    const chain = new Set(rig.segments().map(segmentPath));
    const { storage } = rig;
    // The first half of the catalog's record gets there, its header and all that it says; and nothing behind it.
    storage.beforeChange = ({ operation, path }) => {
      if (operation !== 'write' || !chain.has(path)) return;
      storage.beforeChange = undefined;
      storage.fail('write', { code: 'NO_SPACE' });
      storage.fail('write', { code: 'NO_SPACE', path: /^log/, lands: false, sticky: true });
    };
    copy.goOn();
    await expect(round).rejects.toMatchObject({ code: 'IO' });
    expect((await aged.moves()).length).toBeGreaterThan(0);
    rig.kill();
    await isWhole(aged);
  });
});

describe('an index that is made anew part by part', () => {
  it('does not get back what was trimmed in a clone before its snapshot was moved', async () => {
    const aged = await Aged.begin();
    const { rig } = aged;
    await aged.writeOver(2);
    await aged.snapshot('v@1');
    // Whole regions, of which the volume never writes anything again, and chunks that are alone.
    await aged.trim(0, 600);
    for (let chunk = 700; chunk < 800; chunk++) if (chunk % 3 > 0) await aged.trim(chunk, 1);
    await compact(aged);
    await rig.close();
    await isSameInParts(aged);
  });

  it('nor where all that there is of a region was moved', async () => {
    const aged = await Aged.begin();
    const { rig } = aged;
    // Every segment that the first region has anything in, is dead, or for the most part.
    const again = 460;
    const dead = CHUNKS - again;
    for (let chunk = 0; chunk < again; chunk++) {
      await aged.write(chunk);
      await aged.write(dead + chunk);
    }
    for (let chunk = dead; chunk < CHUNKS; chunk++) await aged.write(chunk);
    await aged.snapshot('v@1');
    await aged.trim(0, REGION_CHUNKS);
    await addVolume(aged);
    await compact(aged);
    expect((await aged.moves()).length).toBeGreaterThan(0);
    await rig.close();
    await isSameInParts(aged);
  });

  it('nor of what a version had that is gone now, and was moved for another one', async () => {
    const aged = await Aged.begin();
    const { rig } = aged;
    await aged.writeOver(2);
    await aged.snapshot('v@1');
    await rig.store.clone('v@1', 'w');
    await aged.delete('v@1');
    for (let chunk = 0; chunk < CHUNKS; chunk += 10) await aged.trim(chunk, 1);
    await addVolume(aged);
    await compact(aged);
    const moves = await aged.moves();
    expect(moves.length).toBeGreaterThan(1);
    await rig.store.delete(['w']);
    await rig.store.pruned();
    for (let i = 0; i < 5; i++) for (let chunk = 901; chunk < 1000; chunk++) await aged.write(chunk, 'u');
    await compact(aged);
    expect((await aged.moves()).filter((each) => moves.includes(each)).length).toBeGreaterThan(1);
    await rig.close();
    await isSameInParts(aged);
  });
});

describe('a round', () => {
  it('brings nothing back that was trimmed while it copied, and has left the index', async () => {
    const aged = await Aged.begin();
    await aged.writeOver();
    await aged.rig.store.checkpoint();
    const copy = aged.stopAt(aged.isNew());
    const round = aged.rig.store.compactOnce();
    await copy.come();
    await aged.trim(100, 300);
    await aged.rig.store.checkpoint();
    copy.goOn();
    expect((await round)?.victims).toBeGreaterThan(1);
    await aged.end();
  });
});
