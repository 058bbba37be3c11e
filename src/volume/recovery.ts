/**
 * Opening a store: from what is on the disk to a log that can be appended to and an index that agrees with it.
 *
 * 1. The superblock says who the store is, and which numbers may have been used.
 * 2. The index says up to where it reflects the log. If it is missing or in doubt, it is made anew from the
 *    beginning of the log, beside the old one. So it is where somebody asks for that.
 * 3. The log is read from there on to its cut (log/tail.ts), and replayed.
 * 4. A new epoch begins: numbers go on above everything that was ever reserved or seen.
 * 5. Records above the proven watermark may be in the page cache only, and a sync that failed before may have marked
 *    them clean: no later sync proves anything about them. They are appended again, sequences kept, to a new segment
 *    that takes the old tail's place once it is synced and marked as complete.
 * 6. Segments behind the cut are removed, durably. Only then the first request is answered.
 *
 * A crash at any step leaves what the step before left: a rewritten tail without its mark is ignored, and the one
 * that it copies still stands.
 */

import { StoreError } from '../base/errors.ts';
import type { Storage } from '../base/storage.ts';
import { Overlay } from '../index/overlay.ts';
import type { Overlays, PointerIndex } from '../index/pointer-index.ts';
import { Append, type AppendOwner, AppendPromise } from '../log/append.ts';
import { ChunkLog } from '../log/chunk-log.ts';
import { ENTRY_CATALOG, ENTRY_CHANGE, ENTRY_CHUNKS, ENTRY_ZEROS } from '../log/entries.ts';
import { encodeEmptyRecord, RECORD_FOOTER, SEGMENT_MOVES, segmentPath } from '../log/format.ts';
import { Numbers } from '../log/numbers.ts';
import { entriesOf, type ScannedRecord, ScannerCursor, SegmentScanner } from '../log/scan.ts';
import { SegmentFiles } from '../log/segment-files.ts';
import { SegmentLedger } from '../log/segment-ledger.ts';
import { SegmentSupply } from '../log/segment-supply.ts';
import { SegmentWriter } from '../log/segment-writer.ts';
import type { LogBase, Superblock } from '../log/superblock.ts';
import { type LogDamage, type LogEnd, LogTail } from '../log/tail.ts';
import type { Catalog } from './catalog.ts';
import { CatalogAppender } from './catalog-append.ts';
import { IndexBuilder, type IndexEnvironment, openIndex } from './index-builder.ts';
import { isDamage, isOfDatabase, ofIndex } from './index-errors.ts';
import { RebuildProgress } from './rebuild-progress.ts';
import { chunksInRows, followMoves, statedSince } from './moves-replay.ts';
import { Replay } from './replay.ts';
import { unstatedUpTo, WholeLog } from './whole-log.ts';

export interface Recovered {
  numbers: Numbers;
  log: ChunkLog;
  files: SegmentFiles;
  supply: SegmentSupply;
  ledger: SegmentLedger;
  catalog: Catalog;
  /** Changes with a higher sequence are behind the checkpoint. */
  catalogSequence: number;
  index: PointerIndex;
  overlays: Overlays;
  damage: readonly LogDamage[];
  /** Sequence of the last entry that was recovered: the cut. */
  cut: number;
  /** The index was made anew, and has no checkpoint of its own yet. */
  isRebuilt: boolean;
  /** Segments of moves that pointers lead to in the overlay, not in rows. */
  followed: ReadonlySet<number>;
}

/** @throws CORRUPTION if part of the log is unreachable, IO, NO_SPACE */
export async function recover(environment: IndexEnvironment, superblock: Superblock): Promise<Recovered> {
  const overlays: Overlays = { active: new Overlay(), frozen: undefined };
  const { base } = superblock;
  let index = environment.onRebuild ? undefined : await openIndex(environment, overlays);
  if (index !== undefined && index.checkpoint.append < (base?.append ?? 0)) {
    environment.logger.warn({ base }, 'the index is older than what is left of the log, and is made anew');
    await index.close();
    index = undefined;
  }
  try {
    let state = index === undefined ? undefined : await replayBehind(environment, index, overlays);
    if (state === undefined) {
      const synced = index?.checkpoint.append ?? 0;
      await index?.close();
      index = undefined;
      overlays.active = new Overlay();
      state = await replayAll(environment, overlays, base, synced);
      index = state.index;
    }
    return await beginEpoch(environment, superblock, overlays, state);
  } catch (error) {
    await index?.close(); // or nobody in this process could open it again
    throw isOfDatabase(error) ? ofIndex(error, 'opening the index') : error;
  }
}

interface Replayed {
  tail: LogTail;
  replay: Replay;
  index: PointerIndex;
  /** Segments of moves that pointers were led to. */
  followed: ReadonlySet<number>;
  /** The segment that replay began in; 0: before the first. */
  start: number;
  /** Records above the watermark, to be appended again. */
  unproven: ScannedRecord[];
  damage: readonly LogDamage[];
}

/** Replays what is behind the index's checkpoint; undefined if the log does not have what the checkpoint claims. */
async function replayBehind(
  environment: IndexEnvironment,
  index: PointerIndex,
  overlays: Overlays,
): Promise<Replayed | undefined> {
  const { segment, offset, append } = index.checkpoint;
  if (segment === 0) return undefined; // it has no checkpoint yet
  const tail = new LogTail(environment.storage, environment.uuid, append);
  const replay = new Replay(overlays, undefined);
  const unproven: ScannedRecord[] = [];
  let isFirst = true;
  for await (const record of tail.records({ segment, offset })) {
    const { header } = record;
    if (isFirst && (header.offset !== offset || header.append !== append)) break;
    isFirst = false;
    apply(replay, record);
    if (header.append > tail.durable) unproven.push(record);
  }
  if (isFirst || replay.catalog === undefined) {
    environment.logger.warn({ segment, offset }, 'the log does not have what the index has seen of it');
    return undefined;
  }
  try {
    const since = statedSince(replay);
    const followed = await followMoves(environment, since, replay.catalog, index, overlays.active);
    return { tail, start: segment, replay, index, followed, unproven, damage: tail.damage };
  } catch (error) {
    if (!isDamage(error)) throw error;
    environment.logger.warn({ err: error }, 'the index is damaged, and is made anew from the log');
    return undefined;
  }
}

/** Makes the index anew from the whole log. `synced`: the append number up to which an index says that the log was on the disk. */
async function replayAll(
  environment: IndexEnvironment,
  overlays: Overlays,
  base: LogBase | undefined,
  synced: number,
): Promise<Replayed> {
  const whole = await WholeLog.open(environment, base, base?.append ?? 0);
  const builder = await IndexBuilder.begin(environment, overlays, whole);
  const progress = new RebuildProgress(whole, environment.clock, environment.logger, environment.onRebuild);
  const { tail } = whole;
  const unproven: ScannedRecord[] = [];
  const start = { segment: 0, offset: 0, append: 0, at: environment.clock.now() };
  try {
    for await (const record of whole.records()) {
      progress.reached(record.header.segment);
      const isProven = record.isKept || record.header.append <= tail.durable;
      // What is not proven may yet move to another segment: it stays in memory, and what comes behind it.
      if (unproven.length === 0 && builder.isFull) await builder.commitPart(start);
      apply(builder.replay, record, record.isKept);
      if (!isProven) unproven.push(record);
    }
    // What ghosts have lost comes back with the log, and is taken out again.
    const { catalog } = builder.replay;
    for (const label of catalog!.hidden()) catalog!.pending.add(label);
    await builder.commitNothing(start);
    const damage = [...whole.damage, ...tail.damage];
    // Before it takes its place: the old index may be all that knows what is in the part that is lost.
    refuseLost(damage);
    refuseShort(tail.end?.append ?? 0, synced);
    const index = await builder.finish();
    const isNew = tail.highestSegment === 0;
    if (!isNew)
      environment.logger.warn(
        { sequence: builder.replay.sequence, ...progress.result },
        'the index was made anew from the log',
      );
    return {
      tail,
      start: base?.segment ?? 0,
      replay: builder.replay,
      index,
      followed: new Set(),
      unproven,
      damage,
    };
  } catch (error) {
    await builder.abandon().catch(() => undefined); // or nobody in this process could try again
    throw ofIndex(error, 'making the index anew');
  }
}

/** @throws CORRUPTION if part of the log cannot be reached: what would be written behind it might hide that for ever */
function refuseLost(damage: readonly LogDamage[]): void {
  const lost = damage.find(({ code }) => code === 'LOG_SEGMENT_LOST');
  if (lost !== undefined) {
    const help = 'run `coppice fsck`, or get out what is whole with `coppice serve --read-only`';
    throw new StoreError('CORRUPTION', `the log is damaged: ${lost.message}; ${help}`);
  }
}

/** @throws CORRUPTION if the log ends before what was synced: nobody who opens a store may take an older one for it */
function refuseShort(end: number, synced: number): void {
  if (end >= synced) return;
  throw new StoreError(
    'CORRUPTION',
    `the log ends with record ${end}, and record ${synced} had been synced: its end is gone; bring back what is missing in log/, ` +
      'or get out what is whole with `coppice serve --read-only`; if log/ is as it should be, of an earlier time, ' +
      '`coppice rebuild-index` goes on with it, without what came later',
  );
}

function apply(replay: Replay, record: ScannedRecord, isKept = false): void {
  replay.apply(record.header.segment, entriesOf(record), isKept);
}

async function beginEpoch(
  environment: IndexEnvironment,
  superblock: Superblock,
  overlays: Overlays,
  state: Replayed,
): Promise<Recovered> {
  const { storage, uuid, clock, logger } = environment;
  const { tail, replay, unproven, index, damage } = state;
  const catalog = replay.catalog!;
  refuseLost(damage);
  for (const each of damage) logger.error({ damage: each }, 'part of the log is damaged');
  // Only behind a record that is proven: the header of a segment without one, and headers of empty segments before it,
  // may be in the page cache only, and a link of the chain be lost when the power goes. Nor beside
  // segments that are to be removed: what is written again where it stands may be lost with the power, and they say that it was synced.
  const goesOn =
    tail.closedCleanly && tail.strays.length === 0 && tail.provenEnd?.segment === tail.end?.segment;
  const resume = goesOn ? await resumeSegment(storage, uuid, superblock, tail.end!) : undefined;
  const end = resume === undefined ? tail.provenEnd : tail.end;
  const rewrite =
    resume === undefined && (unproven.length > 0 || (await goesOnBehindCut(storage, uuid, tail)));
  const numbers = await Numbers.begin(storage, superblock, {
    sequences: replay.sequence,
    appends: tail.end?.append ?? 0,
    labels: replay.label,
    segments: tail.highestSegment,
  });
  const cut = tail.segments.filter((segment) => end === undefined || segment > end.segment);
  const { ledger, leftovers } = await sortOutFiles(environment, state, new Set([...cut, ...tail.strays]));
  const files = new SegmentFiles(storage);
  const supply = new SegmentSupply(storage, numbers, tail.files.length - leftovers.size);
  const durable = end?.append ?? 0;
  const log = new ChunkLog({ files, numbers, supply, ledger, clock, end, durable, resume });
  if (rewrite) {
    logger.info({ records: unproven.length }, 'writing the unproven tail of the log again');
    supply.isRecovering = true;
    try {
      await rewriteTail(storage, uuid, log, replay, overlays, ledger, unproven);
    } catch (error) {
      await supply.close().catch(() => undefined);
      await files.close();
      throw error;
    }
    supply.isRecovering = false;
  }
  await removeSegments(storage, leftovers);
  if (tail.torn) logger.info({ end: tail.end }, 'an interrupted append was cut');
  return {
    numbers,
    log,
    files,
    supply,
    catalog,
    index,
    overlays,
    ledger,
    damage,
    cut: replay.sequence,
    catalogSequence: replay.catalogSequence,
    isRebuilt: index.checkpoint.segment === 0,
    followed: state.followed,
  };
}

/**
 * Which files hold the log, and which are left over: behind the cut, of interrupted recoveries, of moves that nothing in the
 * log states. What a segment holds that lives is never removed, whoever fails to state it.
 */
async function sortOutFiles(
  environment: IndexEnvironment,
  { tail, start, replay, index, unproven }: Replayed,
  behind: ReadonlySet<number>,
): Promise<{ ledger: SegmentLedger; leftovers: ReadonlySet<number> }> {
  const { stated, newest, catalogCount, catalog } = replay;
  const leftovers = new Set(behind);
  const ledger = new SegmentLedger();
  const named = new Set([...(newest?.segments ?? []), ...tail.segments]);
  // Begun when the catalog at the checkpoint was on its way: a later one states them.
  if (stated !== undefined && catalogCount === 1)
    for (const each of await unstatedUpTo(environment, start, stated.segments)) named.add(each);
  const present = new Set(tail.files);
  const missing = [...(newest?.segments ?? [])].filter((segment) => !present.has(segment));
  if (missing.length > 0)
    environment.logger.error(
      { missing },
      'segments of the log are missing: what lived in them cannot be read',
    );
  // Rows may be ahead of the checkpoint, and have what is appended again: nothing else of a segment is lost with it.
  const isLost = async (segment: number): Promise<boolean> => {
    const liveChunks = index.usage.of(segment);
    if (liveChunks === 0) return false;
    const again = unproven.filter(({ header }) => header.segment === segment);
    const found = await chunksInRows(segment, again, catalog!, index).catch((error: unknown) => {
      if (!isDamage(error)) throw error;
      return undefined; // whoever reads the row has the index made anew
    });
    return found !== liveChunks;
  };
  let unstated = 0;
  for (const segment of tail.files) {
    if (newest?.retired.has(segment)) ledger.retired.add(segment);
    else if (named.has(segment) && (!leftovers.has(segment) || stated?.segments.has(segment)))
      ledger.segments.add(segment);
    else if (await isLost(segment)) {
      ledger.segments.add(segment);
      unstated += 1;
    } else if (newest !== undefined || (await isOfMoves(environment, segment))) leftovers.add(segment);
    else if (!leftovers.has(segment)) ledger.segments.add(segment);
  }
  if (unstated > 0)
    environment.logger.error(
      { segments: unstated },
      'segments are in use that the log does not state: they are kept',
    );
  for (const segment of ledger.segments) leftovers.delete(segment);
  return { ledger, leftovers };
}

async function isOfMoves({ storage, uuid }: IndexEnvironment, segment: number): Promise<boolean> {
  const scanner = await SegmentScanner.open(storage, uuid, segment);
  await scanner?.close();
  return scanner !== undefined && (scanner.header.flags & SEGMENT_MOVES) !== 0;
}

/**
 * True if a whole record behind the cut is part of no tail: its write failed, and the header of the segment that was begun
 * then says that the log ends before it. That segment holds nothing and is removed: without it the next recovery would
 * take up what this one has not. So a tail of nothing but its mark is written behind the cut.
 */
async function goesOnBehindCut(storage: Storage, uuid: Buffer, tail: LogTail): Promise<boolean> {
  const { provenEnd, strays } = tail;
  if (provenEnd === undefined || strays.length === 0) return false;
  const scanner = await SegmentScanner.open(storage, uuid, provenEnd.segment);
  try {
    const record = await scanner?.recordBehind(provenEnd.offset, provenEnd.checksum);
    if (record === undefined || (record.header.flags & RECORD_FOOTER) !== 0) return false;
    return await scanner!.payloadIsWhole(entriesOf(record));
  } finally {
    await scanner?.close();
  }
}

/**
 * The last segment, opened to be appended to behind its closing record. That record vouches for all before it, and
 * nothing vouches for itself: a sync of it may have failed in an earlier life, and its page be called clean since. As
 * what comes behind is chained to it, it is written again where it stands, and synced.
 */
async function resumeSegment(
  storage: Storage,
  uuid: Buffer,
  superblock: Superblock,
  end: LogEnd,
): Promise<SegmentWriter | undefined> {
  const scanner = await SegmentScanner.open(storage, uuid, end.segment);
  if (scanner === undefined) return undefined;
  try {
    const records: ScannedRecord[] = [];
    for await (const record of scanner.walk()) records.push(record);
    // Damage in between ends the walk early: then the footer could not be complete, and a new segment is begun.
    const closing = records.at(-1)?.header;
    if (closing?.append !== end.append) return undefined;
    const file = await storage.open(segmentPath(end.segment), 'write');
    try {
      await file.write([encodeEmptyRecord({ ...closing }, uuid)], closing.offset);
      await file.datasync();
    } catch (error) {
      await file.close();
      throw error;
    }
    const writer = new SegmentWriter(end.segment, file, superblock.segmentBytes, uuid);
    writer.resume(records, scanner.headerChecksum);
    return writer;
  } finally {
    await scanner.close();
  }
}

/**
 * Appends entries again, with their sequences and labels. Catalogs among them state segments that are about to go: one that
 * states what is there now takes their place. @throws IO, NO_SPACE: nothing has changed then
 */
async function rewriteTail(
  storage: Storage,
  uuid: Buffer,
  log: ChunkLog,
  replay: Replay,
  overlays: Overlays,
  ledger: SegmentLedger,
  records: readonly ScannedRecord[],
): Promise<void> {
  let failure: StoreError | undefined;
  let hasCatalog = false;
  const moved: AppendOwner = {
    appended(append, error): void {
      failure ??= error;
      const node = replay.catalog!.tree.get(append.label);
      if (error || node === undefined) return;
      const { first, count, segment, offset, checksums, sequence } = append;
      overlays.active.putChunks(node.tree, node.label, first, count, segment, offset, checksums, sequence);
    },
  };
  log.beginRewrite();
  const cursor = new ScannerCursor(storage, uuid);
  let before = Promise.resolve();
  try {
    for (const record of records) {
      const { segment, offset } = record.header;
      for (const entry of entriesOf(record)) {
        const last = new AppendPromise();
        switch (entry.kind) {
          case ENTRY_CHUNKS: {
            const scanner = await cursor.at(segment);
            if (scanner === undefined) throw new StoreError('IO', `segment ${segment} cannot be read again`);
            const bytes = Buffer.from(await scanner.payload(entry));
            const append = Append.chunks(moved, entry, entry.first, entry.count, [bytes], entry.sequence);
            if (append.checksums.some((checksum, i) => checksum !== entry.checksums[i]))
              throw new StoreError('IO', `segment ${segment}: the record at ${offset} reads differently now`);
            log.submit(append);
            break;
          }
          case ENTRY_ZEROS:
            log.submit(Append.zeros(last, entry, entry.first, entry.count, entry.sequence));
            await last.promise;
            break;
          case ENTRY_CHANGE:
            log.submit(Append.change(last, entry.text, entry.sequence));
            await last.promise;
            break;
          case ENTRY_CATALOG:
            hasCatalog = true;
            break;
        }
      }
      // What is read next is read while this is being written.
      await before;
      before = log.settled();
      if (failure !== undefined) throw failure;
    }
    await before;
    if (failure !== undefined) throw failure;
    if (hasCatalog) await appendCatalog(log, replay.catalog!, ledger);
  } finally {
    await log.settled();
    await cursor.close();
  }
  await log.markTailRewritten();
}

async function appendCatalog(log: ChunkLog, catalog: Catalog, ledger: SegmentLedger): Promise<void> {
  await new CatalogAppender(log, catalog, ledger, (step) => step()).append();
}

async function removeSegments(storage: Storage, segments: ReadonlySet<number>): Promise<void> {
  if (segments.size === 0) return;
  for (const segment of segments) await storage.remove(segmentPath(segment));
  await storage.syncDirectory('log');
}
