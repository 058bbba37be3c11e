/** A diff while what lies between its versions is deleted: over a database whose answers come late. */

import { afterEach, describe, expect, it } from 'vitest';
import { openLevel, Store } from '../../src/volume/store.ts';
import { slow, watched } from '../index/slow-database.ts';
import { Random, seeds } from '../support/random.ts';
import { onStore, write } from '../support/stores.ts';
import { CHUNK, directoryOf } from './store-fixture.ts';

const CHUNKS = 600;
const ROUNDS = 12;

const open: Store[] = [];
afterEach(async () => {
  for (const store of open.splice(0)) await store.close();
});

/** Chunks that a diff lists. */
async function listed(store: Store, from: string, to: string): Promise<Set<number>> {
  const chunks = new Set<number>();
  for await (const { offset, length } of store.diff(from, to))
    for (let at = offset; at < offset + length; at += CHUNK) chunks.add(at / CHUNK);
  return chunks;
}

async function makeStore(openDatabase: typeof openLevel): Promise<Store> {
  const directory = directoryOf('store');
  await Store.init(directory, { segmentBytes: 1 << 20 });
  const store = await Store.open(directory, { openDatabase });
  open.push(store);
  await store.createVolume('disk', CHUNKS * CHUNK);
  return store;
}

const put = (store: Store, chunk: number, value: number): Promise<void> =>
  onStore(store, 'disk', (device) => write(device, chunk * CHUNK, Buffer.alloc(CHUNK, value)));

describe('a diff', () => {
  for (const seed of seeds(2)) {
    it(`has what a delete that is finished meanwhile hands on (SEED=${seed})`, async () => {
      const random = new Random(seed);
      const store = await makeStore(async (location) => slow(await openLevel(location), random));
      for (let round = 0; round < ROUNDS; round++) {
        const base = `disk@base${round}`;
        await store.snapshot([base]);
        const changed = new Set<number>();
        const middle: string[] = [];
        for (let i = 0; i < 4; i++) {
          for (let n = 0; n < 3; n++) {
            const chunk = random.below(CHUNKS);
            await put(store, chunk, 1 + random.below(255));
            changed.add(chunk);
          }
          middle.push(`disk@m${round}-${i}`);
          await store.snapshot([middle[i]!]);
        }
        const to = random.pick([middle.pop()!, 'disk']);
        await store.delete(middle);
        let isPruned = false;
        const pruned = store.pruned().then(() => {
          isPruned = true;
        });
        while (!isPruned) expect(await listed(store, base, to)).toEqual(changed);
        await pruned;
        expect(await listed(store, base, to)).toEqual(changed);
      }
    });
  }

  it('of a volume whose newest snapshot is deleted while somebody reads it ends as it began', async () => {
    const store = await makeStore(openLevel);
    await store.createVolume('big', 600 << 20);
    // The last one lies in another row of extents, and is a hole: it is resolved when the first have been given out.
    const far = (500 << 20) / CHUNK;
    await onStore(store, 'big', (device) => write(device, far * CHUNK, Buffer.alloc(CHUNK, 1)));
    await store.snapshot(['big@base']);
    await onStore(store, 'big', async (device) => {
      for (const chunk of [0, 2, 4]) await write(device, chunk * CHUNK, Buffer.alloc(CHUNK, 1));
      await device.zero(far * CHUNK, CHUNK, false);
    });
    const found: unknown[] = [];
    for await (const { offset, type } of store.diff('big@base', 'big')) {
      found.push([offset / CHUNK, type]);
      if (found.length > 1) continue;
      await store.snapshot(['big@newest']);
      await onStore(store, 'big', (device) => write(device, far * CHUNK, Buffer.alloc(CHUNK, 2)));
      await store.delete(['big@newest', 'big@base']);
      await store.pruned();
    }
    expect(found).toEqual([
      [0, 'data'],
      [2, 'data'],
      [4, 'data'],
      [far, 'hole'],
    ]);
  });

  it('has the chunk in which only one of the disks ends, though both read it from one pointer', async () => {
    const store = await makeStore(openLevel);
    for (const chunk of [3, 300, 301]) await put(store, chunk, 1);
    await store.snapshot(['disk@whole']);
    await store.resize('disk', 300 * CHUNK + 512, { shrink: true, force: true });
    const cut = new Set([300, 301]);
    expect(await listed(store, 'disk@whole', 'disk')).toEqual(cut);
    expect(await listed(store, 'disk', 'disk@whole')).toEqual(cut);
    await store.resize('disk', 302 * CHUNK); // zeros behind the old end are written now
    expect(await listed(store, 'disk@whole', 'disk')).toEqual(cut);
    await store.resize('disk', 10 * CHUNK + 512, { shrink: true, force: true });
    expect(await listed(store, 'disk@whole', 'disk')).toEqual(cut); // nothing where it ends
    await store.resize('disk', 3 * CHUNK + 512, { shrink: true, force: true });
    await put(store, 0, 1);
    expect(await listed(store, 'disk@whole', 'disk')).toEqual(new Set([0, 3, 300, 301]));
  });

  it('of a version that is deleted before it begins says that there is none', async () => {
    let wait: Promise<void> | undefined;
    const store = await makeStore(async (location) =>
      watched(await openLevel(location), { before: (call) => (call === 'write' ? wait : undefined) }),
    );
    await store.snapshot(['disk@a']);
    await put(store, 1, 1);
    let go = (): void => undefined;
    wait = new Promise((resolve) => {
      go = resolve;
    });
    const first = store.diff('disk@a', 'disk').next(); // waits for a checkpoint
    await store.delete(['disk@a']);
    wait = undefined;
    go();
    await expect(first).rejects.toMatchObject({ code: 'NOT_FOUND', message: 'there is no disk@a any more' });
  });
});
