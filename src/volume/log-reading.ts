/**
 * The log as a check reads it: all of it into an index of its own, past whatever cannot be read or applied, with what is
 * lost told. The bytes of chunks are not looked at: that is for the audit of segments.
 */

import { hasCode, type StoreError } from '../base/errors.ts';
import { type Finding, finding } from '../check/finding.ts';
import type { SegmentAudit } from '../check/segment-audit.ts';
import type { SegmentRole } from '../check/segment-findings.ts';
import { LostParts } from '../check/lost-log.ts';
import type { Scratch } from '../check/scratch.ts';
import type { IndexView } from '../index/dump.ts';
import { Overlay } from '../index/overlay.ts';
import type { Entry } from '../log/entries.ts';
import { FIRST_RECORD_OFFSET, SEGMENT_MOVES } from '../log/format.ts';
import { entriesOf, recordEnd, type ScannedRecord } from '../log/scan.ts';
import type { LogBase, Superblock } from '../log/superblock.ts';
import type { LogDamage } from '../log/tail.ts';
import type { Catalog } from './catalog.ts';
import type { StatedSegments } from './catalog-parts.ts';
import { CheckedReplay } from './checked-replay.ts';
import { IndexBuilder, type IndexEnvironment } from './index-builder.ts';
import { readEndOfLog } from './log-end.ts';
import { entriesBeforeCatalog } from './replay.ts';
import { type LogPlace, WholeLog } from './whole-log.ts';

/** The index under check, and the record up to whose catalog it reflects the log; undefined: all of it. */
export interface CheckedIndex {
  view: IndexView;
  until: number | undefined;
  /** Records up to this append number are known to be synced; default: those up to `until`. */
  durable?: number | undefined;
  /** False if the log, once it is read, has turned out not to be the one that it is of; default true. */
  readonly isComparable?: boolean | undefined;
  /** Why it is not compared at all, and leads nowhere. */
  readonly unfit?: string | undefined;
  /** The segments of a store that is open. */
  readonly present?: StatedSegments | undefined;
  /** Called with every entry, in order: what stands behind the index's checkpoint is replayed by the caller. */
  follow(record: ScannedRecord, entries: readonly Entry[]): void;
  /** Called when it has had all of them. @throws INDEX_DAMAGED */
  readonly followed?: (() => Promise<void>) | undefined;
}

/** What is checked. */
export interface CheckSubject {
  /** undefined: it is lost. */
  readonly superblock: Superblock | undefined;
  readonly base: LogBase | undefined;
  /** undefined if there is no index to compare. */
  readonly checked: CheckedIndex | undefined;
}

/** Where the records of a segment that belong to the log end, and the checksum of the last one's header. */
interface Reached {
  readonly end: number;
  readonly checksum: number;
}

const START = { segment: 0, offset: 0, append: 0, at: 0 };

export class LogReading {
  readonly whole: WholeLog;
  readonly lost: LostParts;
  readonly replay: CheckedReplay;
  /** What came across on the way. */
  readonly findings: Finding[] = [];
  /** True if a record kept the reading from the end of the log. */
  isCutShort = false;
  readonly #environment: IndexEnvironment;
  readonly #builder: IndexBuilder;
  readonly #overlays: { active: Overlay; frozen: undefined };
  readonly #reached = new Map<number, Reached>();
  #endCatalog: Catalog | undefined;
  #sequence = 0;
  #damageSeen = 0;

  private constructor(
    environment: IndexEnvironment,
    whole: WholeLog,
    builder: IndexBuilder,
    overlays: { active: Overlay; frozen: undefined },
  ) {
    this.#environment = environment;
    this.whole = whole;
    this.#builder = builder;
    this.#overlays = overlays;
    this.replay = new CheckedReplay(builder.replay, () => this.#damageCount > 0);
    this.lost = new LostParts((label) => this.replay.hasLost(label));
  }

  /** For a log that can be read from somewhere on; see `openLog`. */
  static async begin(environment: IndexEnvironment, whole: WholeLog, scratch: Scratch): Promise<LogReading> {
    const overlays = { active: new Overlay(), frozen: undefined };
    const builder = await IndexBuilder.begin({ ...environment, storage: scratch.storage }, overlays, whole);
    return new LogReading(environment, whole, builder, overlays);
  }

  /** What the log says. */
  get made(): IndexView {
    return { index: this.#builder.index, overlay: this.#overlays.active };
  }

  get damage(): LogDamage[] {
    return [...this.whole.damage, ...this.whole.tail.damage];
  }

  get #damageCount(): number {
    return this.whole.damage.length + this.whole.tail.damage.length;
  }

  /** Volumes, snapshots and versions at the end of the log, behind a gap too. */
  get catalog(): Catalog {
    return this.#endCatalog ?? this.#builder.replay.catalog!;
  }

  async read(checked: CheckedIndex | undefined, signal?: AbortSignal): Promise<void> {
    const until = checked?.until;
    try {
      for await (const record of this.whole.records(until)) {
        signal?.throwIfAborted();
        await this.#take(record, checked, until);
      }
    } catch (error) {
      if (!hasCode(error, 'CORRUPTION')) throw error;
      // Where recovery would refuse the store as well.
      this.isCutShort = true;
      const message = `the log cannot be read to its end: ${(error as StoreError).message}`;
      this.findings.push(finding('RECORD_UNREADABLE', message, { mend: 'repair' }));
    }
    this.#noteGap(Number.POSITIVE_INFINITY);
    await this.#builder.commit(START);
    // Moves may have been of anything that is older than the base.
    if (this.whole.damage.length > 0) this.lost.addGap(-1, this.whole.catalog.sequence);
    for (const { segment, offset, until: end } of this.damage) this.lost.addPlace(segment, offset, end);
    if (this.isCut)
      this.#endCatalog = (await readEndOfLog(this.#environment, undefined).catch(none))?.catalog;
  }

  async #take(
    record: ScannedRecord & { isKept: boolean },
    checked: CheckedIndex | undefined,
    until: number | undefined,
  ): Promise<void> {
    const { header, isKept } = record;
    if (!isKept) this.#reached.set(header.segment, { end: recordEnd(header), checksum: header.checksum });
    let entries: readonly Entry[];
    try {
      entries = entriesOf(record);
    } catch (error) {
      // The audit of the segment tells of it; what it held is lost.
      if (!hasCode(error, 'CORRUPTION')) throw error;
      this.lost.addPlace(header.segment, header.offset, recordEnd(header));
      this.lost.addGap(this.#sequence, Number.POSITIVE_INFINITY);
      return;
    }
    if (!isKept) this.#noteSequences(entries);
    if (!isKept) checked?.follow(record, entries);
    if (!isKept && header.append === until) entries = entriesBeforeCatalog(entries);
    this.replay.apply(record, entries);
    if (this.#builder.isFull) await this.#builder.commitPart(START);
  }

  #noteSequences(entries: readonly Entry[]): void {
    const first = entries[0]?.sequence;
    if (first === undefined) return;
    this.#noteGap(first);
    for (const { sequence } of entries) this.#sequence = Math.max(this.#sequence, sequence);
  }

  /** What was damaged between the last entry and the one with the sequence `before`. */
  #noteGap(before: number): void {
    const count = this.#damageCount;
    if (count > this.#damageSeen) this.lost.addGap(this.#sequence, before);
    this.#damageSeen = count;
  }

  /** Part of the log cannot be reached. */
  get isCut(): boolean {
    return this.isCutShort || this.whole.tail.damage.some(({ code }) => code === 'LOG_SEGMENT_LOST');
  }

  /** The last record that belongs to the log. */
  get end(): number {
    return this.whole.tail.end?.append ?? 0;
  }

  /** What the log makes of a segment; undefined if nothing. */
  roleOf(segment: number, audits: ReadonlyMap<number, SegmentAudit>): SegmentRole | undefined {
    const { tail, keptEnds } = this.whole;
    const hasFooter = this.#hasFooter(segment, audits);
    const at = tail.segments.indexOf(segment);
    if (at >= 0) {
      const next = tail.segments[at + 1];
      if (next !== undefined) {
        const end = audits.get(next)?.header?.predecessorEnd ?? this.#reached.get(segment)?.end;
        return { end: end ?? Number.POSITIVE_INFINITY, isSealed: true, hasFooter, ...this.#proven(at) };
      }
      const readTo = tail.end?.segment === segment ? tail.end.offset : FIRST_RECORD_OFFSET;
      const end = this.#reached.get(segment)?.end ?? readTo;
      return { end, isSealed: false, ...this.#proven(at) };
    }
    const kept = keptEnds.get(segment);
    if (kept !== undefined) return { end: kept, isSealed: true, hasFooter };
    const isLost = this.damage.some((each) => each.code === 'LOG_SEGMENT_LOST' && each.segment === segment);
    // Nothing says how much of it there was.
    if (isLost || this.isCut) return { end: Number.POSITIVE_INFINITY, isSealed: false };
    // Begun behind what is read: nothing says yet which of its records hold.
    const header = audits.get(segment)?.header;
    const isOfChain = header !== undefined && (header.flags & SEGMENT_MOVES) === 0;
    if (isOfChain && header.firstAppend > this.end) return undefined;
    // What compaction has emptied an earlier catalog may state: nobody needs it.
    const stated = this.whole.newest ?? this.replay.stated;
    if (stated?.segments.has(segment)) return { end: Number.POSITIVE_INFINITY, isSealed: true };
    return undefined;
  }

  /** Of the chain's segment at a place: where proven records end, if that is not behind it. */
  #proven(at: number): { provenEnd?: number } {
    const { segments, provenEnd } = this.whole.tail;
    const last = provenEnd === undefined ? -1 : segments.indexOf(provenEnd.segment);
    if (at < last) return {};
    return { provenEnd: at === last ? provenEnd!.offset : 0 };
  }

  /**
   * Whoever begins the next segment has written the footer of this one before, if it is the same process; and a sync of its own
   * that proves a record of the next one was issued behind that. A later process does not sync what it finds.
   */
  #hasFooter(segment: number, audits: ReadonlyMap<number, SegmentAudit>): boolean {
    const epoch = audits.get(segment)?.header?.epoch;
    const own = [...audits.values()].filter(({ header }) => {
      return header !== undefined && header.epoch === epoch && (header.flags & SEGMENT_MOVES) === 0;
    });
    const next = own.find(({ header }) => header!.predecessor === segment)?.header?.firstAppend;
    return next !== undefined && own.some(({ durable }) => durable >= next);
  }

  /** Segments that are chained to another end of the one before them. */
  *linkFindings(audits: ReadonlyMap<number, SegmentAudit>): Generator<Finding> {
    const { segments } = this.whole.tail;
    for (const [i, segment] of segments.slice(1).entries()) {
      const header = audits.get(segment)?.header;
      const reached = this.#reached.get(segments[i]!);
      if (header === undefined || reached === undefined || header.predecessorEnd !== reached.end) continue;
      if (header.predecessorChecksum === reached.checksum) continue;
      const message = `segment ${segment}: its header is not chained to the last record of segment ${segments[i]!}`;
      yield finding('SEGMENT_LINK_DIFFERS', message, { segment, offset: 0, mend: 'repair' });
    }
  }

  async close(): Promise<void> {
    await this.#builder.abandon();
  }
}

const none = (): undefined => undefined;

/**
 * The whole log from its base on; where that cannot be read, from the newest catalog that can. `whole` is undefined if there
 * is none.
 */
export async function openLog(
  place: LogPlace,
  base: LogBase | undefined,
  durable: number,
  present: StatedSegments | undefined,
  also: readonly number[],
): Promise<{ whole: WholeLog | undefined; findings: Finding[] }> {
  try {
    return { whole: await WholeLog.open(place, base, durable, present, also), findings: [] };
  } catch (error) {
    if (!hasCode(error, 'CORRUPTION')) throw error;
    const { segment, offset } = base!;
    const at = { segment, offset };
    const found = (await readEndOfLog(place, undefined).catch(none))?.newest;
    const { message } = error as StoreError;
    const newer =
      found === undefined ? undefined : await WholeLog.open(place, found, durable, present, also).catch(none);
    if (newer === undefined)
      return {
        whole: undefined,
        findings: [finding('BASE_LOST', `${message}, nor any other`, { ...at, mend: 'none' })],
      };
    const used = `${message}; the one of segment ${found!.segment}, offset ${found!.offset}, is used`;
    return { whole: newer, findings: [finding('BASE_LOST', used, { ...at, mend: 'repair' })] };
  }
}
