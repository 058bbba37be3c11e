/**
 * Packs waiting entries into one record: header, entry table, payload slices, header and table again. No I/O.
 *
 * One packer serves the whole log; its buffers are used again for the next record, so a packed record must be
 * written before the next is packed. The payload itself is never copied.
 *
 * Limits of a record: PAYLOAD_BYTES_MAX unless one entry alone is longer, TABLE_BYTES_MAX. A change of the catalog
 * ends its record, because what follows it may need labels that it makes.
 */

import { ByteWriter } from '../base/bytes.ts';
import { assert } from '../base/errors.ts';
import { CHUNK_BYTES, roundUp } from '../base/units.ts';
import { type Append, rankOf } from './append.ts';
import { DATA_ENTRY_BYTES_MAX, EntryCoder } from './entry-coder.ts';
import { ENTRY_CHANGE, ENTRY_CHUNKS, ENTRY_ZEROS, TEXT_ENTRY_BYTES, writeTextEntry } from './entries.ts';
import {
  COPY_TAIL_BYTES,
  encodeCopyTail,
  encodeRecordHeader,
  RECORD_COPIED,
  RECORD_HEADER_BYTES,
  recordBytes,
  type RecordHeader,
  roomFor,
  SYNC_ALIGN_BYTES,
} from './format.ts';

/** Payload that one record gathers: no more than stays in the processor's cache until it is written. */
export const PAYLOAD_BYTES_MAX = 2 << 20;
/** Longest run of chunks in one entry, so that any record fits any segment. */
export const ENTRY_CHUNKS_MAX = 64;
export const TABLE_BYTES_MAX = 128 << 10;
/** Longest text of one entry. */
export const TEXT_BYTES_MAX = TABLE_BYTES_MAX - TEXT_ENTRY_BYTES;

const PADDING = Buffer.alloc(SYNC_ALIGN_BYTES);

/** Bytes of the table that `append` needs at most. */
function tableBytesMaxOf(append: Append): number {
  if (append.kind === ENTRY_CHUNKS) return DATA_ENTRY_BYTES_MAX + 4 * append.count;
  if (append.kind === ENTRY_ZEROS) return DATA_ENTRY_BYTES_MAX;
  return TEXT_ENTRY_BYTES + append.body.length;
}

export class RecordPacker {
  /** What goes into one gathered write: head, payload slices, padding, head again, tail, padding. */
  readonly buffers: Uint8Array[] = [];
  /** Header and table of the packed record. */
  head: Buffer = Buffer.alloc(0);
  /** What the table of the chosen takes at most; of a packed record, what it takes. */
  tableBytes = 0;
  payloadBytes = 0;

  /** The entries of the record, in order. */
  #appends: Append[] = [];
  readonly #uuid: Buffer;
  readonly #scratch = Buffer.alloc(RECORD_HEADER_BYTES + TABLE_BYTES_MAX);
  readonly #writer = new ByteWriter(this.#scratch);
  readonly #coder = new EntryCoder();

  constructor(uuid: Buffer) {
    this.#uuid = uuid;
  }

  get recordBytes(): number {
    return recordBytes(this.tableBytes, this.payloadBytes, RECORD_COPIED);
  }

  /**
   * Chooses from the front of `queue` what the next record holds, without taking it off; answers the chosen.
   * `bytesMax` is the room left (`roomFor`); at least one entry is chosen, whether it fits or not. None of a
   * higher rank than `rank`.
   */
  choose(queue: readonly Append[], from: number, bytesMax: number, rank: number): readonly Append[] {
    this.#appends = [];
    this.tableBytes = 0;
    this.payloadBytes = 0;
    for (let i = from; i < queue.length; i++) {
      const append = queue[i]!;
      if (rankOf(append) > rank) break;
      const table = this.tableBytes + tableBytesMaxOf(append);
      const payload = this.payloadBytes + append.count * (append.kind === ENTRY_CHUNKS ? CHUNK_BYTES : 0);
      if (this.#appends.length > 0) {
        if (table > TABLE_BYTES_MAX || payload > PAYLOAD_BYTES_MAX || roomFor(table, payload) > bytesMax)
          break;
      }
      this.#appends.push(append);
      this.tableBytes = table;
      this.payloadBytes = payload;
      if (append.kind === ENTRY_CHANGE) break;
    }
    return this.#appends;
  }

  /**
   * Encodes the chosen entries as the record that `header` places; fills in its counts and checksum, and each
   * entry's label, sequence and address. Sequences run on from `nextSequence`; answers the next one.
   */
  pack(header: RecordHeader, nextSequence: number): number {
    assert(this.tableBytes <= TABLE_BYTES_MAX, 'a record table fits');
    const { buffers } = this;
    const appends = this.#appends;
    const out = this.#writer;
    out.position = RECORD_HEADER_BYTES;
    buffers.length = 0;
    buffers.push(this.#scratch);
    this.#coder.reset();
    let sequence = nextSequence;
    for (let i = 0; i < appends.length; i++) {
      const append = appends[i]!;
      append.sequence = append.keptSequence === 0 ? sequence++ : append.keptSequence;
      append.label = append.target.label;
      append.segment = header.segment;
      append.record = header.append;
      append.offset = header.offset;
      if (append.kind === ENTRY_CHUNKS) {
        this.#coder.write(out, false, append.sequence, append.label, append.first, append.count);
        for (let c = 0; c < append.count; c++) out.u32(append.checksums[c]!);
        for (let s = 0; s < append.slices.length; s++) buffers.push(append.slices[s]!);
      } else if (append.kind === ENTRY_ZEROS) {
        this.#coder.write(out, true, append.sequence, append.label, append.first, append.count);
      } else {
        writeTextEntry(out, append.kind, append.flags, append.sequence, append.body);
      }
    }
    assert(out.position <= RECORD_HEADER_BYTES + this.tableBytes, 'a record table has the announced length');
    this.tableBytes = out.position - RECORD_HEADER_BYTES;
    let payloadAt = header.offset + out.position;
    for (let i = 0; i < appends.length; i++) {
      const append = appends[i]!;
      if (append.kind !== ENTRY_CHUNKS) continue;
      append.offset = payloadAt;
      payloadAt += append.count * CHUNK_BYTES;
    }
    header.flags |= RECORD_COPIED;
    header.firstSequence = appends.length > 0 ? appends[0]!.sequence : nextSequence;
    header.entryCount = appends.length;
    header.tableBytes = this.tableBytes;
    header.payloadBytes = this.payloadBytes;
    this.head = this.#scratch.subarray(0, out.position);
    encodeRecordHeader(this.head, header, this.#uuid);
    buffers[0] = this.head;
    const { recordBytes: whole } = this;
    this.#pad(whole - 2 * this.head.length - this.payloadBytes - COPY_TAIL_BYTES);
    buffers.push(this.head, encodeCopyTail(this.head.length));
    // The block is written whole, so that the kernel need not read what an evicted page had before.
    const end = header.offset + whole;
    this.#pad(roundUp(end, SYNC_ALIGN_BYTES) - end);
    return sequence;
  }
  #pad(bytes: number): void {
    if (bytes > 0) this.buffers.push(PADDING.subarray(0, bytes));
  }
}
