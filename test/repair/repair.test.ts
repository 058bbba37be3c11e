/** What a repair does beside mending: what it keeps, what it leaves alone, what it refuses, and what it does about disks that fail. */

import { createHash } from 'node:crypto';
import { beforeAll, describe, expect, it, vi } from 'vitest';
import { StoreError } from '../../src/base/errors.ts';
import type { Storage } from '../../src/base/storage.ts';
import { FIRST_RECORD_OFFSET, segmentPath } from '../../src/log/format.ts';
import { readSuperblock, SLOT_BYTES } from '../../src/log/superblock.ts';
import { likelyBase } from '../../src/volume/check-offline.ts';
import { CHUNK, DamagedStore, knownChunk } from '../check/damaged-store.ts';
import { UUID } from '../log/rig.ts';
import type { MemoryStorage } from '../support/memory-storage.ts';
import { CrashRig } from '../volume/crash-rig.ts';
import { contentOf, expectNothingOld, placeIndex, readAll, repair, type Version } from './repair-rig.ts';

vi.setConfig({ testTimeout: 60_000, hookTimeout: 60_000 });

let closed: DamagedStore;
let contents: Map<string, Version>;
beforeAll(async () => {
  closed = await DamagedStore.make('closed');
  contents = await contentOf(closed);
});

async function copy(): Promise<DamagedStore> {
  const store = closed.copy();
  await placeIndex(store);
  return store;
}

async function expectAllToRead(storage: MemoryStorage): Promise<void> {
  const rig = CrashRig.over(storage);
  await rig.open();
  expect(await readAll(rig, contents)).toEqual({ errors: [], others: [] });
  await rig.close();
}

/** Names of all files, and digests of what they hold. */
function filesOf(storage: MemoryStorage): Map<string, string> {
  const files = new Map<string, string>();
  for (const folder of ['.', 'log', 'repair.new']) {
    for (const name of storage.names(folder)) {
      const bytes = storage.bytes(folder === '.' ? name : `${folder}/${name}`);
      files.set(`${folder}/${name}`, createHash('sha256').update(bytes).digest('hex'));
    }
  }
  return files;
}

const loseSuperblock = (storage: MemoryStorage): void =>
  storage.edit('superblock', (bytes) => void bytes.fill(0x55, 0, 2 * SLOT_BYTES));

describe('a repair', () => {
  it('keeps what it replaces, as it was, in a directory of its own', async () => {
    const { storage, chain, flip } = await copy().then((store) => ({
      storage: store.storage,
      chain: store.chain(),
      flip: store.flip.bind(store),
    }));
    const [segment] = await chain;
    flip(segment!, 50);
    const before = Buffer.from(storage.bytes(segmentPath(segment!)));
    const superblock = Buffer.from(storage.bytes('superblock'));
    const { segments: next } = await readSuperblock(storage);
    const { result } = await repair(storage);
    expect(result.replaced).toBe(`replaced-${next}`);
    expect(storage.has(segmentPath(segment!))).toBe(false);
    const kept = segmentPath(segment!).replace('log', result.replaced!);
    expect(storage.bytes(kept).equals(before)).toBe(true);
    expect(storage.bytes(`${result.replaced}/superblock`).equals(superblock)).toBe(true);
    // Whole segments stay where they are.
    for (const each of closed.segments)
      if (!storage.has(segmentPath(each).replace('log', result.replaced!)))
        expect(storage.bytes(segmentPath(each)).equals(closed.bytes(each))).toBe(true);
  });

  it('changes nothing of a whole store', async () => {
    const { storage } = await copy();
    const before = filesOf(storage);
    const changes = storage.changes;
    expect((await repair(storage)).result).toMatchObject({ state: 'clean', done: [] });
    expect(filesOf(storage)).toEqual(before);
    expect(storage.changes).toBe(changes);
  });

  it.each([
    ['a new segment cannot be written', 'write', /^repair\.new/],
    ['a new segment cannot be synced', 'datasync', /^repair\.new/],
    ['what is replaced cannot be kept', 'link', /^replaced-/],
    ['a new segment cannot be named', 'link', /^log/],
    ['the superblock cannot be written', 'write', /^superblock/],
    ['the superblock cannot be switched', 'rename', /^superblock/],
  ] as const)('changes nothing where %s', async (_, operation, path) => {
    const store = await copy();
    const [segment] = await store.chain();
    store.flip(segment!, 50);
    const before = filesOf(store.storage);
    store.storage.fail(operation, { path, code: 'NO_SPACE' });
    await expect(repair(store.storage)).rejects.toMatchObject({
      code: 'NO_SPACE',
      message: expect.stringMatching(/; nothing was changed: make room, then try again$/),
    });
    const after = filesOf(store.storage);
    after.delete('./superblock.new');
    expect(after).toEqual(before);
    expect((await repair(store.storage)).result.state).toBe('mended');
  });

  it('that cannot sync the name of the new superblock does not say that nothing was changed', async () => {
    const store = await copy();
    const [segment] = await store.chain();
    store.flip(segment!, 50);
    store.storage.fail('syncDirectory', { path: /^\.$/, after: 1 });
    await expect(repair(store.storage)).rejects.toThrow(
      /the log is repaired, and perhaps not yet on the disk/,
    );
    // Whatever the power leaves of it.
    for (const keep of [true, false]) {
      const storage = store.storage.copy();
      storage.crash(() => keep);
      await repair(storage);
      await expectAllToRead(storage);
    }
  });

  it('that cannot clear away what it has made says that the log is repaired', async () => {
    const store = await copy();
    const [segment] = await store.chain();
    store.flip(segment!, 50);
    // What an earlier one may have left goes first.
    store.storage.fail('remove', { path: /^repair\.new$/, after: 1 });
    await expect(repair(store.storage)).rejects.toThrow(
      /^the log is repaired, and the store cannot be opened yet/,
    );
    expect((await repair(store.storage)).result.state).toBe('clean');
    await expectAllToRead(store.storage);
  });

  it('loses nothing where it is killed while it clears away what it has made, whatever names are gone', async () => {
    const store = await copy();
    const { segment, offset } = store.placeOf('own');
    store.flip(segment, 50);
    store.flip((await store.moves())[0]!, 50);
    expect(offset).toBeGreaterThan(0);
    const { storage } = store.copy();
    await placeIndex(store);
    await repair(storage);
    const cleared = storage.trace.findLastIndex(
      ({ operation, path }) => operation === 'remove' && path === 'repair.new',
    );
    const isOfRepair = ({ operation, path }: { operation: string; path: string }): boolean =>
      operation === 'remove' && path.startsWith('repair.new/');
    expect(storage.trace.filter(isOfRepair).length).toBeGreaterThan(1);
    for (let mask = 0; mask < 16; mask++) {
      const { storage: other } = store.copy();
      other.turnOffAt(cleared - storage.trace.length + storage.changes - other.changes + 1);
      await expect(repair(other)).rejects.toThrow();
      let asked = 0;
      other.crash(() => ((mask >> (asked++ % 4)) & 1) === 1);
      await expectAllToRead(other);
    }
  });

  it('that cannot check the store again says that it is repaired', async () => {
    const store = await copy();
    const [segment] = await store.chain();
    store.flip(segment!, 50);
    const onStep = (sentence: string): void => {
      if (sentence.includes('checked again')) store.storage.fail('read', { path: /^log/ });
    };
    await expect(repair(store.storage, { onStep })).rejects.toThrow(
      /^the store is repaired, and cannot be checked again yet: /,
    );
    expect((await repair(store.storage)).result.state).toBe('clean');
    await expectAllToRead(store.storage);
  });

  it('that is stopped changes nothing', async () => {
    const store = await copy();
    const [segment] = await store.chain();
    store.flip(segment!, 50);
    const before = filesOf(store.storage);
    const stop = new AbortController();
    const onStep = (sentence: string): void => {
      if (sentence.includes('is moved')) stop.abort(new Error('stopped'));
    };
    await expect(repair(store.storage, { signal: stop.signal, onStep })).rejects.toThrow('stopped');
    expect(filesOf(store.storage)).toEqual(before);
  });
});

describe('a superblock that is lost', () => {
  it('is made anew from segments and index, and all reads as before', async () => {
    const store = await copy();
    loseSuperblock(store.storage);
    expect(await expectNothingOld(store.storage, contents)).toMatchObject({ isCertain: true, gone: [] });
    expect((await repair(store.storage)).result.state).toBe('clean');
  });

  it('of a store that was repaired before is so too, beside other damage', async () => {
    const store = await copy();
    store.flip((await store.chain())[0]!, 50);
    await repair(store.storage);
    loseSuperblock(store.storage);
    const [segment] = await store.moves();
    store.flip(segment!, 50);
    expect((await repair(store.storage)).result.state).toBe('mended');
    await expectAllToRead(store.storage);
  });

  it('with the index is not known to be all: that is said, and all that is there is read', async () => {
    const store = await copy();
    loseSuperblock(store.storage);
    await store.storage.remove('index');
    await expect(repair(store.storage)).rejects.toThrow(/nothing says whether the end of the log is there/);
    const { result } = await repair(store.storage, { acceptsOldData: true });
    expect(result).toMatchObject({ state: 'left', lostChunks: 0 });
    await expectAllToRead(store.storage);
  });

  it('takes a capacity with it, and that is said', async () => {
    const store = await copy();
    await store.editSuperblock((block) => (block.capacityBytes = 1 << 30), 1);
    loseSuperblock(store.storage);
    const { result } = await repair(store.storage);
    expect(result.done.join()).toContain('a capacity that was set');
  });

  it('leaves what an earlier repair has kept, though nothing else says that its number was used', async () => {
    const store = await copy();
    const directory = `replaced-${Math.max(...store.segments) + 1}`;
    await store.storage.makeDirectory(directory);
    await store.replace(`${directory}/superblock`, Buffer.alloc(CHUNK, 'kept'));
    loseSuperblock(store.storage);
    await repair(store.storage);
    expect(store.storage.bytes(`${directory}/superblock`).equals(Buffer.alloc(CHUNK, 'kept'))).toBe(true);
  });

  it('leaves the labels of versions alone that are gone, and had taken over others', async () => {
    const store = await copy();
    await store.appendCatalog((catalog) => catalog.merged.push([700, 900, 3000]));
    loseSuperblock(store.storage);
    await repair(store.storage, { acceptsOldData: true });
    expect((await readSuperblock(store.storage)).labels).toBeGreaterThan(900);
  });

  it('leaves no number to be used twice', async () => {
    const store = await copy();
    const before = await readSuperblock(store.storage);
    loseSuperblock(store.storage);
    await repair(store.storage);
    const after = await readSuperblock(store.storage);
    // Closing records, and what was reserved and not used, nobody can know.
    for (const kind of ['sequences', 'labels', 'epoch'] as const)
      expect(after[kind]).toBeGreaterThanOrEqual(before[kind]);
    for (const kind of ['segments', 'appends'] as const) expect(after[kind]).toBeGreaterThan(before[kind]);
    expect(after.segmentBytes).toBe(before.segmentBytes);
  });
});

/** A disk that does not give some bytes of a file. */
function failingDisk(storage: MemoryStorage, path: string, from: number, to: number): Storage {
  return new Proxy(storage, {
    get: (target, property) => {
      if (property !== 'open') {
        const value: unknown = Reflect.get(target, property, target);
        return typeof value === 'function' ? (value.bind(target) as unknown) : value;
      }
      return async (name: string, mode: 'read' | 'write' | 'create') => {
        const file = await target.open(name, mode);
        if (name !== path) return file;
        return {
          ...file,
          readCached: () => -1,
          read: async (bytes: Buffer, start: number, length: number, position: number) => {
            if (position < to && position + length > from) throw new StoreError('IO', 'the disk fails');
            return await file.read(bytes, start, length, position);
          },
        };
      };
    },
  });
}

describe('a disk that does not give some bytes', () => {
  it('does not have the log begin somewhere else where the superblock is lost', async () => {
    const store = await copy();
    store.flip((await store.chain())[0]!, 50);
    await repair(store.storage);
    const chain = await store.chain();
    const place = { storage: store.storage, uuid: UUID };
    expect(await likelyBase(place)).toBeDefined();
    const path = segmentPath(chain.at(-1)!);
    const storage = failingDisk(store.storage, path, FIRST_RECORD_OFFSET, FIRST_RECORD_OFFSET + CHUNK);
    await expect(likelyBase({ ...place, storage })).rejects.toMatchObject({ code: 'IO' });
  });

  it('loses what lies there, and nothing else; behind the repair it is not asked for them any more', async () => {
    const store = await copy();
    const { segment, offset } = store.placeOf('own');
    const at = Math.ceil(offset / CHUNK) * CHUNK;
    const disk = failingDisk(store.storage, segmentPath(segment), at, at + 512);
    const { result, before } = await repair(store.storage, {}, disk);
    expect(before).toContainEqual(expect.objectContaining({ code: 'UNREADABLE', mend: 'none' }));
    expect(result.state).toBe('left');
    const rig = CrashRig.over(store.storage);
    await rig.open();
    const { errors, others } = await readAll(rig, contents);
    expect(errors).toContain('a/5');
    expect({ count: errors.length < 8, others }).toEqual({ count: true, others: [] });
    await rig.close();
    const again = (await repair(store.storage, {}, disk)).before;
    expect(again.map(({ code }) => code)).toEqual(['CHUNK_DAMAGED']);
  });
});

describe('versions of which the catalog is lost', () => {
  it('are found with what was written to them, where somebody accepts that', async () => {
    const store = await copy();
    const last = (await store.chain()).at(-1)!;
    const rig = CrashRig.over(store.storage);
    const whole = await rig.open();
    await whole.snapshot(['a@late']);
    await rig.write('a', 20 * CHUNK, Buffer.alloc(CHUNK, 'late'));
    await whole.checkpoint();
    await rig.write('a', 21 * CHUNK, Buffer.alloc(400 * CHUNK, 'fill'));
    await rig.close();
    const own = await store.labelOf('a');
    for (const segment of await store.chain())
      if (segment >= last) await store.storage.remove(segmentPath(segment));
    await expect(repair(store.storage)).rejects.toThrow(/versions that no catalog knows/);
    const { result } = await repair(store.storage, { acceptsOldData: true });
    expect(result.done.join()).toContain(`version ${own}, which had no name, is the volume found-${own} now`);
    const opened = await rig.open();
    expect(opened.list().map(({ name }) => name)).toContain(`found-${own}`);
    await expect(rig.read(`found-${own}`, 20 * CHUNK, CHUNK)).rejects.toMatchObject({ code: 'CORRUPTION' });
    await rig.close();
  });

  it('are found with what they had taken over, which stands in the log under other labels', async () => {
    const store = await copy();
    const last = (await store.chain()).at(-1)!;
    const rig = CrashRig.over(store.storage);
    const whole = await rig.open();
    await whole.snapshot(['a@late']);
    await whole.delete(['a@late']);
    await whole.pruned();
    await whole.checkpoint();
    await rig.close();
    const own = await store.labelOf('a');
    for (const segment of await store.chain())
      if (segment >= last) await store.storage.remove(segmentPath(segment));
    const { result } = await repair(store.storage, { acceptsOldData: true });
    expect(result.done.join()).toContain(`found-${own}`);
    const opened = await rig.open();
    expect(opened.list().map(({ name }) => name)).toContain(`found-${own}`);
    const bytes = await rig.read(`found-${own}`, 5 * CHUNK, CHUNK);
    expect(bytes.equals(contents.get('a')!.bytes.subarray(5 * CHUNK, 6 * CHUNK))).toBe(true);
    // What is left in the log of the version that they took over from stays with it: nobody knows whether it had been zeroed.
    expect((await rig.read('a', 5 * CHUNK, CHUNK)).equals(knownChunk('own'))).toBe(true);
    await rig.close();
  });
});

describe('a process that was killed', () => {
  it('leaves segments that nobody has synced: behind a repair the power takes nothing of them', async () => {
    const store = await copy();
    const before = store.segments;
    const rig = CrashRig.over(store.storage);
    await rig.open();
    const late = Buffer.alloc(600 * CHUNK, 'late');
    await rig.write('a', 20 * CHUNK, late.subarray(0, 300 * CHUNK));
    await rig.write('a', 320 * CHUNK, late.subarray(300 * CHUNK));
    expect(store.segments.filter((segment) => !before.includes(segment)).length).toBeGreaterThan(1);
    rig.kill();
    store.flip((await store.chain())[0]!, 50);
    expect((await repair(store.storage)).result).toMatchObject({ state: 'mended', lostChunks: 0 });
    store.storage.crash(() => false, true);
    await rig.open();
    expect((await rig.read('a', 20 * CHUNK, late.length)).equals(late)).toBe(true);
    await rig.close();
  });
});
