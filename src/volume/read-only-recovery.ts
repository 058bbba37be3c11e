/**
 * Opening a store to read it only, whole or damaged: what is left of it, without a byte written among its files.
 *
 * 1. The newest catalog that can be read, and the changes behind it, say which versions there are (log-end.ts).
 * 2. An index that is whole has every pointer up to its checkpoint, those into lost segments too: these chunks cannot be read,
 *    and nothing older is taken for them. What the log has behind the checkpoint is put over it, past all gaps.
 * 3. Without one, an index is made in the scratch directory from all that is left. It knows nothing of what is lost: where a
 *    chunk was written there, it leads to what stood before.
 *
 * Everything that is amiss becomes a finding, and what may be old is said to be. A log that was cut by a crash is
 * no damage: its end is judged as recovery would, and its unproven tail is read where it stands.
 */

import { hasCode, StoreError } from '../base/errors.ts';
import type { Storage } from '../base/storage.ts';
import { Overlay } from '../index/overlay.ts';
import type { Overlays, PointerIndex } from '../index/pointer-index.ts';
import { ENTRY_CATALOG, ENTRY_CHANGE, ENTRY_CHUNKS, type Entry } from '../log/entries.ts';
import { SEGMENT_MOVES, segmentOfName } from '../log/format.ts';
import { inferHeader } from '../log/headerless.ts';
import { RESERVED_APPENDS_MIN } from '../log/numbers.ts';
import { entriesOf, type ScannedRecord, SegmentScanner } from '../log/scan.ts';
import { SegmentLedger } from '../log/segment-ledger.ts';
import type { LogBase, Superblock } from '../log/superblock.ts';
import { type LogDamage, type LogEnd, LogTail } from '../log/tail.ts';
import { type Catalog, parseJson } from './catalog.ts';
import type { Change } from './change.ts';
import { OVERLAY_BYTES_MAX } from './checkpoint-policy.ts';
import { checkSuperblock } from './check.ts';
import { finding } from '../check/finding.ts';
import { INDEX_PATH, IndexBuilder, type IndexEnvironment, openIndex, viewOf } from './index-builder.ts';
import { isOfDatabase, isTemporary, ofIndex } from './index-errors.ts';
import { type EndOfLog, readEndOfLog } from './log-end.ts';
import { followMoves } from './moves-replay.ts';
import { RebuildProgress } from './rebuild-progress.ts';
import { Replay } from './replay.ts';
import type { Finding } from './summary.ts';
import { WholeLog } from './whole-log.ts';

const PAST_GAPS = { passesGaps: true };
const NONE: ReadonlySet<number> = new Set();
const TORN = 'an interrupted append ends the log';
const OLD_DATA =
  'what was written last may be lost with it: DISKS MAY READ AS THEY WERE BEFORE, and nobody can say where; hold what you ' +
  'get against a backup';

/** What is read of a store in one of the two ways. */
interface Read {
  index: PointerIndex;
  end: EndOfLog;
  /** Segments that were read, or belong to what was. */
  segments: readonly number[];
  logEnd: LogEnd | undefined;
  unknown: ReadonlySet<number>;
}

/** A store as far as it can be read. All that the log has is in the index. */
export interface Remains {
  catalog: Catalog;
  index: PointerIndex;
  overlays: Overlays;
  ledger: SegmentLedger;
  /** Segment files that there are. */
  files: readonly number[];
  end: LogEnd | undefined;
  /** What the catalog says about segments. */
  stated: EndOfLog['stated'];
  /** Versions that the index has nothing of, though the log has: what they read cannot be known. */
  unknown: ReadonlySet<number>;
  findings: Finding[];
}

export interface RemainsOptions {
  /** What is known of the end of the log already; default: it is looked for. */
  readonly end?: EndOfLog | undefined;
  /** The index is passed by, whatever it is. */
  readonly withoutIndex?: boolean | undefined;
}

/** `environment` has a sheltered storage. @throws CORRUPTION if nobody can say which versions there were, IO, NO_SPACE */
export async function readRemains(
  environment: IndexEnvironment,
  superblock: Pick<Superblock, 'base' | 'appends'>,
  options: RemainsOptions = {},
): Promise<Remains> {
  const reader = new RemainsReader(environment, superblock, options);
  return await reader.read();
}

/** Makes the index anew from all that is left of the log, in the scratch directory. @throws IO, NO_SPACE */
export async function rebuildFromRemains(
  environment: IndexEnvironment,
  base: LogBase | undefined,
  end: Pick<EndOfLog, 'catalog' | 'stated'>,
): Promise<WholeLog> {
  const overlays: Overlays = { active: new Overlay(), frozen: undefined };
  const { index, whole } = await buildFromRemains(environment, base, end, overlays);
  await index.close();
  return whole;
}

async function buildFromRemains(
  environment: IndexEnvironment,
  base: LogBase | undefined,
  end: Pick<EndOfLog, 'catalog' | 'stated'>,
  overlays: Overlays,
): Promise<{ index: PointerIndex; whole: WholeLog }> {
  const { clock, logger, onRebuild } = environment;
  const kept = await keptSegments(environment, base, end);
  const whole = WholeLog.ofRemains(environment, base, end, kept);
  const { catalog } = end;
  const builder = await IndexBuilder.begin(environment, overlays, whole);
  const progress = new RebuildProgress(whole, clock, logger, onRebuild);
  const start = { segment: 0, offset: 0, append: 0, at: clock.now() };
  try {
    for await (const record of whole.records()) {
      progress.reached(record.header.segment);
      const entries = countedOf(record, catalog);
      if (entries === undefined) whole.damage.push(unreadable(record));
      else builder.replay.apply(record.header.segment, entries, true);
      if (builder.isFull) await builder.commitPart(start);
    }
    await builder.commit(start);
    return { index: await builder.finish(), whole };
  } catch (error) {
    await builder.abandon().catch(() => undefined);
    throw isOfDatabase(error) ? ofIndex(error, 'making an index of what is left') : error;
  }
}

/**
 * What of a record counts where it is known which versions there are: chunks, zeros, and what disks were cut off that shrank.
 * undefined if it cannot be read.
 */
function countedOf(record: ScannedRecord, catalog: Catalog): Entry[] | undefined {
  try {
    return entriesOf(record).filter((entry) => {
      if (entry.kind !== ENTRY_CHANGE) return entry.kind !== ENTRY_CATALOG;
      return entry.sequence <= catalog.sequence && isResize(entry.text);
    });
  } catch (error) {
    if (!hasCode(error, 'CORRUPTION')) throw error;
    return undefined;
  }
}

function isResize(text: string): boolean {
  try {
    return parseJson<Change | null>(text)?.op === 'resize';
  } catch {
    return false;
  }
}

function unreadable({ header: { segment, offset } }: ScannedRecord): LogDamage {
  const message = `segment ${segment}, offset ${offset}: what the record holds cannot be read`;
  return { code: 'LOG_RECORD_DAMAGED', segment, offset, until: offset, message };
}

/** Segments of moves, and those before the base: all that there are, but those of no use. */
async function keptSegments(
  { storage, uuid }: IndexEnvironment,
  base: LogBase | undefined,
  { stated }: Pick<EndOfLog, 'stated'>,
): Promise<number[]> {
  const kept: number[] = [];
  for (const segment of await segmentFiles(storage)) {
    if (stated?.retired.has(segment)) continue;
    if (base !== undefined && segment <= base.segment) {
      kept.push(segment);
      continue;
    }
    const scanner = await SegmentScanner.open(storage, uuid, segment);
    await scanner?.close();
    const header = scanner?.header ?? (await inferHeader(storage, uuid, segment));
    if (((header?.flags ?? 0) & SEGMENT_MOVES) !== 0) kept.push(segment);
  }
  return kept;
}

async function segmentFiles(storage: Storage): Promise<number[]> {
  const names = await storage.list('log');
  return names.map(segmentOfName).filter((segment) => segment !== undefined);
}

class RemainsReader {
  readonly #environment: IndexEnvironment;
  readonly #base: LogBase | undefined;
  readonly #options: RemainsOptions;
  /** Append numbers below this may have been used. */
  readonly #appends: number;
  readonly #overlays: Overlays = { active: new Overlay(), frozen: undefined };
  readonly #findings: Finding[] = [];
  /** Something was lost that nobody can say what it was. */
  #mayBeOld = false;

  constructor(
    environment: IndexEnvironment,
    { base, appends }: Pick<Superblock, 'base' | 'appends'>,
    options: RemainsOptions,
  ) {
    this.#environment = environment;
    this.#options = options;
    this.#base = base;
    this.#appends = appends;
  }

  async read(): Promise<Remains> {
    for await (const finding of checkSuperblock(this.#environment.storage)) this.#findings.push(finding);
    const index = await this.#openIndex();
    const found = index === undefined ? await this.#fromLog() : await this.#fromIndex(index);
    const { end, segments, logEnd } = found;
    await this.#checkEnd(logEnd);
    for (const sentence of end.damage) {
      if (this.#findings.some(({ message }) => message === sentence)) continue;
      this.#findings.push(finding('CATALOG_INCOMPLETE', sentence));
    }
    const files = await segmentFiles(this.#environment.storage);
    const ledger = await this.#sortOut(files, found.index, end, segments);
    if (this.#mayBeOld) this.#findings.push(finding('OLD_DATA_POSSIBLE', OLD_DATA));
    return {
      catalog: end.catalog,
      stated: end.stated,
      index: found.index,
      overlays: this.#overlays,
      ledger,
      files,
      end: logEnd,
      unknown: found.unknown,
      findings: this.#findings,
    };
  }

  /** The index, if it is whole and of this log. */
  async #openIndex(): Promise<PointerIndex | undefined> {
    const { storage } = this.#environment;
    if (this.#options.withoutIndex === true) return undefined;
    const hasIndex = (await storage.list(INDEX_PATH)).length > 0;
    const index = await openIndex(this.#environment, this.#overlays);
    const instead = 'one is made of the log, in a temporary directory';
    if (index === undefined) {
      const what = hasIndex
        ? finding('INDEX_DAMAGED', `the index cannot be used; another ${instead}`)
        : finding('NO_INDEX', `there is no index; ${instead}`);
      this.#findings.push(what);
      return undefined;
    }
    const { segment, append } = index.checkpoint;
    if (segment > 0 && append >= (this.#base?.append ?? 0)) return index;
    this.#findings.push(finding('OLD_INDEX', `the index is older than the log; another ${instead}`));
    await index.close();
    return undefined;
  }

  /**
   * A store that is closed gives back what it has reserved: then the superblock says how far the log went. One that was not
   * has far more reserved than it has used; but a segment is sealed only when the next one is begun.
   */
  async #checkEnd(end: LogEnd | undefined): Promise<void> {
    const missing = this.#appends - 1 - (end?.append ?? 0);
    let what: string | undefined;
    if (missing > 0 && missing <= RESERVED_APPENDS_MIN) {
      what = `the log ends ${missing} append numbers before the end that it had when the store was closed`;
    } else if (end !== undefined) {
      const { storage, uuid } = this.#environment;
      const scanner = await SegmentScanner.openAnyway(storage, uuid, end.segment);
      const isSealed = (await scanner?.footerRecord()) !== undefined;
      await scanner?.close();
      if (isSealed)
        what = `the log ends with segment ${end.segment}, which another one came behind, unless power was cut in that moment`;
    }
    if (what === undefined) return;
    this.#findings.push(finding('LOG_END_LOST', what));
    this.#mayBeOld = true;
  }

  async #fromIndex(index: PointerIndex): Promise<Read> {
    const { checkpoint } = index;
    try {
      const near = this.#options.end ?? (await readEndOfLog(this.#environment, checkpoint, PAST_GAPS));
      const isKnown = (near.newest?.append ?? 0) >= checkpoint.append;
      const end = isKnown ? near : await this.#endFromBase();
      const tail = await this.#replayBehind(index, end.catalog);
      await this.#followMoves(index, end);
      const unknown = isKnown ? NONE : await this.#unknownVersions(index, end);
      return { index, end, segments: tail.segments, logEnd: tail.end, unknown };
    } catch (error) {
      await index.close();
      const isOfIndex = hasCode(error, 'INDEX_DAMAGED') || (isOfDatabase(error) && !isTemporary(error));
      if (!isOfIndex) throw isOfDatabase(error) ? ofIndex(error, 'reading the index') : error;
      const why = (error as Error).message;
      this.#findings.push(
        finding('INDEX_DAMAGED', `${why}; another index is made of the log, in a temporary directory`),
      );
      this.#overlays.active = new Overlay();
      this.#overlays.frozen = undefined;
      return await this.#fromLog();
    }
  }

  /** Puts what is left behind the index's checkpoint over it. */
  async #replayBehind(index: PointerIndex, catalog: Catalog): Promise<LogTail> {
    const { storage, uuid } = this.#environment;
    const { segment, offset, append } = index.checkpoint;
    const tail = new LogTail(storage, uuid, append, PAST_GAPS);
    const replay = new Replay(this.#overlays, catalog);
    let first: number | undefined;
    for await (const record of tail.records({ segment, offset })) {
      const { header } = record;
      first ??= header.append;
      if (header.append < append) continue; // the index has it
      const entries = countedOf(record, catalog);
      if (entries === undefined) tail.damage.push(unreadable(record));
      else replay.apply(header.segment, entries, true);
      if (this.#overlays.active.usedBytes >= OVERLAY_BYTES_MAX) await this.#commit(index, catalog);
    }
    await this.#commit(index, catalog);
    this.#noteDamage(tail.damage);
    if (tail.torn) this.#findings.push(finding('TORN_TAIL', TORN));
    if (first !== append) {
      const where = `segment ${segment}, offset ${offset}`;
      this.#findings.push(
        finding('LOG_RECORD_DAMAGED', `the catalog of the index's checkpoint is lost (${where})`),
      );
      this.#mayBeOld = true;
    }
    this.#mayBeOld ||= tail.lacksRecords || tail.damage.some(({ code }) => code === 'LOG_RECORD_DAMAGED');
    return tail;
  }

  /** What compaction had moved behind the checkpoint is in no row yet. */
  async #followMoves(index: PointerIndex, { catalog, stated }: EndOfLog): Promise<void> {
    const unread = [...(stated?.segments ?? [])].filter((segment) => index.usage.of(segment) === 0);
    await followMoves(this.#environment, unread, catalog, index, this.#overlays.active);
    await this.#commit(index, catalog);
  }

  async #commit(index: PointerIndex, catalog: Catalog): Promise<void> {
    if (this.#overlays.active.isEmpty) return;
    index.freeze();
    await index.commit(index.checkpoint, viewOf(catalog));
  }

  /**
   * Of a catalog that is older than the index: a version that it names may have been deleted in what is lost, and its pointers been
   * taken out of the index. Then it would read what stood before. It is such a one if the log has chunks of it and the
   * index none.
   */
  async #unknownVersions(index: PointerIndex, end: EndOfLog): Promise<Set<number>> {
    const { catalog } = end;
    const kept = await keptSegments(this.#environment, this.#base, end);
    const written = new Set<number>();
    for await (const record of WholeLog.ofRemains(this.#environment, this.#base, end, kept).records()) {
      for (const entry of countedOf(record, catalog) ?? []) {
        const holder = entry.kind === ENTRY_CHUNKS ? catalog.holderOf(entry.label) : undefined;
        if (holder !== undefined) written.add(holder.label);
      }
    }
    const unknown = new Set<number>();
    for (const label of written) {
      if (catalog.at(label) === undefined || index.extentWindows(label).length > 0) continue;
      unknown.add(label);
      const what = `${catalog.describe(label)} is not served: the index has nothing of what the log has of it`;
      this.#findings.push(
        finding('VERSION_LOST', `${what}; it may have been deleted or zeroed in what is lost`),
      );
    }
    const strangers = new Set<number>();
    for await (const [label] of index.extents.readAll())
      if (catalog.tree.get(label) === undefined) strangers.add(label);
    if (strangers.size > 0) {
      const what = `the index has ${strangers.size} versions that no catalog knows which is left in the log`;
      this.#findings.push(finding('VERSION_LOST', `${what}: what was written to them is not served`));
    }
    return unknown;
  }

  async #fromLog(): Promise<Read> {
    const end = await this.#endFromBase();
    const { index, whole } = await buildFromRemains(this.#environment, this.#base, end, this.#overlays);
    const found = [...whole.damage, ...whole.tail.damage];
    this.#noteDamage(found);
    this.#mayBeOld ||= found.some(({ code }) => code !== 'LOG_HEADER_LOST');
    if (whole.tail.torn) this.#findings.push(finding('TORN_TAIL', TORN));
    const segments = [...whole.keptEnds.keys(), ...whole.tail.segments];
    return { index, end, segments, logEnd: whole.tail.end, unknown: NONE };
  }

  /** @throws CORRUPTION if nobody can say which versions there were */
  async #endFromBase(): Promise<EndOfLog> {
    if (this.#options.end !== undefined) return this.#options.end;
    const end = await readEndOfLog(this.#environment, this.#base, PAST_GAPS);
    if (end.newest !== undefined || this.#base === undefined) return end;
    // Before the base much is missing that compaction has removed: what that reading calls damage is none.
    const earlier = await readEndOfLog(this.#environment, undefined, PAST_GAPS);
    if (earlier.newest === undefined) {
      const what = 'no catalog can be read in what is left of the log: nobody knows which volumes there were';
      throw new StoreError('CORRUPTION', what);
    }
    const what = 'all catalogs from the base of the log on are lost: names are those of an earlier one';
    this.#findings.push(finding('CATALOG_INCOMPLETE', what));
    this.#mayBeOld = true;
    return { ...earlier, damage: end.damage };
  }

  #noteDamage(found: readonly LogDamage[]): void {
    for (const { code, message } of found) {
      if (!this.#findings.some((each) => each.message === message))
        this.#findings.push(finding(code, message));
    }
  }

  /** Which segments hold the log; those that should and are missing, or cannot be told for what they are, are damage. */
  async #sortOut(
    files: readonly number[],
    { usage }: PointerIndex,
    { stated }: EndOfLog,
    segments: readonly number[],
  ): Promise<SegmentLedger> {
    const { storage, uuid } = this.#environment;
    const told = new Set(this.#findings.map(({ message }) => /^segment (\d+) /.exec(message)?.[1]));
    const present = new Set(files);
    const ledger = new SegmentLedger();
    for (const segment of stated?.retired ?? []) if (present.has(segment)) ledger.retired.add(segment);
    const wanted = new Set([
      ...(stated?.segments ?? []),
      ...segments,
      ...usage.entries().map(([each]) => each),
    ]);
    for (const segment of [...wanted].sort((a, b) => a - b)) {
      ledger.segments.add(segment);
      const live = usage.of(segment);
      const what =
        live === 0 ? 'nothing that is known lived in it' : `${live} chunks that lived in it cannot be read`;
      if (!present.has(segment)) {
        this.#findings.push(finding('LOG_SEGMENT_LOST', `segment ${segment} is missing: ${what}`));
        continue;
      }
      const scanner = await SegmentScanner.open(storage, uuid, segment);
      await scanner?.close();
      if (scanner !== undefined || told.has(String(segment))) continue;
      const isReadable = (await inferHeader(storage, uuid, segment)) !== undefined;
      this.#findings.push(
        isReadable
          ? finding('LOG_HEADER_LOST', `segment ${segment} has no valid header; what is whole in it is read`)
          : finding('LOG_SEGMENT_LOST', `segment ${segment} holds nothing that can be read: ${what}`),
      );
    }
    return ledger;
  }
}
