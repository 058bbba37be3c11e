/**
 * What a version of a disk is, as a hash for each 64 KiB of it: what `coppice hashes` writes, so that a store that has no
 * snapshot in common with this one sends only what differs. Pure.
 *
 * A list begins with 16 bytes, `COPPICE HASHES 1`, and has frames as a stream has (format.ts):
 *
 *     head | hashes | hashes | ... | end
 *
 * Its head is that of a stream of all of the version: base null, position 0. A block is 64 KiB of the disk, the last one what
 * is left. A block that reads as zeros is not listed, so that a list is as small as its disk is empty.
 *
 * | body | layout |
 * |---|---|
 * | hashes | runs u32, from 1 to 4096; for each its first block u48 and its count of blocks u32; then a SHA-256 for each block, in order, 4096 at most |
 * | end | frames of hashes u64, bytes of the disk in blocks that are listed u64, in others u64 |
 *
 * Runs are in order, do not overlap, over all frames, and end within the disk. The hash is a whole SHA-256, because guests
 * choose what disks have: whoever could make two blocks with one hash would keep a change from being sent.
 */

import { hash } from 'node:crypto';
import { ByteReader, ByteWriter } from '../base/bytes.ts';
import { assert } from '../base/errors.ts';
import {
  CODEC_RAW,
  damaged,
  decodeTotals,
  encodeTotals,
  HASH_BYTES,
  HASH_RUN_BYTES,
  HASHES_FRAME,
  HASHES_MAX,
  HEAD_FRAME,
} from './format.ts';
import { FrameReader, type VerifiedFrame } from './frame-reader.ts';
import { FrameWriter } from './frame-writer.ts';
import { decodeHead, type StreamHead } from './head.ts';

export const BLOCK_BYTES = 64 << 10;
const SIGNATURE = Buffer.from('COPPICE HASHES 1', 'latin1');
const COUNT_BYTES = 4;
const ZEROS = Buffer.alloc(BLOCK_BYTES);

/** A block that does not read as zeros. */
export interface HashedBlock {
  readonly block: number;
  readonly hash: Buffer;
}

/** Of the bytes of a block; undefined if they are zeros. */
export function hashOf(bytes: Buffer): Buffer | undefined {
  if (bytes.compare(ZEROS, 0, bytes.length) === 0) return undefined;
  return hash('sha256', bytes, 'buffer');
}

/** Bytes that a disk has of a block: none behind its end. */
export function blockBytes(block: number, size: number): number {
  return Math.max(0, Math.min(BLOCK_BYTES, size - block * BLOCK_BYTES));
}

/** Makes the bytes of a list. Requires: blocks come in order. */
export class HashListWriter {
  readonly #frames = new FrameWriter(SIGNATURE);
  readonly #size: number;
  #waiting: HashedBlock[] = [];
  #next = 0;
  #frameCount = 0;
  #hashedBytes = 0;

  constructor(size: number) {
    this.#size = size;
  }

  begin(head: StreamHead): Buffer[] {
    return this.#frames.begin(head);
  }

  /** A frame, when there is enough for one. */
  add(hashed: HashedBlock): Buffer[] {
    const { block } = hashed;
    assert(block >= this.#next && blockBytes(block, this.#size) > 0, 'blocks in order, in the disk');
    this.#next = block + 1;
    this.#hashedBytes += blockBytes(block, this.#size);
    return this.#waiting.push(hashed) < HASHES_MAX ? [] : this.#frame();
  }

  end(): Buffer[] {
    const last = this.#waiting.length === 0 ? [] : this.#frame();
    const [dataBytes, zeroBytes] = [this.#hashedBytes, this.#size - this.#hashedBytes];
    return [...last, ...this.#frames.end(encodeTotals({ frames: this.#frameCount, dataBytes, zeroBytes }))];
  }

  #frame(): Buffer[] {
    const runs: { first: number; count: number }[] = [];
    for (const { block } of this.#waiting) {
      const run = runs.at(-1);
      if (run !== undefined && run.first + run.count === block) run.count += 1;
      else runs.push({ first: block, count: 1 });
    }
    const table = new ByteWriter(Buffer.allocUnsafe(COUNT_BYTES + runs.length * HASH_RUN_BYTES));
    table.u32(runs.length);
    for (const { first, count } of runs) table.u48(first).u32(count);
    const body = [table.buffer, ...this.#waiting.map((each) => each.hash)];
    const bytes = table.position + this.#waiting.length * HASH_BYTES;
    this.#waiting = [];
    this.#frameCount += 1;
    return this.#frames.frame(HASHES_FRAME, CODEC_RAW, body, bytes);
  }
}

export type HashListPart =
  | { readonly kind: 'head'; readonly head: StreamHead }
  | { readonly kind: 'hashes'; readonly blocks: readonly HashedBlock[] }
  | { readonly kind: 'end' };

/** Reads a list as its bytes come, whoever made it. What is answered has been verified. */
export class HashListReader {
  readonly #frames = new FrameReader({ signature: SIGNATURE, kind: HASHES_FRAME, maker: 'coppice hashes' });
  #size = 0;
  /** Behind the last block. */
  #next = 0;
  #frameCount = 0;
  #hashedBytes = 0;

  /** @throws CORRUPTION, UNSUPPORTED_FORMAT */
  *push(bytes: Buffer): Generator<HashListPart> {
    for (const frame of this.#frames.push(bytes)) yield this.#understood(frame);
  }

  /** No more bytes come. @throws CORRUPTION if the end has not come */
  close(): void {
    this.#frames.close();
  }

  #understood({ kind, body }: VerifiedFrame): HashListPart {
    if (kind === HEAD_FRAME) {
      const head = decodeHead(body);
      if (head.base !== null || head.position !== 0) throw damaged('its head is not of a whole version');
      this.#size = head.target.size;
      return { kind: 'head', head };
    }
    if (kind === HASHES_FRAME) return { kind: 'hashes', blocks: this.#blocks(body) };
    const { frames, dataBytes, zeroBytes } = decodeTotals(body);
    const isRight = frames === this.#frameCount && dataBytes === this.#hashedBytes;
    if (!isRight || zeroBytes !== this.#size - dataBytes)
      throw damaged('its end tells of other hashes than came');
    return { kind: 'end' };
  }

  #blocks(body: Buffer): HashedBlock[] {
    const table = new ByteReader(body);
    const runCount = body.length < COUNT_BYTES ? 0 : table.u32();
    if (runCount < 1 || runCount > HASHES_MAX) throw damaged(`a frame has ${runCount} runs of hashes`);
    if (runCount * HASH_RUN_BYTES > table.remaining) throw damaged('a frame is shorter than its runs');
    const hashes = new ByteReader(body).skip(COUNT_BYTES + runCount * HASH_RUN_BYTES);
    const blocks: HashedBlock[] = [];
    for (let i = 0; i < runCount; i++) {
      const [first, count] = [table.u48(), table.u32()];
      const end = first + count;
      if (count === 0 || first < this.#next || count * HASH_BYTES > hashes.remaining)
        throw damaged('runs of hashes are empty, longer than what there is, or not in order');
      if (blockBytes(end - 1, this.#size) === 0) throw damaged('it has hashes behind the end of the disk');
      for (let block = first; block < end; block++) {
        blocks.push({ block, hash: hashes.bytes(HASH_BYTES) });
        this.#hashedBytes += blockBytes(block, this.#size);
      }
      this.#next = end;
    }
    if (hashes.remaining > 0) throw damaged('a frame has more hashes than it tells of');
    this.#frameCount += 1;
    return blocks;
  }
}
