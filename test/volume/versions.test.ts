/** What can be done to volumes and snapshots, and what is refused: over real files, and across crashes. */

import fs from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { StoreError } from '../../src/base/errors.ts';
import type { BlockDevice } from '../../src/volume/device.ts';
import { Store } from '../../src/volume/store.ts';
import { damageIn, onStore, read, scratchDirectory, write } from '../support/stores.ts';
import { CrashRig } from './crash-rig.ts';

const CHUNK = 4096;
const SIZE = 64 * CHUNK;

let directory: string;
let store: Store;

beforeEach(async () => {
  directory = path.join(scratchDirectory(), 'store');
  await Store.init(directory, { segmentBytes: 1 << 20 });
  store = await Store.open(directory);
  await store.createVolume('a', SIZE);
});

afterEach(async () => {
  await store.close().catch(() => undefined);
  fs.rmSync(path.dirname(directory), { recursive: true });
});

async function reopen(): Promise<void> {
  await store.close();
  store = await Store.open(directory);
}

const put = (name: string, chunk: number, value: number, count = 1): Promise<void> =>
  onStore(store, name, (device) => write(device, chunk * CHUNK, Buffer.alloc(count * CHUNK, value)));

const at = (name: string, chunk: number): Promise<number> =>
  onStore(store, name, async (device) => (await read(device, chunk * CHUNK, 1))[0]!);

const names = (): string[] => store.list().map(({ name }) => name);

async function refusal(change: Promise<unknown>): Promise<string> {
  const before = JSON.stringify(store.list());
  const error = await change.then(
    () => undefined,
    (reason: StoreError) => reason,
  );
  expect(JSON.stringify(store.list())).toBe(before); // what is refused changes nothing
  return error === undefined ? 'not refused' : `${error.code}: ${error.message}`;
}

describe('delete', () => {
  it('takes names away at once, keeps what others inherit, and gives back the rest', async () => {
    await put('a', 0, 1, 8);
    await store.snapshot(['a@1']);
    await put('a', 0, 2, 4);
    await store.clone('a@1', 'b');
    expect(await store.delete(['a@1'])).toEqual(['a@1']);
    expect(names()).toEqual(['a', 'b']);
    await store.pruned();
    expect([await at('a', 0), await at('a', 5), await at('b', 0), await at('b', 5)]).toEqual([2, 1, 1, 1]);
    expect((await store.status()).liveBytes).toBe(12 * CHUNK);
    await store.delete(['b']);
    await store.pruned();
    expect((await store.status()).liveBytes).toBe(8 * CHUNK);
    expect(await damageIn(store.check())).toEqual([]);
    await store.delete(['a']);
    await store.pruned();
    expect([names(), (await store.status()).liveBytes, (await store.status()).deleting]).toEqual([[], 0, 0]);
  });

  it('of a thousand snapshots in one batch leaves what is between them', async () => {
    for (let i = 0; i < 300; i++) {
      await put('a', i % 64, i % 251);
      await store.snapshot([`a@${i}`]);
    }
    await store.delete(Array.from({ length: 300 }, (_, i) => `a@${i}`).filter((_, i) => i % 3 !== 0));
    await store.pruned();
    for (const i of [0, 63, 150, 297]) {
      // The last write to a chunk before the snapshot was taken.
      for (const chunk of [0, 17, 63]) {
        const last = chunk > i ? -1 : i - ((i - chunk) % 64);
        expect([i, chunk, await at(`a@${i}`, chunk)]).toEqual([i, chunk, last < 0 ? 0 : last % 251]);
      }
    }
    expect(await damageIn(store.check())).toEqual([]);
  });

  it('is refused for volumes with snapshots, names that are not there, and what is held or attached', async () => {
    await store.snapshot(['a@1']);
    await store.hold('a@1', { owner: 'backup', reason: 'runs at night' });
    expect(await refusal(store.delete(['a']))).toMatch(/^HAS_SNAPSHOTS: a has snapshots: a@1; /);
    expect(await refusal(store.delete(['a', 'nothing']))).toMatch(/^NOT_FOUND/);
    expect(await refusal(store.delete([]))).toMatch(/^INVALID_ARGUMENT/);
    expect(await refusal(store.delete(['a'], { recursive: true, force: true }))).toMatch(
      /^HELD: held: a@1 by backup \(runs at night\)/,
    );
    await store.release('a@1', 'backup');
    const device = store.device('a@1');
    device.attach(() => undefined);
    expect(await refusal(store.delete(['a'], { recursive: true }))).toMatch(/^IN_USE: a@1 is in use/);
    device.release();
    expect(await store.delete(['a'], { recursive: true })).toEqual(['a', 'a@1']);
  });

  it('waits a moment for a client that has just hung up', async () => {
    const device = store.device('a');
    device.attach(() => undefined);
    setTimeout(() => device.release(), 100);
    expect(await store.delete(['a'])).toEqual(['a']);
  });

  it('with force takes the volume away from who has it, with all that was answered behind it', async () => {
    const device = store.device('a');
    let isRevoked = false;
    device.attach(() => {
      isRevoked = true;
    });
    const last = write(device, 0, Buffer.alloc(100, 1)); // part of a chunk: takes its time
    await store.delete(['a'], { force: true });
    await last;
    expect(isRevoked).toBe(true);
    await expect(write(device, 0, Buffer.alloc(CHUNK))).rejects.toMatchObject({ code: 'CLOSED' });
    await expect(read(device, 0, CHUNK)).rejects.toMatchObject({ code: 'CLOSED' });
    await expect(device.zero(0, CHUNK, false)).rejects.toMatchObject({ code: 'CLOSED' });
    device.release();
    await store.createVolume('a', SIZE);
    expect(await at('a', 0)).toBe(0);
  });

  it('goes on after the store was closed in the middle, and after its index was lost', async () => {
    for (let i = 0; i < 8; i++) {
      await put('a', i, i + 1, 8);
      await store.snapshot([`a@${i}`]);
    }
    await store.delete(['a@1', 'a@2', 'a@5']);
    const closing = store.close();
    await closing;
    store = await Store.open(directory);
    await store.pruned();
    expect((await store.status()).deleting).toBe(0);
    const used = (await store.status()).liveBytes;
    await reopen();
    expect((await store.status()).deleting).toBe(0);
    await store.close();
    fs.rmSync(path.join(directory, 'index'), { recursive: true });
    store = await Store.open(directory);
    await store.pruned();
    expect((await store.status()).liveBytes).toBe(used);
    expect([await at('a@0', 1), await at('a@3', 3), await at('a@4', 1), await at('a', 9)]).toEqual([
      1, 4, 2, 8,
    ]);
    expect(await damageIn(store.check())).toEqual([]);
  });
});

describe('a delete that a power cut takes back', () => {
  it('has cost the version no pointer', async () => {
    const rig = await CrashRig.begin();
    await rig.open();
    await rig.store.createVolume('a', SIZE);
    await onStore(rig.store, 'a', (device) => write(device, 0, Buffer.alloc(4 * CHUNK, 1)));
    await rig.store.snapshot(['a@1']);
    await rig.store.snapshot(['a@2']);
    await rig.store.clone('a@2', 'b');
    await rig.store.delete(['a@2']);
    await rig.store.pruned();
    await rig.store.flush();
    // Not on the disk yet: a checkpoint of what came before goes by the tree as it was.
    const device = rig.store.device('b');
    const checkpoint = rig.store.checkpoint();
    await write(device, 0, Buffer.alloc(4 * CHUNK, 2));
    await rig.store.delete(['a@1']);
    await checkpoint;
    device.release();
    rig.storage.crash(() => false);
    await rig.open();
    const found = rig.store.list().map(({ name }) => name);
    for (const name of found.filter((each) => each.startsWith('a')))
      expect([name, (await onStore(rig.store, name, (each) => read(each, 0, 1)))[0]]).toEqual([name, 1]);
    expect(found).toContain('a');
    await rig.close();
  });
});

describe('rollback', () => {
  it('makes the volume what the snapshot is, and keeps what it was', async () => {
    await put('a', 0, 1);
    await store.snapshot(['a@1']);
    await put('a', 0, 2);
    await store.resize('a', 2 * SIZE);
    const { saved, volume } = await store.rollback('a@1');
    expect(saved).toMatch(/^a@before-rollback-\d{8}T\d{6}Z$/);
    expect([volume.size, await at('a', 0)]).toEqual([SIZE, 1]);
    expect(store.show(saved!)).toMatchObject({ kind: 'snapshot', automatic: true, size: 2 * SIZE });
    await put('a', 0, 3);
    const again = await store.rollback(saved!);
    expect(again.saved).toMatch(/^a@before-rollback-\d{8}T\d{6}Z(-2)?$/);
    expect([await at('a', 0), await at(again.saved!, 0), await at('a@1', 0)]).toEqual([2, 3, 1]);
    expect(again.volume.size).toBe(2 * SIZE);
    await reopen();
    expect([await at('a', 0), await at(again.saved!, 0), await at('a@1', 0)]).toEqual([2, 3, 1]);
    expect(await damageIn(store.check())).toEqual([]);
  });

  it('of a volume that has not changed since a snapshot keeps nothing', async () => {
    await put('a', 0, 1);
    await store.snapshot(['a@1']);
    await put('a', 0, 2);
    await store.snapshot(['a@2']);
    expect((await store.rollback('a@1')).saved).toBeNull();
    await store.pruned();
    expect(names()).toEqual(['a', 'a@1', 'a@2']);
    expect(await at('a', 0)).toBe(1);
    // Pointers in the index, not only in memory, are changes too.
    await put('a', 1, 3);
    await store.checkpoint();
    expect((await store.rollback('a@1')).saved).not.toBeNull();
  });

  it('keeps what the volume inherits from a snapshot that was deleted', async () => {
    await put('a', 0, 1);
    await store.snapshot(['a@1']);
    await put('a', 0, 2);
    await store.snapshot(['a@2']);
    await store.clone('a@2', 'b');
    await store.delete(['a@2']);
    const { saved } = await store.rollback('a@1');
    expect([await at(saved!, 0), await at('a', 0)]).toEqual([2, 1]);
  });

  it('is refused while somebody has the volume, and to a snapshot that is not its own', async () => {
    await store.snapshot(['a@1']);
    await store.createVolume('b', SIZE);
    expect(await refusal(store.rollback('b@1'))).toMatch(/^NOT_FOUND/);
    expect(await refusal(store.rollback('a'))).toMatch(/^INVALID_ARGUMENT/);
    const device = store.device('a');
    device.attach(() => undefined);
    expect(await refusal(store.rollback('a@1'))).toMatch(/^IN_USE: a is in use/);
    await store.rollback('a@1', { force: true });
    device.release();
  });
});

describe('resize', () => {
  it('cuts off for ever, and only with shrink, and with force where data would be lost', async () => {
    const odd = SIZE - CHUNK - 512;
    await put('a', 60, 7, 4);
    expect(await refusal(store.resize('a', odd))).toMatch(/^INVALID_ARGUMENT: .*--shrink/);
    expect(await refusal(store.resize('a', odd, { shrink: true }))).toMatch(/^WOULD_LOSE_DATA: .*--force/);
    expect(await refusal(store.resize('a', 100))).toMatch(/^INVALID_ARGUMENT/);
    await store.resize('a', odd, { shrink: true, force: true });
    await reopen();
    await store.resize('a', SIZE);
    const bytes = await onStore(store, 'a', (device) => read(device, 0, SIZE));
    expect(bytes.subarray(60 * CHUNK, odd).every((byte) => byte === 7)).toBe(true);
    expect(bytes.subarray(odd).every((byte) => byte === 0)).toBe(true);
    await reopen();
    expect(
      (await onStore(store, 'a', (device) => read(device, odd, SIZE - odd))).every((byte) => byte === 0),
    ).toBe(true);
    expect(await damageIn(store.check())).toEqual([]);
  });

  it('hides what a snapshot has, and the snapshot keeps its size and its bytes', async () => {
    await put('a', 0, 7, 64);
    await store.snapshot(['a@1']);
    await store.resize('a', SIZE / 2, { shrink: true, force: true });
    await store.resize('a', SIZE);
    expect([await at('a', 31), await at('a', 32), await at('a@1', 32)]).toEqual([7, 0, 7]);
    expect([store.show('a@1').size, store.show('a').size]).toEqual([SIZE, SIZE]);
    await store.clone('a@1', 'b');
    expect([store.show('b').size, await at('b', 63)]).toEqual([SIZE, 7]);
    await store.checkpoint();
    expect([await at('a', 31), await at('a', 32), await at('a@1', 32)]).toEqual([7, 0, 7]);
  });

  it('is not seen by who is connected: the size stays, and behind the end there is no space', async () => {
    await put('a', 63, 7);
    const device = store.device('a');
    device.attach(() => undefined);
    await store.resize('a', SIZE / 2, { shrink: true, force: true });
    expect(device.sizeBytes).toBe(SIZE);
    expect((await read(device, SIZE - CHUNK, CHUNK)).every((byte) => byte === 0)).toBe(true);
    await expect(write(device, SIZE - CHUNK, Buffer.alloc(CHUNK, 1))).rejects.toMatchObject({
      code: 'NO_SPACE',
    });
    await expect(device.zero(SIZE - CHUNK, CHUNK, false)).rejects.toMatchObject({ code: 'NO_SPACE' });
    await write(device, 0, Buffer.alloc(CHUNK, 1));
    device.release();
    expect(store.device('a').sizeBytes).toBe(SIZE / 2);
  });

  it('survives a crash as one change', async () => {
    const rig = await CrashRig.begin();
    await rig.open();
    await rig.store.createVolume('a', SIZE);
    await onStore(rig.store, 'a', (device) => write(device, 0, Buffer.alloc(SIZE, 7)));
    await rig.store.checkpoint();
    await rig.store.resize('a', CHUNK, { shrink: true, force: true });
    await rig.store.flush();
    rig.storage.crash(() => false);
    await rig.open();
    expect(rig.store.show('a').size).toBe(CHUNK);
    await rig.store.resize('a', SIZE);
    const bytes = await onStore(rig.store, 'a', (device) => read(device, 0, SIZE));
    expect([bytes[0], bytes.subarray(CHUNK).every((byte) => byte === 0)]).toEqual([7, true]);
    await rig.close();
  });

  it('that is under way when the volume is rolled back lets no write that waited for it through', async () => {
    const rig = await CrashRig.begin();
    await rig.open();
    await rig.store.createVolume('a', SIZE);
    await rig.store.snapshot(['a@1']);
    let open: () => void = () => undefined;
    const gate = new Promise<void>((resolve) => {
      open = resolve;
    });
    rig.storage.gate = () => gate;
    const resizing = rig.store.resize('a', CHUNK, { shrink: true });
    await rig.rest();
    const waiting = rig.write('a', 0, Buffer.alloc(CHUNK, 1)).then(
      () => 'written',
      ({ code }: StoreError) => code,
    );
    const rollback = rig.store.rollback('a@1', { force: true });
    await rig.rest();
    open();
    await Promise.all([resizing, rollback]);
    expect(await waiting).toBe('CLOSED');
    await rig.close();
  });

  it('and a rollback at the same time leave no write of before behind it', async () => {
    await put('a', 0, 1, 64);
    await store.snapshot(['a@1']);
    const device: BlockDevice = store.device('a');
    for (let round = 0; round < 20; round++) {
      const resizing = store
        .resize('a', round % 2 === 0 ? SIZE / 2 : SIZE, { shrink: true, force: true })
        .catch(() => undefined);
      const other = store.device('a');
      const writes = Array.from({ length: 8 }, (_, i) =>
        write(other, 512 * i + 7, Buffer.alloc(300, 9)).catch(() => undefined),
      );
      const { saved } = await store.rollback('a@1', { force: true });
      const whole = (): Promise<Buffer> => onStore(store, saved!, (each) => read(each, 0, CHUNK));
      const kept = saved === null ? undefined : await whole();
      await Promise.all([resizing, ...writes]);
      other.release();
      if (kept !== undefined) expect((await whole()).equals(kept)).toBe(true); // it never changes
      const bytes = await onStore(store, 'a', (each) => read(each, 0, CHUNK));
      expect(bytes.every((byte) => byte === 1)).toBe(true);
    }
    device.release();
  });
});

describe('holds, priorities and names', () => {
  it('are there after the store was opened again', async () => {
    await store.snapshot(['a@1']);
    await store.hold('a@1', { owner: 'backup', until: 2 ** 42 });
    await store.hold('a@1', { owner: 'other', reason: 'a reason' });
    await store.setPriority('a@1', -7);
    await store.rename('a@1', 'kept');
    await store.rename('a', 'b');
    const before = store.show('b@kept');
    expect(before).toMatchObject({
      priority: -7,
      holds: [
        { owner: 'backup', reason: null, until: new Date(2 ** 42).toISOString() },
        { owner: 'other', reason: 'a reason', until: null },
      ],
    });
    await store.checkpoint();
    await reopen();
    expect(store.show('b@kept')).toEqual(before);
    await store.release('b@kept', 'other');
    await store.release('b@kept', 'backup');
    await store.delete(['b'], { recursive: true });
  });

  it('a hold is on the disk when it is answered', async () => {
    const rig = await CrashRig.begin();
    await rig.open();
    await rig.store.createVolume('a', SIZE);
    await rig.store.snapshot(['a@1']);
    await rig.store.hold('a@1', { owner: 'backup' });
    rig.storage.crash(() => false);
    await rig.open();
    await expect(rig.store.delete(['a@1'])).rejects.toMatchObject({ code: 'HELD' });
    await rig.close();
  });

  it('a hold ends when its time is over, and one in the past is refused', async () => {
    await store.snapshot(['a@1']);
    expect(await refusal(store.hold('a@1', { owner: 'x', until: Date.now() - 1 }))).toMatch(
      /^INVALID_ARGUMENT/,
    );
    expect(await refusal(store.hold('a@1', { owner: '' }))).toMatch(/^INVALID_ARGUMENT/);
    expect(await refusal(store.hold('a', { owner: 'x' }))).toMatch(/^INVALID_ARGUMENT/);
    expect(await refusal(store.release('a@1', 'x'))).toMatch(/^NOT_FOUND/);
    await store.hold('a@1', { owner: 'x', until: Date.now() + 60 });
    await expect(store.delete(['a@1'])).rejects.toMatchObject({ code: 'HELD' });
    await new Promise((resolve) => setTimeout(resolve, 80));
    expect(store.show('a@1').holds).toEqual([]);
    await store.delete(['a@1']);
  });

  it('names that exist, and priorities out of range, are refused', async () => {
    await store.createVolume('b', SIZE);
    await store.snapshot(['a@1', 'b@1']);
    await store.snapshot(['a@2']);
    expect(await refusal(store.rename('a', 'b'))).toMatch(/^ALREADY_EXISTS/);
    expect(await refusal(store.rename('a@1', 'a@2'))).toMatch(/^ALREADY_EXISTS/);
    expect(await refusal(store.rename('a@1', 'b@3'))).toMatch(/^INVALID_ARGUMENT: .*a@3/);
    expect(await refusal(store.rename('a', 'b@3'))).toMatch(/^INVALID_ARGUMENT/);
    for (const priority of [128, -129, 0.5, Number.NaN])
      expect(await refusal(store.setPriority('a@1', priority))).toMatch(/^INVALID_ARGUMENT/);
    await store.rename('a@1', '3');
    // Oldest first, whatever they are called.
    expect(names()).toEqual(['a', 'a@3', 'a@2', 'b', 'b@1']);
  });
});

describe('a snapshot of a group under load', () => {
  it('is one moment for all: what was answered before is in it, what was asked for later is not', async () => {
    const group = ['a', 'b', 'c'];
    for (const name of ['b', 'c']) await store.createVolume(name, SIZE);
    const devices = group.map((name) => store.device(name));
    let isOver = false;
    let turn = 0;
    let answered = 0;
    // One counter over three volumes: each write carries the number of those answered before it.
    const writers = Array.from({ length: 6 }, async (_, writer) => {
      while (!isOver) {
        const mine = ++turn;
        const bytes = Buffer.alloc(CHUNK);
        bytes.writeUInt32BE(mine);
        await write(devices[mine % 3]!, writer * CHUNK, bytes);
        answered = Math.max(answered, mine);
      }
    });
    for (let i = 0; i < 30; i++) {
      const before = answered;
      await store.snapshot(group.map((name) => `${name}@${i}`));
      const after = turn;
      let highest = 0;
      for (const name of group) {
        const bytes = await onStore(store, `${name}@${i}`, (device) => read(device, 0, 6 * CHUNK));
        for (let writer = 0; writer < 6; writer++)
          highest = Math.max(highest, bytes.readUInt32BE(writer * CHUNK));
      }
      // Of the writers' last answered writes one is at least as new as all that was answered before.
      expect(highest).toBeGreaterThanOrEqual(before - 6);
      expect(highest).toBeLessThanOrEqual(after);
    }
    isOver = true;
    await Promise.all(writers);
    for (const device of devices) device.release();
  });
});

describe('the tree', () => {
  it('has ghosts for who asks, and parents that can be named for who does not', async () => {
    await put('a', 0, 1);
    await store.snapshot(['a@1']);
    await store.clone('a@1', 'b');
    await store.snapshot(['a@2']);
    await store.delete(['a@1']);
    await store.pruned();
    expect(store.list().map(({ name, parent }) => [name, parent])).toEqual([
      ['a', 'a@2'],
      ['a@2', null],
      ['b', null],
    ]);
    const ghosts = (await store.listWithSpace({ ghosts: true })).filter(({ kind }) => kind === 'ghost');
    expect(ghosts.length).toBe(1);
    const under = (await store.listWithSpace({ ghosts: true })).filter(
      ({ parent }) => parent === ghosts[0]!.name,
    );
    expect(under.map(({ name }) => name).sort()).toEqual(['a@2', 'b']);
    expect(await store.space(['a', 'a@2', 'b'])).toMatchObject({ reclaimable: CHUNK });
    expect((await store.space(['a', 'a@2'])).reclaimable).toBe(0);
  });
});
