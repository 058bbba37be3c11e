/**
 * What differs, found by hashes: stores that have no snapshot in common, sizes that differ, copies that came by another way. Every
 * byte is compared, and no more is sent than the blocks that differ.
 */

import fs from 'node:fs';
import path from 'node:path';
import { Writable } from 'node:stream';
import { afterAll, describe, expect, it, vi } from 'vitest';
import { writeHashes } from '../../src/cli/hashes-command.ts';
import { BLOCK_BYTES } from '../../src/delta/hash-list.ts';
import { StreamReader } from '../../src/delta/stream-reader.ts';
import { StoreDoor } from '../../src/server/store-door.ts';
import { Store } from '../../src/volume/store.ts';
import type { ReceiveSummary } from '../../src/volume/summary.ts';
import { temporaryDirectory } from '../server/served.ts';
import { Random, seeds } from '../support/random.ts';
import { damageIn, onStore, write } from '../support/stores.ts';
import { contents, delivered, sent } from '../volume/replicas.ts';

vi.setConfig({ testTimeout: 120_000, hookTimeout: 60_000 });

const root = temporaryDirectory();
afterAll(() => fs.rmSync(root, { recursive: true, force: true }));
const RUN_ON = new AbortController().signal;
let files = 0;

async function newStore(): Promise<Store> {
  const directory = path.join(root, `store-${files++}`);
  await Store.init(directory, { segmentBytes: 4 << 20 });
  return await Store.open(directory);
}

async function hashFile(store: Store, name: string): Promise<string> {
  const slices: Buffer[] = [];
  const sink = new Writable({
    write: (slice: Buffer, _, done) => {
      slices.push(slice);
      done();
    },
  });
  await writeHashes(new StoreDoor(store), name, sink, RUN_ON);
  const file = path.join(root, `hashes-${files++}`);
  fs.writeFileSync(file, Buffer.concat(slices));
  return file;
}

/** Bytes at some places, and zeros at others. */
function scribbled(random: Random, before: Buffer, size: number, places: number): Buffer {
  const after = Buffer.alloc(size);
  before.copy(after);
  for (let left = places; left > 0; left--) {
    const offset = random.below(size);
    const length = Math.min(size - offset, random.between(1, random.chance(20) ? 4 * BLOCK_BYTES : 5000));
    if (random.chance(30)) after.fill(0, offset, offset + length);
    else random.bytes(length).copy(after, offset);
  }
  return after;
}

/** A volume that has these bytes, with zeros that are holes and zeros that are stored. */
async function makeVolume(store: Store, random: Random, name: string, bytes: Buffer): Promise<void> {
  await store.createVolume(name, bytes.length);
  await onStore(store, name, async (device) => {
    for (let at = 0; at < bytes.length; at += 16 << 10) {
      const piece = bytes.subarray(at, at + (16 << 10));
      if (random.chance(30) || piece.some((byte) => byte !== 0)) await write(device, at, piece);
    }
  });
}

function blocksThatDiffer(a: Buffer, b: Buffer): number {
  let count = 0;
  for (let at = 0; at < a.length; at += BLOCK_BYTES)
    if (!a.subarray(at, at + BLOCK_BYTES).equals(b.subarray(at, at + BLOCK_BYTES))) count += 1;
  return count;
}

function dataBytesOf(stream: Buffer): number {
  let bytes = 0;
  for (const frame of new StreamReader().push(stream))
    if (frame.kind === 'changes') bytes += frame.changes.dataBytes;
  return bytes;
}

describe('a resync', () => {
  it.each(seeds(8))(
    'makes of any disk the one that is sent, by blocks that differ (seed %i)',
    async (seed) => {
      const random = new Random(seed);
      const [source, target] = [await newStore(), await newStore()];
      const sizes = random.chance(50)
        ? [3_000_320, 3_000_320]
        : [0, 0].map(() => 512 * random.between(1, 9000));
      const theirs = scribbled(random, Buffer.alloc(0), sizes[0]!, 20);
      const ours = scribbled(random, theirs.subarray(0, sizes[1]), sizes[1]!, random.below(12));
      await makeVolume(source, random, 'disk', ours);
      await makeVolume(target, random, 'disk', theirs);
      await source.snapshot(['disk@new']);
      await target.snapshot(['disk@old']);
      await target.roles.demote('disk', { replicaOf: source.show('disk').uuid });
      const resync = await hashFile(target, 'disk@old');
      const stream = await sent(source, 'disk@new', { resync });
      expect(dataBytesOf(stream)).toBeLessThanOrEqual(BLOCK_BYTES * blocksThatDiffer(ours, theirs));
      await delivered(target, 'disk', stream);
      for (const name of ['disk', 'disk@new'])
        expect((await contents(target, name)).equals(ours), name).toBe(true);
      expect((await contents(target, 'disk@old')).equals(theirs)).toBe(true);
      // From here on they have one in common.
      await onStore(source, 'disk', (device) => write(device, 0, Buffer.alloc(512, 1)));
      await source.snapshot(['disk@next']);
      await delivered(target, 'disk', await sent(source, 'disk@next', { from: 'disk@new' }));
      expect((await contents(target, 'disk')).equals(await contents(source, 'disk'))).toBe(true);
      expect(await damageIn(target.check())).toEqual([]);
      await Promise.all([source.close(), target.close()]);
    },
  );

  it('helps where the base was deleted, goes on where it was cut off, and sends nothing where nothing differs', async () => {
    const random = new Random(7);
    const [source, target] = [await newStore(), await newStore()];
    const one = random.bytes(40 * BLOCK_BYTES);
    await makeVolume(source, random, 'disk', one);
    await source.snapshot(['disk@one']);
    await delivered(target, 'disk', await sent(source, 'disk@one'));
    await source.delete(['disk@one']);
    const changed = [3, 4, 20, 39].map((block) => block * BLOCK_BYTES + 100);
    for (const offset of changed)
      await onStore(source, 'disk', (device) => write(device, offset, random.bytes(200)));
    await source.snapshot(['disk@two']);
    const resync = await hashFile(target, 'disk@one');
    const stream = await sent(source, 'disk@two', { resync });
    expect(dataBytesOf(stream)).toBe(4 * BLOCK_BYTES);
    // Cut off: the token alone says what is missing.
    const [first] = [...new StreamReader().push(stream)];
    if (first?.kind !== 'head') throw new Error('no head');
    const begun = await target.receives.begin(first.head, 'disk');
    if (begun.state !== 'begun') throw new Error('it is there');
    await target.receives.advance(begun.session, 3 * BLOCK_BYTES);
    const [{ token }] = target.receives.list() as [ReceiveSummary];
    await expect(sent(source, '', { token })).rejects.toMatchObject({
      code: 'NOT_FOUND',
      message: expect.stringContaining('--resync') as string,
    });
    const other = await hashFile(source, 'disk@two');
    await expect(sent(source, '', { token, resync: other })).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
    });
    await delivered(target, 'disk', await sent(source, '', { token, resync }));
    expect((await contents(target, 'disk')).equals(await contents(source, 'disk@two'))).toBe(true);
    await source.snapshot(['disk@three']);
    const same = await sent(source, 'disk@three', { resync: await hashFile(target, 'disk@two') });
    expect(same.length).toBeLessThan(1000);
    await expect(sent(source, 'disk@two', { resync: other })).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: expect.stringContaining('nothing has to be sent') as string,
    });
    await Promise.all([source.close(), target.close()]);
  });

  it('is not sent whole by hashes that are cut off', async () => {
    const random = new Random(9);
    const store = await newStore();
    await makeVolume(store, random, 'disk', random.bytes(BLOCK_BYTES));
    await store.snapshot(['disk@one']);
    await store.snapshot(['disk@two']);
    const resync = await hashFile(store, 'disk@one');
    fs.truncateSync(resync, fs.statSync(resync).size - 60);
    await expect(sent(store, 'disk@two', { resync })).rejects.toMatchObject({
      code: 'CORRUPTION',
      message: expect.stringContaining('make them again with `coppice hashes`') as string,
    });
    await store.close();
  });
});
