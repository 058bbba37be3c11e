/** A store opened to be read only: whole or damaged in each way, it reads what is left, never other bytes unless it says so. */

import { createHash } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { describe, expect, it, vi } from 'vitest';
import { StoreError } from '../../src/base/errors.ts';
import { NodeStorage } from '../../src/base/node-storage.ts';
import { COPY_TAIL_BYTES, RECORD_HEADER_BYTES } from '../../src/log/format.ts';
import { ENTRY_CATALOG } from '../../src/log/entries.ts';
import { entriesOf, recordEnd, SegmentScanner } from '../../src/log/scan.ts';
import { isOfMoves, readSegmentStart } from '../../src/log/segment-summary.ts';
import { readSuperblock } from '../../src/log/superblock.ts';
import { type Scratch, temporaryScratch } from '../../src/volume/check.ts';
import { ReadOnlyStore } from '../../src/volume/read-only-store.ts';
import { openLevel, Store } from '../../src/volume/store.ts';
import { Random, seeds } from '../support/random.ts';
import { read, write } from '../support/stores.ts';
import { CHUNK, directoryOf, DISK_BYTES, StoreFixture } from './store-fixture.ts';

vi.setConfig({ testTimeout: 120_000 });

type Contents = ReadonlyMap<string, Buffer>;

/** A store of some versions, nobody has it open; `how` says how it was left. */
async function makeStore(
  seed: number,
  how: 'closed' | 'killed' | 'quiet' = 'closed',
): Promise<{ directory: string; contents: Contents }> {
  const fixture = await StoreFixture.make(seed);
  await fixture.store.pauseCompaction(true);
  for (let i = 0; i < 4; i++) await fixture.writeSome('a', 25);
  await fixture.store.compactOnce();
  await fixture.store.checkpoint();
  await fixture.snapshot('a@3');
  await fixture.writeSome('a', 20);
  await fixture.writeSome('b', 10);
  await fixture.store.flush();
  const { directory, contents } = fixture;
  if (how === 'closed') {
    await fixture.store.close();
    return { directory, contents };
  }
  const killed = directoryOf('killed');
  // A record that says what has been synced is written a while after the last flush: before it, damage looks like a torn end.
  if (how === 'quiet') await new Promise((resolve) => setTimeout(resolve, 250));
  fs.cpSync(directory, killed, { recursive: true });
  await fixture.store.close();
  return { directory: killed, contents };
}

/** Every file but the lock: its bytes, and when they were written. */
function treeOf(directory: string): Map<string, string> {
  const tree = new Map<string, string>();
  for (const entry of fs.readdirSync(directory, { recursive: true, withFileTypes: true })) {
    const file = path.join(entry.parentPath, entry.name);
    if (entry.name === 'store.lock') continue;
    const { mtimeMs, size, ino } = fs.statSync(file);
    const digest = entry.isFile() ? createHash('sha256').update(fs.readFileSync(file)).digest('hex') : '';
    // The directory's own time changes with its lock file.
    tree.set(path.relative(directory, file), `${ino} ${size} ${mtimeMs} ${digest}`);
  }
  return tree;
}

interface Outcome {
  right: number;
  errors: number;
  /** Chunks that read as something else: `version/chunk`. */
  other: string[];
  codes: string[];
  messages: string[];
}

/** Opens it, reads all of it chunk by chunk, and holds the directory against what it was. */
async function readAll(directory: string, contents: Contents): Promise<Outcome> {
  const before = treeOf(directory);
  const scratch: string[] = [];
  const makeScratch = (): Scratch => {
    const made = temporaryScratch();
    scratch.push(made.storage.nativePath('.'));
    return made;
  };
  const store = await ReadOnlyStore.open(directory, { cacheBytes: 1, makeScratch });
  const outcome: Outcome = { right: 0, errors: 0, other: [], codes: [], messages: [] };
  try {
    for (const [name, expected] of contents) {
      if (!store.list().some((each) => each.name === name)) {
        outcome.errors += DISK_BYTES / CHUNK;
        continue;
      }
      await readOne(store, name, expected, outcome);
    }
    for (const { code, message } of (await store.status()).damage) {
      outcome.codes.push(code);
      outcome.messages.push(message);
    }
    await expect(store.createVolume()).rejects.toMatchObject({ code: 'READ_ONLY' });
  } finally {
    await store.close();
  }
  expect(treeOf(directory)).toEqual(before);
  expect(scratch.filter((each) => fs.existsSync(each))).toEqual([]);
  return outcome;
}

async function readOne(
  store: ReadOnlyStore,
  name: string,
  expected: Buffer,
  outcome: Outcome,
): Promise<void> {
  let device;
  try {
    device = store.device(name);
  } catch (error) {
    expect(error).toMatchObject({ code: 'CORRUPTION' });
    outcome.errors += DISK_BYTES / CHUNK;
    return;
  }
  expect(device.readOnly).toBe(true);
  for (let chunk = 0; chunk < DISK_BYTES / CHUNK; chunk++) {
    const wanted = expected.subarray(chunk * CHUNK, (chunk + 1) * CHUNK);
    try {
      const found = await read(device, chunk * CHUNK, CHUNK);
      if (found.equals(wanted)) outcome.right += 1;
      else outcome.other.push(`${name}/${chunk}`);
    } catch (error) {
      expect(error).toBeInstanceOf(StoreError);
      expect(['IO', 'CORRUPTION']).toContain((error as StoreError).code);
      outcome.errors += 1;
    }
  }
  device.release();
}

const segmentsOf = (directory: string): string[] => {
  const log = path.join(directory, 'log');
  return fs.readdirSync(log).map((name) => path.join(log, name));
};

/** The segment that the log ends in: those of moves may have higher numbers. */
async function lastOfChain(directory: string): Promise<string> {
  const storage = new NodeStorage(directory);
  const { uuid } = await readSuperblock(storage);
  let last = '';
  for (const file of segmentsOf(directory)) {
    const start = await readSegmentStart(storage, uuid, Number(path.basename(file, '.seg')));
    if (start?.header !== undefined && !isOfMoves(start.header)) last = file;
  }
  return last;
}

async function withoutLast(directory: string): Promise<string[]> {
  const last = await lastOfChain(directory);
  return segmentsOf(directory).filter((file) => file !== last);
}

function edit(file: string, change: (content: Buffer) => void): void {
  const content = fs.readFileSync(file);
  change(content);
  fs.writeFileSync(file, content);
}

/** What a damaged store may be, each made of a copy of the same one. */
async function each(
  { directory, contents }: { directory: string; contents: Contents },
  damage: (copy: string) => void | Promise<void>,
): Promise<Outcome> {
  const copy = directoryOf('damaged');
  fs.cpSync(directory, copy, { recursive: true });
  await damage(copy);
  return await readAll(copy, contents);
}

const all = (contents: Contents): number => contents.size * (DISK_BYTES / CHUNK);

const withoutIndex = (copy: string): void => fs.rmSync(path.join(copy, 'index'), { recursive: true });
const removes = (segment: string) => (copy: string) =>
  fs.rmSync(path.join(copy, 'log', path.basename(segment)));
const beheads = (segment: string) => (copy: string) =>
  edit(path.join(copy, 'log', path.basename(segment)), (content) => content.fill(0xff, 0, 4096));

describe('a store that is whole', () => {
  it.each(['closed', 'killed'] as const)(
    'and was %s reads right, read-only, with nothing written',
    async (how) => {
      const store = await makeStore(51, how);
      const outcome = await readAll(store.directory, store.contents);
      expect(outcome).toEqual({ right: all(store.contents), errors: 0, other: [], codes: [], messages: [] });
      expect(await readAll(store.directory, store.contents)).toEqual(outcome);
      const usual = await Store.open(store.directory);
      expect(usual.list().map(({ name }) => name)).toEqual([...store.contents.keys()].sort());
      await usual.close();
    },
  );

  it.each(['closed', 'killed'] as const)('and was %s reads right without its index', async (how) => {
    const store = await makeStore(52, how);
    const outcome = await each(store, withoutIndex);
    expect(outcome).toEqual({ right: all(store.contents), errors: 0, other: [], codes: [], messages: [] });
  });

  it('lists, counts, compares, checks and scrubs as ever, and refuses every change', async () => {
    const { directory } = await makeStore(53);
    const usual = await Store.open(directory, { compacts: false });
    const expected = {
      list: usual.list(),
      space: await usual.listWithSpace({ ghosts: true }),
      du: await usual.space(['a']),
    };
    const difference = [];
    for await (const extent of usual.diff('a@1', 'a')) difference.push(extent);
    await usual.close();
    const store = await ReadOnlyStore.open(directory);
    expect(store.list()).toEqual(expected.list);
    expect(await store.listWithSpace({ ghosts: true })).toEqual(expected.space);
    expect(await store.space(['a'])).toEqual(expected.du);
    const found = [];
    for await (const extent of store.diff('a@1', 'a')) found.push(extent);
    expect(found).toEqual(difference);
    for await (const { severity } of store.check()) expect(severity).toBe('note');
    for await (const { findings } of store.scrub({ bytesPerSecond: 2 ** 40 })) expect(findings).toEqual([]);
    expect(await store.status()).toMatchObject({
      state: 'read-only',
      damage: [],
      scrub: { last: { damage: 0 } },
    });
    for (const change of [store.snapshot, store.delete, store.resize, store.rollback, store.pauseCompaction])
      await expect(change()).rejects.toMatchObject({ code: 'READ_ONLY' });
    await expect(store.compact().next()).rejects.toMatchObject({ code: 'READ_ONLY' });
    await expect(ReadOnlyStore.open(directory)).rejects.toMatchObject({ code: 'LOCKED' });
    await store.close();
  });
});

describe('a store that has lost a segment', () => {
  it('has errors for what lived in it, and all else right, as long as its index is whole', async () => {
    const store = await makeStore(54);
    let errors = 0;
    for (const segment of await withoutLast(store.directory)) {
      const outcome = await each(store, removes(segment));
      expect(outcome.other, segment).toEqual([]);
      expect(outcome.right + outcome.errors).toBe(all(store.contents));
      if (outcome.errors > 0) expect(outcome.codes, segment).toContain('LOG_SEGMENT_LOST');
      expect(outcome.codes, segment).not.toContain('OLD_DATA_POSSIBLE');
      expect(outcome.right, segment).toBeGreaterThan(outcome.errors);
      errors += outcome.errors;
    }
    expect(errors).toBeGreaterThan(100);
  });

  it('says that it may read as it was before where its index is gone too', async () => {
    const store = await makeStore(55);
    let [other, segments] = [0, 0];
    for (const segment of await withoutLast(store.directory)) {
      const outcome = await each(store, (copy) => {
        withoutIndex(copy);
        removes(segment)(copy);
      });
      if (outcome.right === all(store.contents)) continue; // compaction had emptied it
      expect(outcome.codes, segment).toContain('OLD_DATA_POSSIBLE');
      expect(outcome.right, segment).toBeGreaterThan(all(store.contents) / 3);
      other += outcome.other.length;
      segments += 1;
    }
    expect(segments).toBeGreaterThan(2);
    expect(other).toBeGreaterThan(0); // or nobody would have to be warned
  });

  it('reads on where the last one is gone, with the catalog in it', async () => {
    const store = await makeStore(56);
    const outcome = await each(store, removes(await lastOfChain(store.directory)));
    expect(outcome.codes).toContain('LOG_SEGMENT_LOST');
    expect(outcome.codes).toContain('OLD_DATA_POSSIBLE');
    // The index has all that was written; names that only the lost catalog had are lost.
    expect(outcome.right).toBeGreaterThan(all(store.contents) / 2);
  });

  it('is refused by the usual opening, which says what helps', async () => {
    const { directory, contents } = await makeStore(57);
    let refused = 0;
    for (const segment of segmentsOf(directory)) {
      const copy = directoryOf('damaged');
      fs.cpSync(directory, copy, { recursive: true });
      beheads(segment)(copy);
      const opened = await Store.open(copy).catch((error: unknown) => error);
      if (opened instanceof Store) {
        await opened.close();
        continue;
      }
      refused += 1;
      expect(opened).toMatchObject({
        code: 'CORRUPTION',
        message: expect.stringContaining('serve --read-only'),
      });
      // It has left the index as it was, which knows where all that is left lives.
      expect((await readAll(copy, contents)).right).toBe(all(contents));
    }
    expect(refused).toBeGreaterThan(0);
  });
});

describe('a store in which the header of a segment is gone', () => {
  it('reads right all the same, with its index and without', async () => {
    const store = await makeStore(58);
    for (const segment of segmentsOf(store.directory)) {
      for (const hasIndex of [true, false]) {
        const outcome = await each(store, (copy) => {
          if (!hasIndex) withoutIndex(copy);
          beheads(segment)(copy);
        });
        const what = `${path.basename(segment)} ${hasIndex}`;
        expect(outcome.other, what).toEqual([]);
        expect(outcome.right, what).toBe(all(store.contents));
      }
    }
  });
});

describe('a store whose index is damaged', () => {
  it('reads right, from one that is made beside it', async () => {
    const store = await makeStore(59);
    const names = fs.readdirSync(path.join(store.directory, 'index'));
    for (const name of names.filter((each) => /MANIFEST|CURRENT|\.ldb|\.log/.test(each))) {
      const outcome = await each(store, (copy) =>
        edit(path.join(copy, 'index', name), (content) => content.fill(0x5a, content.length >> 2)),
      );
      expect(outcome.other, name).toEqual([]);
      expect(outcome.right, name).toBe(all(store.contents));
    }
  });

  it('in a row that is looked at only when somebody reads, too', async () => {
    const store = await makeStore(60);
    const outcome = await each(store, async (copy) => {
      const database = await openLevel(path.join(copy, 'index'));
      for await (const [key] of database.iterator())
        if (key.toString('latin1', 0, 1) === 'p') {
          await database.del(key);
          break;
        }
      await database.close();
    });
    expect(outcome.right).toBe(all(store.contents));
    expect(outcome.codes).toEqual(['INDEX_DAMAGED']);
  });
});

describe('a store whose superblock or catalog is damaged', () => {
  it('reads right by the other copy of the superblock', async () => {
    const store = await makeStore(61);
    for (const slot of [0, 1]) {
      const outcome = await each(store, (copy) =>
        edit(path.join(copy, 'superblock'), (content) =>
          content.fill(0xee, slot * 4096 + 16, slot * 4096 + 200),
        ),
      );
      expect(outcome.other).toEqual([]);
      expect(outcome.codes).toContain('SUPERBLOCK_SLOT_DAMAGED');
      expect(outcome.right).toBe(all(store.contents));
    }
  });

  it('goes by the catalog before the newest, and the changes behind it', async () => {
    const store = await makeStore(62);
    for (const hasIndex of [true, false]) {
      let damaged = 0;
      const outcome = await each(store, async (copy) => {
        if (!hasIndex) withoutIndex(copy);
        damaged = await damageNewestCatalog(copy);
      });
      expect(damaged).toBe(1);
      expect(outcome.other).toEqual([]);
      expect(outcome.right).toBe(all(store.contents));
    }
  });
});

/** Damages the last record of the log that holds a part of a catalog, in both its places; answers how many there were. */
async function damageNewestCatalog(directory: string): Promise<number> {
  const storage = new NodeStorage(directory);
  const { uuid } = await readSuperblock(storage);
  let newest: { segment: number; append: number; places: number[] } | undefined;
  for (const file of segmentsOf(directory)) {
    const segment = Number(path.basename(file, '.seg'));
    const scanner = (await SegmentScanner.open(storage, uuid, segment))!;
    for await (const record of scanner.walk()) {
      const { header } = record;
      if (!entriesOf(record).some(({ kind }) => kind === ENTRY_CATALOG)) continue;
      if (newest !== undefined && newest.append > header.append) continue;
      const copy = recordEnd(header) - COPY_TAIL_BYTES - RECORD_HEADER_BYTES - header.tableBytes;
      newest = { segment, append: header.append, places: [header.offset, copy] };
    }
    await scanner.close();
  }
  if (newest === undefined) return 0;
  const file = path.join(directory, 'log', `${String(newest.segment).padStart(10, '0')}.seg`);
  edit(file, (content) => {
    for (const at of newest.places) content.fill(0xa5, at + 20, at + 36);
  });
  return 1;
}

describe('a store that is damaged in several ways', () => {
  it.each(seeds(6))(
    'never reads other bytes without saying so, and writes nothing (seed %i)',
    async (seed) => {
      const random = new Random(seed);
      const store = await makeStore(seed, random.pick(['closed', 'quiet'] as const));
      for (let i = 0; i < 6; i++) {
        let what = '';
        let refused: unknown;
        const outcome = await each(store, async (copy) => {
          for (let n = random.between(1, 3); n > 0; n--) {
            const segment = random.pick(segmentsOf(copy));
            const kind = random.pick(['remove', 'behead', 'flip', 'index', 'row', 'catalog', 'slot']);
            what += ` ${kind} ${path.basename(segment)}`;
            if (kind === 'remove') fs.rmSync(segment);
            if (kind === 'behead') beheads(segment)(copy);
            if (kind === 'flip')
              edit(segment, (content) => {
                for (let k = 0; k < 20; k++) content[random.below(content.length)]! ^= 1 << random.below(8);
              });
            if (kind === 'index' && fs.existsSync(path.join(copy, 'index'))) withoutIndex(copy);
            if (kind === 'catalog') await damageNewestCatalog(copy).catch(() => 0);
            if (kind === 'slot') {
              const slot = random.below(2);
              const other = fs.readFileSync(path.join(copy, 'superblock')).subarray((1 - slot) * 4096);
              // Both copies gone are for another tool.
              if (other[0] === 0x43 && other[20] !== 0xee)
                edit(path.join(copy, 'superblock'), (content) =>
                  content.fill(0xee, slot * 4096 + 16, slot * 4096 + 200),
                );
            }
          }
        }).catch((error: unknown) => {
          refused = error;
          return undefined;
        });
        if (outcome === undefined) {
          expect(refused, what).toMatchObject({ code: 'CORRUPTION' });
          continue;
        }
        if (outcome.other.length > 0) expect(outcome.codes, what).toContain('OLD_DATA_POSSIBLE');
      }
    },
  );

  it('keeps a snapshot that was deleted in a part that is lost from reading as something older', async () => {
    const fixture = await StoreFixture.make(63);
    await fixture.store.pauseCompaction(true);
    await fixture.store.createVolume('v', DISK_BYTES);
    const device = fixture.store.device('v');
    await write(device, 0, fixture.random.bytes(CHUNK));
    await fixture.store.snapshot(['v@old']);
    await write(device, 0, fixture.random.bytes(CHUNK));
    await fixture.store.snapshot(['v@doomed']);
    device.release();
    await fixture.store.checkpoint();
    // Into another segment, which is then lost.
    for (let i = 0; i < 3; i++) await fixture.writeSome('b', 40);
    const kept = new Set(segmentsOf(fixture.directory).slice(0, -1));
    await fixture.store.delete(['v@doomed']);
    await fixture.store.pruned();
    await fixture.store.checkpoint();
    await fixture.store.close();
    for (const file of segmentsOf(fixture.directory)) if (!kept.has(file)) fs.rmSync(file);
    const store = await ReadOnlyStore.open(fixture.directory);
    const messages = (await store.status()).damage.map(({ message }) => message);
    if (store.list().some(({ name }) => name === 'v@doomed')) {
      expect(() => store.device('v@doomed')).toThrow('cannot be known');
      expect(messages.join('\n')).toContain('v@doomed is not served');
    }
    await store.close();
  });
});
