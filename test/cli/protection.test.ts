/** Holds, priorities, groups, and what versions hold and share, as users ask for them. */

import fs from 'node:fs';
import path from 'node:path';
import { afterAll, afterEach, describe, expect, it, vi } from 'vitest';
import { reachStore } from '../../src/cli/reach-store.ts';
import type { Door } from '../../src/server/door.ts';
import { temporaryDirectory } from '../server/served.ts';
import { ok, run, type Running, serve, stop } from './command.ts';

vi.setConfig({ testTimeout: 120_000, hookTimeout: 60_000 });

const CHUNK = 4096;
const MIB = 2 ** 20;
const root = temporaryDirectory();
let stores = 0;
let server: Running | undefined;

afterEach(async () => {
  if (server !== undefined) expect((await stop(server)).code).toBe(0);
  server = undefined;
});
afterAll(() => fs.rmSync(root, { recursive: true, force: true }));

/** A store with `disk` and `disk@a`, of 1 MiB each: three chunks in the snapshot, of which one is another in the volume. */
async function newStore(owner: string): Promise<string> {
  const store = path.join(root, `store-${stores++}`);
  await ok(store, ['init']);
  if (owner === 'a server') server = await serve(store);
  await through(store, async (door) => {
    await door.create('disk', MIB);
    const disk = await door.disk('disk');
    await disk.write(0, [Buffer.alloc(3 * CHUNK, 1)]);
    await door.snapshot(['disk@a']);
    await disk.write(CHUNK, [Buffer.alloc(CHUNK, 2)]);
    disk.release();
  });
  return store;
}

/** Through a door of this process. */
async function through<T>(store: string, work: (door: Door) => Promise<T>): Promise<T> {
  const door = await reachStore(store);
  try {
    return await work(door);
  } finally {
    await door.close();
  }
}

async function json(store: string, args: string[]): Promise<unknown> {
  return JSON.parse(await ok(store, [...args, '--json']));
}

describe.each(['nobody', 'a server'])('when %s has the store', (owner) => {
  it('a held snapshot stays, whoever wants to delete it, until it is released', async () => {
    const store = await newStore(owner);
    const hold = ['hold', 'disk@a', '--owner', 'backup job', '--reason', 'nightly', '--until', '2h'];
    expect(await ok(store, hold)).toBe('backup job holds disk@a\n');
    await ok(store, ['hold', 'disk@a', '--owner', 'me']);
    for (const args of [
      ['delete', 'disk@a'],
      ['delete', 'disk', '--recursive', '--force'],
    ]) {
      const { code, err, out } = await run(['--store', store, ...args]);
      expect(err).toMatch(
        /^coppice: held: disk@a by backup job \(nightly\) and me; nothing was deleted, release .*\n$/,
      );
      expect({ code, out }).toEqual({ code: 1, out: '' });
    }
    const { holds } = (await json(store, ['show', 'disk@a'])) as { holds: { until: string | null }[] };
    expect(holds).toMatchObject([
      { owner: 'backup job', reason: 'nightly', since: expect.any(String) },
      { owner: 'me', reason: null, until: null },
    ]);
    expect(Date.parse(holds[0]!.until!) - Date.now()).toBeGreaterThan(3_500_000);
    expect(await ok(store, ['release', 'disk@a', '--owner', 'me'])).toBe('me no longer holds disk@a\n');
    const again = await run(['--store', store, 'release', 'disk@a', '--owner', 'me']);
    expect(again).toMatchObject({ code: 1, err: expect.stringContaining('held by "backup job"') });
    // A hold of the same owner takes the place of the one before, and ends by itself.
    await through(store, (door) => door.hold('disk@a', { owner: 'backup job', until: Date.now() + 100 }));
    await expect.poll(async () => (await through(store, (door) => door.show('disk@a'))).holds).toEqual([]);
    expect(await ok(store, ['delete', 'disk@a'])).toBe('deleted disk@a\n');
  });

  it('priorities and holds are shown, and the fields of a list are the ones it promises', async () => {
    const store = await newStore(owner);
    expect(await ok(store, ['priority', 'disk@a', '-128'])).toBe('disk@a has priority -128\n');
    expect(await json(store, ['priority', 'disk@a', '127'])).toMatchObject({ priority: 127 });
    await ok(store, ['hold', 'disk@a', '--owner', 'me']);
    const [disk, snapshot] = (await json(store, ['list'])) as object[];
    expect(Object.keys(disk!).join()).toBe(
      'name,kind,uuid,size,created,parent,referenced,exclusive,shared,automatic,priority,holds,origin,replica,madeBy',
    );
    expect(disk).toEqual({
      name: 'disk',
      kind: 'volume',
      uuid: expect.stringMatching(/^[0-9a-f-]{36}$/),
      size: MIB,
      created: expect.stringMatching(/^\d{4}-\d\d-\d\dT[\d:.]+Z$/),
      parent: 'disk@a',
      referenced: 3 * CHUNK,
      exclusive: CHUNK,
      shared: 2 * CHUNK,
      automatic: false,
      priority: 0,
      holds: [],
      origin: null,
      replica: false,
      madeBy: null,
    });
    expect(snapshot).toMatchObject({
      name: 'disk@a',
      kind: 'snapshot',
      parent: null,
      referenced: 3 * CHUNK,
      exclusive: CHUNK,
      priority: 127,
      holds: [{ owner: 'me', reason: null, until: null, since: expect.any(String) }],
    });
    const table = await ok(store, ['list']);
    expect(table).toMatch(/^NAME +KIND +SIZE +REFERENCED +EXCLUSIVE +CREATED +PARENT +NOTES\n/);
    expect(table).toMatch(/disk@a +snapshot +1 MiB +12 KiB +4 KiB .* priority 127, held by me\n/);
    expect(await json(store, ['show', 'disk@a'])).toEqual(snapshot);
    expect(await ok(store, ['show', 'disk@a'])).toMatch(/\npriority: +127\nheld by: +me\n$/);
  });

  it('versions are compared as a table or as lines of JSON, and measured', async () => {
    const store = await newStore(owner);
    expect(await ok(store, ['diff', 'disk@a', 'disk', '--json'])).toBe(
      `{"offset":${CHUNK},"length":${CHUNK},"type":"data"}\n`,
    );
    expect((await ok(store, ['diff', 'disk@a', 'disk'])).split('\n').map((line) => line.trim())).toEqual([
      'OFFSET          LENGTH  TYPE',
      `${CHUNK}            ${CHUNK}  data`,
      '1 extents differ: 4 KiB of data, 0 B of holes',
      '',
    ]);
    expect(await ok(store, ['diff', 'disk', 'disk'])).toBe('no difference\n');
    expect(await ok(store, ['diff', 'disk', 'disk', '--json'])).toBe('');
    await through(store, async (door) => {
      await door.clone('disk@a', 'copy');
      const disk = await door.disk('copy');
      await disk.zero(0, MIB);
      disk.release();
    });
    // Siblings: a hole is told from data, and what neither has is not told.
    expect(await ok(store, ['diff', 'disk', 'copy', '--json'])).toBe(
      `{"offset":0,"length":${3 * CHUNK},"type":"hole"}\n`,
    );
    expect(await json(store, ['du', 'disk', 'disk@a'])).toEqual({
      versions: [
        { name: 'disk', referenced: 3 * CHUNK, exclusive: CHUNK, shared: 2 * CHUNK },
        { name: 'disk@a', referenced: 3 * CHUNK, exclusive: CHUNK, shared: 2 * CHUNK },
      ],
      reclaimable: 4 * CHUNK,
    });
    expect(await ok(store, ['du', 'disk@a'])).toBe(
      [
        'NAME    REFERENCED  EXCLUSIVE  SHARED',
        'disk@a  12 KiB      4 KiB      8 KiB',
        'deleting it would give back 4 KiB (4096 bytes)',
        '',
      ].join('\n'),
    );
  });

  it('a deleted version that others inherit from is a ghost, for those who ask', async () => {
    const store = await newStore(owner);
    await ok(store, ['clone', 'disk@a', 'copy']);
    await ok(store, ['delete', 'disk@a']);
    expect(await ok(store, ['tree'])).toMatch(/^copy +volume .*\ndisk +volume .*\n$/);
    expect(await ok(store, ['tree', '--ghosts'])).toMatch(/^#\d+ +ghost\n├─ copy .*\n└─ disk .*\n$/);
    expect(await json(store, ['tree', '--ghosts'])).toMatchObject([
      { kind: 'ghost', children: [{ name: 'copy' }, { name: 'disk' }] },
    ]);
    expect(await json(store, ['list'])).toMatchObject([{ name: 'copy' }, { name: 'disk' }]);
  });

  it('many volumes are frozen at one moment, all or none', async () => {
    const store = await newStore(owner);
    const volumes = Array.from({ length: 20 }, (_, i) => `v${i}`);
    await through(store, async (door) => {
      for (const volume of volumes) await door.create(volume, MIB);
    });
    const group = volumes.map((volume) => `${volume}@x`);
    const { code } = await run(['--store', store, 'snapshot', ...group, 'disk@a']);
    expect(code).toBe(1);
    const taken = (await json(store, ['snapshot', ...group])) as { name: string; created: string }[];
    expect(taken.map(({ name }) => name)).toEqual(group);
    expect(new Set(taken.map(({ created }) => created)).size).toBe(1);
  });
});
