/**
 * Verifies everything that one segment of the log in use holds: both headers, each record and the copy of its header and table,
 * each chunk, the footer. It says what is wrong where; whether anything reads a chunk is not for the log to know.
 *
 * A segment that is being written is read up to where it was written when the reader began: nothing before that changes.
 */

import { crc32c } from '../base/crc.ts';
import { hasCode } from '../base/errors.ts';
import { othersFirst } from '../base/event-loop.ts';
import { CHUNK_BYTES, roundUp } from '../base/units.ts';
import { type ChunksEntry, ENTRY_CHUNKS } from './entries.ts';
import {
  COPY_TAIL_BYTES,
  decodeCopyTail,
  decodeRecordHeader,
  decodeSegmentHeader,
  FIRST_RECORD_OFFSET,
  RECORD_COPIED,
  RECORD_FOOTER,
  RECORD_HEADER_BYTES,
  recordIsWhole,
  SEGMENT_HEADER_COPY_OFFSET,
  SEGMENT_MOVES,
  SYNC_ALIGN_BYTES,
} from './format.ts';
import { entriesOf, recordEnd, recordsOfFooter, type ScannedRecord, type SegmentScanner } from './scan.ts';

/** Records, and chunks, that are verified before others have their turn: a fraction of a millisecond. */
const RECORDS_AT_ONCE = 64;

/** A chunk whose bytes do not match the checksum that its record states. */
export interface BadChunk {
  readonly segment: number;
  readonly offset: number;
  readonly sequence: number;
  readonly label: number;
  readonly chunk: number;
}

export interface SegmentFlaw {
  readonly code:
    | 'SEGMENT_HEADER_DAMAGED'
    | 'LOG_RECORD_DAMAGED'
    | 'RECORD_COPY_DAMAGED'
    | 'FOOTER_DAMAGED'
    | 'FOOTER_DIFFERS';
  readonly message: string;
}

/** How far it is, and what has been found since the step before. */
export interface SegmentStep {
  readonly at: number;
  readonly flaws: readonly SegmentFlaw[];
  readonly chunks: readonly BadChunk[];
}

export interface SegmentExtent {
  /** False: no header can be read, and the first record is taken as it is. */
  readonly hasHeader: boolean;
  /** Where its records end; undefined: only its footer can tell. */
  readonly end: number | undefined;
  /** It is being written, or was when the reader began: there is no footer to look for. */
  readonly isOpen: boolean;
}

/** @throws IO */
export async function* scrubSegment(
  scanner: SegmentScanner,
  extent: SegmentExtent,
): AsyncGenerator<SegmentStep> {
  const scrub = new SegmentScrub(scanner, extent);
  yield* scrub.run();
}

class SegmentScrub {
  readonly #scanner: SegmentScanner;
  readonly #extent: SegmentExtent;
  #flaws: SegmentFlaw[] = [];
  #chunks: BadChunk[] = [];
  /** Places where no record could be read. */
  readonly #gaps: { from: number; until: number }[] = [];
  /** Offsets of the records that were read. */
  readonly #seen = new Set<number>();

  constructor(scanner: SegmentScanner, extent: SegmentExtent) {
    this.#scanner = scanner;
    this.#extent = extent;
  }

  async *run(): AsyncGenerator<SegmentStep> {
    const scanner = this.#scanner;
    const { hasHeader } = this.#extent;
    if (hasHeader) await this.#checkHeaders();
    const end = this.#extent.end ?? (await this.#endByFooter());
    let at = FIRST_RECORD_OFFSET;
    let checksum = hasHeader ? scanner.headerChecksum : undefined;
    let records = 0;
    while (end === undefined || at < end) {
      let record = await this.#next(at, checksum);
      if (record === undefined) {
        if (end === undefined) break; // nobody says that there is one
        record = await scanner.findRecord(at);
        const until = Math.min(record?.header.offset ?? end, end);
        this.#flaw('LOG_RECORD_DAMAGED', `no valid record from ${at} to ${until}, where there was one`);
        this.#gaps.push({ from: at, until });
      }
      if (record === undefined || (record.header.flags & RECORD_FOOTER) !== 0) break;
      if (end !== undefined && record.header.offset >= end) break;
      await this.#check(record);
      at = recordEnd(record.header);
      ({ checksum } = record.header);
      yield this.#step(at);
      if (++records % RECORDS_AT_ONCE === 0) await othersFirst();
    }
    if (!this.#extent.isOpen) await this.#checkFooter(at, checksum, end);
    yield this.#step(scanner.header.segmentBytes);
  }

  #step(at: number): SegmentStep {
    const [flaws, chunks] = [this.#flaws, this.#chunks];
    if (flaws.length > 0) this.#flaws = [];
    if (chunks.length > 0) this.#chunks = [];
    return { at, flaws, chunks };
  }

  #flaw(code: SegmentFlaw['code'], what: string): void {
    this.#flaws.push({ code, message: `segment ${this.#scanner.header.segment}: ${what}` });
  }

  async #checkHeaders(): Promise<void> {
    const { uuid, segment } = this.#scanner.header;
    const bytes = await this.#scanner.bytesAt(0, FIRST_RECORD_OFFSET);
    for (const [i, at] of [0, SEGMENT_HEADER_COPY_OFFSET].entries()) {
      if (decodeSegmentHeader(bytes.subarray(at), uuid)?.segment === segment) continue;
      this.#flaw('SEGMENT_HEADER_DAMAGED', `copy ${i + 1} of its header is damaged; the other one is used`);
    }
  }

  /** The record behind `at`; `checksum` undefined: whatever it is chained to. */
  async #next(at: number, checksum: number | undefined): Promise<ScannedRecord | undefined> {
    const scanner = this.#scanner;
    const aligned = roundUp(at, SYNC_ALIGN_BYTES);
    for (const offset of aligned === at ? [at] : [at, aligned]) {
      const record = await scanner.recordAt(offset);
      if (
        record !== undefined &&
        (checksum ?? record.header.previousChecksum) === record.header.previousChecksum
      )
        return record;
    }
    const copied =
      checksum === undefined ? await scanner.copyAt([at]) : await scanner.recordBehind(at, checksum);
    if (copied !== undefined)
      this.#flaw(
        'RECORD_COPY_DAMAGED',
        `the record at ${copied.header.offset} is damaged in one of two places; the other one is used`,
      );
    return copied;
  }

  async #check(record: ScannedRecord): Promise<void> {
    this.#seen.add(record.header.offset);
    await this.#checkChunks(record);
    if (!(await this.#isCopied(record)))
      this.#flaw(
        'RECORD_COPY_DAMAGED',
        `the copy at the end of the record at ${record.header.offset} is damaged; its start is used`,
      );
  }

  async #checkChunks(record: ScannedRecord): Promise<void> {
    const { segment, offset } = record.header;
    try {
      for (const entry of entriesOf(record)) {
        if (entry.kind === ENTRY_CHUNKS) await this.#checkEntry(segment, entry);
      }
    } catch (error) {
      if (!hasCode(error, 'CORRUPTION')) throw error;
      this.#flaw('LOG_RECORD_DAMAGED', `the record at ${offset} has a table that nobody can read`);
    }
  }

  async #checkEntry(segment: number, entry: ChunksEntry): Promise<void> {
    const { count, offset, sequence, label, first, checksums } = entry;
    const bytes = await this.#scanner.payload(entry);
    for (let i = 0; i < count; i++) {
      const chunk = bytes.subarray(i * CHUNK_BYTES, (i + 1) * CHUNK_BYTES);
      if (chunk.length === CHUNK_BYTES && crc32c(chunk) === checksums[i]) continue;
      this.#chunks.push({ segment, offset: offset + i * CHUNK_BYTES, sequence, label, chunk: first + i });
    }
  }

  /** True if header and table stand again at the end of the record, or should not. */
  async #isCopied({ header }: ScannedRecord): Promise<boolean> {
    if ((header.flags & RECORD_COPIED) === 0) return true;
    const scanner = this.#scanner;
    const { uuid, segment } = scanner.header;
    const headBytes = RECORD_HEADER_BYTES + header.tableBytes;
    const copyBytes = headBytes + COPY_TAIL_BYTES;
    const copy = await scanner.bytesAt(recordEnd(header) - copyBytes, copyBytes);
    if (copy.length < copyBytes || decodeCopyTail(copy.subarray(headBytes)) !== headBytes) return false;
    const again = decodeRecordHeader(copy, uuid, segment, header.offset);
    if (again === undefined || again.checksum !== header.checksum) return false;
    return recordIsWhole(copy, copy.subarray(RECORD_HEADER_BYTES, headBytes), again);
  }

  /** What the footer says against what was read; where records are lost, it still has their tables. */
  async #checkFooter(at: number, checksum: number | undefined, end: number | undefined): Promise<void> {
    const scanner = this.#scanner;
    const footer = await scanner.footerRecord();
    if (footer === undefined) {
      const isMoves = (scanner.header.flags & SEGMENT_MOVES) !== 0;
      const behind = checksum === undefined ? undefined : await scanner.recordBehind(at, checksum);
      const isSealed = isMoves || ((behind?.header.flags ?? 0) & RECORD_FOOTER) !== 0;
      // A segment that a crash or a failed write ended has none.
      if (isSealed) this.#flaw('FOOTER_DAMAGED', 'its footer cannot be read');
      return;
    }
    const lacking = this.#seen;
    let records = 0;
    for (const record of recordsOfFooter(footer)) {
      if (++records % RECORDS_AT_ONCE === 0) await othersFirst();
      const { offset } = record.header;
      if (end !== undefined && offset >= end) continue;
      lacking.delete(offset);
      if (this.#gaps.some(({ from, until }) => offset >= from && offset < until))
        await this.#checkChunks(record);
    }
    for (const offset of lacking) this.#flaw('FOOTER_DIFFERS', `its footer lacks the record at ${offset}`);
  }

  /** Where the footer says that the records end; undefined if there is none. */
  async #endByFooter(): Promise<number | undefined> {
    const footer = await this.#scanner.footerRecord();
    if (footer === undefined) return undefined;
    let end = FIRST_RECORD_OFFSET;
    let records = 0;
    for (const { header } of recordsOfFooter(footer)) {
      end = recordEnd(header);
      if (++records % RECORDS_AT_ONCE === 0) await othersFirst();
    }
    return end;
  }
}
