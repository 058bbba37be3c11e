/**
 * What moved chunks take, before it is known which they are: for rounds that must not take more than there is. Pure.
 */

import { CHUNK_BYTES } from '../base/units.ts';
import { DATA_ENTRY_BYTES_MAX } from '../log/entry-coder.ts';
import {
  FIRST_RECORD_OFFSET,
  FOOTER_ITEM_BYTES,
  RECORD_ALIGN_BYTES,
  RECORD_HEADER_BYTES,
  SYNC_ALIGN_BYTES,
} from '../log/format.ts';

/** Chunks of a record: a mebibyte is read and written at once. */
export const RECORD_CHUNKS_MAX = 256;
/** Zeroed extents of a record. */
const RECORD_ZEROS_MAX = 2048;
/** Records that a segment has room for at least. */
const RECORDS_MIN = 8;

/** How often a band of a round begins for the age alone (age-bands.ts), at most. */
export const AGE_CUTS_MAX = 4;

/** Chunks and zeroed extents of a record in segments of this size. */
export function recordSizes(segmentBytes: number): { chunks: number; zeros: number } {
  const bytes = segmentBytes / RECORDS_MIN;
  return {
    chunks: Math.max(1, Math.min(RECORD_CHUNKS_MAX, Math.floor(bytes / CHUNK_BYTES))),
    zeros: Math.max(1, Math.min(RECORD_ZEROS_MAX, Math.floor(bytes / (4 * DATA_ENTRY_BYTES_MAX)))),
  };
}

/** What a segment of moves has beside its chunks, and each chunk beside its payload; roughly. */
export const BESIDE_BYTES = FIRST_RECORD_OFFSET + 2 * SYNC_ALIGN_BYTES;
export const MOVED_CHUNK_BYTES = CHUNK_BYTES + 64;

/** Bytes that a segment of moves takes for so many chunks, with all that stands beside them; roughly. */
export function movedBytes(chunkCount: number): number {
  return chunkCount === 0 ? 0 : BESIDE_BYTES + chunkCount * MOVED_CHUNK_BYTES;
}

/** Segments that so many chunks fill. */
export function bandCountOf(chunkCount: number, segmentBytes: number): number {
  return Math.ceil((chunkCount * MOVED_CHUNK_BYTES) / (segmentBytes - BESIDE_BYTES));
}

/** Live bytes that a round may move for which there is so much room. */
export function liveBytesFor(roomBytes: number, segmentBytes: number): number {
  const share = (CHUNK_BYTES / MOVED_CHUNK_BYTES) * (1 - BESIDE_BYTES / segmentBytes);
  return Math.max(0, (roomBytes - 2 * BESIDE_BYTES) * share);
}

/** Room for a round that moves so many chunks; none for one that moves nothing, so that a store without room gets some. */
export function roundRoomBytes(chunkCount: number, segmentBytes: number): number {
  if (chunkCount === 0) return 0;
  return chunkCount * MOVED_CHUNK_BYTES + (bandCountOf(chunkCount, segmentBytes) + 1) * BESIDE_BYTES;
}

/** An upper bound of the segments that a layout needs. */
export function segmentCountMax(chunkCount: number, zerosCount: number, segmentBytes: number): number {
  const { chunks, zeros } = recordSizes(segmentBytes);
  const besides = RECORD_HEADER_BYTES + FOOTER_ITEM_BYTES + 2 * RECORD_ALIGN_BYTES;
  const bytes =
    chunkCount * (CHUNK_BYTES + 3 * DATA_ENTRY_BYTES_MAX + besides / chunks) +
    zerosCount * (3 * DATA_ENTRY_BYTES_MAX + besides / zeros);
  // A record may not fit at the end of each, and each band begins one of its own.
  return 2 * (Math.ceil(bytes / (segmentBytes / 2)) + AGE_CUTS_MAX + 1);
}
