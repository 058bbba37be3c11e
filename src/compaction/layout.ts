/**
 * Where moved chunks go: into segments, in records, in order. Pure.
 *
 * Two orders. By *disk*: version and chunk, so that a disk reads from the log as it would from a fresh one. By *age*:
 * first in bands of age, a segment each, and by disk within a band; what has not been written over for long stays apart
 * from what soon will be, or cleaning would gain nothing (LFS, Rosenblum and Ousterhout 1991).
 */

import { CHUNK_BYTES, roundUp } from '../base/units.ts';
import { DATA_ENTRY_BYTES_MAX, EntryCoder } from '../log/entry-coder.ts';
import {
  FIRST_RECORD_OFFSET,
  FOOTER_ITEM_BYTES,
  RECORD_ALIGN_BYTES,
  RECORD_FOOTER,
  RECORD_HEADER_BYTES,
  recordBytes,
  SYNC_ALIGN_BYTES,
  TRAILER_ROOM_BYTES,
} from '../log/format.ts';
import { type ChunkArrays, orderOf } from './chunk-list.ts';

/** Chunks of a record: a mebibyte is read and written at once. */
export const RECORD_CHUNKS_MAX = 256;
/** Zeroed extents of a record. */
const RECORD_ZEROS_MAX = 2048;
/** Records that a segment has room for at least. */
const RECORDS_MIN = 8;

/** A zeroed extent that still hides something older. */
export interface Zeros {
  readonly label: number;
  readonly first: number;
  readonly count: number;
  readonly sequence: number;
}

export type MoveOrder = 'disk' | 'age';

export interface RecordLayout {
  /** In its segment. */
  readonly offset: number;
  /** Chunks, as positions in the list of what is moved; or zeros. */
  readonly chunks: Uint32Array;
  readonly zeros: readonly Zeros[];
  readonly entryCount: number;
  readonly tableBytes: number;
}

export interface SegmentLayout {
  readonly records: RecordLayout[];
  readonly footerOffset: number;
  readonly footerTableBytes: number;
  /** Length of the file. */
  readonly bytes: number;
}

/** Chunks and zeroed extents of a record in segments of this size. */
function recordSizes(segmentBytes: number): { chunks: number; zeros: number } {
  const bytes = segmentBytes / RECORDS_MIN;
  return {
    chunks: Math.max(1, Math.min(RECORD_CHUNKS_MAX, Math.floor(bytes / CHUNK_BYTES))),
    zeros: Math.max(1, Math.min(RECORD_ZEROS_MAX, Math.floor(bytes / (4 * DATA_ENTRY_BYTES_MAX)))),
  };
}

/** What a segment of moves has beside its chunks, and each chunk beside its payload; roughly. */
const BESIDE_BYTES = FIRST_RECORD_OFFSET + 2 * SYNC_ALIGN_BYTES;
const MOVED_CHUNK_BYTES = CHUNK_BYTES + 64;

/** Bytes that a segment of moves takes for so many chunks, with all that stands beside them; roughly. */
export function movedBytes(chunkCount: number): number {
  return chunkCount === 0 ? 0 : BESIDE_BYTES + chunkCount * MOVED_CHUNK_BYTES;
}

/** Segments that so many chunks fill. */
function bandCountOf(chunkCount: number, segmentBytes: number): number {
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
  return 2 * Math.ceil(bytes / (segmentBytes / 2)) + 2;
}

/** `ages[i]`: of the segment that chunk i comes from; higher is younger. */
export function layOut(
  moved: ChunkArrays,
  ages: Float64Array,
  zeros: readonly Zeros[],
  order: MoveOrder,
  segmentBytes: number,
): SegmentLayout[] {
  const segments: SegmentLayout[] = [];
  const sizes = recordSizes(segmentBytes);
  let open = new OpenSegment(segmentBytes);
  const begin = (): void => {
    if (open.isEmpty) return;
    segments.push(open.close());
    open = new OpenSegment(segmentBytes);
  };
  for (let from = 0; from < zeros.length; from += sizes.zeros) {
    const some = zeros.slice(from, from + sizes.zeros);
    const tableBytes = bytesOfZeros(some);
    if (!open.fits(tableBytes, 0)) begin();
    open.add(new Uint32Array(), some, some.length, tableBytes);
  }
  for (const band of bandsOf(moved, ages, order, segmentBytes)) {
    for (let from = 0; from < band.length; from += sizes.chunks) {
      const chunks = band.subarray(from, from + sizes.chunks);
      const { entryCount, tableBytes } = tableOfChunks(moved, chunks);
      if (!open.fits(tableBytes, chunks.length)) begin();
      open.add(chunks, [], entryCount, tableBytes);
    }
    if (order === 'age') begin();
  }
  begin();
  return segments;
}

/** Positions of the chunks, in bands that share a segment, each in the order of the disk. */
function bandsOf(
  moved: ChunkArrays,
  ages: Float64Array,
  order: MoveOrder,
  segmentBytes: number,
): Uint32Array[] {
  const { labels, chunks } = moved;
  const byDisk = (a: number, b: number): number => labels[a]! - labels[b]! || chunks[a]! - chunks[b]!;
  const count = labels.length;
  if (order === 'disk') return [orderOf(count, byDisk)];
  const byAge = orderOf(count, (a, b) => ages[a]! - ages[b]! || byDisk(a, b));
  const bandCount = bandCountOf(count, segmentBytes);
  const bands: Uint32Array[] = [];
  for (let band = 0; band < bandCount; band++) {
    const from = Math.floor((count * band) / bandCount);
    const to = Math.floor((count * (band + 1)) / bandCount);
    bands.push(byAge.subarray(from, to).sort(byDisk));
  }
  return bands;
}

/** True if chunk `b` goes on in the entry of chunk `a`. */
function continues({ labels, chunks, sequences }: ChunkArrays, a: number, b: number): boolean {
  return labels[a] === labels[b] && sequences[a] === sequences[b] && chunks[a]! + 1 === chunks[b];
}

/** How many chunks from position `at` on are one entry. */
export function runAt(moved: ChunkArrays, chunks: Uint32Array, at: number): number {
  let run = 1;
  while (at + run < chunks.length && continues(moved, chunks[at + run - 1]!, chunks[at + run]!)) run += 1;
  return run;
}

function bytesOfZeros(zeros: readonly Zeros[]): number {
  const coder = new EntryCoder();
  return zeros.reduce(
    (bytes, { label, first, count, sequence }) => bytes + coder.measure(true, sequence, label, first, count),
    0,
  );
}

function tableOfChunks(
  moved: ChunkArrays,
  chunks: Uint32Array,
): Pick<RecordLayout, 'entryCount' | 'tableBytes'> {
  const coder = new EntryCoder();
  let [entryCount, tableBytes] = [0, 4 * chunks.length];
  for (let at = 0; at < chunks.length; ) {
    const first = chunks[at]!;
    const run = runAt(moved, chunks, at);
    tableBytes += coder.measure(
      false,
      moved.sequences[first]!,
      moved.labels[first]!,
      moved.chunks[first]!,
      run,
    );
    entryCount += 1;
    at += run;
  }
  return { entryCount, tableBytes };
}

class OpenSegment {
  readonly #segmentBytes: number;
  readonly #records: RecordLayout[] = [];
  #end = FIRST_RECORD_OFFSET;
  #footerTableBytes = 0;

  constructor(segmentBytes: number) {
    this.#segmentBytes = segmentBytes;
  }

  get isEmpty(): boolean {
    return this.#records.length === 0;
  }

  fits(tableBytes: number, chunkCount: number): boolean {
    const end = this.#end + recordBytes(tableBytes, chunkCount * CHUNK_BYTES, 0);
    return lengthBehind(end, this.#footerTableBytes + FOOTER_ITEM_BYTES + tableBytes) <= this.#segmentBytes;
  }

  add(chunks: Uint32Array, zeros: readonly Zeros[], entryCount: number, tableBytes: number): void {
    this.#records.push({ offset: this.#end, chunks, zeros, entryCount, tableBytes });
    this.#end += recordBytes(tableBytes, chunks.length * CHUNK_BYTES, 0);
    this.#footerTableBytes += FOOTER_ITEM_BYTES + tableBytes;
  }

  close(): SegmentLayout {
    return {
      records: this.#records,
      footerOffset: this.#end,
      footerTableBytes: this.#footerTableBytes,
      bytes: lengthBehind(this.#end, this.#footerTableBytes),
    };
  }
}

/** Length of a segment whose records end at `end`: footer and trailer stand behind them. */
function lengthBehind(end: number, footerTableBytes: number): number {
  return roundUp(
    end + recordBytes(footerTableBytes, 0, RECORD_FOOTER) + TRAILER_ROOM_BYTES,
    SYNC_ALIGN_BYTES,
  );
}

/** Where the first chunk of a record lies in its segment. */
export function payloadAt(record: RecordLayout): number {
  return record.offset + RECORD_HEADER_BYTES + record.tableBytes;
}
