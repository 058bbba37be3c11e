/** Versions that are taken away, protected, measured and compared: what goes through a door passes unchanged, over both. */

import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type ErrorCode, StoreError } from '../../src/base/errors.ts';
import type { Door } from '../../src/server/door.ts';
import type { DiffExtent } from '../../src/volume/summary.ts';
import { collect, DOORS, refusal } from './both-doors.ts';
import { MemoryStore } from './memory-store.ts';

const MIB = 2 ** 20;
/** Words that would not survive a query, a line or an encoding that is not minded. */
const ODD = '"a&b=c#?/%41\\ü€😀\u2028';

describe.each(DOORS)('%s', (_kind, open) => {
  let store: MemoryStore;
  let door: Door;
  let end: () => Promise<void>;

  beforeEach(async () => {
    store = new MemoryStore();
    ({ door, end } = await open(store));
    await door.create('disk', 8 * MIB);
    await door.snapshot(['disk@a']);
  });
  afterEach(async () => await end());

  it('deletes what is named, as it is told to', async () => {
    await door.snapshot(['disk@b']);
    expect(await door.delete(['disk@b', 'disk@a'], {})).toEqual(['disk@b', 'disk@a']);
    expect(await door.delete(['disk'], { force: true, recursive: false })).toEqual(['disk']);
    await door.delete([], { recursive: true });
    expect(store.calls).toEqual([
      ['delete', ['disk@b', 'disk@a'], {}],
      ['delete', ['disk'], { force: true, recursive: false }],
      ['delete', [], { recursive: true }],
    ]);
    expect(store.list()).toEqual([]);
  });

  it('rolls back, and says what it was before is called', async () => {
    const rolledBack = await door.rollback('disk@a', { force: true });
    expect(rolledBack).toEqual({
      volume: store.show('disk'),
      saved: 'disk@before-rollback-20200101T000000Z',
    });
    await door.rollback('disk@a', { force: false });
    await door.rollback('disk@a', {});
    expect(store.calls).toEqual([
      ['rollback', 'disk@a', { force: true }],
      ['rollback', 'disk@a', { force: false }],
      ['rollback', 'disk@a', {}],
    ]);
  });

  it('says that nothing had to be kept', async () => {
    store.rollback = async () => ({ volume: store.show('disk'), saved: null });
    expect(await door.rollback('disk@a', {})).toEqual({ volume: store.show('disk'), saved: null });
  });

  it('promotes and demotes, as it is told to', async () => {
    const demoted = await door.demote('disk', { force: true, replicaOf: 'uuid' });
    expect(demoted).toEqual({ volume: store.show('disk'), saved: 'disk@before-demote-20200101T000000Z' });
    expect(demoted.volume.replica).toBe(true);
    expect(await door.promote('disk')).toMatchObject({ name: 'disk', replica: false });
    await door.demote('disk', {});
    expect(store.calls).toEqual([
      ['demote', 'disk', { force: true, replicaOf: 'uuid' }],
      ['promote', 'disk'],
      ['demote', 'disk', {}],
    ]);
  });

  it('renames volumes and snapshots', async () => {
    expect(await door.rename('disk@a', 'disk@b')).toEqual(store.show('disk@b'));
    expect(await door.rename('disk', '..')).toMatchObject({ name: '..' });
    expect(store.calls).toEqual([
      ['rename', 'disk@a', 'disk@b'],
      ['rename', 'disk', '..'],
    ]);
  });

  it('resizes, as it is told to', async () => {
    expect(await door.resize('disk', 64 * 2 ** 40, {})).toMatchObject({ size: 64 * 2 ** 40 });
    expect(await door.resize('disk', 512, { shrink: true, force: true })).toMatchObject({ size: 512 });
    await door.resize('disk', 1024, { shrink: false, force: false });
    expect(store.calls).toEqual([
      ['resize', 'disk', 64 * 2 ** 40, {}],
      ['resize', 'disk', 512, { shrink: true, force: true }],
      ['resize', 'disk', 1024, { shrink: false, force: false }],
    ]);
  });

  it('holds and releases, with every word as it was', async () => {
    const until = Date.parse('2999-12-31T23:59:59.999Z');
    const held = await door.hold('disk@a', { owner: ODD, reason: `${ODD} again`, until });
    expect(held).toEqual(store.show('disk@a'));
    expect(held.holds).toMatchObject([
      { owner: ODD, reason: `${ODD} again`, until: '2999-12-31T23:59:59.999Z' },
    ]);
    expect((await door.hold('disk@a', { owner: 'b' })).holds).toMatchObject([{ reason: null, until: null }]);
    expect((await door.release('disk@a', ODD)).holds).toEqual([]);
    expect(store.calls).toEqual([
      ['hold', 'disk@a', { owner: ODD, reason: `${ODD} again`, until }],
      ['hold', 'disk@a', { owner: 'b' }],
      ['release', 'disk@a', ODD],
    ]);
  });

  it('sets priorities, negative ones and zero too', async () => {
    for (const priority of [-128, 127, 0]) {
      expect(await door.setPriority('disk@a', priority)).toMatchObject({ priority });
    }
    expect(store.calls.map(([, , priority]) => priority)).toEqual([-128, 127, 0]);
  });

  it('refuses a number that is none, and takes it for no other', async () => {
    for (const number of [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]) {
      expect(await refusal(door.setPriority('disk@a', number))).toMatchObject({ code: 'INVALID_ARGUMENT' });
      expect(await refusal(door.create('new', number))).toMatchObject({ code: 'INVALID_ARGUMENT' });
    }
    expect(store.show('disk@a').priority).toBe(0);
    expect(store.list()).toHaveLength(2);
  });

  it('lists what each version takes up, with ghosts if wanted', async () => {
    const expected = [
      { ...store.show('disk'), referenced: 0, exclusive: 0, shared: 0 },
      { ...store.show('disk@a'), referenced: 1, exclusive: 2, shared: 3 },
    ];
    expect(await door.listWithSpace({})).toEqual(expected);
    await door.listWithSpace({ ghosts: true });
    await door.listWithSpace({ ghosts: false });
    const asked = store.calls.map(([, options]) => (options as { ghosts?: boolean }).ghosts ?? false);
    expect(asked).toEqual([false, true, false]);
  });

  it('tells what versions take up, and what deleting all would give back', async () => {
    const space = { referenced: 4096, exclusive: 1024, shared: 3072 };
    expect(await door.space(['disk', 'disk@a'])).toEqual({
      versions: [
        { name: 'disk', ...space },
        { name: 'disk@a', ...space },
      ],
      reclaimable: 2 ** 53 - 1,
    });
    expect(store.calls).toEqual([['space', ['disk', 'disk@a']]]);
  });

  it('streams where two versions differ, with what ended it', async () => {
    store.extents = Array.from({ length: 5000 }, (_, i): DiffExtent => {
      return { offset: i * 2 ** 32, length: 4096, type: i % 2 === 0 ? 'data' : 'hole' };
    });
    expect(await collect(door.diff('disk@a', 'disk'))).toEqual(store.extents);
    expect(store.calls).toEqual([['diff', 'disk@a', 'disk']]);
    store.extents = [];
    expect(await collect(door.diff('disk', 'disk'))).toEqual([]);
    store.diffFailure = new StoreError('CORRUPTION', 'a row does not match');
    expect(await refusal(collect(door.diff('disk@a', 'disk')))).toMatchObject({
      code: 'CORRUPTION',
      message: 'a row does not match',
    });
  });

  it('refuses to compare what there is not before anything is told', async () => {
    for (const [from, to] of [
      ['nobody', 'disk'],
      ['disk', 'nobody'],
      ['disk', ''],
    ] as const) {
      // A generator as the commands use it: the call and the first item count as one.
      const compare = async (): Promise<unknown> => await door.diff(from, to).next();
      expect(await refusal(compare())).toMatchObject({ code: 'NOT_FOUND' });
    }
  });

  it('lets a comparison go that nobody reads to its end', async () => {
    store.extents = Array.from({ length: 100_000 }, (_, i): DiffExtent => {
      return { offset: i * 4096, length: 4096, type: 'data' };
    });
    for await (const extent of door.diff('disk@a', 'disk')) {
      expect(extent.offset).toBe(0);
      break;
    }
    expect(await door.list()).toHaveLength(2);
  });

  it.each<ErrorCode>(['HELD', 'HAS_SNAPSHOTS', 'IN_USE', 'WOULD_LOSE_DATA', 'NOT_FOUND', 'POISONED'])(
    'hands on %s with its sentence, whatever was asked for',
    async (code) => {
      store.failure = new StoreError(code, `no: ${ODD}`);
      const expected = { code, message: `no: ${ODD}` };
      expect(await refusal(door.delete(['disk'], {}))).toMatchObject(expected);
      expect(await refusal(door.rollback('disk@a', {}))).toMatchObject(expected);
      expect(await refusal(door.promote('disk'))).toMatchObject(expected);
      expect(await refusal(door.demote('disk', {}))).toMatchObject(expected);
      expect(await refusal(door.rename('disk', 'other'))).toMatchObject(expected);
      expect(await refusal(door.resize('disk', 512, {}))).toMatchObject(expected);
      expect(await refusal(door.hold('disk@a', { owner: 'me' }))).toMatchObject(expected);
      expect(await refusal(door.release('disk@a', 'me'))).toMatchObject(expected);
      expect(await refusal(door.setPriority('disk@a', 1))).toMatchObject(expected);
      expect(await refusal(door.listWithSpace({}))).toMatchObject(expected);
      expect(await refusal(door.space(['disk']))).toMatchObject(expected);
      const compare = async (): Promise<unknown> => await collect(door.diff('disk@a', 'disk'));
      expect(await refusal(compare())).toMatchObject(expected);
      expect(store.calls).toHaveLength(12);
    },
  );

  it('counts whoever reads or writes a disk as attached', async () => {
    const disk = await door.disk('disk');
    await disk.write(0, [Buffer.alloc(512, 1)]);
    expect(store.attachedDevices).toBe(store.openDevices);
    expect(store.attachedDevices).toBe(1);
    disk.release();
  });
});
