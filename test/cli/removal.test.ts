/** Delete, rollback, rename and resize, as users run them, over a store that a server has and one that nobody has. */

import fs from 'node:fs';
import path from 'node:path';
import { afterAll, afterEach, describe, expect, it, vi } from 'vitest';
import { reachStore } from '../../src/cli/reach-store.ts';
import * as nbd from '../../src/nbd/protocol.ts';
import type { Door } from '../../src/server/door.ts';
import type { VersionWithSpace } from '../../src/volume/summary.ts';
import { RawClient } from '../nbd/raw-client.ts';
import { temporaryDirectory } from '../server/served.ts';
import { type Ended, ok, run, type Running, serve, stop } from './command.ts';

vi.setConfig({ testTimeout: 120_000, hookTimeout: 60_000 });

const KIB = 1024;
const MIB = 2 ** 20;
const root = temporaryDirectory();
let stores = 0;
let server: Running | undefined;
const clients: RawClient[] = [];

afterEach(async () => {
  for (const client of clients.splice(0)) client.close();
  if (server !== undefined) expect((await stop(server)).code).toBe(0);
  server = undefined;
});
afterAll(() => fs.rmSync(root, { recursive: true, force: true }));

/** An empty store, with a server if `owner` says so. */
async function newStore(owner = 'a server'): Promise<string> {
  const store = path.join(root, `store-${stores++}`);
  await ok(store, ['init']);
  if (owner === 'a server') server = await serve(store);
  return store;
}

/** `disk`, of 1 MiB, is full of `text`; made if it is missing. */
async function fillDisk(store: string, text: string): Promise<void> {
  await through(store, async (door) => {
    const has = (await door.list()).some(({ name }) => name === 'disk');
    if (!has) await door.create('disk', MIB);
    const disk = await door.disk('disk');
    await disk.write(0, [Buffer.alloc(MIB, text)]);
    disk.release();
  });
}

/** Through a door of this process: what is tested are the commands between. */
async function through<T>(store: string, work: (door: Door) => Promise<T>): Promise<T> {
  const door = await reachStore(store);
  try {
    return await work(door);
  } finally {
    await door.close();
  }
}

async function list(store: string): Promise<VersionWithSpace[]> {
  return await through(store, (door) => door.listWithSpace({}));
}

async function names(store: string): Promise<string[]> {
  return (await list(store)).map(({ name }) => name);
}

async function bytesOf(store: string, name: string): Promise<Buffer> {
  return await through(store, async (door) => {
    const disk = await door.disk(name);
    try {
      return await disk.read(0, disk.sizeBytes);
    } finally {
      disk.release();
    }
  });
}

/** Runs what must be refused with one sentence, and with nothing changed. */
async function refused(store: string, args: string[], code: number, words: RegExp): Promise<void> {
  const before = await list(store);
  expectSentence(await run(['--store', store, ...args]), code, words);
  expect(await list(store)).toEqual(before);
}

function expectSentence(ended: Ended, code: number, words: RegExp): void {
  expect(ended.err).toMatch(words);
  expect(ended.err).toMatch(/^coppice: [^\n]+\n$/);
  expect(ended.out).toBe('');
  expect(ended.code).toBe(code);
}

async function attach(store: string, name: string): Promise<RawClient> {
  const client = await RawClient.connect(path.join(store, 'nbd.sock'));
  clients.push(client);
  await client.enter(name);
  return client;
}

async function readDisk(client: RawClient, offset: number, length: number): Promise<Buffer> {
  const reply = await client.ask({ type: nbd.NBD_CMD_READ, offset, length }, undefined, length);
  expect(reply.error).toBe(0);
  return reply.payload;
}

async function writeDisk(client: RawClient, offset: number, bytes: Buffer): Promise<number> {
  return (await client.ask({ type: nbd.NBD_CMD_WRITE, offset, length: bytes.length }, bytes)).error;
}

describe.each(['nobody', 'a server'])('when %s has the store', (owner) => {
  it('snapshots, clones and volumes are deleted, and others keep what they inherit', async () => {
    const store = await newStore(owner);
    await fillDisk(store, 'first');
    await ok(store, ['snapshot', 'disk@a']);
    await fillDisk(store, 'second');
    await ok(store, ['snapshot', 'disk@b']);
    await ok(store, ['clone', 'disk@a', 'copy']);
    await fillDisk(store, 'third');
    expect(await ok(store, ['delete', 'disk@a'])).toBe('deleted disk@a\n');
    expect(await names(store)).toEqual(['copy', 'disk', 'disk@b']);
    await refused(store, ['delete', 'disk'], 1, /disk has snapshots: disk@b; .*--recursive/);
    await refused(store, ['delete', 'disk@b', 'nobody'], 1, /nobody.*coppice list/);
    await refused(store, ['delete', 'disk@b', 'disk@a'], 1, /disk@a/);
    expect((await bytesOf(store, 'copy')).equals(Buffer.alloc(MIB, 'first'))).toBe(true);
    expect((await bytesOf(store, 'disk@b')).equals(Buffer.alloc(MIB, 'second'))).toBe(true);
    expect((await bytesOf(store, 'disk')).equals(Buffer.alloc(MIB, 'third'))).toBe(true);
    await ok(store, ['snapshot', 'disk@c', 'copy@c']);
    const gone = JSON.parse(await ok(store, ['delete', '--json', '--recursive', 'disk', 'copy@c'])) as object;
    expect(gone).toEqual({ deleted: ['disk', 'disk@b', 'disk@c', 'copy@c'] });
    expect(await names(store)).toEqual(['copy']);
    expect((await bytesOf(store, 'copy')).equals(Buffer.alloc(MIB, 'first'))).toBe(true);
    expect(await ok(store, ['delete', 'copy'])).toBe('deleted copy\n');
    expect(await names(store)).toEqual([]);
    expect(await ok(store, ['fsck'])).toContain('clean\n');
  });

  it('all that is named with a volume is enough: no --recursive is asked for', async () => {
    const store = await newStore(owner);
    await fillDisk(store, 'x');
    await ok(store, ['snapshot', 'disk@a']);
    await ok(store, ['snapshot', 'disk@b']);
    expect(await ok(store, ['delete', 'disk@b', 'disk', 'disk@a'])).toBe(
      'deleted disk\ndeleted disk@a\ndeleted disk@b\n',
    );
    expect(await names(store)).toEqual([]);
  });

  it('a name can be used again at once, for an empty disk', async () => {
    const store = await newStore(owner);
    await fillDisk(store, 'old');
    expect((await bytesOf(store, 'disk')).includes('old')).toBe(true);
    await ok(store, ['delete', 'disk']);
    await ok(store, ['create', 'disk', '--size', '64K']);
    expect((await bytesOf(store, 'disk')).equals(Buffer.alloc(64 * KIB))).toBe(true);
  });

  it('a volume goes back to a snapshot and forward again, and nothing is lost on the way', async () => {
    const store = await newStore(owner);
    await fillDisk(store, 'first');
    await ok(store, ['snapshot', 'disk@a']);
    expect(await ok(store, ['rollback', 'disk@a'])).toBe(
      'rolled disk back to disk@a; it had not changed since a snapshot\n',
    );
    await fillDisk(store, 'second');
    const said = await ok(store, ['rollback', 'disk@a']);
    const saved = /what it was before is (disk@before-rollback-\d{8}T\d{6}Z)\n$/.exec(said)?.[1];
    expect(saved).toBeDefined();
    expect((await bytesOf(store, 'disk')).equals(Buffer.alloc(MIB, 'first'))).toBe(true);
    expect((await bytesOf(store, saved!)).equals(Buffer.alloc(MIB, 'second'))).toBe(true);
    const { uuid, parent } = (await list(store)).find(({ name }) => name === 'disk')!;
    expect(parent).toBe('disk@a');
    expect((await list(store)).find(({ name }) => name === saved)).toMatchObject({
      kind: 'snapshot',
      automatic: true,
    });
    // Undone, as any snapshot is gone back to.
    const undone = JSON.parse(await ok(store, ['rollback', saved!, '--json'])) as object;
    expect(undone).toMatchObject({ volume: { name: 'disk', uuid, parent: saved }, saved: null });
    expect((await bytesOf(store, 'disk')).equals(Buffer.alloc(MIB, 'second'))).toBe(true);
    await ok(store, ['create', 'other', '--size', '1M']);
    await ok(store, ['snapshot', 'other@x']);
    await refused(store, ['rollback', 'disk@x'], 1, /disk@x.*coppice list/);
    await refused(store, ['rollback', 'disk'], 2, /VOLUME@NAME/);
    await refused(store, ['rollback', 'nobody@x'], 1, /nobody/);
    expect(await ok(store, ['list'])).toMatch(new RegExp(`${saved} .*automatic`));
    expect(await ok(store, ['show', saved!])).toContain('snapshot, made by a rollback or a demotion');
    expect(await ok(store, ['fsck'])).toContain('clean\n');
  });

  it('what has another name is found under that, and no longer under the old one', async () => {
    const store = await newStore(owner);
    await fillDisk(store, 'kept');
    await ok(store, ['snapshot', 'disk@a']);
    await ok(store, ['snapshot', 'disk@b']);
    expect(await ok(store, ['rename', 'disk@a', 'first'])).toBe('renamed disk@a to disk@first\n');
    expect(await ok(store, ['rename', 'disk@first', 'disk@zero'])).toBe('renamed disk@first to disk@zero\n');
    await ok(store, ['create', 'other', '--size', '1M']);
    await refused(store, ['rename', 'disk', 'other'], 1, /"other" already; choose another name/);
    await refused(store, ['rename', 'disk@b', 'zero'], 1, /"disk@zero" already/);
    await refused(store, ['rename', 'disk@b', 'other@b'], 2, /stays with its volume/);
    await refused(store, ['rename', 'disk', 'a b'], 2, /A-Z a-z 0-9/);
    await refused(store, ['rename', 'disk', 'other@disk'], 2, /A-Z a-z 0-9/);
    await refused(store, ['rename', 'nobody', 'somebody'], 1, /nobody/);
    const { uuid } = (await list(store)).find(({ name }) => name === 'disk')!;
    expect(JSON.parse(await ok(store, ['rename', 'disk', 'renamed', '--json']))).toMatchObject({ uuid });
    await ok(store, ['rename', 'other', 'disk']);
    // In the order in which they were made, not in that of their names.
    expect(await names(store)).toEqual(['disk', 'renamed', 'renamed@zero', 'renamed@b']);
    expect((await bytesOf(store, 'renamed@zero')).equals(Buffer.alloc(MIB, 'kept'))).toBe(true);
    expect((await bytesOf(store, 'disk')).equals(Buffer.alloc(MIB))).toBe(true);
    await refused(store, ['show', 'renamed@first'], 1, /renamed@first/);
  });

  it('a volume grows and shrinks, and what was cut off reads as zeros for ever', async () => {
    const store = await newStore(owner);
    await fillDisk(store, 'x');
    await ok(store, ['snapshot', 'disk@a']);
    expect(await ok(store, ['resize', 'disk', '2M'])).toMatch(/^disk has 2 MiB now; .*reconnect\n$/);
    await refused(store, ['resize', 'disk', '1M'], 2, /2097152 bytes.*--shrink/);
    await ok(store, ['resize', 'disk', '--size', '1M', '--shrink']); // nothing was written there
    await refused(store, ['resize', 'disk', '512K', '--shrink'], 1, /has data behind 524288 .*--force/);
    // Not at the end of a chunk: the rest of it goes as well.
    const kept = 5 * 4096 + 512;
    await refused(store, ['resize', 'disk', String(kept), '--shrink'], 1, /has data behind/);
    await ok(store, ['resize', 'disk', String(kept), '--shrink', '--force']);
    expect(await bytesOf(store, 'disk')).toHaveLength(kept);
    await ok(store, ['resize', 'disk', '1M']);
    const expected = Buffer.alloc(MIB);
    expected.fill('x', 0, kept);
    expect((await bytesOf(store, 'disk')).equals(expected)).toBe(true);
    const snapshot = (await list(store)).find(({ name }) => name === 'disk@a')!;
    expect(snapshot).toMatchObject({ size: MIB, referenced: MIB });
    expect((await bytesOf(store, 'disk@a')).equals(Buffer.alloc(MIB, 'x'))).toBe(true);
    await refused(store, ['resize', 'disk@a', '2M'], 2, /is a snapshot/);
    await refused(store, ['resize', 'nobody', '2M'], 1, /nobody/);
    expect(await ok(store, ['fsck'])).toContain('clean\n');
  });
});

describe('a volume that a client works on', () => {
  it('is not deleted or rolled back, but with --force, which disconnects the client', async () => {
    const store = await newStore();
    await fillDisk(store, 'first');
    await ok(store, ['snapshot', 'disk@a']);
    const client = await attach(store, 'disk');
    expect(await writeDisk(client, 0, Buffer.alloc(4096, 'second'))).toBe(0);
    await refused(store, ['rollback', 'disk@a'], 1, /disk is in use; .*--force/);
    await refused(store, ['delete', 'disk', '--recursive'], 1, /disk is in use; .*--force/);
    expect((await readDisk(client, 0, 6)).toString()).toBe('second');
    expect(await ok(store, ['rollback', 'disk@a', '--force'])).toContain('what it was before is');
    expect(await client.takeRest()).toHaveLength(0);
    const again = await attach(store, 'disk');
    expect((await readDisk(again, 0, 5)).toString()).toBe('first');
    const onSnapshot = await attach(store, 'disk@a');
    await refused(store, ['delete', 'disk@a'], 1, /disk@a is in use/);
    await refused(store, ['delete', 'disk', '--recursive'], 1, /disk, disk@a are in use/);
    await ok(store, ['delete', 'disk', '--recursive', '--force']);
    for (const each of [again, onSnapshot]) expect(await each.takeRest()).toHaveLength(0);
    expect(await names(store)).toEqual([]);
    const late = await RawClient.connect(path.join(store, 'nbd.sock'));
    clients.push(late);
    await expect(late.enter('disk')).rejects.toThrow('GO was refused');
  });

  it('is deleted although a client has just hung up, or has only asked about it', async () => {
    const store = await newStore();
    await ok(store, ['create', 'disk', '--size', '1M']);
    await ok(store, ['create', 'asked', '--size', '1M']);
    const asking = await RawClient.connect(path.join(store, 'nbd.sock'));
    clients.push(asking);
    await asking.greet();
    const info = Buffer.concat([Buffer.from([0, 0, 0, 5]), Buffer.from('asked'), Buffer.from([0, 0])]);
    await asking.negotiate(nbd.NBD_OPT_INFO, info);
    const hungUp = await attach(store, 'disk');
    await writeDisk(hungUp, 0, Buffer.alloc(4096, 1));
    const deleting = run(['--store', store, 'delete', 'disk', 'asked']);
    hungUp.close();
    expect(await deleting).toMatchObject({ code: 0, err: '' });
    expect(await names(store)).toEqual([]);
  });

  it('waits a moment for a client that is about to hang up', async () => {
    const store = await newStore();
    await ok(store, ['create', 'disk', '--size', '1M']);
    const client = await attach(store, 'disk');
    const control = await reachStore(store);
    const deleting = control.delete(['disk'], {});
    await new Promise((resolve) => setTimeout(resolve, 300));
    client.close();
    expect(await deleting).toEqual(['disk']);
    await control.close();
  });

  it('keeps its size for clients until they connect again', async () => {
    const store = await newStore();
    await fillDisk(store, 'x');
    const client = await attach(store, 'disk');
    await ok(store, ['resize', 'disk', '2M']);
    const behind = { type: nbd.NBD_CMD_READ, offset: MIB, length: 4096 };
    expect((await client.ask(behind)).error).toBe(nbd.NBD_EINVAL);
    const larger = await attach(store, 'disk');
    expect((await readDisk(larger, MIB, 4096)).equals(Buffer.alloc(4096))).toBe(true);
    await ok(store, ['resize', 'disk', '64K', '--shrink', '--force']);
    // The end of before is still theirs to read, and nobody's to write.
    expect((await readDisk(larger, 64 * KIB, 4096)).equals(Buffer.alloc(4096))).toBe(true);
    expect(await writeDisk(larger, 64 * KIB, Buffer.alloc(4096, 1))).toBe(nbd.NBD_ENOSPC);
    expect(await writeDisk(larger, 0, Buffer.alloc(4096, 'y'))).toBe(0);
    const smaller = await attach(store, 'disk');
    expect((await smaller.ask({ ...behind, offset: 64 * KIB })).error).toBe(nbd.NBD_EINVAL);
    await ok(store, ['resize', 'disk', '1M']);
    const bytes = await bytesOf(store, 'disk');
    expect(bytes.subarray(0, 4096).equals(Buffer.alloc(4096, 'y'))).toBe(true);
    expect(bytes.subarray(64 * KIB).equals(Buffer.alloc(MIB - 64 * KIB))).toBe(true);
  });

  it('keeps its clients when it has another name', async () => {
    const store = await newStore();
    await ok(store, ['create', 'disk', '--size', '1M']);
    const client = await attach(store, 'disk');
    await ok(store, ['rename', 'disk', 'renamed']);
    await ok(store, ['create', 'disk', '--size', '1M']);
    expect(await writeDisk(client, 0, Buffer.alloc(4096, 'z'))).toBe(0);
    expect((await bytesOf(store, 'renamed')).toString('latin1', 0, 1)).toBe('z');
    expect((await bytesOf(store, 'disk')).equals(Buffer.alloc(MIB))).toBe(true);
    await refused(store, ['delete', 'renamed'], 1, /renamed is in use/);
    await ok(store, ['delete', 'disk']);
  });

  it('can be rolled back twice in one second', async () => {
    const store = await newStore();
    await ok(store, ['create', 'disk', '--size', '1M']);
    await ok(store, ['snapshot', 'disk@a']);
    const control = await reachStore(store);
    const saved: string[] = [];
    for (let round = 0; round < 4; round++) {
      const disk = await control.disk('disk');
      await disk.write(0, [Buffer.alloc(4096, 1)]);
      saved.push((await control.rollback('disk@a', {})).saved!);
    }
    await control.close();
    expect(new Set(saved).size).toBe(4);
    for (const name of saved) expect(name).toMatch(/^disk@before-rollback-\d{8}T\d{6}Z(-[234])?$/);
    // Four rollbacks take less than three seconds, or the machine is past helping.
    expect(saved.some((name) => name.endsWith('Z-2'))).toBe(true);
  });
});
