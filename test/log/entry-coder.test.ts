/** Packed data entries: any list of them is read back as it was written, in the bytes that were measured. */

import { describe, expect, it } from 'vitest';
import { ByteReader, ByteWriter } from '../../src/base/bytes.ts';
import { DATA_ENTRY_BYTES_MAX, EntryCoder, isPacked } from '../../src/log/entry-coder.ts';
import { ENTRY_CHUNKS, readEntries } from '../../src/log/entries.ts';
import { Random, seeds } from '../support/random.ts';

type DataEntry = [isZeros: boolean, sequence: number, label: number, first: number, count: number];

const CHUNKS_OF_VOLUME = 2 ** 34;

function near(random: Random, value: number, max: number): number {
  const by = random.pick([0, 1, -1, 63, -64, 64, 200, -10_000, 2 ** 20]);
  return Math.min(Math.max(0, value + by), max);
}

function randomEntries(random: Random, count: number): DataEntry[] {
  let [sequence, label, next] = [random.below(2 ** 30), random.below(2 ** 32), 0];
  return Array.from({ length: count }, () => {
    sequence = random.pick([sequence + 1, sequence + 1, sequence, near(random, sequence, 2 ** 51), 2 ** 51]);
    label = random.pick([label, label, near(random, label, 2 ** 32 - 1), 2 ** 32 - 1, 0]);
    const first = random.pick([near(random, next, CHUNKS_OF_VOLUME - 1), random.below(CHUNKS_OF_VOLUME), 0]);
    const count = Math.min(random.pick([1, 1, 2, 127, 128, 2 ** 34]), CHUNKS_OF_VOLUME - first);
    next = first + count;
    return [random.pick([true, false]), sequence, label, first, count];
  });
}

function write(entries: readonly DataEntry[]): Buffer {
  const out = new ByteWriter(Buffer.alloc(entries.length * DATA_ENTRY_BYTES_MAX));
  const coder = new EntryCoder();
  for (const each of entries) coder.write(out, ...each);
  return out.buffer.subarray(0, out.position);
}

function read(table: Buffer): DataEntry[] {
  const input = new ByteReader(table);
  const coder = new EntryCoder();
  const entries: DataEntry[] = [];
  while (input.remaining > 0) {
    const kind = input.u8();
    expect(isPacked(kind)).toBe(true);
    coder.read(input, kind);
    entries.push([coder.isZeros, coder.sequence, coder.label, coder.first, coder.count]);
  }
  return entries;
}

describe('packed entries', () => {
  it.each(seeds(20))('are read back as they were written, and as long as was measured (SEED=%d)', (seed) => {
    const random = new Random(seed);
    const entries = randomEntries(random, random.between(1, 300));
    const table = write(entries);
    expect(read(table)).toEqual(entries);
    const measuring = new EntryCoder();
    expect(entries.reduce((bytes, each) => bytes + measuring.measure(...each), 0)).toBe(table.length);
    for (const each of entries) {
      const alone = write([each]);
      expect(alone.length).toBeLessThanOrEqual(DATA_ENTRY_BYTES_MAX);
      expect(read(alone)).toEqual([each]);
    }
  });

  it('of random writes of single chunks take a byte and where they are', () => {
    const entries = Array.from(
      { length: 32 },
      (_, i): DataEntry => [false, 1000 + i, 7, (i * 7919) % 262_144, 1],
    );
    expect(write(entries).length).toBeLessThanOrEqual(32 * 4 + 3);
  });

  it.each([
    ['a sequence below zero', [16 + 4 + 8, 3, 0]],
    ['a label of more than 32 bits', [16 + 2 + 8, 0x80, 0x80, 0x80, 0x80, 0x10, 0]],
    ['a chunk before the first', [16 + 1 + 2 + 4 + 8, 1]],
    ['a chunk behind every disk', [16 + 1 + 2 + 4 + 8, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 1]],
    ['more chunks than any disk has', [16 + 1 + 2 + 4, 0, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x40]],
    ['a number of too many bytes', [16 + 1 + 2 + 4 + 8, ...Array<number>(8).fill(0x80), 0]],
  ])('of %s are CORRUPTION', (_, table) => {
    const isCorruption = expect.objectContaining({ code: 'CORRUPTION' });
    expect(() => readEntries(Buffer.from(table), 1, 0)).toThrow(isCorruption);
  });

  it('begin anew with each table', () => {
    const coder = new EntryCoder();
    const bytes = (): number => coder.measure(false, 5, 1, 2, 3);
    const first = bytes();
    expect(bytes()).not.toBe(first);
    coder.reset();
    expect(bytes()).toBe(first);
  });

  it.each(seeds(20))('that are damaged are CORRUPTION, or others, and nothing else (SEED=%d)', (seed) => {
    const random = new Random(seed);
    for (let i = 0; i < 500; i++) {
      const table = Buffer.from(write(randomEntries(random, random.between(1, 4))));
      table[random.below(table.length)] = random.below(256);
      try {
        for (const entry of readEntries(table, random.between(1, 4), 0))
          if (entry.kind === ENTRY_CHUNKS) expect(entry.checksums.length).toBe(entry.count);
      } catch (error) {
        expect(error).toMatchObject({ code: 'CORRUPTION' });
      }
    }
  });
});
