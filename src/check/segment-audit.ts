/**
 * One segment file, read from its first byte to its last in large pieces: both copies of its header, every record, both
 * copies of header and table, every chunk, and the footer against all of it. It decides nothing: which records belong to
 * the log, and what a fault means for anybody, is for the check to say.
 *
 * What it answers can be sent to another thread, and grows with what is wrong, not with what there is.
 */

import { crc32c } from '../base/crc.ts';
import { hasCode } from '../base/errors.ts';
import type { Storage } from '../base/storage.ts';
import { CHUNK_BYTES } from '../base/units.ts';
import { type ChunksEntry, ENTRY_CHUNKS, type Entry } from '../log/entries.ts';
import {
  COPY_TAIL_BYTES,
  decodeCopyTail,
  decodeRecordHeader,
  RECORD_COPIED,
  RECORD_FOOTER,
  RECORD_HEADER_BYTES,
  type RecordHeader,
  recordIsWhole,
  type SegmentHeader,
  TRAILER_ROOM_BYTES,
} from '../log/format.ts';
import { entriesOf, payloadOffset, recordEnd, type ScannedRecord, SegmentScanner } from '../log/scan.ts';
import { isGivenUp } from '../log/lost-chunk.ts';
import { type HeaderState, isOfMoves, readSegmentStart } from '../log/segment-summary.ts';
import { walkSegment } from '../log/segment-walk.ts';

/** Read at once: a segment goes by in a few calls. */
const WINDOW_BYTES = 4 << 20;
/** Where payloads are passed by, most of a large window would be read for nothing. */
const QUICK_WINDOW_BYTES = 64 << 10;
/** Faults that are kept apart; of the rest only the number is told. */
const FAULTS_MAX = 50_000;
const ZEROS = Buffer.alloc(TRAILER_ROOM_BYTES);

/** What is wrong at a place; `offset` is that of the record. */
export type Fault = { readonly offset: number } & (
  | { readonly kind: 'lost'; readonly bytes: number; readonly isInFooter: boolean }
  | { readonly kind: 'unchained' | 'padding' }
  /** One of the two copies of header and table: at its start, or at its end. */
  | { readonly kind: 'copy'; readonly which: 'start' | 'end' }
  | { readonly kind: 'table'; readonly reason: string }
  | { readonly kind: 'footer'; readonly reason: string }
  | ({ readonly kind: 'chunks' } & DamagedChunks)
);

/** Chunks that follow each other, none of which has its checksum. */
export interface DamagedChunks {
  /** Where the first one lies in the segment. */
  readonly at: number;
  readonly label: number;
  readonly first: number;
  readonly count: number;
  readonly sequence: number;
  /** A repair has given them up. */
  readonly givenUp: boolean;
}

export interface SegmentAudit {
  readonly segment: number;
  readonly fileBytes: number;
  readonly headerState: HeaderState;
  readonly damagedCopy: number | undefined;
  /** Without its UUID; undefined if there is none that can be read. */
  readonly header: Omit<SegmentHeader, 'uuid'> | undefined;
  /** `damaged`: something stands where its trailer should, which comes last; `torn`: there is no trailer behind it. */
  readonly footer: 'whole' | 'damaged' | 'torn' | 'none';
  /** Where the last whole record ends, the footer not among them; 0 if there is none. */
  readonly lastEnd: number;
  /** The highest watermark that was stated by the process that began it. */
  readonly durable: number;
  /** In the order of their places. */
  readonly faults: readonly Fault[];
  readonly moreFaults: number;
}

export interface AuditOptions {
  /** False: records are believed where the footer is whole, and payloads are passed by. */
  readonly payloads: boolean;
  /** Told how far it has come, in bytes of the file. */
  readonly onBytes?: (bytes: number) => void;
}

/** undefined if there is no such file. @throws IO */
export async function auditSegment(
  storage: Storage,
  uuid: Buffer,
  segment: number,
  options: AuditOptions,
): Promise<SegmentAudit | undefined> {
  const start = await readSegmentStart(storage, uuid, segment);
  const reading = options.payloads
    ? { windowBytes: WINDOW_BYTES, readsAhead: true }
    : { windowBytes: QUICK_WINDOW_BYTES };
  const scanner = await SegmentScanner.openAnyway(storage, uuid, segment, reading);
  if (start === undefined || scanner === undefined) {
    await scanner?.close();
    return undefined;
  }
  const auditor = new SegmentReader(scanner, uuid, options);
  try {
    const isOurs = start.state === 'whole' || start.state === 'copy';
    const footer = start.state === 'foreign' ? 'none' : await auditor.read(isOurs);
    const { uuid: _, ...header } = start.header ?? { uuid };
    return {
      segment,
      fileBytes: start.bytes,
      headerState: start.state,
      damagedCopy: start.damagedCopy,
      header: start.header === undefined ? undefined : (header as Omit<SegmentHeader, 'uuid'>),
      footer,
      lastEnd: auditor.lastEnd,
      durable: isOurs ? Math.max(start.header!.durable, auditor.durable) : 0,
      faults: auditor.faults.sort((a, b) => a.offset - b.offset),
      moreFaults: auditor.moreFaults,
    };
  } finally {
    await scanner.close();
    options.onBytes?.(start.bytes);
  }
}

class SegmentReader {
  readonly faults: Fault[] = [];
  moreFaults = 0;
  lastEnd = 0;
  durable = 0;
  /** What the next record is numbered, if no other process has gone on meanwhile: none begins where an unclean end was. */
  #append: number;
  readonly #scanner: SegmentScanner;
  readonly #uuid: Buffer;
  readonly #options: AuditOptions;

  constructor(scanner: SegmentScanner, uuid: Buffer, options: AuditOptions) {
    this.#scanner = scanner;
    this.#uuid = uuid;
    this.#options = options;
    this.#append = scanner.header.firstAppend;
  }

  #pass({ header }: ScannedRecord): void {
    this.lastEnd = recordEnd(header);
    if (header.append !== this.#append) return;
    this.#append += 1;
    this.durable = Math.max(this.durable, header.durable);
  }

  #add(fault: Fault): void {
    if (this.faults.length < FAULTS_MAX) this.faults.push(fault);
    else this.moreFaults += 1;
  }

  async read(hasHeader: boolean): Promise<SegmentAudit['footer']> {
    const scanner = this.#scanner;
    const footer = await scanner.footer();
    if (footer !== undefined && !this.#options.payloads) {
      for (const record of footer) {
        this.#entries(record, false);
        this.#pass(record);
      }
      return 'whole';
    }
    const stated = new Map((footer ?? []).map((record) => [record.header.offset, record]));
    let isSealed = false;
    for await (const walked of walkSegment(scanner, hasHeader)) {
      const { found } = walked;
      if (found === undefined) {
        const { offset, bytes } = walked;
        const known = stated.get(offset);
        this.#add({ kind: 'lost', offset, bytes, isInFooter: known !== undefined });
        stated.delete(offset);
        if (known !== undefined) await this.#payload(known);
        continue;
      }
      const { offset, flags } = found.header;
      if (walked.state === 'copy') this.#add({ kind: 'copy', offset, which: 'start' });
      else if (walked.state === 'unchained') this.#add({ kind: 'unchained', offset });
      if ((flags & RECORD_FOOTER) !== 0) {
        isSealed = true;
        continue;
      }
      await this.#payload(found);
      await this.#end(found, walked.state === 'copy');
      if (footer !== undefined) this.#compare(found, stated.get(offset));
      stated.delete(offset);
      this.#pass(found);
      this.#options.onBytes?.(this.lastEnd);
    }
    for (const offset of stated.keys())
      this.#add({ kind: 'footer', offset, reason: 'names a record that is not there' });
    if (footer !== undefined) return 'whole';
    if (await this.#hasTrailerBytes()) return 'damaged';
    return isSealed ? 'torn' : 'none';
  }

  /** Nothing but a trailer is ever written there. */
  async #hasTrailerBytes(): Promise<boolean> {
    const at = this.#scanner.header.segmentBytes - TRAILER_ROOM_BYTES;
    if (at < 0) return false;
    const bytes = await this.#scanner.bytesAt(at, TRAILER_ROOM_BYTES);
    return !isZero(bytes);
  }

  /** The entries of a record; none if its table is not one that this revision writes. */
  #entries(record: ScannedRecord, hasFirstSequence: boolean): Entry[] {
    const { offset, firstSequence, payloadBytes } = record.header;
    try {
      const entries = entriesOf(record);
      let bytes = 0;
      for (const entry of entries) if (entry.kind === ENTRY_CHUNKS) bytes += entry.count * CHUNK_BYTES;
      if (bytes !== payloadBytes)
        this.#table(offset, `its entries have ${bytes} bytes of payload, and it says ${payloadBytes}`);
      // Moves and footers do not keep it.
      const first = entries[0]?.sequence ?? firstSequence;
      if (hasFirstSequence && first !== firstSequence)
        this.#table(offset, `it begins with the sequence ${first}, and says ${firstSequence}`);
      return entries;
    } catch (error) {
      if (!hasCode(error, 'CORRUPTION')) throw error;
      this.#table(offset, (error as Error).message);
      return [];
    }
  }

  #table(offset: number, reason: string): void {
    this.#add({ kind: 'table', offset, reason });
  }

  async #payload(record: ScannedRecord): Promise<void> {
    const { offset, firstSequence } = record.header;
    const entries = this.#entries(record, firstSequence > 0 && !isOfMoves(this.#scanner.header));
    if (!this.#options.payloads) return;
    for (const entry of entries) {
      if (entry.kind !== ENTRY_CHUNKS) continue;
      const bytes = await this.#scanner.payload(entry);
      for (let c = badChunk(bytes, entry, 0); c < entry.count; ) {
        const givenUp = isGivenUp(chunkIn(bytes, c));
        let end = c + 1;
        while (
          end < entry.count &&
          badChunk(bytes, entry, end) === end &&
          isGivenUp(chunkIn(bytes, end)) === givenUp
        )
          end += 1;
        const at = entry.offset + c * CHUNK_BYTES;
        const { label, first, sequence } = entry;
        this.#add({ kind: 'chunks', offset, at, label, first: first + c, count: end - c, sequence, givenUp });
        c = badChunk(bytes, entry, end);
      }
    }
  }

  /** The second copy of header and table, and the zeros before it. */
  async #end(record: ScannedRecord, isCopy: boolean): Promise<void> {
    const { header, table } = record;
    const end = recordEnd(header);
    const isCopied = (header.flags & RECORD_COPIED) !== 0;
    const copyBytes = isCopied ? RECORD_HEADER_BYTES + table.length + COPY_TAIL_BYTES : 0;
    const paddingAt = payloadOffset(header) + header.payloadBytes;
    const bytes = await this.#scanner.bytesAt(paddingAt, end - paddingAt);
    if (bytes.length < end - paddingAt) {
      if (isCopied) this.#add({ kind: 'copy', offset: header.offset, which: 'end' });
      return;
    }
    if (!isZero(bytes.subarray(0, bytes.length - copyBytes)))
      this.#add({ kind: 'padding', offset: header.offset });
    if (!isCopied || isCopy) return;
    const copy = bytes.subarray(bytes.length - copyBytes);
    if (!this.#isCopyOf(copy, header)) this.#add({ kind: 'copy', offset: header.offset, which: 'end' });
  }

  #isCopyOf(copy: Buffer, { segment, offset, checksum }: RecordHeader): boolean {
    const tailAt = copy.length - COPY_TAIL_BYTES;
    if (decodeCopyTail(copy.subarray(tailAt)) !== tailAt) return false;
    const header = decodeRecordHeader(copy, this.#uuid, segment, offset);
    if (header?.checksum !== checksum) return false;
    return recordIsWhole(copy, copy.subarray(RECORD_HEADER_BYTES, tailAt), header);
  }

  #compare(found: ScannedRecord, stated: ScannedRecord | undefined): void {
    const { offset } = found.header;
    if (stated === undefined) this.#add({ kind: 'footer', offset, reason: 'lacks the record' });
    else if (!isSame(found, stated))
      this.#add({ kind: 'footer', offset, reason: 'has something else of the record' });
  }
}

/** What a footer keeps of a record. */
function isSame(found: ScannedRecord, stated: ScannedRecord): boolean {
  const [a, b] = [found.header, stated.header];
  return (
    a.append === b.append &&
    a.durable === b.durable &&
    a.flags === b.flags &&
    a.entryCount === b.entryCount &&
    a.payloadBytes === b.payloadBytes &&
    a.checksum === b.checksum &&
    found.table.equals(stated.table)
  );
}

function chunkIn(bytes: Buffer, c: number): Buffer {
  return bytes.subarray(c * CHUNK_BYTES, (c + 1) * CHUNK_BYTES);
}

/** The first chunk of the entry, from `from` on, that does not match; their count if all do. */
function badChunk(bytes: Buffer, { checksums, count }: ChunksEntry, from: number): number {
  for (let c = from; c < count; c++) {
    const chunk = chunkIn(bytes, c);
    if (chunk.length < CHUNK_BYTES || crc32c(chunk) !== checksums[c]) return c;
  }
  return count;
}

function isZero(bytes: Buffer): boolean {
  return bytes.equals(ZEROS.subarray(0, bytes.length));
}
