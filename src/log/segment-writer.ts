/**
 * The segment that is being appended to: where the next record goes, what its footer will say.
 *
 * Invariants:
 * - `end` and `checksum` are those of the last whole record; a failed write moves neither.
 * - The next record starts at a multiple of 4096 once a sync has been issued: synced bytes are never written again.
 * - Room for the footer and the trailer is always kept.
 */

import { ByteWriter } from '../base/bytes.ts';
import { assert } from '../base/errors.ts';
import type { StorageFile } from '../base/storage.ts';
import { roundUp } from '../base/units.ts';
import {
  encodeFooterItem,
  encodeRecordHeader,
  encodeSegmentStart,
  encodeTrailer,
  FIRST_RECORD_OFFSET,
  FOOTER_ITEM_BYTES,
  RECORD_ALIGN_BYTES,
  RECORD_COPIED,
  RECORD_FOOTER,
  RECORD_HEADER_BYTES,
  type RecordHeader,
  recordBytes,
  roomFor,
  SEGMENT_REWRITES_TAIL,
  type SegmentHeader,
  segmentHeaderChecksum,
  SYNC_ALIGN_BYTES,
  TRAILER_ROOM_BYTES,
} from './format.ts';
import { recordEnd, type ScannedRecord } from './scan.ts';

/** Zeros written at once ahead of need. */
const FILL_PIECE_BYTES = 1 << 20;
const ZEROS = Buffer.alloc(FILL_PIECE_BYTES);

export class SegmentWriter {
  readonly segment: number;
  readonly file: StorageFile;
  readonly #segmentBytes: number;
  readonly #uuid: Buffer;
  /** Footer items and tables of the records so far. */
  readonly #footer: Buffer[] = [];
  #footerBytes = 0;
  #aligned = true;
  /** End of the last whole record. */
  end = FIRST_RECORD_OFFSET;
  /** Checksum of the last whole record's header, or of the segment header. */
  checksum = 0;
  /** The file is written up to here, with records or zeros: appending below needs no allocation, and syncs fast. */
  filledTo = 0;
  /** Something was written that no sync issued since covers. */
  isDirty = false;

  constructor(segment: number, file: StorageFile, segmentBytes: number, uuid: Buffer) {
    this.segment = segment;
    this.file = file;
    this.#segmentBytes = segmentBytes;
    this.#uuid = uuid;
  }

  /**
   * Writes the header of a new segment. One that takes the place of a tail is on the disk before any record of it: the
   * mark behind which it is chained may be in the page cache only, and then this link alone leads to the watermark that
   * the records state.
   */
  async begin(header: SegmentHeader): Promise<void> {
    const start = encodeSegmentStart(header);
    await this.file.write([start], 0);
    this.checksum = segmentHeaderChecksum(start);
    this.isDirty = true;
    if ((header.flags & SEGMENT_REWRITES_TAIL) === 0) return;
    this.syncIssued();
    await this.file.datasync();
  }

  /** Takes up a segment that was closed cleanly, behind its last record; `records` are all that it holds. */
  resume(records: readonly ScannedRecord[], headerChecksum: number): void {
    this.checksum = headerChecksum;
    for (const { header, table } of records) {
      this.#note(header, table);
      this.end = recordEnd(header);
      this.checksum = header.checksum;
    }
  }

  /** It has a header. */
  get isBegun(): boolean {
    return this.checksum !== 0;
  }

  /** No record has been written to it. */
  get isEmpty(): boolean {
    return this.end === FIRST_RECORD_OFFSET;
  }

  get isFilled(): boolean {
    return this.filledTo >= this.#segmentBytes;
  }

  /**
   * Writes zeros over the next piece of what has never been written. Requires: no record is being written.
   * Syncing them is the caller's: two syncs of one file at once might share one report of an error.
   */
  async fillPiece(): Promise<void> {
    const from = Math.max(this.filledTo, roundUp(this.end, SYNC_ALIGN_BYTES));
    const bytes = Math.min(FILL_PIECE_BYTES, this.#segmentBytes - from);
    try {
      if (bytes > 0) await this.file.write([ZEROS.subarray(0, bytes)], from);
    } catch {
      this.filledTo = this.#segmentBytes; // it only costs speed
      return;
    }
    this.filledTo = from + Math.max(0, bytes);
    this.isDirty = true;
  }

  /** Where the next record goes. */
  get position(): number {
    return this.#aligned ? roundUp(this.end, SYNC_ALIGN_BYTES) : this.end;
  }

  /** A sync is about to be issued: what is written from now on starts in a block of its own. */
  syncIssued(): void {
    this.#aligned = true;
    this.isDirty = false;
  }

  /** True if a record with this table and payload fits, with a closing record, footer and trailer behind it. */
  fits(tableBytes: number, payloadBytes: number): boolean {
    return roomFor(tableBytes, payloadBytes) <= this.roomBytes;
  }

  /** True if a closing record fits: behind any other record it does. */
  get fitsClosing(): boolean {
    return roomFor(0, 0) <= this.#room;
  }

  /** What a record may take (`roomFor`), so that a closing record still fits behind it. */
  get roomBytes(): number {
    return this.#room - SYNC_ALIGN_BYTES - recordBytes(0, 0, RECORD_COPIED) - RECORD_ALIGN_BYTES;
  }

  /** What the last record may take. The footer behind it may have to be aligned. */
  get #room(): number {
    const footer = SYNC_ALIGN_BYTES + recordBytes(this.#footerBytes + FOOTER_ITEM_BYTES, 0, RECORD_FOOTER);
    return this.#segmentBytes - this.position - footer - TRAILER_ROOM_BYTES;
  }

  /** Writes a packed record at `position`. On an error nothing may be appended to this segment any more. */
  async write(header: RecordHeader, head: Buffer, buffers: readonly Uint8Array[]): Promise<void> {
    assert(
      header.offset === this.position && header.previousChecksum === this.checksum,
      'a record is chained',
    );
    if (!this.file.writeCached(buffers, header.offset)) await this.file.write(buffers, header.offset);
    this.#note(header, head.subarray(RECORD_HEADER_BYTES));
    this.end = recordEnd(header);
    this.checksum = header.checksum;
    this.#aligned = false;
    this.isDirty = true;
  }

  #note(header: RecordHeader, table: Buffer): void {
    const item = Buffer.allocUnsafe(FOOTER_ITEM_BYTES + table.length);
    const out = new ByteWriter(item);
    encodeFooterItem(out, header);
    out.bytes(table);
    this.#footer.push(item);
    this.#footerBytes += item.length;
  }

  /** Writes footer and trailer. The segment is not appended to any more. */
  async seal(append: number, durable: number): Promise<void> {
    const offset = this.position;
    const head = Buffer.alloc(recordBytes(this.#footerBytes, 0, RECORD_FOOTER));
    const out = new ByteWriter(head, RECORD_HEADER_BYTES);
    for (const item of this.#footer) out.bytes(item);
    const header: RecordHeader = {
      flags: RECORD_FOOTER,
      segment: this.segment,
      offset,
      append,
      firstSequence: 0,
      durable,
      entryCount: this.#footer.length,
      tableBytes: this.#footerBytes,
      payloadBytes: 0,
      previousChecksum: this.checksum,
      checksum: 0,
    };
    encodeRecordHeader(head, header, this.#uuid);
    const footerBytes = RECORD_HEADER_BYTES + this.#footerBytes;
    const trailer = encodeTrailer({ segment: this.segment, footerOffset: offset, footerBytes }, this.#uuid);
    await this.file.write([head], offset);
    await this.file.write([trailer], this.#segmentBytes - TRAILER_ROOM_BYTES);
    this.isDirty = true;
    this.#footer.length = 0;
  }
}
