/**
 * The log as recovery reads it: all records of the stream from a position on, in order, up to the cut.
 *
 * The segments of the stream are linked backwards: a segment's header names its predecessor and where that ends.
 *
 * What a place without a valid record means (design section 13, rules 7 and 8):
 * - Some later record proves, by its durable watermark, that the missing one had been synced: corruption. It is
 *   reported and skipped, and the scan goes on with the next whole record.
 * - Otherwise it is the end of the log: an append that a crash interrupted. Everything behind it is cut, later
 *   segments too, so that what remains is a prefix of what was written.
 *
 * A record above every watermark may have a torn payload: such records are held back until a later one vouches for
 * them, and at the end of the log their payloads are verified; the first that fails is the cut.
 *
 * A tail that recovery wrote again (SEGMENT_REWRITES_TAIL) takes the place of what it copies only once its closing
 * mark is there, or a record behind it; else it is ignored, and what it copied still stands.
 *
 * Segments of moves are part of no chain, and passed by.
 *
 * A file that is not part of the accepted log is a leftover and may be removed, unless anything in it states that
 * more was synced than the accepted log holds: then a link is damaged, not the log at its end.
 *
 * Whoever wants what is left of a damaged log passes gaps (`passesGaps`): where a link is lost, the log goes on with the
 * earliest segment behind it that nothing leads to, and a segment without a header counts by its records. All of
 * that is damage, and told as such. Nothing may be written behind what is read so.
 */

import type { Storage } from '../base/storage.ts';
import {
  FIRST_RECORD_OFFSET,
  RECORD_CLOSING,
  RECORD_FOOTER,
  RECORD_TAIL_REWRITTEN,
  SEGMENT_MOVES,
  SEGMENT_REWRITES_TAIL,
  type SegmentHeader,
  segmentOfName,
} from './format.ts';
import { inferHeader } from './headerless.ts';
import { entriesOf, recordEnd, type ScannedRecord, ScannerCursor, SegmentScanner } from './scan.ts';

export interface LogPosition {
  segment: number;
  offset: number;
}

/** Where the accepted log ends: what the next record or segment is chained to. */
export interface LogEnd extends LogPosition {
  checksum: number;
  /** Append number of the last accepted record. */
  append: number;
}

export interface LogDamage {
  code: 'LOG_RECORD_DAMAGED' | 'LOG_SEGMENT_LOST' | 'LOG_HEADER_LOST';
  segment: number;
  offset: number;
  /** Where what is lost ends, in the segment; Infinity if all behind it is. */
  until: number;
  message: string;
}

export interface TailOptions {
  /** Go on behind segments that are lost. */
  readonly passesGaps?: boolean | undefined;
}

export class LogTail {
  /** The proven watermark: the highest that any accepted record states, or that the caller knew. */
  durable: number;
  end: LogEnd | undefined;
  /** End of the last record that is proven durable. */
  provenEnd: LogEnd | undefined;
  /** True if bytes of an interrupted append were cut. */
  torn = false;
  /** True if the last record closes the log and proves all before it. */
  closedCleanly = false;
  readonly damage: LogDamage[] = [];
  /** Segments that belong to the accepted log, in order. */
  readonly segments: number[] = [];
  /** Segment files that do not: interrupted recoveries, what lies behind the cut, files without a header. */
  readonly strays: number[] = [];
  highestSegment = 0;
  /** Segment files that there are, whatever they are. */
  readonly files: number[] = [];
  /** True if records may be missing where a gap was passed. */
  lacksRecords = false;

  readonly #storage: Storage;
  readonly #uuid: Buffer;
  readonly #passesGaps: boolean;
  readonly #headers = new Map<number, SegmentHeader>();
  readonly #headerless = new Set<number>();
  #held: ScannedRecord[] = [];
  #start: LogEnd | undefined;

  constructor(storage: Storage, uuid: Buffer, durable: number, options: TailOptions = {}) {
    this.#storage = storage;
    this.#uuid = uuid;
    this.durable = durable;
    this.#passesGaps = options.passesGaps === true;
  }

  /** Segments from the start on that may be part of the chain, by their headers; known once reading has begun. */
  candidates(): IterableIterator<number> {
    return this.#headers.keys();
  }

  /** The accepted records from `start` (default: the beginning of the log), in order. Results are set at its end. */
  async *records(start?: LogPosition): AsyncGenerator<ScannedRecord> {
    await this.#readHeaders(start?.segment ?? 0);
    let segment = start?.segment ?? (await this.#successor(0))?.segment ?? 0;
    let offset = start?.offset ?? FIRST_RECORD_OFFSET;
    for (;;) {
      const scanner = segment === 0 ? undefined : await this.#open(segment);
      let next: SegmentHeader | undefined;
      try {
        if (scanner !== undefined) {
          this.segments.push(segment);
          next = await this.#successor(segment);
          const reachedEnd = yield* this.#segment(scanner, offset, next);
          if (!reachedEnd) next = undefined;
        }
      } finally {
        await scanner?.close();
      }
      next ??= this.#passesGaps ? this.#behindGap() : undefined;
      if (next === undefined) break;
      segment = next.segment;
      offset = FIRST_RECORD_OFFSET;
    }
    yield* this.#judgeHeld();
    await this.#sortOutRest(start?.segment ?? 0);
  }

  #open(segment: number): Promise<SegmentScanner | undefined> {
    return this.#passesGaps
      ? SegmentScanner.openAnyway(this.#storage, this.#uuid, segment)
      : SegmentScanner.open(this.#storage, this.#uuid, segment);
  }

  /** The earliest segment behind the append number `reached` that nothing leads to. */
  #unlinkedBehind(reached: number): SegmentHeader | undefined {
    let found: SegmentHeader | undefined;
    for (const header of this.#headers.values()) {
      if (header.firstAppend <= reached || this.#headers.has(header.predecessor)) continue;
      if (found === undefined || header.firstAppend < found.firstAppend) found = header;
    }
    return found;
  }

  /** Where the log goes on behind segments that are lost; that they are is damage. */
  #behindGap(): SegmentHeader | undefined {
    const reached = this.end?.append ?? this.durable;
    const found = this.#unlinkedBehind(reached);
    if (found === undefined) return undefined;
    const { segment, predecessor, firstAppend } = found;
    const isLacking = firstAppend > reached + 1;
    const isHeaderless = this.#headerless.has(segment);
    this.lacksRecords ||= isLacking;
    this.torn = false; // it is not the end
    const place = this.end === undefined ? 'at its beginning' : `behind segment ${this.end.segment}`;
    this.damage.push({
      code: isLacking ? 'LOG_SEGMENT_LOST' : 'LOG_HEADER_LOST',
      segment: isHeaderless ? segment : predecessor,
      offset: 0,
      until: isLacking ? Number.POSITIVE_INFINITY : 0,
      message: isHeaderless
        ? `segment ${segment} has no valid header; its records are read one by one`
        : `segment ${predecessor} is missing, or nothing in it can be read: the log has a gap ${place}`,
    });
    return found;
  }

  /** What to do with the files that are not part of the accepted log. */
  async #sortOutRest(from: number): Promise<void> {
    const accepted = new Set([...this.segments, ...this.strays]);
    for (const segment of [...this.#headers.keys(), ...this.#headerless]) {
      if (segment >= from && !accepted.has(segment)) this.strays.push(segment);
    }
    for (const segment of this.strays) {
      if ((await this.#highestWatermark(segment)) <= (this.end?.append ?? 0)) continue;
      const what = this.#headers.has(segment) ? 'is cut off from the log' : 'has no valid header';
      const message = `segment ${segment} ${what}`;
      const until = Number.POSITIVE_INFINITY;
      this.damage.push({ code: 'LOG_SEGMENT_LOST', segment, offset: 0, until, message });
    }
  }

  /** The highest watermark that anything in this file states. */
  async #highestWatermark(segment: number): Promise<number> {
    const scanner = await SegmentScanner.openAnyway(this.#storage, this.#uuid, segment);
    if (scanner === undefined) return 0;
    try {
      let highest = scanner.header.durable;
      for await (const { header } of scanner.allRecords()) highest = Math.max(highest, header.durable);
      return highest;
    } finally {
      await scanner.close();
    }
  }

  async #readHeaders(from: number): Promise<void> {
    for (const name of await this.#storage.list('log')) {
      const segment = segmentOfName(name);
      if (segment === undefined) continue;
      this.highestSegment = Math.max(this.highestSegment, segment);
      this.files.push(segment);
      if (segment < from) continue;
      const scanner = await SegmentScanner.open(this.#storage, this.#uuid, segment);
      if (scanner === undefined) {
        this.#headerless.add(segment);
        const inferred = this.#passesGaps ? await inferHeader(this.#storage, this.#uuid, segment) : undefined;
        if (inferred !== undefined && (inferred.flags & SEGMENT_MOVES) === 0)
          this.#headers.set(segment, inferred);
        continue;
      }
      if ((scanner.header.flags & SEGMENT_MOVES) === 0) this.#headers.set(segment, scanner.header);
      await scanner.close();
    }
  }

  /** The newest valid segment that names `segment` as its predecessor; 0 stands before the first of all. */
  async #successor(segment: number): Promise<SegmentHeader | undefined> {
    const candidates = [...this.#headers.values()].filter((header) => header.predecessor === segment);
    candidates.sort((a, b) => b.segment - a.segment);
    for (const candidate of candidates) {
      if ((candidate.flags & SEGMENT_REWRITES_TAIL) === 0 || (await this.#isRewritten(candidate)))
        return candidate;
    }
    return undefined;
  }

  /**
   * True if the tail that begins in this segment was written again as a whole: its mark is there, or anything behind
   * it. While a tail is written again, no record or header states a watermark as high as its own; all later ones do.
   */
  async #isRewritten(first: SegmentHeader): Promise<boolean> {
    const segments = [first.segment];
    for (const segment of segments) {
      const scanner = await SegmentScanner.openAnyway(this.#storage, this.#uuid, segment);
      if (scanner === undefined) continue;
      try {
        for await (const { header } of scanner.allRecords()) {
          if ((header.flags & RECORD_TAIL_REWRITTEN) !== 0 || header.durable >= first.firstAppend)
            return true;
        }
      } finally {
        await scanner.close();
      }
      for (const header of this.#headers.values()) {
        if (header.predecessor !== segment) continue;
        // All that a power cut has left may be the header of what a later recovery began: it is synced before the rest.
        if (header.durable >= first.firstAppend) return true;
        segments.push(header.segment);
      }
    }
    return false;
  }

  /** The accepted records of one segment; answers whether the stream goes on in `next`. */
  async *#segment(
    scanner: SegmentScanner,
    from: number,
    next: SegmentHeader | undefined,
  ): AsyncGenerator<ScannedRecord, boolean> {
    const segment = scanner.header.segment;
    const header = this.#headers.get(segment) ?? scanner.header; // one that was lost is known by its records
    this.#vouch(scanner.header.durable);
    yield* this.#yieldProven(); // the segment may end right behind its header
    const limit = next?.predecessorEnd ?? scanner.header.segmentBytes;
    const footer = next === undefined ? undefined : await scanner.footer();
    if (footer !== undefined && endOf(footer) === limit) {
      for (const record of footer) {
        if (record.header.offset >= from) yield* this.#accept(record);
      }
      return true;
    }
    let end = from;
    let checksum =
      from === FIRST_RECORD_OFFSET && !this.#headerless.has(segment) ? scanner.headerChecksum : undefined;
    this.end ??= { segment, offset: end, checksum: checksum ?? 0, append: header.firstAppend - 1 };
    this.#start ??= this.end;
    if (checksum !== undefined) this.end = { segment, offset: end, checksum, append: this.end.append };
    while (end < limit) {
      let record =
        checksum === undefined
          ? ((await scanner.recordAt(end)) ?? (await scanner.copyAt([end])))
          : await scanner.recordBehind(end, checksum);
      if (record === undefined) {
        const behind = await this.#behindDamage(scanner, end, next);
        if (behind === 'end') {
          this.torn = await scanner.hasBytesBehind(end);
          return false;
        }
        if (behind === 'next') return true;
        record = behind;
      }
      if ((record.header.flags & RECORD_FOOTER) !== 0 || record.header.offset >= limit)
        return next !== undefined;
      yield* this.#accept(record);
      end = recordEnd(record.header);
      checksum = record.header.checksum;
    }
    return next !== undefined;
  }

  /**
   * No record where one belongs. Answers `end` if that is the end of the log; otherwise it is damage, reported, and
   * the answer is where the log goes on: the next whole record, or `next` for the next segment.
   */
  async #behindDamage(
    scanner: SegmentScanner,
    at: number,
    next: SegmentHeader | undefined,
  ): Promise<ScannedRecord | 'next' | 'end'> {
    const expected = (this.end?.append ?? 0) + 1;
    let found: ScannedRecord | undefined;
    let proven = next?.durable ?? 0;
    for await (const record of scanner.allRecords(at)) {
      if (record.header.append < expected) continue; // what a cut left behind in a gap
      found ??= record;
      proven = Math.max(proven, record.header.durable);
    }
    const later = next ?? (this.#passesGaps ? this.#unlinkedBehind(expected - 1) : undefined);
    if (proven < expected && later !== undefined) proven = await this.#durableFrom(later);
    if (proven < expected) return 'end';
    const segment = scanner.header.segment;
    const until = found?.header.offset ?? Number.POSITIVE_INFINITY;
    const to = found === undefined ? 'the end of the segment' : `${until}`;
    const message = `segment ${segment}: no valid record from ${at} to ${to}, where synced ones were`;
    this.damage.push({ code: 'LOG_RECORD_DAMAGED', segment, offset: at, until, message });
    return found ?? (next === undefined ? 'end' : 'next');
  }

  /** The highest watermark in the segments from `first` on. */
  async #durableFrom(first: SegmentHeader): Promise<number> {
    let durable = 0;
    for (let header: SegmentHeader | undefined = first; header !== undefined; ) {
      durable = Math.max(durable, await this.#highestWatermark(header.segment));
      header = await this.#successor(header.segment);
    }
    return durable;
  }

  #vouch(durable: number): void {
    this.durable = Math.max(this.durable, durable);
  }

  /** Takes a record into the log; yields those that are proven by now. */
  async *#accept(record: ScannedRecord): AsyncGenerator<ScannedRecord> {
    const { header } = record;
    this.#vouch(header.durable);
    this.end = {
      segment: header.segment,
      offset: recordEnd(header),
      checksum: header.checksum,
      append: header.append,
    };
    this.#held.push(record);
    yield* this.#yieldProven();
  }

  *#yieldProven(): Generator<ScannedRecord> {
    let proven = 0;
    for (const record of this.#held) {
      if (record.header.append > this.durable) break;
      proven += 1;
      this.provenEnd = endBehind(record);
      this.closedCleanly = false;
      yield record;
    }
    if (proven > 0) this.#held = this.#held.slice(proven);
  }

  /** What no watermark vouches for: accepted as far as the payloads are whole. */
  async *#judgeHeld(): AsyncGenerator<ScannedRecord> {
    const held = this.#held;
    this.#held = [];
    this.end = this.provenEnd ?? this.#start;
    const cursor = new ScannerCursor(this.#storage, this.#uuid, this.#passesGaps);
    try {
      for (const record of held) {
        const scanner = await cursor.at(record.header.segment);
        if (scanner === undefined) break;
        if (!(await scanner.payloadIsWhole(entriesOf(record)))) {
          this.torn = true;
          break;
        }
        this.end = endBehind(record);
        yield record;
      }
    } finally {
      await cursor.close();
    }
    const last = held.at(-1);
    this.closedCleanly =
      !this.torn && held.length === 1 && last !== undefined && (last.header.flags & RECORD_CLOSING) !== 0;
    while (this.end !== undefined && this.segments.length > 1 && this.segments.at(-1)! > this.end.segment) {
      this.strays.push(this.segments.pop()!);
    }
  }
}

function endBehind(record: ScannedRecord): LogEnd {
  const { header } = record;
  return {
    segment: header.segment,
    offset: recordEnd(header),
    checksum: header.checksum,
    append: header.append,
  };
}

function endOf(records: readonly ScannedRecord[]): number {
  const last = records.at(-1);
  return last === undefined ? FIRST_RECORD_OFFSET : recordEnd(last.header);
}
