/**
 * What a door promises, over both doors: in the process that has the store open, and through its control server.
 */

import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { StoreError } from '../../src/base/errors.ts';
import type { Disk, Door } from '../../src/server/door.ts';
import { PIECE_BYTES_MAX } from '../../src/server/door.ts';
import type { Finding } from '../../src/volume/summary.ts';
import { collect, DOORS, refusal } from './both-doors.ts';
import { MemoryStore } from './memory-store.ts';

const MIB = 2 ** 20;

describe.each(DOORS)('%s', (_kind, open) => {
  let store: MemoryStore;
  let door: Door;
  let end: () => Promise<void>;

  beforeEach(async () => {
    store = new MemoryStore();
    ({ door, end } = await open(store));
  });
  afterEach(async () => await end());

  async function withDisk<T>(name: string, body: (disk: Disk) => Promise<T>): Promise<T> {
    const disk = await door.disk(name);
    try {
      return await body(disk);
    } finally {
      disk.release();
    }
  }

  it('creates, snapshots, clones, lists and shows, and flushes when it is told to', async () => {
    const disk = await door.create('disk', 8 * MIB);
    expect(disk).toMatchObject({ name: 'disk', kind: 'volume', size: 8 * MIB, parent: null });
    expect((await door.snapshot(['disk@a'])).map(({ name }) => name)).toEqual(['disk@a']);
    expect(await door.clone('disk@a', 'copy')).toMatchObject({ name: 'copy', parent: 'disk@a' });
    expect(store.flushes).toBe(0);
    await door.flush();
    expect(store.flushes).toBe(1);
    expect((await door.list()).map(({ name }) => name)).toEqual(['disk', 'disk@a', 'copy']);
    expect(await door.show('disk@a')).toEqual(store.show('disk@a'));
    expect(await door.status()).toEqual(await store.status());
  });

  it('hands on the code and the sentence of what the store refuses', async () => {
    await door.create('disk', MIB);
    expect(await refusal(door.create('disk', MIB))).toMatchObject({
      code: 'ALREADY_EXISTS',
      message: /choose another/,
    });
    expect(await refusal(door.create('a b', MIB))).toMatchObject({ code: 'INVALID_ARGUMENT' });
    expect(await refusal(door.create('odd', 1000))).toMatchObject({ code: 'INVALID_ARGUMENT' });
    expect(await refusal(door.create('none', 0))).toMatchObject({ code: 'INVALID_ARGUMENT' });
    expect(await refusal(door.create('less', -512))).toMatchObject({ code: 'INVALID_ARGUMENT' });
    expect(await refusal(door.show('nobody'))).toMatchObject({ code: 'NOT_FOUND' });
    expect(await refusal(door.disk('nobody'))).toMatchObject({ code: 'NOT_FOUND' });
    expect(await refusal(door.snapshot(['disk']))).toMatchObject({ code: 'INVALID_ARGUMENT' });
    expect(await refusal(door.clone('disk', 'copy'))).toMatchObject({ code: 'INVALID_ARGUMENT' });
    expect(store.list()).toHaveLength(1);
  });

  it('takes names that would not survive a path or a query', async () => {
    for (const name of ['..', '.', 'n'.repeat(128)]) {
      await door.create(name, 512);
      expect(await door.show(name)).toMatchObject({ name });
      await withDisk(name, async (disk) => await disk.write(0, [Buffer.from(name)]));
      expect(store.contents(name).subarray(0, name.length).toString()).toBe(name);
    }
    expect(await refusal(door.show('a&offset=1#?/%41 ü'))).toMatchObject({ code: 'NOT_FOUND' });
    expect(await refusal(door.show(''))).toMatchObject({ code: 'NOT_FOUND' });
  });

  it('reads what was written, at odd places and across pieces', async () => {
    await door.create('disk', 64 * MIB);
    await withDisk('disk', async (disk) => {
      expect(disk).toMatchObject({ name: 'disk', sizeBytes: 64 * MIB, readOnly: false });
      const bytes = Buffer.alloc(5 * MIB + 13, 0).map((_, i) => (i * 7 + (i >> 9)) % 251);
      await disk.write(777, [Buffer.from(bytes.subarray(0, 3)), Buffer.from(bytes.subarray(3))]);
      expect((await disk.read(777, bytes.length)).equals(bytes)).toBe(true);
      expect((await disk.read(0, 777)).every((byte) => byte === 0)).toBe(true);
      await disk.zero(1000, MIB);
      expect((await disk.read(1000, MIB)).every((byte) => byte === 0)).toBe(true);
      expect((await disk.read(777, 223)).equals(bytes.subarray(0, 223))).toBe(true);
      const { flushes } = store;
      await disk.flush();
      expect(store.flushes).toBe(flushes + 1);
      expect(await disk.read(5, 0)).toHaveLength(0);
      await disk.write(5, []);
    });
  });

  it('moves the largest piece, and refuses one byte more', async () => {
    await door.create('disk', 64 * MIB);
    await withDisk('disk', async (disk) => {
      const bytes = Buffer.alloc(PIECE_BYTES_MAX, 'coppice');
      await disk.write(512, [bytes]);
      expect((await disk.read(512, PIECE_BYTES_MAX)).equals(bytes)).toBe(true);
      const more = [bytes, Buffer.alloc(1)];
      expect(await refusal(disk.write(0, more))).toMatchObject({ code: 'INVALID_ARGUMENT' });
      expect(await refusal(disk.read(0, PIECE_BYTES_MAX + 1))).toMatchObject({ code: 'INVALID_ARGUMENT' });
      expect((await disk.read(0, 512)).every((byte) => byte === 0)).toBe(true);
    });
  });

  it('refuses ranges outside the disk, and writes to a snapshot', async () => {
    await door.create('disk', MIB);
    await door.snapshot(['disk@a']);
    await withDisk('disk', async (disk) => {
      for (const [offset, length] of [
        [MIB, 1],
        [MIB - 1, 2],
        [-1, 1],
        [0.5, 1],
        [2 ** 53, 1],
      ] as const) {
        expect(await refusal(disk.read(offset, length))).toMatchObject({ code: 'INVALID_ARGUMENT' });
        expect(await refusal(disk.zero(offset, length))).toMatchObject({ code: 'INVALID_ARGUMENT' });
        expect(await refusal(disk.allocation(offset, length))).toMatchObject({ code: 'INVALID_ARGUMENT' });
        expect(await refusal(disk.write(offset, [Buffer.alloc(length)]))).toMatchObject({
          code: 'INVALID_ARGUMENT',
        });
      }
    });
    await withDisk('disk@a', async (disk) => {
      expect(disk.readOnly).toBe(true);
      expect(await refusal(disk.write(0, [Buffer.alloc(1)]))).toMatchObject({ code: 'READ_ONLY' });
      expect(await refusal(disk.zero(0, 1))).toMatchObject({ code: 'READ_ONLY' });
      expect(await disk.read(0, 1)).toHaveLength(1);
    });
    expect(store.writes).toEqual([]);
  });

  it('tells what is stored', async () => {
    await door.create('disk', MIB);
    await withDisk('disk', async (disk) => {
      await disk.write(8192, [Buffer.alloc(4096, 1)]);
      const runs = await disk.allocation(0, MIB);
      expect(runs.slice(0, 4).map(({ allocated }) => allocated)).toEqual([false, false, true, false]);
    });
  });

  it('hands on a full disk and goes on', async () => {
    await door.create('disk', MIB);
    await withDisk('disk', async (disk) => {
      store.writeFailure = new StoreError('NO_SPACE', 'the store is full');
      expect(await refusal(disk.write(0, [Buffer.alloc(1)]))).toMatchObject({
        code: 'NO_SPACE',
        message: 'the store is full',
      });
      store.writeFailure = undefined;
      await disk.write(0, [Buffer.alloc(1, 9)]);
    });
    expect(store.contents('disk')[0]).toBe(9);
  });

  it('streams findings, with what ended the check', async () => {
    const note: Finding = { severity: 'note', code: 'TORN_TAIL', message: 'a torn\ntail' };
    store.findings = Array.from({ length: 2000 }, () => note);
    expect(await collect(door.check())).toEqual(store.findings);
    store.findings = [];
    expect(await collect(door.check())).toEqual([]);
    store.checkFailure = new StoreError('IO', 'the disk is gone');
    expect(await refusal(collect(door.check()))).toMatchObject({ code: 'IO', message: 'the disk is gone' });
  });

  it('lets a check go that nobody reads to its end', async () => {
    store.findings = Array.from({ length: 100_000 }, () => ({
      severity: 'note',
      code: 'N',
      message: 'note',
    }));
    for await (const finding of door.check()) {
      expect(finding.code).toBe('N');
      break;
    }
    expect(await door.list()).toEqual([]);
  });
});
