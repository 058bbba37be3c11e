/** Lists of hashes: what was written is read, and what is not as it was written is refused. */

import { createHash } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { StoreError } from '../../src/base/errors.ts';
import { encodeFrameHeader, END_FRAME, HASHES_FRAME, HEAD_FRAME } from '../../src/delta/format.ts';
import {
  BLOCK_BYTES,
  type HashedBlock,
  HashListReader,
  HashListWriter,
  hashOf,
} from '../../src/delta/hash-list.ts';
import { encodeHead, type StreamHead } from '../../src/delta/head.ts';
import { StreamReader } from '../../src/delta/stream-reader.ts';
import { Random, seeds } from '../support/random.ts';
import { headerFor, headOf, makeStream } from './streams.ts';

function made(head: StreamHead, blocks: readonly HashedBlock[]): Buffer {
  const list = new HashListWriter(head.target.size);
  return Buffer.concat([...list.begin(head), ...blocks.flatMap((block) => list.add(block)), ...list.end()]);
}

/** Blocks that are verified, as far as there are any; and what it was refused with. */
function read(bytes: Buffer, pieceBytes = bytes.length): { blocks: HashedBlock[]; error?: unknown } {
  const reader = new HashListReader();
  const blocks: HashedBlock[] = [];
  try {
    for (let at = 0; at < bytes.length; at += pieceBytes)
      for (const part of reader.push(bytes.subarray(at, at + pieceBytes)))
        if (part.kind === 'hashes') blocks.push(...part.blocks);
    reader.close();
    return { blocks };
  } catch (error) {
    return { blocks, error };
  }
}

const CODES = new Set(['CORRUPTION', 'UNSUPPORTED_FORMAT']);
const isRefused = (error: unknown): boolean => error instanceof StoreError && CODES.has(error.code);

function randomBlocks(random: Random, size: number): HashedBlock[] {
  const blocks: HashedBlock[] = [];
  const count = Math.ceil(size / BLOCK_BYTES);
  for (let block = random.below(3); block < count; block += random.pick([1, 1, 1, 1, 2, 40]))
    blocks.push({ block, hash: random.bytes(32) });
  return blocks;
}

/** Frames that somebody made up, with checksums and digests that fit. */
function forged(frames: { kind: number; body: Buffer }[]): Buffer {
  const signature = Buffer.from('COPPICE HASHES 1');
  const digest = createHash('sha256').update(signature);
  const slices: Buffer[] = [signature];
  frames.forEach(({ kind, body }, number) => {
    const header = encodeFrameHeader(headerFor(number, kind, body));
    digest.update(header).update(body);
    const sum = digest.copy().digest();
    digest.update(sum);
    slices.push(header, body, sum);
  });
  return Buffer.concat(slices);
}

describe('a list of hashes', () => {
  it.each(seeds(20))('has the blocks that were put into it, however it comes (seed %i)', (seed) => {
    const random = new Random(seed);
    const size = 512 * random.between(1, random.pick([300, 2_000_000]));
    const blocks = randomBlocks(random, size);
    const bytes = made(headOf(size), blocks);
    for (const pieceBytes of [random.between(1, 100), bytes.length]) {
      const found = read(bytes, pieceBytes);
      expect([found.error, found.blocks]).toEqual([undefined, blocks]);
    }
  });

  it('of an empty disk of 64 TiB is small, and of one block at its end too', () => {
    const size = 2 ** 46;
    expect(made(headOf(size), []).length).toBeLessThan(700);
    const block = size / BLOCK_BYTES - 1;
    const bytes = made(headOf(size), [{ block, hash: Buffer.alloc(32, 1) }]);
    expect([read(bytes).blocks[0]!.block, bytes.length < 800]).toEqual([block, true]);
  });

  it('has nothing of zeros, and a hash of what a block has, long or short', () => {
    expect(hashOf(Buffer.alloc(BLOCK_BYTES))).toBeUndefined();
    expect(hashOf(Buffer.alloc(512))).toBeUndefined();
    const bytes = Buffer.alloc(1024, 5);
    expect(hashOf(bytes)).toEqual(createHash('sha256').update(bytes).digest());
  });

  it('is refused when it is cut off at any byte, or any bit of it is flipped', () => {
    const random = new Random(4);
    const size = 100 * BLOCK_BYTES;
    const blocks = randomBlocks(random, size).slice(0, 20);
    const bytes = made(headOf(size), blocks);
    for (let end = 0; end < bytes.length; end++)
      expect(isRefused(read(bytes.subarray(0, end)).error), `cut at ${end}`).toBe(true);
    for (let bit = 0; bit < 8 * bytes.length; bit++) {
      const flipped = Buffer.from(bytes);
      flipped[bit >> 3]! ^= 1 << (bit & 7);
      const { error, blocks: answered } = read(flipped);
      expect(isRefused(error), `bit ${bit}`).toBe(true);
      // What was answered before is as it was written.
      expect(answered).toEqual(blocks.slice(0, answered.length));
    }
    expect(isRefused(read(Buffer.concat([bytes, Buffer.alloc(1)])).error)).toBe(true);
  });

  it.each(seeds(1))('takes 20000 mutations without a mistake (seed %i)', (seed) => {
    const random = new Random(seed);
    const size = 512 * random.between(100, 50_000);
    const bytes = made(headOf(size), randomBlocks(random, size));
    for (let i = 0; i < 20_000; i++) {
      const mutated = Buffer.from(bytes);
      for (let left = random.between(1, 4); left > 0; left--) {
        const at = random.below(mutated.length);
        if (random.chance(50)) mutated[at] = random.below(256);
        else mutated.copy(mutated, at, random.below(mutated.length), mutated.length);
      }
      const { error } = read(mutated);
      if (error !== undefined) expect(isRefused(error)).toBe(true);
      else expect(mutated.equals(bytes)).toBe(true);
    }
  });

  it('that somebody made up with the right digests is refused where it cannot be', () => {
    const size = 10 * BLOCK_BYTES;
    const head = { kind: HEAD_FRAME, body: encodeHead(headOf(size)) };
    const hashes = (
      runs: [first: number, count: number][],
      hashCount: number,
    ): { kind: number; body: Buffer } => {
      const table = Buffer.alloc(4 + 10 * runs.length);
      table.writeUInt32BE(runs.length);
      runs.forEach(([first, count], i) => {
        table.writeUIntBE(first, 4 + 10 * i, 6);
        table.writeUInt32BE(count, 10 + 10 * i);
      });
      return { kind: HASHES_FRAME, body: Buffer.concat([table, Buffer.alloc(32 * hashCount, 1)]) };
    };
    const end = (frames: number, hashed: number): { kind: number; body: Buffer } => {
      const body = Buffer.alloc(24);
      [frames, hashed, size - hashed].forEach((value, i) => body.writeBigUInt64BE(BigInt(value), 8 * i));
      return { kind: END_FRAME, body };
    };
    const right = [
      head,
      hashes(
        [
          [0, 2],
          [5, 1],
        ],
        3,
      ),
      end(1, 3 * BLOCK_BYTES),
    ];
    expect(read(forged(right)).error).toBeUndefined();
    const wrong: { kind: number; body: Buffer }[][] = [
      [
        head,
        hashes(
          [
            [0, 2],
            [1, 1],
          ],
          3,
        ),
        end(1, 3 * BLOCK_BYTES),
      ],
      [
        head,
        hashes(
          [
            [5, 1],
            [0, 2],
          ],
          3,
        ),
        end(1, 3 * BLOCK_BYTES),
      ],
      [head, hashes([[9, 2]], 2), end(1, 2 * BLOCK_BYTES)],
      [head, hashes([[2 ** 47, 1]], 1), end(1, BLOCK_BYTES)],
      [head, hashes([[0, 2 ** 32 - 1]], 1), end(1, BLOCK_BYTES)],
      [head, hashes([[0, 0]], 0), end(1, 0)],
      [head, hashes([], 0), end(1, 0)],
      [head, hashes([[0, 1]], 2), end(1, BLOCK_BYTES)],
      [head, hashes([[0, 1]], 1), hashes([[0, 1]], 1), end(2, 2 * BLOCK_BYTES)],
      [head, hashes([[0, 1]], 1), end(2, BLOCK_BYTES)],
      [head, hashes([[0, 1]], 1), end(1, 2 * BLOCK_BYTES)],
      [head, { kind: 2, body: Buffer.alloc(40, 1) }, end(1, 0)],
      [{ kind: HEAD_FRAME, body: encodeHead({ ...headOf(size), position: 512 }) }, end(0, 0)],
      [{ kind: HEAD_FRAME, body: encodeHead(headOf(size, headOf(size).target)) }, end(0, 0)],
    ];
    wrong.forEach((frames, i) => expect(isRefused(read(forged(frames)).error), `case ${i}`).toBe(true));
  });

  it('is no stream, and a stream is none', async () => {
    const size = BLOCK_BYTES;
    const stream = await makeStream(headOf(size), [[{ offset: 0, bytes: Buffer.alloc(512, 1) }]]);
    expect(String(read(stream).error)).toContain('no stream of `coppice hashes`');
    expect(() => [...new StreamReader().push(made(headOf(size), []))]).toThrow('no stream of `coppice send`');
  });
});
