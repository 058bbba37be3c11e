/** Compaction of a whole store: what lives stays what it was, wherever it is, and what is dead gives its room back. */

import fs from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { Store } from '../../src/volume/store.ts';
import { Random, seeds } from '../support/random.ts';
import { damageIn, read, write } from '../support/stores.ts';
import { CHUNK, directoryOf, StoreFixture } from './store-fixture.ts';

const MIB = 1 << 20;
const DISK_BYTES = 48 * MIB;

const segmentsOf = ({ directory }: StoreFixture): string[] =>
  fs.readdirSync(path.join(directory, 'log')).sort();

/** Rounds until nothing is gained any more; answers how many there were. */
async function compactAll(fixture: StoreFixture): Promise<number> {
  let rounds = 0;
  while ((await fixture.store.compactOnce()) !== undefined) {
    rounds += 1;
    if (rounds > 50) throw new Error('compaction does not end');
  }
  return rounds;
}

describe('a store that is compacted', () => {
  it('reads the same in all versions, and takes little more than what lives', async () => {
    const fixture = await StoreFixture.make(11);
    for (let i = 0; i < 12; i++) await fixture.writeSome('a', 40);
    const before = segmentsOf(fixture).length;
    expect(await compactAll(fixture)).toBeGreaterThan(0);
    const { liveBytes, segments } = await fixture.store.status();
    expect(segments).toBeLessThan(before);
    expect(segments).toBeLessThanOrEqual(Math.ceil(liveBytes / (1 << 20)) + 8);
    await fixture.readAll();
    await fixture.reopen();
    await fixture.end();
  });

  it('is the same when its index is made anew from the log', async () => {
    const fixture = await StoreFixture.make(12);
    for (let i = 0; i < 6; i++) {
      await fixture.writeSome('a', 40);
      await fixture.store.compactOnce();
    }
    await fixture.store.delete(['a@1']);
    await fixture.store.pruned();
    fixture.contents.delete('a@1');
    await fixture.writeSome('b', 20);
    await compactAll(fixture);
    await fixture.store.close();
    fs.rmSync(fixture.index, { recursive: true });
    expect(await damageIn(Store.check(fixture.directory))).toEqual([]);
    await fixture.open();
    await fixture.readAll();
    await fixture.reopen();
    await compactAll(fixture);
    await fixture.end();
  });

  it('gives the room of a deleted volume back', async () => {
    const fixture = await StoreFixture.make(13);
    await fixture.store.createVolume('big', 4 << 20);
    fixture.contents.set('big', Buffer.alloc(4 << 20));
    for (let i = 0; i < 10; i++) await fixture.writeSome('big', 60);
    await compactAll(fixture);
    const before = segmentsOf(fixture).length;
    await fixture.store.delete(['big']);
    fixture.contents.delete('big');
    await fixture.store.pruned();
    await compactAll(fixture);
    expect(segmentsOf(fixture).length).toBeLessThan(before);
    await fixture.end();
  });
});

describe('a store that is compacted as far as it goes', () => {
  const all = { target: 0.98, purge: false, bytesPerSecond: undefined };

  it('takes no more than 1.06 of what lives, beside the segment that is written', async () => {
    const fixture = await StoreFixture.make(21);
    await fixture.store.pauseCompaction(true);
    for (let i = 0; i < 8; i++) await fixture.writeSome('a', 60);
    const { victims, movedBytes } = await fixture.store.estimateCompaction(all);
    expect(victims).toBeGreaterThan(0);
    let done = { movedBytes: 0, freedBytes: 0, totalBytes: 0 };
    for await (const step of fixture.store.compact(all)) done = step;
    expect(done.totalBytes).toBe(movedBytes);
    expect(done.movedBytes).toBeGreaterThanOrEqual(movedBytes);
    await fixture.store.checkpoint();
    const { liveBytes } = await fixture.store.status();
    await fixture.store.close();
    expect(bytesOf(fixture)).toBeLessThanOrEqual(1.06 * liveBytes + (1 << 20));
    await fixture.open();
    await fixture.end();
  });

  it('holds nothing of what was deleted or written over any more, if that is asked for', async () => {
    const fixture = await StoreFixture.make(22);
    await fixture.store.pauseCompaction(true);
    const tag = Buffer.from('a tag that nobody else writes...');
    const device = fixture.store.device('b');
    await write(device, 3 * CHUNK, Buffer.alloc(CHUNK, tag));
    device.release();
    expect(filesWith(fixture, tag)).not.toEqual([]);
    const content = fixture.contents.get('b')!;
    await fixture.store.checkpoint();
    const again = fixture.store.device('b');
    await write(again, 3 * CHUNK, Buffer.alloc(CHUNK, 7));
    again.release();
    content.fill(7, 3 * CHUNK, 4 * CHUNK);
    for await (const step of fixture.store.compact({ ...all, purge: true })) void step;
    await fixture.readAll();
    await fixture.store.close();
    expect(filesWith(fixture, tag)).toEqual([]);
    await fixture.open();
    await fixture.end();
  });

  it('names nothing any more that was deleted, though a catalog that did stands among chunks that live', async () => {
    const fixture = await StoreFixture.make(23);
    const { store } = fixture;
    await store.pauseCompaction(true);
    await store.createVolume('full', 5 * MIB);
    const device = store.device('full');
    // A segment that is full of what lives, on both sides of a catalog.
    await write(device, 0, Buffer.alloc(2 * MIB, 9));
    await store.createVolume('nobody-names-this', CHUNK);
    await store.checkpoint();
    await write(device, 2 * MIB, Buffer.alloc(3 * MIB, 9));
    device.release();
    expect(filesWith(fixture, Buffer.from('nobody-names-this'))).not.toEqual([]);
    await store.delete(['nobody-names-this']);
    for await (const step of store.compact({ ...all, purge: true })) void step;
    await fixture.readAll();
    await store.close();
    expect(filesWith(fixture, Buffer.from('nobody-names-this'))).toEqual([]);
    await fixture.open();
    await fixture.end();
  });

  it.each([
    ['at once', undefined],
    ['in parts that are merged, where there is little room', 90 * MIB],
  ])('puts a disk in order that was written in none, %s', async (_, capacityBytes) => {
    const [seed] = seeds(1);
    const random = new Random(seed!);
    const directory = directoryOf('scattered');
    await Store.init(directory, { segmentBytes: MIB, capacityBytes });
    const store = await Store.open(directory, { compacts: false });
    await store.createVolume('disk', DISK_BYTES);
    const device = store.device('disk');
    const content = Buffer.concat(Array.from({ length: DISK_BYTES / CHUNK }, () => random.bytes(CHUNK)));
    const chunks = Array.from({ length: content.length / CHUNK }, (_chunk, i) => ({ i, at: random.next() }));
    chunks.sort((a, b) => a.at - b.at);
    // Together, so that records are large, and segments as full as they get.
    for (let from = 0; from < chunks.length; from += 128)
      await Promise.all(
        chunks
          .slice(from, from + 128)
          .map(({ i }) => write(device, i * CHUNK, content.subarray(i * CHUNK, (i + 1) * CHUNK))),
      );
    device.release();
    const { victims, freedBytes } = await store.estimateCompaction(all);
    expect(victims, `SEED=${seed}`).toBeGreaterThanOrEqual(DISK_BYTES / MIB - 1);
    expect(freedBytes).toBe(0);
    let rounds = -1;
    for await (const step of store.compact(all)) rounds += step.movedBytes > 0 ? 1 : 0;
    if (capacityBytes !== undefined) expect(rounds).toBeGreaterThan(2);
    // In order, and so there is hardly anything to do: where two rounds meet, a region is in pieces of both.
    expect((await store.estimateCompaction(all)).movedBytes).toBeLessThan(DISK_BYTES / 3);
    const again = store.device('disk');
    expect((await read(again, 0, content.length)).equals(content)).toBe(true);
    again.release();
    await store.close();
    expect(await damageIn(Store.check(directory))).toEqual([]);
  });

  it('refuses a target that means nothing', async () => {
    const fixture = await StoreFixture.make(23);
    for (const target of [0.3, 1.1, Number.NaN])
      await expect(fixture.store.estimateCompaction({ ...all, target })).rejects.toMatchObject({
        code: 'INVALID_ARGUMENT',
      });
    await fixture.end();
  });
});

function bytesOf({ directory }: StoreFixture): number {
  const log = path.join(directory, 'log');
  return fs.readdirSync(log).reduce((sum, name) => sum + fs.statSync(path.join(log, name)).size, 0);
}

/** Files of the store that hold these bytes. */
function filesWith({ directory }: StoreFixture, bytes: Buffer): string[] {
  const names = fs.readdirSync(directory, { recursive: true, withFileTypes: true });
  const files = names
    .filter((entry) => entry.isFile())
    .map((entry) => path.join(entry.parentPath, entry.name));
  return files.filter((file) => fs.readFileSync(file).includes(bytes));
}
