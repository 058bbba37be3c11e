/**
 * Every byte of a segment file, except what the entries of a record hold (entries.ts). No I/O.
 *
 *     segment   | header, padded to 4096 | record | record | ... | footer record | ... | trailer in the last 512 |
 *     record    | header 80 | entry table | payload | zeros | header and table again | tail 8 |   a multiple of 512
 *
 * Invariants:
 * - A record starts at a multiple of 512; the first one behind a sync starts at a multiple of 4096, so that flushed
 *   bytes are never written again.
 * - Record headers name store, segment, own offset, append number and the checksum of the record before them in the
 *   file: what an older life of the same file left behind is never taken for a record.
 * - The segment header stands twice, at 0 and at 2048: without it the link to the segments before would be lost.
 * - A header's checksum covers the header and the table; payload chunks have theirs in the table.
 * - Header and table stand twice, at the record's start and at its end: damage of the one loses nothing.
 * - The footer record's table holds every record's table, so that a sealed segment is understood from its end.
 */

import { ByteReader, ByteWriter } from '../base/bytes.ts';
import { crc32c } from '../base/crc.ts';
import { assert } from '../base/errors.ts';
import { roundUp } from '../base/units.ts';

export const FORMAT_REVISION = 1;
export const UUID_BYTES = 16;
/** Where records may start. */
export const RECORD_ALIGN_BYTES = 512;
/** Where the first record behind a sync starts: what file systems and drives write at once. */
export const SYNC_ALIGN_BYTES = 4096;
export const FIRST_RECORD_OFFSET = 4096;
export const SEGMENT_BYTES_MIN = 1 << 20;
export const SEGMENT_BYTES_MAX = 1 << 30;
export const SEGMENT_BYTES_DEFAULT = 64 << 20;

// On disk. Never renumber.
export const SEGMENT_MAGIC = 0x434f5053; // "COPS"
export const RECORD_MAGIC = 0x434f5052; // "COPR"
export const TRAILER_MAGIC = 0x434f5054; // "COPT"
export const COPY_MAGIC = 0x434f5043; // "COPC"

/** Bits of a record's flags. On disk. Never renumber. */
export const RECORD_FOOTER = 1;
/** Closes a stretch: nothing but the durable watermark. */
export const RECORD_CLOSING = 2;
/** The tail of the log has been written again up to here, and synced (recovery). */
export const RECORD_TAIL_REWRITTEN = 4;
/** Header and table stand again at the end of the record: all but footers, and records of the first stores. */
export const RECORD_COPIED = 8;

/** Bits of a segment's flags. On disk. Never renumber. */
export const SEGMENT_REWRITES_TAIL = 1;
/** Holds what compaction moved: part of no chain, sealed before anything counts that is in it. */
export const SEGMENT_MOVES = 2;

/**
 * | at | bytes | segment header |
 * |---|---|---|
 * | 0 | 4 | magic "COPS" |
 * | 4 | 2 | format revision |
 * | 6 | 2 | flags |
 * | 8 | 16 | store UUID |
 * | 24 | 4 | segment number |
 * | 28 | 4 | segment size in bytes |
 * | 32 | 4 | epoch of the process that began it |
 * | 36 | 4 | predecessor: segment number, 0 for the first of all |
 * | 40 | 4 | predecessor: end of its last record |
 * | 44 | 4 | predecessor: checksum of its last record's header |
 * | 48 | 8 | append number of the first record |
 * | 56 | 8 | durable watermark when it was begun |
 * | 64 | 4 | checksum of bytes 0 to 63 |
 *
 * A segment of moves has no predecessor (three zeros). It is as long as it needs to be, and all its records have the
 * append number of its header: it is replayed as if it had been appended at once, then. In the place of a watermark
 * stands its age: the append number at which the youngest of the segments was begun that its chunks come from.
 */
export interface SegmentHeader {
  flags: number;
  uuid: Buffer;
  segment: number;
  segmentBytes: number;
  epoch: number;
  predecessor: number;
  predecessorEnd: number;
  predecessorChecksum: number;
  firstAppend: number;
  durable: number;
}

export const SEGMENT_HEADER_BYTES = 68;
export const SEGMENT_HEADER_COPY_OFFSET = 2048;

export function encodeSegmentHeader(header: SegmentHeader): Buffer {
  const out = new ByteWriter(Buffer.alloc(SEGMENT_HEADER_BYTES));
  out.u32(SEGMENT_MAGIC).u16(FORMAT_REVISION).u16(header.flags).bytes(header.uuid);
  out.u32(header.segment).u32(header.segmentBytes).u32(header.epoch);
  out.u32(header.predecessor).u32(header.predecessorEnd).u32(header.predecessorChecksum);
  out.u64(header.firstAppend).u64(header.durable);
  out.u32(crc32c(out.buffer.subarray(0, out.position)));
  assert(out.position === SEGMENT_HEADER_BYTES, 'segment header layout');
  return out.buffer;
}

/** What stands before the first record: the header twice, and zeros. */
export function encodeSegmentStart(header: SegmentHeader): Buffer {
  const start = Buffer.alloc(FIRST_RECORD_OFFSET);
  const encoded = encodeSegmentHeader(header);
  encoded.copy(start, 0);
  encoded.copy(start, SEGMENT_HEADER_COPY_OFFSET);
  return start;
}

/** The checksum that closes an encoded segment header; the first record of the segment is chained to it. */
export function segmentHeaderChecksum(encoded: Buffer): number {
  return encoded.readUInt32BE(SEGMENT_HEADER_BYTES - 4);
}

/** undefined if these bytes are not the header of a segment of this store. */
export function decodeSegmentHeader(bytes: Buffer, uuid: Buffer): SegmentHeader | undefined {
  if (bytes.length < SEGMENT_HEADER_BYTES || bytes.readUInt32BE(0) !== SEGMENT_MAGIC) return undefined;
  if (crc32c(bytes.subarray(0, SEGMENT_HEADER_BYTES - 4)) !== segmentHeaderChecksum(bytes)) return undefined;
  const input = new ByteReader(bytes, 4);
  if (input.u16() !== FORMAT_REVISION) return undefined;
  const flags = input.u16();
  const found = input.bytes(UUID_BYTES);
  if (!found.equals(uuid)) return undefined;
  return {
    flags,
    uuid,
    segment: input.u32(),
    segmentBytes: input.u32(),
    epoch: input.u32(),
    predecessor: input.u32(),
    predecessorEnd: input.u32(),
    predecessorChecksum: input.u32(),
    firstAppend: input.u64(),
    durable: input.u64(),
  };
}

/**
 * | at | bytes | record header |
 * |---|---|---|
 * | 0 | 4 | magic "COPR" |
 * | 4 | 2 | format revision |
 * | 6 | 2 | flags |
 * | 8 | 16 | store UUID |
 * | 24 | 4 | segment number |
 * | 28 | 4 | offset of this record in the segment |
 * | 32 | 8 | append number: 1, 2, 3 ... over the life of the store |
 * | 40 | 8 | sequence of the first entry |
 * | 48 | 8 | durable watermark: records up to this append number are synced |
 * | 56 | 4 | number of entries (footer: of records) |
 * | 60 | 4 | bytes of the entry table |
 * | 64 | 4 | bytes of payload |
 * | 68 | 4 | checksum of the previous record's header, or of the segment header |
 * | 72 | 4 | zero |
 * | 76 | 4 | checksum of bytes 0 to 75 and the table |
 */
export interface RecordHeader {
  flags: number;
  segment: number;
  offset: number;
  append: number;
  firstSequence: number;
  durable: number;
  entryCount: number;
  tableBytes: number;
  payloadBytes: number;
  previousChecksum: number;
  /** Set by encodeRecordHeader. */
  checksum: number;
}

export const RECORD_HEADER_BYTES = 80;

/** Writes `header` into the first 80 bytes of `buffer`, whose next `tableBytes` hold the table; sets its checksum. */
export function encodeRecordHeader(buffer: Buffer, header: RecordHeader, uuid: Buffer): void {
  const out = new ByteWriter(buffer);
  out.u32(RECORD_MAGIC).u16(FORMAT_REVISION).u16(header.flags).bytes(uuid);
  out.u32(header.segment).u32(header.offset).u64(header.append);
  out.u64(header.firstSequence).u64(header.durable);
  out.u32(header.entryCount).u32(header.tableBytes).u32(header.payloadBytes);
  out.u32(header.previousChecksum).u32(0);
  const table = buffer.subarray(RECORD_HEADER_BYTES, RECORD_HEADER_BYTES + header.tableBytes);
  header.checksum = crc32c(table, crc32c(buffer.subarray(0, out.position)));
  out.u32(header.checksum);
  assert(out.position === RECORD_HEADER_BYTES, 'record header layout');
}

/** undefined unless these 80 bytes look like the header of the record at this place; its checksum is not checked yet. */
export function decodeRecordHeader(
  bytes: Buffer,
  uuid: Buffer,
  segment: number,
  offset: number,
): RecordHeader | undefined {
  if (bytes.length < RECORD_HEADER_BYTES || bytes.readUInt32BE(0) !== RECORD_MAGIC) return undefined;
  const input = new ByteReader(bytes, 4);
  if (input.u16() !== FORMAT_REVISION) return undefined;
  const flags = input.u16();
  if (!input.bytes(UUID_BYTES).equals(uuid)) return undefined;
  if (input.u32() !== segment || input.u32() !== offset) return undefined;
  if (bytes.readUInt16BE(32) > 0x1f || bytes.readUInt16BE(40) > 0x1f || bytes.readUInt16BE(48) > 0x1f)
    return undefined;
  return {
    flags,
    segment,
    offset,
    append: input.u64(),
    firstSequence: input.u64(),
    durable: input.u64(),
    entryCount: input.u32(),
    tableBytes: input.u32(),
    payloadBytes: input.u32(),
    previousChecksum: input.u32(),
    checksum: input.skip(4).u32(),
  };
}

/** True if `table` and the header's own 80 bytes are what was written. */
export function recordIsWhole(headerBytes: Buffer, table: Buffer, header: RecordHeader): boolean {
  return crc32c(table, crc32c(headerBytes.subarray(0, RECORD_HEADER_BYTES - 4))) === header.checksum;
}

/**
 * The last 8 bytes of a record with RECORD_COPIED, right behind the copy of its header and table:
 *
 * | at | bytes | tail |
 * |---|---|---|
 * | 0 | 4 | bytes of the copy |
 * | 4 | 4 | magic "COPC" |
 */
export const COPY_TAIL_BYTES = 8;

export function encodeCopyTail(copyBytes: number): Buffer {
  return new ByteWriter(Buffer.alloc(COPY_TAIL_BYTES)).u32(copyBytes).u32(COPY_MAGIC).buffer;
}

/** Bytes of the copy that these 8 bytes end, or 0 if they end none. */
export function decodeCopyTail(tail: Buffer): number {
  if (tail.length < COPY_TAIL_BYTES || tail.readUInt32BE(4) !== COPY_MAGIC) return 0;
  const bytes = tail.readUInt32BE(0);
  return bytes < RECORD_HEADER_BYTES ? 0 : bytes;
}

/** Bytes of a record with its padding. */
export function recordBytes(tableBytes: number, payloadBytes: number, flags: number): number {
  const headBytes = RECORD_HEADER_BYTES + tableBytes;
  const copyBytes = (flags & RECORD_COPIED) === 0 ? 0 : headBytes + COPY_TAIL_BYTES;
  return roundUp(headBytes + payloadBytes + copyBytes, RECORD_ALIGN_BYTES);
}

/** Bytes that a record takes of its segment: its table stands in the footer again. */
export function roomFor(tableBytes: number, payloadBytes: number): number {
  return recordBytes(tableBytes, payloadBytes, RECORD_COPIED) + roundUp(tableBytes, RECORD_ALIGN_BYTES);
}

/** A whole record without chunks; sets the checksum of `header`. Requires: `table` has the length that the header says. */
export function encodeTableRecord(header: RecordHeader, table: Buffer, uuid: Buffer): Buffer {
  const bytes = Buffer.alloc(recordBytes(table.length, 0, header.flags));
  table.copy(bytes, RECORD_HEADER_BYTES);
  encodeRecordHeader(bytes, header, uuid);
  if ((header.flags & RECORD_COPIED) !== 0) {
    const headBytes = RECORD_HEADER_BYTES + table.length;
    const tailAt = bytes.length - COPY_TAIL_BYTES;
    bytes.copy(bytes, tailAt - headBytes, 0, headBytes);
    encodeCopyTail(headBytes).copy(bytes, tailAt);
  }
  return bytes;
}

/** A whole record without entries; sets the checksum of `header`. */
export function encodeEmptyRecord(header: RecordHeader, uuid: Buffer): Buffer {
  return encodeTableRecord(header, Buffer.alloc(0), uuid);
}

/**
 * The last 512 bytes of a sealed segment begin with:
 *
 * | at | bytes | trailer |
 * |---|---|---|
 * | 0 | 4 | magic "COPT" |
 * | 4 | 16 | store UUID |
 * | 20 | 4 | segment number |
 * | 24 | 4 | offset of the footer record |
 * | 28 | 4 | bytes of the footer record without padding |
 * | 32 | 4 | checksum of bytes 0 to 31 |
 */
export interface Trailer {
  segment: number;
  footerOffset: number;
  footerBytes: number;
}

export const TRAILER_BYTES = 36;
export const TRAILER_ROOM_BYTES = 512;

export function encodeTrailer(trailer: Trailer, uuid: Buffer): Buffer {
  const out = new ByteWriter(Buffer.alloc(TRAILER_BYTES));
  out.u32(TRAILER_MAGIC).bytes(uuid).u32(trailer.segment).u32(trailer.footerOffset).u32(trailer.footerBytes);
  out.u32(crc32c(out.buffer.subarray(0, out.position)));
  assert(out.position === TRAILER_BYTES, 'trailer layout');
  return out.buffer;
}

export function decodeTrailer(bytes: Buffer, uuid: Buffer, segment: number): Trailer | undefined {
  if (bytes.length < TRAILER_BYTES || bytes.readUInt32BE(0) !== TRAILER_MAGIC) return undefined;
  if (crc32c(bytes.subarray(0, TRAILER_BYTES - 4)) !== bytes.readUInt32BE(TRAILER_BYTES - 4))
    return undefined;
  const input = new ByteReader(bytes, 4);
  if (!input.bytes(UUID_BYTES).equals(uuid) || input.u32() !== segment) return undefined;
  return { segment, footerOffset: input.u32(), footerBytes: input.u32() };
}

/**
 * In the footer's table, for each record of the segment in order: offset u32, append number u64, durable watermark
 * u64, flags u16, entry count u32, table bytes u32, payload bytes u32, header checksum u32, then the record's table.
 */
export const FOOTER_ITEM_BYTES = 38;

export function encodeFooterItem(out: ByteWriter, header: RecordHeader): void {
  out.u32(header.offset).u64(header.append).u64(header.durable).u16(header.flags);
  out.u32(header.entryCount).u32(header.tableBytes).u32(header.payloadBytes).u32(header.checksum);
}

/** The record header a footer item stands for; `previousChecksum` and `firstSequence` are not kept there (0). */
export function decodeFooterItem(input: ByteReader, segment: number): RecordHeader {
  const offset = input.u32();
  const append = input.u64();
  const durable = input.u64();
  const flags = input.u16();
  return {
    flags,
    segment,
    offset,
    append,
    firstSequence: 0,
    durable,
    entryCount: input.u32(),
    tableBytes: input.u32(),
    payloadBytes: input.u32(),
    previousChecksum: 0,
    checksum: input.u32(),
  };
}

/** The name of a segment's file in the directory `log`. */
export function segmentPath(segment: number): string {
  return `log/${String(segment).padStart(10, '0')}.seg`;
}

/** The number in a segment file's name, or undefined if it is not one. */
export function segmentOfName(name: string): number | undefined {
  const match = /^(\d{10})\.seg$/.exec(name);
  return match ? Number(match[1]) : undefined;
}
