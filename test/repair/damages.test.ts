/**
 * Every kind of damage that the checker knows, repaired: nothing is wrong behind it but what is lost; what was not lost reads
 * as it did, what was reads as an error, and nothing as zeros or as what was there before.
 */

import { beforeAll, describe, expect, it, vi } from 'vitest';
import { CATALOG_DAMAGES, CHANGE_DAMAGES } from '../check/damage-of-catalogs.ts';
import { DIRECTORY_DAMAGES, INDEX_DAMAGES } from '../check/damage-of-index.ts';
import { CHUNK_DAMAGES, RECORD_DAMAGES, UNPROVEN_DAMAGES } from '../check/damage-of-records.ts';
import { SEGMENT_DAMAGES, SUPERBLOCK_DAMAGES } from '../check/damage-of-segments.ts';
import { CHUNK, DamagedStore, type Damages, knownChunk } from '../check/damaged-store.ts';
import { CrashRig } from '../volume/crash-rig.ts';
import {
  contentOf,
  expectNothingButLost,
  expectNothingOld,
  goneFrom,
  placeIndex,
  readAll,
  repair,
  type Version,
} from './repair-rig.ts';

vi.setConfig({ testTimeout: 60_000, hookTimeout: 60_000 });

let closed: DamagedStore;
let killed: DamagedStore;
let contents: Map<string, Version>;
beforeAll(async () => {
  closed = await DamagedStore.make('closed');
  killed = await DamagedStore.make('killed');
  contents = await contentOf(closed);
});

/** Kinds in which nobody knows what is lost: with an index, it is all there all the same, or lost for certain. */
const UNCERTAIN = new Set([
  'the last segment of the log that is missing',
  'the last segment of the log that is missing, where there is no index',
  'a record with an entry of an unknown kind',
  'the end of the log, which the index has seen',
]);

/** The end of the log is gone, and nothing that is left can tell; where that is not certain, the store is called clean. */
const SILENT = new Set([
  'the last segment of the log that is missing, where there is no index',
  'the last records of a store that was closed, where there is no index',
  'a log that ends with a sealed segment, of a store that was not closed',
]);

/** What the planted entries themselves make of versions. */
const OTHERWISE: Record<string, { names?: Record<string, string>; without?: string; errors?: string[] }> = {
  'that gives a volume a name that is none': {
    names: { a: 'found-6', 'a@1': 'found-6@1', 'a@2': 'found-6@2' },
  },
  'that goes on in a version of another volume, which is a head': { without: 'a' },
  'a record that claims more payload than its entries have': { errors: ['a/100'] },
};

/** What is to be read, by the names that versions have behind the repair. */
function wanted(what: string): Map<string, Version> {
  const { names = {}, without } = OTHERWISE[what] ?? {};
  const renamed = [...contents].map(([name, version]) => [names[name] ?? name, version] as const);
  return new Map(renamed.filter(([name]) => name !== without));
}

async function expectRepaired(store: DamagedStore, what: string): Promise<void> {
  const { storage } = store;
  await placeIndex(store);
  const versions = wanted(what);
  const gone = goneFrom(storage, versions);
  gone.push(...(OTHERWISE[what]?.errors ?? []));
  const acceptsOldData = UNCERTAIN.has(what);
  if (acceptsOldData) await expect(repair(storage)).rejects.toMatchObject({ code: 'CORRUPTION' });
  const { result, before, after } = await repair(storage, { acceptsOldData });
  expectNothingButLost(after);
  const wasDamaged = before.some(({ severity }) => severity === 'damage');
  const isLost = gone.length > 0 && !SILENT.has(what);
  if (acceptsOldData) expect(result).toMatchObject({ state: 'left', unknown: [expect.any(String)] });
  else expect(result.state).toBe(!wasDamaged ? 'clean' : isLost ? 'left' : 'mended');
  const again = await repair(storage);
  expect(again.result).toMatchObject({ state: isLost ? 'left' : 'clean', done: [] });

  const rig = CrashRig.over(storage);
  const expectRead = async (): Promise<void> => {
    if (SILENT.has(what)) return;
    const { errors, others } = await readAll(rig, versions);
    expect({ errors: errors.sort(), others }).toEqual({ errors: [...gone].sort(), others: [] });
  };
  await rig.open();
  await expectRead();
  await rig.close();

  await storage.remove('index');
  await rig.open();
  await expectRead();
  await rig.close();
}

function itRepairs(damages: Damages, from: () => DamagedStore): void {
  it.each(damages)('%s', async (what, plant) => {
    const store = from().copy();
    await plant(store);
    await expectRepaired(store, what);
  });
}

describe('a repair of the superblock', () => itRepairs(SUPERBLOCK_DAMAGES, () => closed));
describe('a repair of a segment', () => itRepairs(SEGMENT_DAMAGES, () => closed));
describe('a repair of a record', () => itRepairs(RECORD_DAMAGES, () => closed));
describe('a repair of a chunk', () => itRepairs(CHUNK_DAMAGES, () => closed));
describe('a repair of a catalog with', () => itRepairs(CATALOG_DAMAGES, () => closed));
describe('a repair of a change', () => itRepairs(CHANGE_DAMAGES, () => closed));
describe('a repair of the index', () => itRepairs(INDEX_DAMAGES, () => closed));
describe('a repair of what lies in the directory', () => itRepairs(DIRECTORY_DAMAGES, () => closed));

describe('a store that was killed, and is damaged behind what was synced,', () => {
  it.each(UNPROVEN_DAMAGES)('is none to be repaired: %s', async (_, plant) => {
    const store = killed.copy();
    await plant(store);
    await placeIndex(store);
    expect((await repair(store.storage)).result).toMatchObject({ state: 'clean', done: [] });
  });
});

describe('a store that was killed, and has damage of', () => {
  it.each([...SEGMENT_DAMAGES, ...RECORD_DAMAGES, ...CHUNK_DAMAGES])('%s', async (what, plant) => {
    const store = killed.copy();
    await plant(store);
    await placeIndex(store);
    const versions = new Map(contents);
    const { bytes, segments, offsets } = contents.get('a')!;
    const last = { bytes: Buffer.from(bytes), segments: segments.slice(), offsets: offsets.slice() };
    const { segment, offset } = killed.placeOf('last');
    knownChunk('last').copy(last.bytes, 7 * CHUNK);
    last.segments[7] = segment;
    last.offsets[7] = offset;
    versions.set('a', last);
    await expectNothingOld(store.storage, versions, {
      lost: OTHERWISE[what]?.errors,
      late: ['a/6', 'a/7', 'b/6'],
      isSilent: SILENT.has(what),
    });
  });
});

describe('a store that was repaired', () => {
  it('is written, given snapshots, compacted and checked as any other, and what was lost stays lost', async () => {
    const store = closed.copy();
    const [, , third] = await store.chain();
    const { segment, offset } = store.placeOf('moved');
    store.flip(segment, offset);
    await store.storage.remove(`log/${String(third).padStart(10, '0')}.seg`);
    await placeIndex(store);
    const gone = goneFrom(store.storage, contents);
    await repair(store.storage);

    const rig = CrashRig.over(store.storage);
    const opened = await rig.open();
    const lost = gone.filter((where) => where.startsWith('a/')).map((where) => Number(where.slice(2)));
    expect(lost.length).toBeGreaterThan(10);
    const over = lost.slice(0, lost.length / 2);
    for (const chunk of over) await rig.write('a', chunk * CHUNK, Buffer.alloc(CHUNK, 'over'));
    await opened.snapshot(['a@3']);
    const expected = [
      ...gone.filter((where) => !over.some((chunk) => where === `a/${chunk}`)),
      ...lost.slice(over.length).map((chunk) => `a@3/${chunk}`),
    ].sort();
    const now = new Map(contents);
    const bytes = Buffer.from(contents.get('a')!.bytes);
    for (const chunk of over) bytes.fill('over', chunk * CHUNK, (chunk + 1) * CHUNK);
    now.set('a', { ...contents.get('a')!, bytes });
    now.set('a@3', { ...contents.get('a')!, bytes });
    for (let i = 0; i < 3; i++) {
      for await (const _ of opened.compact({ purge: true, target: 1, bytesPerSecond: undefined })) continue;
      const { errors, others } = await readAll(rig, now);
      expect({ errors: errors.sort(), others }).toEqual({ errors: expected, others: [] });
    }
    await rig.close();
    const { after, result } = await repair(store.storage);
    expectNothingButLost(after);
    expect(result).toMatchObject({ state: 'left', done: [] });
  });

  it('is clean once all that was lost has been written over or deleted', async () => {
    const store = closed.copy();
    const { segment, offset } = store.placeOf('own');
    store.flip(segment, 20, offset);
    store.flip(segment, 2048 + 20);
    await placeIndex(store);
    const { result } = await repair(store.storage);
    expect(result).toMatchObject({ state: 'left', lostChunks: 1 });
    expect(result.lost).toEqual([{ volume: 'a', extents: [{ offsetBytes: 5 * CHUNK, lengthBytes: CHUNK }] }]);
    const rig = CrashRig.over(store.storage);
    await rig.open();
    await rig.write('a', 5 * CHUNK, Buffer.alloc(CHUNK, 1));
    await rig.close();
    expect((await repair(store.storage)).result.state).toBe('clean');
  });
});
