/**
 * Keys and values of the index in LevelDB; the only file that knows a byte of them. No I/O.
 *
 * | key | value |
 * |---|---|
 * | `c` | checkpoint: what the index reflects, and the digests of the roots, of the usage rows and of the window rows |
 * | `d` level u8, tree u32, number u32 | directory node (directory.ts): which rows there are, and their checksums |
 * | `l` tree u32, region u32 | list of the pointer rows of a region that has several |
 * | `p` tree u32, region u32, 2^32-1 - label u32, generation u32 | pointers of one version in a region |
 * | `u` segment u32 | usage of a segment |
 * | `v` label u32, leaf u32 | which chunks of 256 regions a version has pointers for (extents.ts) |
 * | `w` label u32, window u32 | how many `v` rows of a version there are in 4096 leaves (1 TiB), and their digest |
 *
 * Pointer rows of a region lie together, newest version first. A pointer row is written once under its key: a
 * change is a row of a new generation. Every value begins with a CRC-32C over key and rest of the value, so that a
 * row that belongs elsewhere is as wrong as a damaged one.
 */

import { ByteReader, ByteWriter } from '../base/bytes.ts';
import { crc32c } from '../base/crc.ts';
import { StoreError } from '../base/errors.ts';
import { CHUNK_BYTES } from '../base/units.ts';
import { HOLE, PointerBlock, REGION_CHUNKS } from './pointers.ts';

const CHECKSUM_BYTES = 4;

export const CHECKPOINT_KEY = Buffer.from('c');

export function pointerKey(tree: number, region: number, label: number, generation: number): Buffer {
  const out = new ByteWriter(Buffer.allocUnsafe(17)).u8(0x70).u32(tree).u32(region);
  return out.u32(0xffffffff - label).u32(generation).buffer;
}

export function listKey(tree: number, region: number): Buffer {
  return new ByteWriter(Buffer.allocUnsafe(9)).u8(0x6c).u32(tree).u32(region).buffer;
}

export function directoryKey(tree: number, level: number, number: number): Buffer {
  return new ByteWriter(Buffer.allocUnsafe(10)).u8(0x64).u8(level).u32(tree).u32(number).buffer;
}

export function usageKey(segment: number): Buffer {
  return new ByteWriter(Buffer.allocUnsafe(5)).u8(0x75).u32(segment).buffer;
}

export function extentKey(label: number, leaf: number): Buffer {
  return new ByteWriter(Buffer.allocUnsafe(9)).u8(0x76).u32(label).u32(leaf).buffer;
}

export function windowKey(label: number, window: number): Buffer {
  return new ByteWriter(Buffer.allocUnsafe(9)).u8(0x77).u32(label).u32(window).buffer;
}

/** Every key of one kind of row: [gte, lt). */
export function keyRange(kind: 'd' | 'l' | 'p' | 'u' | 'v' | 'w'): { gte: Buffer; lt: Buffer } {
  const code = kind.charCodeAt(0);
  return { gte: Buffer.from([code]), lt: Buffer.from([code + 1]) };
}

/** Sets the checksum at the front of `value`, and answers it. */
export function sealRow(key: Buffer, value: Buffer): number {
  const checksum = crc32c(value.subarray(CHECKSUM_BYTES), crc32c(key));
  value.writeUInt32BE(checksum, 0);
  return checksum;
}

/** The checksum of a row. @throws INDEX_DAMAGED if it is missing, or not what was written under this key */
export function openRow(key: Buffer, value: Buffer | undefined): number {
  if (value === undefined)
    throw new StoreError('INDEX_DAMAGED', `index row ${key.toString('hex')} is missing`);
  const checksum = value.length < CHECKSUM_BYTES ? -1 : value.readUInt32BE(0);
  if (crc32c(value.subarray(CHECKSUM_BYTES), crc32c(key)) !== checksum) {
    throw new StoreError('INDEX_DAMAGED', `index row ${key.toString('hex')} is damaged`);
  }
  return checksum;
}

/** A row whose checksum another row states. @throws INDEX_DAMAGED if it is missing, damaged or another one */
export function openStatedRow(key: Buffer, value: Buffer | undefined, stated: number): Buffer {
  if (openRow(key, value) !== stated) {
    throw new StoreError('INDEX_DAMAGED', `index row ${key.toString('hex')} is outdated`);
  }
  return value!;
}

/**
 * A pointer row behind its checksum: runs u16, then for each run
 * first u8, count - 1 u8, segment u32, offset u32, sequence u48; then the CRC-32C u32 of each chunk of the runs that
 * are not holes. Chunks of a run follow each other in the segment and share the sequence.
 */
const RUN_BYTES = 16;
const scratch = Buffer.alloc(CHECKSUM_BYTES + 2 + REGION_CHUNKS * (RUN_BYTES + 4));
const firsts = new Uint16Array(REGION_CHUNKS + 1);

export function encodePointers(block: PointerBlock): Buffer {
  let runs = 0;
  let index = 0;
  while (index < REGION_CHUNKS) {
    if (block.segment(index) === 0) {
      index += 1;
      continue;
    }
    firsts[runs++] = index;
    index += runLength(block, index);
  }
  const out = new ByteWriter(scratch, CHECKSUM_BYTES).u16(runs);
  for (let run = 0; run < runs; run++) {
    const first = firsts[run]!;
    out.u8(first).u8(runLength(block, first) - 1);
    out.u32(block.segment(first)).u32(block.offset(first)).u48(block.sequence(first));
  }
  for (let run = 0; run < runs; run++) {
    const first = firsts[run]!;
    if (block.segment(first) === HOLE) continue;
    const end = first + runLength(block, first);
    for (let i = first; i < end; i++) out.u32(block.checksum(i));
  }
  return Buffer.from(scratch.subarray(0, out.position));
}

function runLength(block: PointerBlock, first: number): number {
  const segment = block.segment(first);
  const sequence = block.sequence(first);
  const step = segment === HOLE ? 0 : CHUNK_BYTES;
  let index = first + 1;
  let offset = block.offset(first) + step;
  while (
    index < REGION_CHUNKS &&
    block.segment(index) === segment &&
    block.offset(index) === offset &&
    block.sequence(index) === sequence
  ) {
    index += 1;
    offset += step;
  }
  return index - first;
}

/**
 * Merges a pointer row into `block`, where the higher sequence counts, and of equal ones what was merged before: rows of
 * a version are merged newest first. The row's checksum has been verified.
 */
export function mergePointerRow(value: Buffer, block: PointerBlock): void {
  const runs = new ByteReader(value, CHECKSUM_BYTES).u16();
  let at = CHECKSUM_BYTES + 2;
  let checksumAt = at + runs * RUN_BYTES;
  if (checksumAt > value.length)
    throw new StoreError('CORRUPTION', 'a row of pointers is shorter than it says');
  for (let run = 0; run < runs; run++, at += RUN_BYTES) {
    const first = value[at]!;
    const count = value[at + 1]! + 1;
    const segment = u32At(value, at + 2);
    const offset = u32At(value, at + 6);
    const sequence = (value[at + 10]! * 2 ** 8 + value[at + 11]!) * 2 ** 32 + u32At(value, at + 12);
    if (first + count > REGION_CHUNKS || checksumAt + (segment === HOLE ? 0 : 4 * count) > value.length)
      throw new StoreError('CORRUPTION', 'a row of pointers is shorter than it says');
    if (segment === HOLE) {
      for (let i = first; i < first + count; i++) block.putBeneath(i, HOLE, 0, 0, sequence);
      continue;
    }
    for (let i = 0; i < count; i++, checksumAt += 4)
      block.putBeneath(first + i, segment, offset + i * CHUNK_BYTES, u32At(value, checksumAt), sequence);
  }
}

/** Within bounds, and without asking for them: a page has hundreds. */
function u32At(value: Buffer, at: number): number {
  return ((value[at]! << 24) | (value[at + 1]! << 16) | (value[at + 2]! << 8) | value[at + 3]!) >>> 0;
}

/** Usage of a segment: live chunks u32. */
export function encodeUsage(liveChunks: number): Buffer {
  return new ByteWriter(Buffer.allocUnsafe(8), CHECKSUM_BYTES).u32(liveChunks).buffer;
}

export function decodeUsage(key: Buffer, value: Buffer): { segment: number; liveChunks: number } {
  return { segment: key.readUInt32BE(1), liveChunks: value.readUInt32BE(CHECKSUM_BYTES) };
}

/** Window: number of extent rows u32, the xor of their checksums u32. */
export function encodeWindow(rows: number, digest: number): Buffer {
  return new ByteWriter(Buffer.allocUnsafe(12), CHECKSUM_BYTES).u32(rows).u32(digest).buffer;
}

export interface WindowRow {
  label: number;
  window: number;
  rows: number;
  digest: number;
}

export function decodeWindow(key: Buffer, value: Buffer): WindowRow {
  const input = new ByteReader(value, CHECKSUM_BYTES);
  return {
    label: key.readUInt32BE(1),
    window: key.readUInt32BE(5),
    rows: input.u32(),
    digest: input.u32(),
  };
}

/** The revision of these layouts. Another one found means: rebuild. */
export const INDEX_REVISION = 2;

/**
 * Behind its checksum: revision u16, store UUID 16, generation u32, replay position segment u32 and offset u32,
 * append number u64 of the record there, roots u32, usage u32 and windows u32 (each the xor of the rows' checksums),
 * time u64.
 */
export interface CheckpointRow {
  uuid: Buffer;
  generation: number;
  segment: number;
  offset: number;
  append: number;
  rootsDigest: number;
  usageDigest: number;
  windowsDigest: number;
  at: number;
}

const CHECKPOINT_BYTES = 62;

export function encodeCheckpoint(row: CheckpointRow): Buffer {
  const out = new ByteWriter(Buffer.alloc(CHECKPOINT_BYTES), CHECKSUM_BYTES)
    .u16(INDEX_REVISION)
    .bytes(row.uuid);
  out.u32(row.generation).u32(row.segment).u32(row.offset).u64(row.append);
  return out.u32(row.rootsDigest).u32(row.usageDigest).u32(row.windowsDigest).u64(row.at).buffer;
}

/** undefined if the row is of another revision. */
export function decodeCheckpoint(value: Buffer): CheckpointRow | undefined {
  const input = new ByteReader(value, CHECKSUM_BYTES);
  if (value.length !== CHECKPOINT_BYTES || input.u16() !== INDEX_REVISION) return undefined;
  return {
    uuid: Buffer.from(input.bytes(16)),
    generation: input.u32(),
    segment: input.u32(),
    offset: input.u32(),
    append: input.u64(),
    rootsDigest: input.u32(),
    usageDigest: input.u32(),
    windowsDigest: input.u32(),
    at: input.u64(),
  };
}
