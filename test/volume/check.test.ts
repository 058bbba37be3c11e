/** The checker: silent about a whole store, and it names what is wrong with any other; it changes nothing. */

import { createHash } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { Overlay } from '../../src/index/overlay.ts';
import { type Overlays, PointerIndex } from '../../src/index/pointer-index.ts';
import {
  CHECKPOINT_KEY,
  decodeCheckpoint,
  encodeCheckpoint,
  encodeUsage,
  openRow,
  sealRow,
  usageKey,
} from '../../src/index/rows.ts';
import type { Finding } from '../../src/volume/summary.ts';
import { openLevel, Store } from '../../src/volume/store.ts';
import { LONE_ROOT } from '../../tools/size/index-load.ts';
import { watched } from '../index/slow-database.ts';
import { Random } from '../support/random.ts';
import { damageIn, onStore, scratchDirectory, write } from '../support/stores.ts';

const CHUNK = 4096;
const scratch: string[] = [];
afterEach(() => {
  for (const directory of scratch.splice(0)) fs.rmSync(directory, { recursive: true, force: true });
});

/** Volumes `a` (with snapshots and zeros) and `b` (a clone); chunk 7 of `a@1` and of `b` are known by their bytes. */
async function makeStore(): Promise<{ directory: string; store: Store }> {
  const directory = path.join(scratchDirectory(), 'store');
  scratch.push(path.dirname(directory));
  await Store.init(directory, { segmentBytes: 1 << 20 });
  const store = await Store.open(directory);
  await store.createVolume('a', 64 << 20);
  const random = new Random(4);
  const some = async (name: string, count: number): Promise<void> => {
    await onStore(store, name, async (device) => {
      for (let i = 0; i < count; i++)
        await write(device, CHUNK * random.between(20, 2000), random.bytes(CHUNK * 9));
      await device.zero(CHUNK * random.between(20, 500), CHUNK * 600, false);
    });
  };
  await some('a', 40);
  await onStore(store, 'a', (device) => write(device, 7 * CHUNK, Buffer.alloc(CHUNK, 'known-one')));
  await store.snapshot(['a@1']);
  await some('a', 20);
  await store.checkpoint();
  await store.clone('a@1', 'b');
  await some('b', 20);
  await onStore(store, 'b', (device) => write(device, 7 * CHUNK, Buffer.alloc(CHUNK, 'known-two')));
  return { directory, store };
}

async function findingsOf(findings: AsyncGenerator<Finding>): Promise<Finding[]> {
  const found: Finding[] = [];
  for await (const finding of findings) found.push(finding);
  return found;
}

/** Flips a byte of the chunk that begins with `text`, wherever it lies in the log. */
function flipChunk(directory: string, text: string): void {
  const log = path.join(directory, 'log');
  for (const name of fs.readdirSync(log)) {
    const bytes = fs.readFileSync(path.join(log, name));
    const at = bytes.indexOf(Buffer.alloc(CHUNK, text));
    if (at < 0) continue;
    const file = fs.openSync(path.join(log, name), 'r+');
    fs.writeSync(file, Buffer.from([bytes[at + 1000]! ^ 4]), 0, 1, at + 1000);
    fs.closeSync(file);
    return;
  }
  throw new Error(`${text} is not in the log`);
}

function hashOf(directory: string): string {
  const hash = createHash('sha256');
  for (const name of [
    'superblock',
    ...fs.readdirSync(path.join(directory, 'log')).map((each) => `log/${each}`),
    ...fs.readdirSync(path.join(directory, 'index')).map((each) => `index/${each}`),
  ]) {
    const { mtimeMs, size } = fs.statSync(path.join(directory, name));
    hash.update(`${name} ${mtimeMs} ${size}`).update(fs.readFileSync(path.join(directory, name)));
  }
  return hash.digest('hex');
}

/** Opens the index of a closed store, and lets `change` put something into it with valid checksums everywhere. */
async function changeIndex(
  directory: string,
  change: (overlays: Overlays, index: PointerIndex) => void | Promise<void>,
): Promise<void> {
  const database = await openLevel(path.join(directory, 'index'));
  const row = decodeCheckpoint((await database.get(CHECKPOINT_KEY))!)!;
  const overlays: Overlays = { active: new Overlay(), frozen: undefined };
  const index = await PointerIndex.open(database, overlays, row.uuid, 1 << 20);
  await change(overlays, index);
  index.freeze();
  await index.commit(index.checkpoint, LONE_ROOT);
  await index.close();
}

const LATE = 2 ** 40;

describe('a store that is whole', () => {
  it('has no damage, open, closed, and opened again; and no index is no damage', async () => {
    const { directory, store } = await makeStore();
    expect(await findingsOf(store.check())).toEqual([]);
    await store.close();
    expect(await damageIn(Store.check(directory))).toEqual([]);
    fs.rmSync(path.join(directory, 'index'), { recursive: true });
    const findings = await findingsOf(Store.check(directory));
    expect(findings.map(({ severity, code }) => `${severity} ${code}`)).toContain('note NO_INDEX');
    expect(findings.filter(({ severity }) => severity === 'damage')).toEqual([]);
    const again = await Store.open(directory);
    expect(await damageIn(again.check())).toEqual([]);
    await again.close();
  });

  it('without a volume has no damage', async () => {
    const directory = path.join(scratchDirectory(), 'store');
    scratch.push(path.dirname(directory));
    await Store.init(directory);
    expect(await damageIn(Store.check(directory))).toEqual([]);
    const store = await Store.open(directory);
    expect(await damageIn(store.check())).toEqual([]);
    await store.close();
    expect(await damageIn(Store.check(directory))).toEqual([]);
  });

  it('is the same in every byte after a check of it, its index too, closed or killed', async () => {
    const { directory, store } = await makeStore();
    await store.flush();
    const killed = path.join(path.dirname(directory), 'killed');
    fs.cpSync(directory, killed, { recursive: true });
    await store.close();
    for (const each of [directory, killed]) {
      const before = hashOf(each);
      expect(await damageIn(Store.check(each))).toEqual([]);
      expect(hashOf(each)).toBe(before);
    }
  });

  it('can be written while it is checked', async () => {
    const { store } = await makeStore();
    const random = new Random(9);
    const checking = damageIn(store.check());
    await onStore(store, 'a', async (device) => {
      for (let i = 0; i < 60; i++) await write(device, CHUNK * random.below(3000), random.bytes(CHUNK * 3));
    });
    await store.snapshot(['a@2', 'b@2']);
    expect(await checking).toEqual([]);
    expect(await damageIn(store.check())).toEqual([]);
    await store.close();
  });
});

describe('a flipped byte of a chunk', () => {
  it('is reported with the volume and the chunk, of a store in use and of a closed one', async () => {
    const { directory, store } = await makeStore();
    await store.flush();
    flipChunk(directory, 'known-one');
    const wanted = [/^CHUNK_DAMAGED: .*chunk 7 of a@1 /];
    const online = await damageIn(store.check());
    expect(online).toEqual(wanted.map((each) => expect.stringMatching(each)));
    flipChunk(directory, 'known-two'); // the last thing in the log
    wanted.push(/^CHUNK_DAMAGED: .*chunk 7 of b /);
    expect(await damageIn(store.check())).toEqual(wanted.map((each) => expect.stringMatching(each)));
    await store.close();
    expect(await damageIn(Store.check(directory))).toEqual(wanted.map((each) => expect.stringMatching(each)));
  });

  it('in the last record of a store in use is damage, and no torn tail', async () => {
    const { directory, store } = await makeStore();
    await store.checkpoint();
    await onStore(store, 'b', (device) => write(device, 9 * CHUNK, Buffer.alloc(CHUNK, 'the last')));
    await store.checkpoint(); // synced, and no later record says so yet
    flipChunk(directory, 'the last');
    const findings = await findingsOf(store.check());
    expect(findings.map(({ code }) => code)).toEqual(['CHUNK_DAMAGED']);
    await store.close();
  });
});

describe('an index with right checksums and wrong content', () => {
  it('a pointer to another place is reported with the volume and the chunk', async () => {
    const { directory, store } = await makeStore();
    await store.close();
    await changeIndex(directory, (overlays) => {
      overlays.active.putChunks(1, 1, 7, 1, 1, 8192, Uint32Array.of(1), LATE);
      overlays.active.putChunks(1, 3, 999, 1, 1, 8192, Uint32Array.of(1), LATE);
    });
    const found = await damageIn(Store.check(directory));
    expect(found.filter((each) => each.startsWith('INDEX_DIFFERS')).length).toBe(2);
    expect(found).toContainEqual(expect.stringMatching(/^INDEX_DIFFERS: chunk 7 of a@1: /));
    expect(found).toContainEqual(expect.stringMatching(/^INDEX_DIFFERS: chunk 999 of b: /));
    const again = await Store.open(directory);
    expect((await damageIn(again.check())).filter((each) => each.startsWith('INDEX_DIFFERS')).length).toBe(2);
    await again.close();
  });

  it('a hole that hides something is reported', async () => {
    const { directory, store } = await makeStore();
    await store.close();
    await changeIndex(directory, (overlays) => overlays.active.putZeros(1, 2, 7, 1, LATE));
    expect(await damageIn(Store.check(directory))).toEqual([
      expect.stringMatching(/^INDEX_DIFFERS: chunk 7 of a: /),
    ]);
  });

  it('a hole that hides nothing is none of its business', async () => {
    const { directory, store } = await makeStore();
    await store.close();
    await changeIndex(directory, (overlays) => overlays.active.putZeros(1, 2, 10_000, 3, LATE));
    expect(await damageIn(Store.check(directory))).toEqual([]);
  });

  it('pointers of a version that the log does not know, and of a tree that it does not know, are reported', async () => {
    const { directory, store } = await makeStore();
    await store.close();
    await changeIndex(directory, (overlays) => {
      overlays.active.putChunks(1, 77, 5, 1, 1, 8192, Uint32Array.of(1), LATE);
      overlays.active.putChunks(55, 55, 5, 1, 1, 8192, Uint32Array.of(1), LATE);
    });
    const found = await damageIn(Store.check(directory));
    expect(found).toContainEqual(expect.stringMatching(/^ORPHAN_POINTERS: chunk 5 of version 77: /));
    expect(found).toContainEqual(expect.stringMatching(/^ORPHAN_POINTERS: chunk 5 of version 55: /));
  });

  it('a changed figure of usage is reported with its segment', async () => {
    const { directory, store } = await makeStore();
    await store.close();
    const database = await openLevel(path.join(directory, 'index'));
    const key = usageKey(1);
    const before = openRow(key, await database.get(key));
    const value = encodeUsage(200);
    const after = sealRow(key, value);
    const row = decodeCheckpoint((await database.get(CHECKPOINT_KEY))!)!;
    row.usageDigest = (row.usageDigest ^ before ^ after) >>> 0;
    const checkpoint = encodeCheckpoint(row);
    sealRow(CHECKPOINT_KEY, checkpoint);
    await database.batch().put(key, value).put(CHECKPOINT_KEY, checkpoint).write();
    await database.close();
    const wanted = [
      expect.stringMatching(/^USAGE_DIFFERS: segment 1: 200 live chunks are stated, \d+ are counted/),
    ];
    expect(await damageIn(Store.check(directory))).toEqual(wanted);
    const again = await Store.open(directory);
    expect(await damageIn(again.check())).toEqual(wanted);
    await again.close();
  });
});

describe('an index that cannot be read', () => {
  it('a missing row is a finding, not a failure', async () => {
    const { directory, store } = await makeStore();
    await store.close();
    const database = await openLevel(path.join(directory, 'index'));
    for await (const key of database.keys()) if (key[0] === 0x70) await database.del(key);
    await database.close();
    expect(await damageIn(Store.check(directory))).toEqual([expect.stringMatching(/^INDEX_DAMAGED: /)]);
  });

  it('an error of LevelDB is a finding, not a failure, and so is an index that cannot be opened', async () => {
    const { directory, store } = await makeStore();
    await store.close();
    let isBroken = false;
    const broken = await Store.open(directory, {
      openDatabase: async (location) => {
        const database = await openLevel(location);
        if (!location.startsWith(directory)) return database;
        return watched(database, {
          before(call) {
            if (isBroken && call === 'get')
              throw Object.assign(new Error('block checksum mismatch'), { code: 'LEVEL_CORRUPTION' });
          },
        });
      },
    });
    isBroken = true;
    expect(await damageIn(broken.check())).toEqual([expect.stringMatching(/^INDEX_DAMAGED: .*mismatch/)]);
    isBroken = false;
    await broken.close();
    fs.writeFileSync(path.join(directory, 'index', 'CURRENT'), 'nothing\n');
    const found = await damageIn(Store.check(directory));
    expect(found).toEqual([expect.stringMatching(/^INDEX_DAMAGED: LevelDB cannot open it/)]);
  });

  it('a table of LevelDB with a flipped byte, wherever that is, is a finding or harmless', {
    timeout: 30_000,
  }, async () => {
    const { directory, store } = await makeStore();
    await store.close();
    await (await Store.open(directory)).close(); // now there is a table
    const index = path.join(directory, 'index');
    const whole = path.join(path.dirname(directory), 'whole');
    fs.cpSync(index, whole, { recursive: true });
    const random = new Random(12);
    const codes = new Set<string>();
    for (let round = 0; round < 12; round++) {
      fs.rmSync(index, { recursive: true });
      fs.cpSync(whole, index, { recursive: true });
      const tables = fs.readdirSync(index).filter((name) => name.endsWith('.ldb'));
      const size = (name: string): number => fs.statSync(path.join(index, name)).size;
      const table = tables.sort((a, b) => size(b) - size(a))[0]!;
      const bytes = fs.readFileSync(path.join(index, table));
      bytes[random.below(bytes.length)]! ^= 1 << random.below(8);
      fs.writeFileSync(path.join(index, table), bytes);
      for (const found of await damageIn(Store.check(directory))) codes.add(found.split(':')[0]!);
    }
    expect([...codes]).toEqual(['INDEX_DAMAGED']);
  });
});
