/**
 * The units everything is counted in, and the only conversions between bytes and chunks. No I/O.
 *
 * Plain numbers carry all of them: every value stays below 2^53. `ChunkNumber` is below 2^34 (64 TiB of 4 KiB
 * chunks), `Sequence` and append numbers below 2^53, segment numbers and version labels below 2^32.
 */

export const CHUNK_BYTES = 4096;
export const CHUNK_SHIFT = 12;
/** Sizes of disks are multiples of this. */
export const SECTOR_BYTES = 512;
export const VOLUME_BYTES_MAX = 64 * 2 ** 40;

/** Position of a chunk in its disk. */
export type ChunkNumber = number;
/** Number of an entry in the order of all changes to the store; never reused. */
export type Sequence = number;
/** Number of a segment file; from 1, never reused. */
export type SegmentNumber = number;
/** Label of a version; from 1, never reused, larger than its parent's. */
export type VersionLabel = number;

/** Who makes snapshots but people. */
export const SNAPSHOT_MAKERS = ['schedule', 'target'] as const;
export type SnapshotMaker = (typeof SNAPSHOT_MAKERS)[number];

/** The chunk that holds byte `offset`. Bit shifts would stop at 2^32. */
export function chunkOf(offset: number): ChunkNumber {
  return Math.floor(offset / CHUNK_BYTES);
}

/** How many chunks hold `bytes`. */
export function chunksFor(bytes: number): number {
  return Math.ceil(bytes / CHUNK_BYTES);
}

/** `value` rounded up to a multiple of `unit`. */
export function roundUp(value: number, unit: number): number {
  return Math.ceil(value / unit) * unit;
}
