/**
 * Compaction where there is little to work with: segments that hold little but zeroed extents, guests that
 * write beside `compact`, stores that were just opened, and chunks that are rotten.
 */

import fs from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, expect, it } from 'vitest';
import { Store } from '../../src/volume/store.ts';
import { Random, seeds } from '../support/random.ts';
import { damageIn, read, write } from '../support/stores.ts';
import { CHUNK, directoryOf } from './store-fixture.ts';

const MIB = 1 << 20;
const PIECE = 64 << 10;
let store: Store;

async function made(segments: number): Promise<string> {
  const directory = directoryOf('small');
  await Store.init(directory, { segmentBytes: MIB, capacityBytes: segments * MIB });
  store = await Store.open(directory);
  return directory;
}

afterEach(async () => {
  await store.close();
});

describe('zeroed extents that hide something', () => {
  it('are moved on once, and not again and again: compaction ends, by itself and when it was asked for', async () => {
    await made(24);
    const bytes = 4 * MIB;
    await store.createVolume('golden', bytes);
    const device = store.device('golden');
    for (let offset = 0; offset < bytes; offset += PIECE) await write(device, offset, Buffer.alloc(PIECE, 7));
    device.release();
    await store.snapshot(['golden@1']);
    for (let clone = 0; clone < 40; clone++) {
      await store.clone('golden@1', `clone${clone}`);
      const its = store.device(`clone${clone}`);
      // In an order of its own, so that each extent is told apart: 389 and the number of even chunks have no divisor in common.
      const count = bytes / CHUNK / 2;
      for (let i = 0; i < count; i++) await its.zero(2 * ((i * 389) % count) * CHUNK, CHUNK, false);
      its.release();
    }
    // Little room is left, so that everything is done for more.
    await store.createVolume('fill', 20 * MIB);
    const fill = store.device('fill');
    for (
      let offset = 0;
      offset < 20 * MIB && (await store.status()).room.freeBytes > 6 * MIB;
      offset += PIECE
    )
      await write(fill, offset, Buffer.alloc(PIECE, 1));
    fill.release();
    const rounds = async (): Promise<number> => (await store.status()).compaction.rounds;
    await sleep(3000); // it is idle by then
    const before = await rounds();
    await sleep(2500);
    expect(await rounds()).toBe(before);
    const options = { target: 0.98, purge: false, bytesPerSecond: undefined };
    for await (const _ of store.compact(options));
    // What is left beside chunks that live is known to be zeros.
    expect(await store.estimateCompaction(options)).toMatchObject({ victims: 0, freedBytes: 0 });
    const its = store.device('clone3');
    const content = await read(its, 0, bytes);
    for (let chunk = 0; chunk < bytes / CHUNK; chunk++)
      expect(content[chunk * CHUNK]).toBe(chunk % 2 === 0 ? 0 : 7);
    its.release();
    expect(await damageIn(store.check())).toEqual([]);
  });
});

describe('compaction that was asked for', () => {
  const thorough = async (purge = false): Promise<void> => {
    for await (const _ of store.compact({ target: 0.98, purge, bytesPerSecond: undefined }));
  };

  it('ends beside a guest that writes as fast as it can, and refuses that guest nothing', async () => {
    await made(48);
    const bytes = 8 * MIB;
    await store.createVolume('a', bytes);
    const [seed] = seeds(1);
    const random = new Random(seed!);
    const device = store.device('a');
    let isOver = false;
    let written = 0;
    const guest = async (): Promise<void> => {
      while (!isOver) {
        await write(device, PIECE * random.below(bytes / PIECE), random.bytes(PIECE));
        written += 1;
      }
    };
    const guests = Promise.all([guest(), guest(), guest()]);
    guests.catch(() => undefined);
    while (written < 500) await sleep(5);
    for (let i = 0; i < 4; i++) await thorough();
    isOver = true;
    await guests;
    device.release();
    expect(await damageIn(store.check())).toEqual([]);
  });

  it('purges what was written over before the store was closed', async () => {
    const directory = await made(24);
    const secret = Buffer.from('this is to be gone, all of it!!!');
    await store.createVolume('a', MIB / 4);
    const device = store.device('a');
    for (let offset = 0; offset < MIB / 4; offset += PIECE)
      await write(device, offset, Buffer.alloc(PIECE, secret));
    for (let offset = 0; offset < MIB / 4; offset += PIECE)
      await write(device, offset, Buffer.alloc(PIECE, 1));
    device.release();
    await store.close();
    const isThere = (): boolean =>
      fs
        .readdirSync(path.join(directory, 'log'))
        .some((name) => fs.readFileSync(path.join(directory, 'log', name)).includes(secret));
    expect(isThere()).toBe(true);
    store = await Store.open(directory);
    await thorough(true);
    expect(isThere()).toBe(false);
  });

  it('empties all else where a chunk is rotten, and tells of that one', async () => {
    const directory = await made(40);
    const bytes = 6 * MIB;
    await store.createVolume('a', bytes);
    const device = store.device('a');
    for (let offset = 0; offset < bytes; offset += PIECE) await write(device, offset, Buffer.alloc(PIECE, 2));
    for (let offset = 0; offset < bytes; offset += 2 * PIECE)
      await write(device, offset, Buffer.alloc(PIECE, 3));
    device.release();
    await store.close();
    const first = path.join(directory, 'log', fs.readdirSync(path.join(directory, 'log')).sort()[0]!);
    const file = fs.readFileSync(first);
    const at = file.indexOf(Buffer.alloc(CHUNK, 2), 1.5 * PIECE); // of the second piece, which was not written over
    file[at + 100]! ^= 1;
    fs.writeFileSync(first, file);
    store = await Store.open(directory);
    const before = (await store.status()).logBytes;
    await expect(thorough()).rejects.toMatchObject({ code: 'CORRUPTION' });
    expect((await store.status()).logBytes).toBeLessThan(before - MIB / 2);
  });
});

describe('a nearly full store that was just opened', () => {
  it('knows how long its files are before it refuses anything, and tells the room that there is', async () => {
    const directory = await made(40);
    const bytes = 26 * MIB;
    await store.createVolume('a', bytes);
    const [seed] = seeds(1);
    const random = new Random(seed!);
    const device = store.device('a');
    for (let offset = 0; offset < bytes; offset += PIECE) await write(device, offset, random.bytes(PIECE));
    await store.snapshot(['a@1']);
    const refused = async (): Promise<boolean> =>
      await write(device, CHUNK * random.below(bytes / CHUNK), random.bytes(CHUNK)).then(
        () => false,
        () => true,
      );
    for (let i = 0; i < 20_000 && !(await refused()); i++);
    device.release();
    while ((await store.status()).compaction.state === 'working') await sleep(20);
    const { freeBytes } = (await store.status()).room;
    const killed = directoryOf('small-killed'); // as it is on the disk while it is in use
    fs.cpSync(directory, killed, { recursive: true });
    await store.close();
    store = await Store.open(killed, { compacts: false });
    await store.delete(['a@1']);
    await store.close();
    store = await Store.open(directory, { compacts: false });
    const { freeBytes: freeNow } = (await store.status()).room;
    expect(freeNow).toBeGreaterThan(freeBytes - MIB);
    expect(freeNow).toBeLessThan(freeBytes + 3 * MIB);
  });
});
