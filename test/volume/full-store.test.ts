/** A store with a capacity: compaction makes room for as long as there is any to be made, and what happens when there is none. */

import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Store } from '../../src/volume/store.ts';
import { Random, seeds } from '../support/random.ts';
import { damageIn, read, write } from '../support/stores.ts';
import { CHUNK, directoryOf } from './store-fixture.ts';

const MIB = 1 << 20;
const SEGMENTS = 20;
const WAIT_MS_MAX = 20_000;

let store: Store;
let directory: string;

beforeEach(async () => {
  directory = directoryOf('full');
  await Store.init(directory, { segmentBytes: MIB, capacityBytes: SEGMENTS * MIB });
  store = await Store.open(directory);
});

afterEach(async () => {
  expect(await damageIn(store.check())).toEqual([]);
  await store.close();
  expect(await damageIn(Store.check(directory))).toEqual([]);
});

/** Writes chunks of chance over the volume until one is refused; answers how many there were. */
async function writeUntilFull(
  name: string,
  content: Buffer,
  random: Random,
  countMax: number,
): Promise<number> {
  const device = store.device(name);
  try {
    for (let count = 0; count < countMax; count++) {
      const offset = CHUNK * random.below(content.length / CHUNK);
      const bytes = random.bytes(CHUNK);
      try {
        await write(device, offset, bytes);
      } catch (error) {
        expect(error).toMatchObject({ code: 'NO_SPACE' });
        return count;
      }
      bytes.copy(content, offset);
    }
    return countMax;
  } finally {
    device.release();
  }
}

async function expectContent(name: string, content: Buffer): Promise<void> {
  const device = store.device(name);
  expect((await read(device, 0, content.length)).equals(content)).toBe(true);
  device.release();
}

describe('a store with a capacity', () => {
  it.each(seeds(2))('is written over again and again without ever being full (SEED=%i)', async (seed) => {
    const random = new Random(seed);
    const content = Buffer.alloc(6 * MIB);
    await store.createVolume('a', content.length);
    const count = (10 * SEGMENTS * MIB) / CHUNK;
    expect(await writeUntilFull('a', content, random, count)).toBe(count);
    await expectContent('a', content);
    const { segments, compaction } = await store.status();
    expect(segments).toBeLessThanOrEqual(2 * SEGMENTS); // those of moves may be short
    expect(compaction.rounds).toBeGreaterThan(5);
  });

  it('refuses writes when snapshots have taken it up, goes on with everything else, and heals when one goes', async () => {
    const random = new Random(7);
    const content = Buffer.alloc(6 * MIB);
    const contents = new Map<string, Buffer>();
    await store.createVolume('a', content.length);
    for (let i = 0; ; i++) {
      if ((await writeUntilFull('a', content, random, 1000)) < 1000) break;
      await store.snapshot([`a@${i}`]);
      contents.set(`a@${i}`, Buffer.from(content));
      expect(i).toBeLessThan(100);
    }
    expect((await store.status()).room.state).toBe('full');
    await expectContent('a', content);
    const device = store.device('a');
    await device.zero(0, 16 * CHUNK, false);
    content.fill(0, 0, 16 * CHUNK);
    device.release();
    await store.flush();
    for (const [name, each] of contents) await expectContent(name, each);
    await store.delete([...contents.keys()].slice(0, -1));
    const began = performance.now();
    while ((await writeUntilFull('a', content, random, 1)) === 0) {
      expect(performance.now() - began).toBeLessThan(WAIT_MS_MAX);
      await sleep(50);
    }
    expect(await writeUntilFull('a', content, random, 500)).toBe(500);
    await expectContent('a', content);
  });

  it('deletes snapshots that are marked for it, the lowest priority first, and no other', async () => {
    const content = Buffer.alloc(3.75 * MIB);
    await store.createVolume('a', content.length);
    const names = (): string[] => store.list().flatMap(({ name }) => (name.includes('@') ? [name] : []));
    let writes = 0;
    /** Twenty mebibytes are not enough for all snapshots and the volume: one of them goes, at the latest when it is full. */
    const snapshotAndOverwrite = async (name: string, priority: number): Promise<void> => {
      await store.snapshot([`a@${name}`]);
      await store.setPriority(`a@${name}`, priority);
      if (name === 'held') await store.hold('a@held', { owner: 'somebody' });
      const device = store.device('a');
      const began = performance.now();
      for (let offset = 0; offset < content.length; offset += 16 * CHUNK) {
        const bytes = Buffer.alloc(16 * CHUNK, ++writes);
        while (
          !(await write(device, offset, bytes).then(
            () => true,
            () => false,
          ))
        ) {
          expect(performance.now() - began).toBeLessThan(WAIT_MS_MAX);
          await sleep(20);
        }
        bytes.copy(content, offset);
      }
      device.release();
    };
    const device = store.device('a');
    await write(device, 0, Buffer.alloc(content.length, 1));
    device.release();
    await snapshotAndOverwrite('kept', 0);
    await snapshotAndOverwrite('second', -10);
    await snapshotAndOverwrite('first', -20);
    expect(names()).toEqual(['a@kept', 'a@second', 'a@first']);
    await snapshotAndOverwrite('held', -30);
    expect(names()).toEqual(['a@kept', 'a@second', 'a@held']);
    await snapshotAndOverwrite('third', 127);
    expect(names()).toEqual(['a@kept', 'a@held', 'a@third']);
    await expectContent('a', content);
  });
});
