/**
 * All that the log holds, for who makes an index from it: a rebuild, a check.
 *
 * Without a base that is the chain from its first segment on. Where compaction has removed segments, it is the catalog of
 * the base; what is left of the chain before it, and the segments of moves that this catalog states; then the chain from
 * the base on. Of two entries of a chunk the higher sequence counts, and of a chunk that was moved the later place: so
 * records come in the order of their append numbers, segment by segment, and changes come from the base on only.
 *
 * Of a damaged log, what is left (`WholeLog.ofRemains`) comes in the same order, by the newest catalog that can be read.
 *
 * Of a segment before the base, its footer says what it holds; its successor, or the record behind the last of the footer,
 * where it ends: compaction removes no successor of a segment whose footer does not say the same.
 */

import { hasCode, StoreError } from '../base/errors.ts';
import { Overlay } from '../index/overlay.ts';
import { ENTRY_CATALOG, type Entry } from '../log/entries.ts';
import { FIRST_RECORD_OFFSET, RECORD_FOOTER, SEGMENT_MOVES, type SegmentHeader } from '../log/format.ts';
import { inferHeader } from '../log/headerless.ts';
import type { LogPlace } from '../log/record-locator.ts';
import { entriesOf, recordEnd, type ScannedRecord, SegmentScanner } from '../log/scan.ts';
import type { LogBase } from '../log/superblock.ts';
import { type LogDamage, LogTail, type TailOptions } from '../log/tail.ts';
import { Catalog } from './catalog.ts';
import { CatalogParts, decodeSegments, type StatedSegments } from './catalog-parts.ts';
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
  /** What the newest catalog of the log says about segments. */
  readonly newest: StatedSegments | undefined;
  /** What is wrong with segments before the base; what is wrong with the chain, the tail says. */
  readonly damage: LogDamage[] = [];
  /** Where segments before the base, and of moves, end. */
  readonly keptEnds = new Map<number, number>();
  /** Append number of the last record of the chain that was read. */
  reached = 0;
  readonly #isOfRemains: boolean;

  private constructor(
    place: LogPlace,
    base: LogBase | undefined,
    durable: number,
    catalog: Catalog,
    stated: StatedSegments | undefined,
    newest: StatedSegments | undefined,
    options: TailOptions = {},
  ) {
    this.#place = place;
    this.#base = base;
    this.#isOfRemains = options.passesGaps === true;
    this.tail = new LogTail(place.storage, place.uuid, durable, options);
    this.catalog = catalog;
    this.stated = stated;
    this.newest = newest;
  }

  /**
   * `durable` as for LogTail; `present`: what the store that has the log open knows of its segments, else the newest catalog
   * of the log says it. `also`: others that are looked for, unless that catalog states that they are emptied: nothing may
   * say any more where those end. @throws CORRUPTION if the catalog of the base cannot be read
   */
  static async open(
    place: LogPlace,
    base: LogBase | undefined,
    durable: number,
    present?: StatedSegments,
    also: Iterable<number> = [],
  ): Promise<WholeLog> {
    const stated = present ?? (await newestStated(place, base));
    const segments = new Set(stated?.segments ?? []);
    for (const segment of also) if (stated?.retired.has(segment) !== true) segments.add(segment);
    const newest = segments.size === 0 ? stated : { segments, retired: stated?.retired ?? new Set<number>() };
    if (base === undefined) return new WholeLog(place, base, durable, new Catalog(), undefined, newest);
    const first = await catalogAt(place, base);
    return new WholeLog(place, base, durable, first.catalog, first.stated, newest);
  }

  /**
   * What is left of a log of which parts are lost; the whole of it counts, before the base or behind it. `end` has the newest
   * catalog that can be read, by which all records are to be replayed as kept ones; `segments` those that hold
   * moves, or stand before the base.
   */
  static ofRemains(
    place: LogPlace,
    base: LogBase | undefined,
    end: Pick<WholeLog, 'catalog' | 'stated'>,
    segments: Iterable<number>,
  ): WholeLog {
    const { catalog, stated } = end;
    const present = new Set([...(stated?.segments ?? []), ...segments]);
    const newest = { segments: present, retired: stated?.retired ?? new Set<number>() };
    return new WholeLog(place, base, base?.append ?? 0, catalog, stated, newest, { passesGaps: true });
  }

  /** A replay for the records, which puts pointers into the active overlay. */
  replay(overlays: { active: Overlay; frozen: Overlay | undefined }): Replay {
    const replay = new Replay(overlays, this.catalog);
    replay.catalogSequence = this.catalog.sequence;
    replay.sequence = this.catalog.sequence;
    replay.stated = this.stated;
    for (const { label } of this.catalog.tree.nodes()) replay.label = Math.max(replay.label, label);
    replay.newest = this.newest;
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
    const segments = this.newest?.segments ?? [];
    for (const segment of [...segments].sort((a, b) => a - b)) {
      const header = await this.#headerOf(segment);
      if (header === undefined)
        this.#damaged('LOG_SEGMENT_LOST', segment, 0, Infinity, 'is missing, or has no valid header');
      else headers.push(header);
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

  async #headerOf(segment: number): Promise<SegmentHeader | undefined> {
    const { storage, uuid } = this.#place;
    const scanner = await SegmentScanner.open(storage, uuid, segment);
    await scanner?.close();
    if (scanner !== undefined || !this.#isOfRemains) return scanner?.header;
    const inferred = await inferHeader(storage, uuid, segment);
    if (inferred !== undefined) this.#damaged('LOG_HEADER_LOST', segment, 0, 0, 'has no valid header');
    return inferred;
  }

  async *#recordsOf({ header: { segment }, end }: KeptSegment): AsyncGenerator<LogRecord> {
    const { storage, uuid } = this.#place;
    const scanner = this.#isOfRemains
      ? await SegmentScanner.openAnyway(storage, uuid, segment)
      : await SegmentScanner.open(storage, uuid, segment);
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
        // Without a header nothing says what the first one is chained to.
        if (until > at) this.#damaged('LOG_RECORD_DAMAGED', scanner.header.segment, at, until, what);
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
    const used = new Set([...this.keptEnds.keys(), ...this.tail.segments, ...(this.newest?.retired ?? [])]);
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

/** What the catalog says that the log begins with. @throws CORRUPTION */
async function catalogAt(
  { storage, uuid }: LogPlace,
  base: LogBase,
): Promise<{ catalog: Catalog; stated: StatedSegments | undefined }> {
  const replay = new Replay({ active: new Overlay(), frozen: undefined }, undefined);
  const tail = new LogTail(storage, uuid, base.append);
  for await (const record of tail.records(base)) {
    if (replay.sequence === 0 && record.header.append !== base.append) break;
    replay.apply(record.header.segment, entriesOf(record));
    const { catalog, stated } = replay;
    if (catalog !== undefined) return { catalog, stated };
  }
  const at = `segment ${base.segment}, offset ${base.offset}`;
  throw new StoreError('CORRUPTION', `the catalog that the log begins with cannot be read (${at})`);
}

/**
 * What the newest catalog of the log says about segments. If that is the one at the base, segments that were begun when it
 * was on its way belong to it.
 */
async function newestStated(place: LogPlace, base: LogBase | undefined): Promise<StatedSegments | undefined> {
  if (base === undefined) return undefined; // compaction begins with a base
  const parts = new CatalogParts();
  let newest: StatedSegments | undefined;
  let catalogs = 0;
  for await (const record of new LogTail(place.storage, place.uuid, base.append).records(base)) {
    for (const entry of readableEntries(record)) {
      const texts = entry.kind === ENTRY_CATALOG ? parts.take(entry) : undefined;
      if (texts === undefined) continue;
      newest = decodeSegments(texts);
      catalogs += 1;
    }
  }
  if (newest === undefined || catalogs > 1) return newest;
  const begun = await unstatedUpTo(place, base.segment, newest.segments);
  return { segments: new Set([...newest.segments, ...begun]), retired: newest.retired };
}

/** Those of a record that cannot be read hold no catalog: whoever reads the record for what it holds finds out. */
function readableEntries(record: ScannedRecord): readonly Entry[] {
  try {
    return entriesOf(record);
  } catch (error) {
    if (!hasCode(error, 'CORRUPTION')) throw error;
    return [];
  }
}
