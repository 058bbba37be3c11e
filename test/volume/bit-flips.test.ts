/**
 * Every bit of a small store flipped, one at a time: a store that opens gives what was written or an error, never
 * another byte. The suite takes one bit in so many, from a random one on; FLIPS=all takes every one (two hours).
 */

import { describe, expect, it } from 'vitest';
import { StoreError } from '../../src/base/errors.ts';
import { ENTRY_CHUNKS } from '../../src/log/entries.ts';
import { segmentOfName } from '../../src/log/format.ts';
import { entriesOf, recordEnd } from '../../src/log/scan.ts';
import { recordsOf } from '../log/rig.ts';
import { MemoryStorage } from '../support/memory-storage.ts';
import { Random, seeds } from '../support/random.ts';
import { CrashRig } from './crash-rig.ts';

const CHUNK = 4096;
const CHUNKS = 24;
const isLong = process.env.FLIPS === 'all';
/** Of bits that a store is opened with. */
const OPENING_STRIDE = isLong ? 1 : 1200;
/** Of bits of payload that are flipped while it is open, and that it is opened with. */
const OPEN_STRIDE = isLong ? 1 : 60;
const PAYLOAD_STRIDE = isLong ? 200 : 20_000;

type Rows = [Buffer, Buffer][];

interface Frozen {
  storage: MemoryStorage;
  /** What the index holds; none for one that is to be made anew. */
  rows: Rows;
  /** What each chunk of each version may read as: the proven content, and what an unproven write may have made of it. */
  versions: Map<string, Buffer[][]>;
}

/** A store with records of all kinds, two versions, two segments; at the end it is `closed`, or killed with a tail. */
async function frozen(end: 'closed' | 'killed', seed: number): Promise<Frozen> {
  const random = new Random(seed);
  const rig = await CrashRig.begin();
  await rig.open();
  await rig.store.createVolume('disk', CHUNKS * CHUNK);
  const content = Array.from({ length: CHUNKS }, () => Buffer.alloc(CHUNK));
  const write = async (first: number, count: number): Promise<void> => {
    const bytes = Buffer.concat(Array.from({ length: count }, () => random.bytes(CHUNK)));
    await rig.write('disk', first * CHUNK, bytes);
    for (let i = 0; i < count; i++) content[first + i] = bytes.subarray(i * CHUNK, (i + 1) * CHUNK);
  };
  const zero = async (chunk: number): Promise<void> => {
    await rig.device('disk').zero(chunk * CHUNK, CHUNK, false);
    content[chunk] = Buffer.alloc(CHUNK);
  };
  for (let i = 0; i < 8; i++) await write(random.below(CHUNKS - 3), random.between(1, 3));
  await zero(random.below(CHUNKS));
  await rig.store.checkpoint();
  for (let i = 0; i < 4; i++) await write(random.below(CHUNKS - 3), random.between(1, 3));
  await rig.store.snapshot(['disk@old']);
  const old = content.map((chunk) => [chunk]);
  for (let i = 0; i < 6; i++) await write(random.below(CHUNKS), 1);
  await zero(random.below(CHUNKS));
  await rig.store.flush();
  rig.clock.advance(100);
  await rig.rest();
  const head = content.map((chunk) => [chunk]);
  if (end === 'killed') {
    // Above the watermark: each is there or not.
    for (const chunk of [1, 5]) {
      await write(chunk, 1);
      head[chunk]!.push(content[chunk]!);
    }
  }
  const { storage } = rig;
  if (end === 'closed') await rig.close();
  const rows: Rows = [];
  const database = await storage.openDatabase('index');
  for await (const [key, value] of database.iterator()) rows.push([Buffer.from(key), Buffer.from(value)]);
  if (end === 'killed') rig.kill();
  return {
    storage,
    rows,
    versions: new Map([
      ['disk', head],
      ['disk@old', old],
    ]),
  }; // prettier-ignore
}

/** What becomes of the store with one bit of `path` flipped. */
async function fate({ storage, rows, versions }: Frozen, path: string, bit: number): Promise<string> {
  const copy = storage.copy();
  if (bit >= 0) copy.edit(path, (bytes) => void (bytes[bit >> 3]! ^= 1 << (bit & 7)));
  const database = await copy.openDatabase('index');
  for (const [key, value] of rows) await database.put(Buffer.from(key), Buffer.from(value));
  await database.close();
  const rig = CrashRig.over(copy);
  try {
    await rig.open();
  } catch (error) {
    if (error instanceof StoreError && error.code !== 'NOT_FOUND') return 'refused';
    throw error;
  }
  let result = 'right';
  for (const [name, chunks] of versions) {
    for (let chunk = 0; chunk < CHUNKS; chunk++) {
      try {
        const found = await rig.read(name, chunk * CHUNK, CHUNK);
        if (!chunks[chunk]!.some((allowed) => allowed.equals(found)))
          return `${name} chunk ${chunk} is wrong`;
      } catch (error) {
        if (!(error instanceof StoreError) || error.code !== 'CORRUPTION') throw error;
        result = 'error';
      }
    }
  }
  await rig.close();
  return result;
}

interface Range {
  path: string;
  /** Bytes [from, to). */
  from: number;
  to: number;
  /** The chunk whose payload this is, or -1. */
  chunk: number;
}

/** The bytes of the store's files that were ever written. */
async function rangesOf({ storage }: Frozen): Promise<Range[]> {
  const ranges: Range[] = [
    { path: 'superblock', from: 0, to: storage.bytes('superblock').length, chunk: -1 },
  ];
  for (const name of storage.names('log')) {
    const path = `log/${name}`;
    let at = 0;
    for (const record of await recordsOf(storage, segmentOfName(name)!)) {
      for (const entry of entriesOf(record)) {
        if (entry.kind !== ENTRY_CHUNKS) continue;
        if (at < entry.offset) ranges.push({ path, from: at, to: entry.offset, chunk: -1 });
        for (let i = 0; i < entry.count; i++) {
          const from = entry.offset + i * CHUNK;
          ranges.push({ path, from, to: from + CHUNK, chunk: entry.first + i });
        }
        at = entry.offset + entry.count * CHUNK;
      }
      if (at < recordEnd(record.header))
        ranges.push({ path, from: at, to: recordEnd(record.header), chunk: -1 });
      at = recordEnd(record.header);
    }
  }
  return ranges;
}

function* bitsOf(range: Range, stride: number, from: number): Generator<number> {
  const first = range.from * 8;
  for (let bit = first + ((stride - (first % stride) + from) % stride); bit < range.to * 8; bit += stride)
    yield bit;
}

const seed = seeds(1)[0]!;

describe('a flipped bit', () => {
  for (const end of ['closed', 'killed'] as const) {
    for (const index of ['with its index', 'whose index is gone'] as const) {
      it(`in a store that was ${end}, ${index}, never gives a wrong byte (SEED=${seed})`, {
        timeout: 7_200_000,
      }, async () => {
        const whole = await frozen(end, seed);
        const store = index === 'with its index' ? whole : { ...whole, rows: [] };
        expect(await fate(store, '', -1)).toBe('right');
        const seen = new Map<string, number>();
        for (const range of await rangesOf(store)) {
          for (const bit of bitsOf(range, range.chunk < 0 ? OPENING_STRIDE : PAYLOAD_STRIDE, seed)) {
            const result = await fate(store, range.path, bit);
            if (!['right', 'error', 'refused'].includes(result))
              expect.fail(`${range.path} bit ${bit}: ${result}`);
            seen.set(result, (seen.get(result) ?? 0) + 1);
          }
        }
        // A chunk that is read shows its damage; most other bits are there twice, or mean nothing.
        expect(seen.get('right')).toBeGreaterThan(0);
        expect(seen.get('error')).toBeGreaterThan(0);
      });
    }
  }

  it(`of payload under an open store gives an error, or nobody reads it (SEED=${seed})`, {
    timeout: 7_200_000,
  }, async () => {
    const { storage, versions } = await frozen('closed', seed);
    const ranges = await rangesOf({ storage, versions, rows: [] });
    const rig = CrashRig.over(storage);
    await rig.open();
    let errors = 0;
    for (const { path, chunk, ...range } of ranges) {
      if (chunk < 0) continue;
      for (const bit of bitsOf({ path, chunk, ...range }, OPEN_STRIDE, seed)) {
        const flip = (bytes: Buffer): void => void (bytes[bit >> 3]! ^= 1 << (bit & 7));
        storage.edit(path, flip);
        for (const [name, chunks] of versions) {
          const found = await rig
            .read(name, chunk * CHUNK, CHUNK)
            .catch((error: unknown) => error as StoreError);
          if (found instanceof Error) {
            expect(found).toMatchObject({ code: 'CORRUPTION' });
            errors += 1;
          } else if (!chunks[chunk]![0]!.equals(found))
            expect.fail(`${path} bit ${bit}: ${name} chunk ${chunk}`);
        }
        storage.edit(path, flip);
      }
    }
    expect(errors).toBeGreaterThan(1000);
    await rig.close();
  });
});
