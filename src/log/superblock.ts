/**
 * The superblock: what must be known before the log can be read. Two slots of 4096 bytes in one file; the valid one
 * with the higher generation counts, and only the other one is ever written, so that a torn write costs nothing.
 *
 * | at | bytes | slot |
 * |---|---|---|
 * | 0 | 8 | magic "COPPICE\n" |
 * | 8 | 2 | format revision |
 * | 10 | 6 | zero |
 * | 16 | 8 | generation of the superblock |
 * | 24 | 16 | store UUID |
 * | 40 | 4 | segment size in bytes |
 * | 44 | 4 | epoch: how many times the store has been opened to write |
 * | 48 | 8 | capacity in bytes, 0 for none |
 * | 56 | 8 | sequences below this may have been used |
 * | 64 | 8 | append numbers below this may have been used |
 * | 72 | 4 | version labels below this may have been used |
 * | 76 | 4 | segment numbers below this may have been used |
 * | 80 | 8 | when the store was made, milliseconds since 1970 |
 * | 88 | 4 | checksum of bytes 0 to 87 |
 * | 92 | 4 | from revision 2: the base, segment |
 * | 96 | 4 | the base, offset |
 * | 100 | 8 | the base, append number |
 * | 108 | 4 | checksum of bytes 0 to 107 |
 *
 * The base is where a rebuild begins: the record of a catalog before which segments have been removed. A store that has
 * never removed one has none: zeros. Revision 1 has none of these fields, 2 has a base, of 3 the log has packed entries, and
 * of 4 its catalogs have versions that are received, and where others came from.
 * Whatever is read, what is written has the newest revision: a program of before is not to open what it cannot read.
 *
 * Reservations: a process takes numbers only below what the synced superblock reserves, and starts at what it found
 * reserved. So no number is ever used twice, whatever part of the log a crash cut off.
 */

import { ByteReader, ByteWriter } from '../base/bytes.ts';
import { crc32c } from '../base/crc.ts';
import { assert, hasCode, StoreError } from '../base/errors.ts';
import type { Storage } from '../base/storage.ts';
import { UUID_BYTES } from './format.ts';

const MAGIC = Buffer.from('COPPICE\n', 'latin1');
const REVISION_AT = 8;
export const SUPERBLOCK_REVISION = 5;
const REVISION_WITH_BASE = 2;
/** Of revision 1. */
export const SUPERBLOCK_BYTES_FIRST = 92;
export const SUPERBLOCK_BYTES = 112;
const NO_BASE: LogBase = { segment: 0, offset: 0, append: 0 };
export const SLOT_BYTES = 4096;
export const SUPERBLOCK_PATH = 'superblock';
const NEW_SUPERBLOCK_PATH = 'superblock.new';

/** Where the catalog stands that a rebuild begins with. */
export interface LogBase {
  readonly segment: number;
  readonly offset: number;
  readonly append: number;
}

export interface Superblock {
  /** That it was read with. */
  revision: number;
  generation: number;
  uuid: Buffer;
  segmentBytes: number;
  epoch: number;
  capacityBytes: number;
  sequences: number;
  appends: number;
  labels: number;
  segments: number;
  created: number;
  /** undefined: the log is whole from its first segment on. */
  base: LogBase | undefined;
}

export function encodeSuperblock(block: Superblock): Buffer {
  const base = block.base ?? NO_BASE;
  const out = new ByteWriter(Buffer.alloc(SUPERBLOCK_BYTES));
  out.bytes(MAGIC).u16(SUPERBLOCK_REVISION).zeros(6).u64(block.generation).bytes(block.uuid);
  out.u32(block.segmentBytes).u32(block.epoch).u64(block.capacityBytes);
  out.u64(block.sequences).u64(block.appends).u32(block.labels).u32(block.segments).u64(block.created);
  out.u32(crc32c(out.buffer.subarray(0, out.position)));
  assert(out.position === SUPERBLOCK_BYTES_FIRST, 'superblock layout');
  out.u32(base.segment).u32(base.offset).u64(base.append);
  out.u32(crc32c(out.buffer.subarray(0, out.position)));
  return out.buffer;
}

/** The revision that a slot claims, whether or not the slot is whole; 0 if it is none. */
export function claimedRevision(slot: Buffer): number {
  if (slot.length < SUPERBLOCK_BYTES_FIRST || !slot.subarray(0, MAGIC.length).equals(MAGIC)) return 0;
  return slot.readUInt16BE(REVISION_AT);
}

export function unsupported(revision: number): StoreError {
  return new StoreError(
    'UNSUPPORTED_FORMAT',
    `the store has format revision ${revision} and this program knows ${SUPERBLOCK_REVISION}; use a newer coppice`,
  );
}

/**
 * undefined if the slot is not a whole superblock. Later revisions keep magic, revision and this checksum where they
 * are, so that a damaged slot is not taken for one of a later revision.
 * @throws UNSUPPORTED_FORMAT if it is one of a newer revision.
 */
export function decodeSuperblock(slot: Buffer): Superblock | undefined {
  const revision = claimedRevision(slot);
  if (revision === 0) return undefined;
  if (!isChecked(slot, SUPERBLOCK_BYTES_FIRST)) return undefined;
  if (revision > SUPERBLOCK_REVISION) throw unsupported(revision);
  const hasBase = revision >= REVISION_WITH_BASE;
  if (hasBase && !isChecked(slot, SUPERBLOCK_BYTES)) return undefined;
  const input = new ByteReader(slot, 16);
  const block = {
    revision,
    generation: input.u64(),
    uuid: Buffer.from(input.bytes(UUID_BYTES)),
    segmentBytes: input.u32(),
    epoch: input.u32(),
    capacityBytes: input.u64(),
    sequences: input.u64(),
    appends: input.u64(),
    labels: input.u32(),
    segments: input.u32(),
    created: input.u64(),
  };
  input.skip(4);
  const base = hasBase ? { segment: input.u32(), offset: input.u32(), append: input.u64() } : undefined;
  return { ...block, base: base?.append === NO_BASE.append ? undefined : base };
}

/** True if the first `bytes` end with the checksum of what stands before it. */
function isChecked(slot: Buffer, bytes: number): boolean {
  return slot.length >= bytes && crc32c(slot.subarray(0, bytes - 4)) === slot.readUInt32BE(bytes - 4);
}

/** @throws NOT_A_STORE, UNSUPPORTED_FORMAT, CORRUPTION if both slots are damaged. */
export async function readSuperblock(storage: Storage): Promise<Superblock> {
  const file = await storage.open(SUPERBLOCK_PATH, 'read').catch((error: unknown) => {
    if (hasCode(error, 'NOT_FOUND')) {
      throw new StoreError('NOT_A_STORE', 'this directory holds no store; make one with `coppice init`');
    }
    throw error;
  });
  try {
    const bytes = Buffer.alloc(2 * SLOT_BYTES);
    const length = await file.read(bytes, 0, bytes.length, 0);
    const slots = [bytes.subarray(0, SLOT_BYTES), bytes.subarray(SLOT_BYTES, Math.max(SLOT_BYTES, length))];
    const [a, b] = slots.map(decodeSuperblock);
    const newest = a && b ? (a.generation > b.generation ? a : b) : (a ?? b);
    if (newest === undefined) {
      const claimed = Math.max(...slots.map(claimedRevision));
      if (claimed > SUPERBLOCK_REVISION) throw unsupported(claimed);
      throw new StoreError('CORRUPTION', 'both copies of the superblock are damaged; run `coppice fsck`');
    }
    return newest;
  } finally {
    await file.close();
  }
}

/** Writes `block` as the next generation into the slot that does not hold the newest, and syncs it. */
export async function writeSuperblock(storage: Storage, block: Superblock): Promise<void> {
  block.generation += 1;
  const file = await storage.open(SUPERBLOCK_PATH, 'write');
  try {
    await file.write([encodeSuperblock(block)], (block.generation % 2) * SLOT_BYTES);
    await file.datasync();
  } finally {
    await file.close();
  }
}

/**
 * Puts `next` in the place of `newest`, which was read from the file, in a file of its own that takes the old one's name.
 * What was read may be in memory only, called clean since a sync of an earlier process failed: then neither slot may be
 * touched, this one because writing tears, the other one because it is all that is on the disk.
 */
export async function replaceSuperblock(
  storage: Storage,
  newest: Superblock,
  next: Superblock,
): Promise<void> {
  next.generation = newest.generation + 1;
  await putInPlace(storage, [newest, next]);
}

/**
 * Puts `next` in the place of whatever there is, both slots filled, by one rename: from then on nothing says any more what the old ones
 * said. Its generation is that of the first slot.
 */
export async function switchSuperblock(storage: Storage, next: Superblock): Promise<void> {
  await putInPlace(storage, [next, { ...next, generation: next.generation + 1 }]);
}

/** By one rename. */
async function putInPlace(storage: Storage, blocks: readonly Superblock[]): Promise<void> {
  await storage.remove(NEW_SUPERBLOCK_PATH);
  await writeFile(storage, NEW_SUPERBLOCK_PATH, blocks);
  await storage.rename(NEW_SUPERBLOCK_PATH, SUPERBLOCK_PATH);
  await storage.syncDirectory('.');
}

/** Makes the file of a new store, both slots filled. */
export async function createSuperblock(storage: Storage, block: Superblock): Promise<void> {
  await writeFile(storage, SUPERBLOCK_PATH, [block]);
}

async function writeFile(storage: Storage, path: string, blocks: readonly Superblock[]): Promise<void> {
  const slots = Buffer.alloc(2 * SLOT_BYTES);
  for (const block of blocks) encodeSuperblock(block).copy(slots, (block.generation % 2) * SLOT_BYTES);
  const file = await storage.open(path, 'create');
  try {
    await file.write([slots], 0);
    await file.datasync();
  } finally {
    await file.close();
  }
}
