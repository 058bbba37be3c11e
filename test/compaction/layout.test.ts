/** Where moved chunks go: each in one place, none over another, in the order that was asked for. */

import { describe, expect, it } from 'vitest';
import { ByteWriter } from '../../src/base/bytes.ts';
import { CHUNK_BYTES } from '../../src/base/units.ts';
import type { Ages } from '../../src/compaction/age-bands.ts';
import { type ChunkArrays, ChunkList } from '../../src/compaction/chunk-list.ts';
import {
  layOut,
  type MoveOrder,
  payloadAt,
  type RecordLayout,
  runAt,
  type SegmentLayout,
  type Zeros,
} from '../../src/compaction/layout.ts';
import {
  AGE_CUTS_MAX,
  BESIDE_BYTES,
  liveBytesFor,
  movedBytes,
  roundRoomBytes,
  segmentCountMax,
} from '../../src/compaction/moved-size.ts';
import { DATA_ENTRY_BYTES_MAX, EntryCoder } from '../../src/log/entry-coder.ts';
import {
  FIRST_RECORD_OFFSET,
  FOOTER_ITEM_BYTES,
  RECORD_ALIGN_BYTES,
  RECORD_FOOTER,
  recordBytes,
  SYNC_ALIGN_BYTES,
  TRAILER_ROOM_BYTES,
} from '../../src/log/format.ts';
import { MIB } from '../log/rig.ts';
import { Random, seeds } from '../support/random.ts';

interface Moved {
  arrays: ChunkArrays;
  ages: Ages;
}

/** Chunks of a few versions in an order of chance; `scattered`: none goes on where another ends. */
function randomChunks(random: Random, count: number, scattered: boolean): Moved {
  const all: [label: number, chunk: number, sequence: number][] = [];
  for (let label = 1; all.length < count; label = 1 + (label % 3)) {
    const run = Math.min(scattered ? 1 : random.pick([1, 1, 3, 50, 400]), count - all.length);
    const first = all.length * 3;
    const sequence = random.between(1, 1000);
    for (let i = 0; i < run; i++) all.push([label, first + i, sequence]);
  }
  for (let i = all.length - 1; i > 0; i--) {
    const at = random.below(i + 1);
    [all[i], all[at]] = [all[at]!, all[i]!];
  }
  const list = new ChunkList();
  for (const [label, chunk, sequence] of all) list.add(label, chunk, sequence, 1, 4096, random.next());
  const ageCount = random.pick([1, 2, 10, 1000]);
  const ages = Float64Array.from(all, () => 1 + random.below(ageCount));
  const now = 1 + random.pick([ageCount, 2 * ageCount, 2 ** 28]);
  return { arrays: list.arrays(), ages: { ages, now, cutsMax: random.below(AGE_CUTS_MAX + 1) } };
}

function randomZeros(random: Random, count: number): Zeros[] {
  return Array.from({ length: count }, (_, i) => ({
    label: random.between(1, 4),
    first: random.below(2 ** 30),
    count: random.pick([1, 1000, 2 ** 33]),
    sequence: i + 1,
  }));
}

/** Entries of chunks in this order: a new one wherever version, sequence or position does not go on. */
function countedEntries({ labels, chunks, sequences }: ChunkArrays, order: Iterable<number>): number {
  let entries = 0;
  let next = '';
  for (const i of order) {
    if (next !== `${labels[i]} ${sequences[i]} ${chunks[i]}`) entries += 1;
    next = `${labels[i]} ${sequences[i]} ${chunks[i]! + 1}`;
  }
  return entries;
}

/** Bytes of the table as a segment of moves has it. */
function writtenTableBytes(arrays: ChunkArrays, { chunks, zeros }: RecordLayout): number {
  const out = new ByteWriter(Buffer.alloc((chunks.length + zeros.length) * DATA_ENTRY_BYTES_MAX));
  const coder = new EntryCoder();
  for (const { label, first, count, sequence } of zeros)
    coder.write(out, true, sequence, label, first, count);
  for (let at = 0; at < chunks.length; ) {
    const run = runAt(arrays, chunks, at);
    const i = chunks[at]!;
    coder.write(out, false, arrays.sequences[i]!, arrays.labels[i]!, arrays.chunks[i]!, run);
    at += run;
  }
  return out.position + 4 * chunks.length;
}

function checkSegment(arrays: ChunkArrays, segment: SegmentLayout, segmentBytes: number): void {
  let end = FIRST_RECORD_OFFSET;
  let [footerTableBytes, zerosBytes] = [0, 0];
  for (const record of segment.records) {
    const payloadBytes = record.chunks.length * CHUNK_BYTES;
    expect(record.offset).toBe(end);
    expect(record.offset % RECORD_ALIGN_BYTES).toBe(0);
    const entries = countedEntries(arrays, record.chunks) + record.zeros.length;
    expect(entries).toBeGreaterThan(0);
    expect(record.entryCount).toBe(entries);
    expect(record.tableBytes).toBe(writtenTableBytes(arrays, record));
    end = record.offset + recordBytes(record.tableBytes, payloadBytes, 0);
    expect(payloadAt(record) + payloadBytes).toBeLessThanOrEqual(end);
    footerTableBytes += FOOTER_ITEM_BYTES + record.tableBytes;
    if (record.zeros.length > 0) zerosBytes += end - record.offset + FOOTER_ITEM_BYTES + record.tableBytes;
  }
  expect(segment.zerosBytes).toBe(zerosBytes);
  expect(segment.footerOffset).toBe(end);
  expect(segment.footerTableBytes).toBe(footerTableBytes);
  const footerEnd = end + recordBytes(footerTableBytes, 0, RECORD_FOOTER);
  expect(footerEnd + TRAILER_ROOM_BYTES).toBeLessThanOrEqual(segment.bytes);
  expect(segment.bytes % SYNC_ALIGN_BYTES).toBe(0);
  expect(segment.bytes).toBeLessThanOrEqual(segmentBytes);
}

const chunksIn = (segments: readonly SegmentLayout[]): number[] =>
  segments.flatMap(({ records }) => records.flatMap((record) => [...record.chunks]));

/** Positions that are not in the order of version and chunk. */
function outOfOrder({ labels, chunks }: ChunkArrays, order: readonly number[]): number {
  let wrong = 0;
  for (let i = 1; i < order.length; i++) {
    const [a, b] = [order[i - 1]!, order[i]!];
    if (labels[a]! > labels[b]! || (labels[a] === labels[b] && chunks[a]! >= chunks[b]!)) wrong += 1;
  }
  return wrong;
}

/** A band fits into a segment, or begins one behind zeros and ends in the next: what is two segments later is not older. */
function checkBands(arrays: ChunkArrays, ages: Float64Array, segments: readonly SegmentLayout[]): void {
  const agesIn = segments.map((segment) => chunksIn([segment]).map((i) => ages[i]!));
  let oldestAllowed = 0;
  for (const [i, segment] of segments.entries()) {
    expect(outOfOrder(arrays, chunksIn([segment]))).toBe(0);
    for (const age of agesIn[i - 2] ?? []) oldestAllowed = Math.max(oldestAllowed, age);
    for (const age of agesIn[i]!) expect(age).toBeGreaterThanOrEqual(oldestAllowed);
  }
}

function check(moved: Moved, zeros: readonly Zeros[], order: MoveOrder, segmentBytes: number): void {
  const { arrays, ages } = moved;
  const segments = layOut(arrays, ages, zeros, order, segmentBytes);
  const placed = chunksIn(segments);
  const count = arrays.labels.length;
  expect([...placed].sort((a, b) => a - b)).toEqual(Array.from({ length: count }, (_, i) => i));
  expect(segments.flatMap(({ records }) => records.flatMap((record) => record.zeros))).toEqual(zeros);
  for (const segment of segments) {
    expect(segment.records.length).toBeGreaterThan(0);
    checkSegment(arrays, segment, segmentBytes);
  }
  if (order === 'disk') expect(outOfOrder(arrays, placed)).toBe(0);
  else checkBands(arrays, ages.ages, segments);
  expect(segments.length).toBeLessThanOrEqual(segmentCountMax(count, zeros.length, segmentBytes));
  if (zeros.length > 0) return;
  const bytes = segments.reduce((sum, segment) => sum + segment.bytes, 0);
  expect(bytes).toBeLessThanOrEqual(1.02 * movedBytes(count) + segments.length * 3 * SYNC_ALIGN_BYTES);
  const cutsBytes = order === 'age' ? ages.cutsMax * BESIDE_BYTES : 0;
  expect(bytes).toBeLessThanOrEqual(roundRoomBytes(count, segmentBytes) + cutsBytes);
}

it('a round that moves nothing needs no room: it is how a store gets some that has none at all', () => {
  expect(roundRoomBytes(0, MIB)).toBe(0);
});

it('there is room for a round of as many live bytes as there is said to be room for', () => {
  for (const segmentBytes of [MIB, 4 * MIB, 64 * MIB]) {
    for (const room of [MIB / 2, MIB, 3.7 * MIB, 40 * MIB, 1000 * MIB]) {
      const chunkCount = Math.floor(liveBytesFor(room, segmentBytes) / CHUNK_BYTES);
      expect(roundRoomBytes(chunkCount, segmentBytes)).toBeLessThanOrEqual(room);
      expect(chunkCount * CHUNK_BYTES).toBeGreaterThan(0.9 * room - MIB / 16);
    }
  }
});

describe('a layout of moved chunks', () => {
  for (const seed of seeds(6)) {
    it(`has each of them in one place, in order, within segments (SEED=${seed})`, () => {
      const random = new Random(seed);
      for (let round = 0; round < 25; round++) {
        const segmentBytes = random.pick([MIB, MIB, 2 * MIB, 64 * MIB]);
        const count = random.pick([0, 1, 2, 31, 32, 33, 223, 224, 250, 257, 384, 1000, 3000]);
        const moved = randomChunks(random, count, random.chance(30));
        const zeros = randomZeros(random, random.pick([0, 0, 1, 5, 1300, 9000]));
        check(moved, zeros, random.pick(['disk', 'age'] as const), segmentBytes);
      }
    });
  }

  it('fills segments of the default size, in both orders', () => {
    const random = new Random(1);
    for (const order of ['disk', 'age'] as const) {
      const moved = randomChunks(random, 40_000, false);
      check(moved, randomZeros(random, 50), order, 64 * MIB);
      const [first] = layOut(moved.arrays, moved.ages, [], 'disk', 64 * MIB);
      expect(first!.bytes).toBeGreaterThan(62 * MIB);
    }
  });

  it('is nothing where nothing is moved, and zeros alone make a segment', () => {
    const { arrays, ages } = randomChunks(new Random(1), 0, false);
    expect(layOut(arrays, ages, [], 'age', MIB)).toEqual([]);
    const [only, ...others] = layOut(arrays, ages, randomZeros(new Random(1), 3), 'age', MIB);
    expect(others).toEqual([]);
    expect(only!.records.map(({ entryCount }) => entryCount)).toEqual([3]);
  });

  it('keeps what is young apart from what is old, by age, and lets them alternate by disk', () => {
    const list = new ChunkList();
    for (let i = 0; i < 480; i++) list.add(1, i, 1, 1 + (i % 2), 4096, 0);
    const arrays = list.arrays();
    const ages = Float64Array.from(arrays.segments, (segment) => 10 * segment);
    const agesIn = (order: MoveOrder): number[][] =>
      layOut(arrays, { ages, now: 1000, cutsMax: 0 }, [], order, MIB).map((segment) => [
        ...new Set(chunksIn([segment]).map((i) => ages[i]!)),
      ]);
    expect(agesIn('disk').every((each) => each.length === 2)).toBe(true);
    const byAge = agesIn('age');
    expect(byAge.every((each) => each.length === 1)).toBe(true);
    expect(byAge[0]).toEqual([10]);
    expect(byAge.at(-1)).toEqual([20]);
  });

  it('ends a segment where chunks are four times as old, if there are enough of them, and as often as is allowed', () => {
    /** Ages of the segments of a layout, from counts of chunks by how long ago they were written. */
    const agesIn = (counts: Record<number, number>, cutsMax: number): number[][] => {
      const list = new ChunkList();
      const sinceWritten: number[] = [];
      for (const [since, count] of Object.entries(counts))
        for (let i = 0; i < count; i++) sinceWritten.push(Number(since));
      for (const [i] of sinceWritten.entries()) list.add(1, i, 1, 1, 4096, 0);
      const ages = Float64Array.from(sinceWritten, (since) => 1000 - since);
      const layout = layOut(list.arrays(), { ages, now: 1000, cutsMax }, [], 'age', MIB);
      return layout.map((segment) =>
        [...new Set(chunksIn([segment]).map((i) => sinceWritten[i]!))].sort((a, b) => a - b),
      );
    };
    expect(agesIn({ 5: 70, 100: 70 }, 4)).toEqual([[100], [5]]);
    expect(agesIn({ 5: 70, 100: 70 }, 0)).toEqual([[5, 100]]);
    expect(agesIn({ 5: 70, 10: 70 }, 4)).toEqual([[5, 10]]); // no step between them
    // A quarter of a mebibyte is some 62 chunks: fewer go with what is older, and if nothing is, with what is younger.
    expect(agesIn({ 5: 30, 100: 70, 500: 70 }, 4)).toEqual([[500], [5, 100]]);
    expect(agesIn({ 5: 70, 100: 30 }, 4)).toEqual([[5, 100]]);
    expect(agesIn({ 1: 70, 5: 70, 100: 70, 500: 70 }, 1)).toEqual([[5, 100, 500], [1]]);
  });

  it('makes one entry of what goes on in its disk under one sequence, and of nothing else', () => {
    const list = new ChunkList();
    for (const [label, chunk, sequence] of [
      [1, 7, 5],
      [1, 8, 5],
      [1, 9, 6],
      [1, 11, 6],
      [2, 12, 6],
      [2, 13, 6],
    ] as const)
      list.add(label, chunk, sequence, 1, 4096, 0);
    const [segment] = layOut(
      list.arrays(),
      { ages: new Float64Array(6), now: 0, cutsMax: 0 },
      [],
      'disk',
      MIB,
    );
    expect(segment!.records.map(({ entryCount }) => entryCount)).toEqual([4]);
  });
});

describe('a list of chunks', () => {
  for (const seed of seeds(3)) {
    it(`puts versions, chunks and sequences in order, and the rest with them (SEED=${seed})`, () => {
      const random = new Random(seed);
      const list = new ChunkList();
      const expected: number[][] = [];
      for (let i = 0; i < 3000; i++) {
        const label = random.between(1, 4);
        const chunk = random.below(300) + (random.chance(10) ? 2 ** 33 : 0);
        const sequence = random.below(50) + (random.chance(10) ? 2 ** 40 : 0);
        const row = [label, chunk, sequence, random.next(), random.next(), random.next()];
        expected.push(row);
        list.add(label, chunk, sequence, row[3]!, row[4]!, row[5]!);
      }
      const { labels, chunks, sequences, segments, offsets, checksums } = list.inOrder();
      const found = Array.from(labels, (label, i) => [
        label,
        chunks[i]!,
        sequences[i]!,
        segments[i]!,
        offsets[i]!,
        checksums[i]!,
      ]);
      const key = (row: readonly number[]): string => row.join();
      expect(found.map(key).sort()).toEqual(expected.map(key).sort());
      for (let i = 1; i < found.length; i++) {
        const [a, b] = [found[i - 1]!, found[i]!];
        expect(a[0]! - b[0]! || a[1]! - b[1]! || a[2]! - b[2]!).toBeLessThanOrEqual(0);
      }
      expect(list.arrays().labels.length).toBe(3000);
    });
  }
});
