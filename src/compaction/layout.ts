/**
 * Where moved chunks go: into segments, in records, in order. Pure.
 *
 * Two orders. By *disk*: version and chunk, so that a disk reads from the log as it would from a fresh one. By *age*:
 * first in bands of age (age-bands.ts), a segment each, and by disk within a band; what has not been written over for long
 * stays apart from what soon will be, or cleaning would gain nothing (LFS, Rosenblum and Ousterhout 1991).
 */

import { CHUNK_BYTES, roundUp } from '../base/units.ts';
import { EntryCoder } from '../log/entry-coder.ts';
import {
  FIRST_RECORD_OFFSET,
  FOOTER_ITEM_BYTES,
  RECORD_FOOTER,
  RECORD_HEADER_BYTES,
  recordBytes,
  SYNC_ALIGN_BYTES,
  TRAILER_ROOM_BYTES,
} from '../log/format.ts';
import { ageBands, type Ages } from './age-bands.ts';
import { byDisk, type ChunkArrays, orderOf } from './chunk-list.ts';
import { recordSizes } from './moved-size.ts';

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
  /** What zeroed extents take of it, their tables in the footer included. */
  readonly zerosBytes: number;
}

export function layOut(
  moved: ChunkArrays,
  ages: Ages,
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
  const bands =
    order === 'age' ? ageBands(moved, ages, segmentBytes) : [orderOf(moved.labels.length, byDisk(moved))];
  for (const band of bands) {
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
  #zerosBytes = 0;
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
    const bytes = recordBytes(tableBytes, chunks.length * CHUNK_BYTES, 0);
    this.#end += bytes;
    this.#footerTableBytes += FOOTER_ITEM_BYTES + tableBytes;
    if (zeros.length > 0) this.#zerosBytes += bytes + FOOTER_ITEM_BYTES + tableBytes;
  }

  close(): SegmentLayout {
    return {
      records: this.#records,
      footerOffset: this.#end,
      footerTableBytes: this.#footerTableBytes,
      bytes: lengthBehind(this.#end, this.#footerTableBytes),
      zerosBytes: this.#zerosBytes,
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
