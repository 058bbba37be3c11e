/**
 * Reading a segment file as what it is: header, records one by one, footer. Used by recovery, rebuild and check.
 *
 * It reports what it finds and decides nothing: what a bad record means, tail.ts says.
 */

import { ByteReader } from '../base/bytes.ts';
import { crc32c } from '../base/crc.ts';
import { hasCode } from '../base/errors.ts';
import type { ReadFile, ReadStorage } from '../base/storage.ts';
import { CHUNK_BYTES, roundUp } from '../base/units.ts';
import { type ChunksEntry, ENTRY_CHUNKS, type Entry, readEntries } from './entries.ts';
import {
  COPY_TAIL_BYTES,
  decodeCopyTail,
  decodeFooterItem,
  decodeRecordHeader,
  decodeSegmentHeader,
  decodeTrailer,
  FIRST_RECORD_OFFSET,
  RECORD_ALIGN_BYTES,
  RECORD_FOOTER,
  RECORD_HEADER_BYTES,
  RECORD_MAGIC,
  recordBytes,
  type RecordHeader,
  recordIsWhole,
  SEGMENT_HEADER_COPY_OFFSET,
  type SegmentHeader,
  segmentHeaderChecksum,
  segmentPath,
  SYNC_ALIGN_BYTES,
  TRAILER_BYTES,
  TRAILER_ROOM_BYTES,
} from './format.ts';
import { ReadWindow } from './read-window.ts';

const WINDOW_BYTES = 1 << 20;
/** How far behind its start the end of a record is looked for: no record is longer. */
const COPY_SEARCH_BYTES = 5 << 20;

/** The log in use removes segments that it could not begin: what was listed may be gone. */
async function openIfThere(storage: ReadStorage, segment: number): Promise<ReadFile | undefined> {
  return await storage.open(segmentPath(segment), 'read').catch((error: unknown) => {
    if (hasCode(error, 'NOT_FOUND')) return undefined;
    throw error;
  });
}

/** How a segment is read: in windows of this many bytes (default 1 MiB), and whether the next one is read ahead. */
export interface ScanReading {
  readonly windowBytes?: number;
  readonly readsAhead?: boolean;
}

/** A record whose header and table are whole; its payload has not been looked at. */
export interface ScannedRecord {
  header: RecordHeader;
  table: Buffer;
}

export function payloadOffset(header: RecordHeader): number {
  return header.offset + RECORD_HEADER_BYTES + header.tableBytes;
}

export function recordEnd(header: RecordHeader): number {
  return header.offset + recordBytes(header.tableBytes, header.payloadBytes, header.flags);
}

/** @throws CORRUPTION */
export function entriesOf(record: ScannedRecord): Entry[] {
  return readEntries(record.table, record.header.entryCount, payloadOffset(record.header));
}

/** What a footer says of the records before it. */
export function* recordsOfFooter({
  header: { segment, entryCount },
  table,
}: ScannedRecord): Generator<ScannedRecord> {
  const input = new ByteReader(table);
  for (let i = 0; i < entryCount; i++) {
    const header = decodeFooterItem(input, segment);
    yield { header, table: input.bytes(header.tableBytes) };
  }
}

export class SegmentScanner {
  readonly header: SegmentHeader;
  /** What the first record is chained to. */
  readonly headerChecksum: number;
  readonly #file: ReadFile;
  readonly #uuid: Buffer;
  readonly #window: ReadWindow;

  private constructor(
    file: ReadFile,
    uuid: Buffer,
    header: SegmentHeader,
    headerChecksum: number,
    reading: ScanReading,
  ) {
    this.#file = file;
    this.#uuid = uuid;
    this.header = header;
    this.headerChecksum = headerChecksum;
    const { windowBytes = WINDOW_BYTES, readsAhead = false } = reading;
    this.#window = new ReadWindow(file, Math.min(windowBytes, header.segmentBytes), readsAhead);
  }

  /** undefined if the file is missing or does not begin with the header of this segment of this store. */
  static async open(
    storage: ReadStorage,
    uuid: Buffer,
    segment: number,
    reading: ScanReading = {},
  ): Promise<SegmentScanner | undefined> {
    const file = await openIfThere(storage, segment);
    if (file === undefined) return undefined;
    const bytes = Buffer.alloc(FIRST_RECORD_OFFSET);
    try {
      await file.read(bytes, 0, bytes.length, 0);
    } catch (error) {
      await file.close();
      throw error;
    }
    for (const copy of [bytes, bytes.subarray(SEGMENT_HEADER_COPY_OFFSET)]) {
      const header = decodeSegmentHeader(copy, uuid);
      if (header?.segment === segment)
        return new SegmentScanner(file, uuid, header, segmentHeaderChecksum(copy), reading);
    }
    await file.close();
    return undefined;
  }

  /** A segment file whatever it begins with: without a header only `allRecords` makes sense. undefined if it is missing. */
  static async openAnyway(
    storage: ReadStorage,
    uuid: Buffer,
    segment: number,
    reading: ScanReading = {},
  ): Promise<SegmentScanner | undefined> {
    const whole = await SegmentScanner.open(storage, uuid, segment, reading);
    if (whole !== undefined) return whole;
    const file = await openIfThere(storage, segment);
    if (file === undefined) return undefined;
    const header: SegmentHeader = {
      flags: 0,
      uuid,
      segment,
      segmentBytes: await file.sizeBytes(),
      epoch: 0,
      predecessor: 0,
      predecessorEnd: 0,
      predecessorChecksum: 0,
      firstAppend: 0,
      durable: 0,
    };
    return new SegmentScanner(file, uuid, header, 0, reading);
  }

  /** What `payload` has answered holds no longer. */
  async close(): Promise<void> {
    await this.#window.close();
    await this.#file.close();
  }

  /** The record that starts at `offset`, or undefined if no whole header and table is there. */
  async recordAt(offset: number): Promise<ScannedRecord | undefined> {
    if (offset + RECORD_HEADER_BYTES > this.header.segmentBytes) return undefined;
    const head = await this.#window.bytes(offset, RECORD_HEADER_BYTES);
    const header = decodeRecordHeader(head, this.#uuid, this.header.segment, offset);
    if (header === undefined || recordEnd(header) > this.header.segmentBytes) return undefined;
    const whole = await this.#window.bytes(offset, RECORD_HEADER_BYTES + header.tableBytes);
    if (whole.length < RECORD_HEADER_BYTES + header.tableBytes) return undefined;
    const table = Buffer.from(whole.subarray(RECORD_HEADER_BYTES));
    return recordIsWhole(whole, table, header) ? { header, table } : undefined;
  }

  /** The record that starts at one of `offsets` (ascending), by the copy of its header and table at its end. */
  async copyAt(offsets: readonly number[]): Promise<ScannedRecord | undefined> {
    const first = offsets[0]!;
    const last = Math.min(first + COPY_SEARCH_BYTES, this.header.segmentBytes);
    for (let end = roundUp(first + 1, RECORD_ALIGN_BYTES); end <= last; end += RECORD_ALIGN_BYTES) {
      const tailAt = end - COPY_TAIL_BYTES;
      const copyAt = tailAt - decodeCopyTail(await this.#window.bytes(tailAt, COPY_TAIL_BYTES));
      if (copyAt === tailAt || copyAt < first) continue;
      const copy = Buffer.from(await this.#window.bytes(copyAt, tailAt - copyAt));
      for (const offset of offsets) {
        const header = decodeRecordHeader(copy, this.#uuid, this.header.segment, offset);
        if (header === undefined || recordEnd(header) !== end) continue;
        const table = copy.subarray(RECORD_HEADER_BYTES);
        if (table.length === header.tableBytes && recordIsWhole(copy, table, header))
          return { header, table };
      }
    }
    return undefined;
  }

  /**
   * The record behind one that ends at `end`: at `end`, or at the next boundary that a sync would have caused.
   * `previousChecksum` is the checksum it must be chained to. Where its start is damaged, its end tells.
   */
  async recordBehind(end: number, previousChecksum: number): Promise<ScannedRecord | undefined> {
    const aligned = roundUp(end, SYNC_ALIGN_BYTES);
    const offsets = aligned === end ? [end] : [end, aligned];
    for (const offset of offsets) {
      const record = await this.recordAt(offset);
      if (record?.header.previousChecksum === previousChecksum) return record;
    }
    const copied = await this.copyAt(offsets);
    return copied?.header.previousChecksum === previousChecksum ? copied : undefined;
  }

  /** The next whole record at or behind `offset`, whatever it is chained to: how a scan gets past damage. */
  async findRecord(offset: number): Promise<ScannedRecord | undefined> {
    const last = this.header.segmentBytes - RECORD_HEADER_BYTES;
    let at = roundUp(offset, RECORD_ALIGN_BYTES);
    while (at <= last) {
      const window = await this.#window.bytesFrom(at, RECORD_HEADER_BYTES);
      if (window.length < RECORD_HEADER_BYTES) return undefined;
      const steps = Math.floor((window.length - 4) / RECORD_ALIGN_BYTES);
      let step = 0;
      while (step <= steps && window.readUInt32BE(step * RECORD_ALIGN_BYTES) !== RECORD_MAGIC) step += 1;
      at += step * RECORD_ALIGN_BYTES;
      if (step > steps) continue;
      const record = await this.recordAt(at);
      if (record !== undefined) return record;
      at += RECORD_ALIGN_BYTES;
    }
    return undefined;
  }

  /** Every whole record from `offset` on, past all damage: each at or behind the end of the one before. */
  async *allRecords(offset = FIRST_RECORD_OFFSET): AsyncGenerator<ScannedRecord> {
    let record = await this.findRecord(offset);
    while (record !== undefined) {
      yield record;
      record = await this.findRecord(recordEnd(record.header));
    }
  }

  /** True if anything but zeros stands where the next record would begin. */
  async hasBytesBehind(end: number): Promise<boolean> {
    const head = Buffer.from(
      await this.#window.bytes(end, Math.min(RECORD_ALIGN_BYTES, this.header.segmentBytes - end)),
    );
    const aligned = await this.#window.bytes(roundUp(end, SYNC_ALIGN_BYTES), RECORD_ALIGN_BYTES);
    return head.some((byte) => byte !== 0) || aligned.some((byte) => byte !== 0);
  }

  /** The records of a sealed segment from its footer, in order; undefined if there is no whole footer. */
  async footer(): Promise<ScannedRecord[] | undefined> {
    const footer = await this.footerRecord();
    return footer === undefined ? undefined : [...recordsOfFooter(footer)];
  }

  /** The record that is the footer, for who wants what is in it one by one. */
  async footerRecord(): Promise<ScannedRecord | undefined> {
    const trailerAt = this.header.segmentBytes - TRAILER_ROOM_BYTES;
    if (trailerAt < FIRST_RECORD_OFFSET) return undefined;
    const trailer = decodeTrailer(
      await this.#window.bytes(trailerAt, TRAILER_BYTES),
      this.#uuid,
      this.header.segment,
    );
    if (trailer === undefined) return undefined;
    const footer = await this.recordAt(trailer.footerOffset);
    return ((footer?.header.flags ?? 0) & RECORD_FOOTER) === 0 ? undefined : footer;
  }

  /** Every record from the first on that is chained to the one before it, the footer not among them. */
  async *walk(): AsyncGenerator<ScannedRecord> {
    let end = FIRST_RECORD_OFFSET;
    let checksum = this.headerChecksum;
    for (;;) {
      const record = await this.recordBehind(end, checksum);
      if (record === undefined || (record.header.flags & RECORD_FOOTER) !== 0) return;
      yield record;
      end = recordEnd(record.header);
      checksum = record.header.checksum;
    }
  }

  /** `length` bytes at `offset`, fewer at the end of the file; a view that holds until the next call. */
  bytesAt(offset: number, length: number): Promise<Buffer> {
    return this.#window.bytes(offset, length);
  }

  /** The bytes of the chunks of an entry. */
  async payload(entry: ChunksEntry): Promise<Buffer> {
    return await this.#window.bytes(entry.offset, entry.count * CHUNK_BYTES);
  }

  /** True if every chunk of the record has its checksum. */
  async payloadIsWhole(entries: readonly Entry[]): Promise<boolean> {
    for (const entry of entries) {
      if (entry.kind === ENTRY_CHUNKS && (await this.badChunk(entry)) >= 0) return false;
    }
    return true;
  }

  /** The first chunk of the entry, from `from` on, whose bytes do not match their checksum; -1 if all do. */
  async badChunk(entry: ChunksEntry, from = 0): Promise<number> {
    const bytes = await this.payload(entry);
    for (let c = from; c < entry.count; c++) {
      const chunk = bytes.subarray(c * CHUNK_BYTES, (c + 1) * CHUNK_BYTES);
      if (chunk.length < CHUNK_BYTES || crc32c(chunk) !== entry.checksums[c]) return c;
    }
    return -1;
  }
}

/** The scanner of the segment that was read last: records come in order, and one window serves many of them. */
export class ScannerCursor {
  readonly #storage: ReadStorage;
  readonly #uuid: Buffer;
  readonly #opensAnyway: boolean;
  #scanner: SegmentScanner | undefined;

  /** `opensAnyway`: segments without a header too. */
  constructor(storage: ReadStorage, uuid: Buffer, opensAnyway = false) {
    this.#storage = storage;
    this.#uuid = uuid;
    this.#opensAnyway = opensAnyway;
  }

  /** See SegmentScanner.open. It is closed with the cursor, or by the next segment. */
  async at(segment: number): Promise<SegmentScanner | undefined> {
    if (this.#scanner?.header.segment !== segment) {
      await this.close();
      this.#scanner = this.#opensAnyway
        ? await SegmentScanner.openAnyway(this.#storage, this.#uuid, segment)
        : await SegmentScanner.open(this.#storage, this.#uuid, segment);
    }
    return this.#scanner;
  }

  async close(): Promise<void> {
    const scanner = this.#scanner;
    this.#scanner = undefined;
    await scanner?.close();
  }
}
