/**
 * All that the log holds, for who makes an index from it: a rebuild, a check.
 *
 * Without a base that is the chain from its first segment on. Where compaction has removed segments, it is the catalog of
 * the base; what is left of the chain before it, and the segments of moves that this catalog states; then the chain from
 * the base on. Of two entries of a chunk the higher sequence counts, and of a chunk that was moved the later place: so
 * records come in the order of their append numbers, segment by segment, and changes come from the base on only.
 *
 * Of a segment before the base, its footer says what it holds; its successor, or the record behind the last of the footer,
 * where it ends: compaction removes no successor of a segment whose footer does not say the same.
 */

import { StoreError } from '../base/errors.ts';
import { Overlay } from '../index/overlay.ts';
import { FIRST_RECORD_OFFSET, RECORD_FOOTER, SEGMENT_MOVES, type SegmentHeader } from '../log/format.ts';
import type { LogPlace } from '../log/record-locator.ts';
import { entriesOf, recordEnd, type ScannedRecord, SegmentScanner } from '../log/scan.ts';
import type { LogBase } from '../log/superblock.ts';
import { type LogDamage, LogTail } from '../log/tail.ts';
import { Catalog } from './catalog.ts';
import type { StatedSegments } from './catalog-parts.ts';
import { Replay } from './replay.ts';

export type { LogPlace } from '../log/record-locator.ts';

/** A record, and whether it counts only for what it says of chunks: it stands before the base. */
export interface LogRecord extends ScannedRecord {
  readonly isKept: boolean;
}

/** A segment before the base, or of moves, and where its last record ends at most. */
interface KeptSegment {
  readonly header: SegmentHeader;
  readonly end: number;
}

function isMoves({ flags }: SegmentHeader): boolean {
  return (flags & SEGMENT_MOVES) !== 0;
}

export class WholeLog {
  readonly #place: LogPlace;
  readonly #base: LogBase | undefined;
  readonly tail: LogTail;
  /** What a replay of the records starts with. */
  readonly catalog: Catalog;
  readonly stated: StatedSegments | undefined;
  /** What is wrong with segments before the base; what is wrong with the chain, the tail says. */
  readonly damage: LogDamage[] = [];
  /** Where segments before the base, and of moves, end. */
  readonly keptEnds = new Map<number, number>();
  /** Append number of the last record of the chain that was read. */
  reached = 0;
  readonly #moves: readonly number[];

  private constructor(
    place: LogPlace,
    base: LogBase | undefined,
    durable: number,
    catalog: Catalog,
    stated: StatedSegments | undefined,
    moves: Iterable<number>,
  ) {
    this.#place = place;
    this.#base = base;
    this.tail = new LogTail(place.storage, place.uuid, durable);
    this.catalog = catalog;
    this.stated = stated;
    this.#moves = [...moves];
  }

  /**
   * `durable` as for LogTail; `moves`: segments of moves that count though the base does not know them yet.
   * @throws CORRUPTION if the catalog of the base cannot be read
   */
  static async open(
    place: LogPlace,
    base: LogBase | undefined,
    durable: number,
    moves: Iterable<number> = [],
  ): Promise<WholeLog> {
    if (base === undefined) return new WholeLog(place, base, durable, new Catalog(), undefined, moves);
    const replay = new Replay({ active: new Overlay(), frozen: undefined }, undefined);
    const tail = new LogTail(place.storage, place.uuid, base.append);
    for await (const record of tail.records(base)) {
      if (replay.sequence === 0 && record.header.append !== base.append) break;
      replay.apply(record.header.segment, entriesOf(record));
      if (replay.catalog !== undefined) break;
    }
    const { catalog, stated } = replay;
    if (catalog === undefined) {
      const at = `segment ${base.segment}, offset ${base.offset}`;
      throw new StoreError('CORRUPTION', `the catalog that the log begins with cannot be read (${at})`);
    }
    return new WholeLog(place, base, durable, catalog, stated, moves);
  }

  /** A replay for the records, which puts pointers into the active overlay. */
  replay(overlays: { active: Overlay; frozen: Overlay | undefined }): Replay {
    const replay = new Replay(overlays, this.catalog);
    replay.catalogSequence = this.catalog.sequence;
    replay.sequence = this.catalog.sequence;
    replay.stated = this.stated;
    for (const { label } of this.catalog.tree.nodes()) replay.label = Math.max(replay.label, label);
    for (const segment of this.stated?.segments ?? []) replay.named.add(segment);
    return replay;
  }

  /** All records in the order in which they are to be replayed; of the chain, those up to the append number `until`. */
  async *records(until = Number.POSITIVE_INFINITY): AsyncGenerator<LogRecord> {
    const kept = await this.#keptSegments();
    let next = 0;
    for await (const record of this.tail.records(this.#base)) {
      this.reached = record.header.append;
      if (this.reached > until) break;
      while (next < kept.length && kept[next]!.header.firstAppend < record.header.append)
        yield* this.#recordsOf(kept[next++]!);
      yield { ...record, isKept: false };
    }
    while (next < kept.length) yield* this.#recordsOf(kept[next++]!);
  }

  /** In the order in which they were begun. */
  async #keptSegments(): Promise<KeptSegment[]> {
    const headers: SegmentHeader[] = [];
    const base = this.#base;
    const stated = this.stated?.segments ?? new Set();
    const segments = new Set([...stated, ...this.#moves]);
    if (base !== undefined)
      for (const each of await unstatedUpTo(this.#place, base.segment, stated)) segments.add(each);
    for (const segment of [...segments].sort((a, b) => a - b)) {
      const scanner = await SegmentScanner.open(this.#place.storage, this.#place.uuid, segment);
      if (scanner === undefined)
        this.#damaged('LOG_SEGMENT_LOST', segment, 0, Infinity, 'is missing, or has no valid header');
      else headers.push(scanner.header);
      await scanner?.close();
    }
    const ends = new Map<number, number>();
    for (const { predecessor, predecessorEnd } of headers) ends.set(predecessor, predecessorEnd);
    if (base !== undefined) ends.set(base.segment, base.offset);
    const kept: KeptSegment[] = [];
    for (const header of headers) {
      const ofMoves = isMoves(header);
      // What the base's catalog named while the log went on into another segment is on the chain behind it.
      if (!ofMoves && (base === undefined || header.segment > base.segment)) continue;
      const end = (ofMoves ? undefined : ends.get(header.segment)) ?? header.segmentBytes;
      kept.push({ header, end });
      this.keptEnds.set(header.segment, end);
    }
    return kept.sort((a, b) => a.header.firstAppend - b.header.firstAppend);
  }

  async *#recordsOf({ header: { segment }, end }: KeptSegment): AsyncGenerator<LogRecord> {
    const scanner = await SegmentScanner.open(this.#place.storage, this.#place.uuid, segment);
    if (scanner === undefined) return this.#damaged('LOG_SEGMENT_LOST', segment, 0, Infinity, 'is gone');
    try {
      const footer = await scanner.footer();
      for await (const record of footer ?? this.#recordsUpTo(scanner, end)) {
        if (recordEnd(record.header) <= end) yield { ...record, isKept: true };
      }
    } finally {
      await scanner.close();
    }
  }

  /** The records of a segment without a footer, past all damage. */
  async *#recordsUpTo(scanner: SegmentScanner, end: number): AsyncGenerator<ScannedRecord> {
    let at = FIRST_RECORD_OFFSET;
    let checksum = scanner.headerChecksum;
    while (at < end) {
      let record = await scanner.recordBehind(at, checksum);
      if (record === undefined) {
        record = await scanner.findRecord(at);
        const isBehind = record === undefined || record.header.offset >= end;
        // What is cut off is only known to be missing where something says how much there was.
        if (isBehind && !isMoves(scanner.header) && end === scanner.header.segmentBytes) return;
        const until = isBehind ? end : record!.header.offset;
        const what = `has no valid record from ${at} to ${until}`;
        this.#damaged('LOG_RECORD_DAMAGED', scanner.header.segment, at, until, what);
        if (record === undefined || isBehind) return;
      }
      if ((record.header.flags & RECORD_FOOTER) !== 0) return;
      yield record;
      at = recordEnd(record.header);
      checksum = record.header.checksum;
    }
  }

  /** How many segments there are to be read, as far as their headers tell; known once reading has begun. */
  get segmentCount(): number {
    return new Set([...this.keptEnds.keys(), ...this.tail.candidates()]).size;
  }

  /** Files that are of no use, once all has been read. */
  leftovers(): number[] {
    const used = new Set([...this.keptEnds.keys(), ...this.tail.segments, ...(this.stated?.retired ?? [])]);
    return this.tail.files.filter((segment) => !used.has(segment));
  }

  #damaged(code: LogDamage['code'], segment: number, offset: number, until: number, what: string): void {
    this.damage.push({ code, segment, offset, until, message: `segment ${segment} ${what}` });
  }
}

/**
 * The segment that a catalog stands in, and those right before it that it does not state: they were begun when it was on
 * its way already. In order.
 */
export async function unstatedUpTo(
  { storage, uuid }: LogPlace,
  segment: number,
  stated: ReadonlySet<number>,
): Promise<number[]> {
  const found = [segment];
  for (let at = segment; !stated.has(at); ) {
    const scanner = await SegmentScanner.open(storage, uuid, at);
    const predecessor = scanner?.header.predecessor ?? 0;
    await scanner?.close();
    if (predecessor === 0 || stated.has(predecessor)) break;
    found.unshift(predecessor);
    at = predecessor;
  }
  return found;
}
