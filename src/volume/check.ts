/**
 * The checker: every segment, every record, every checksum, footers against records, and the index against one made
 * anew from the log. Yields findings; repairs nothing.
 *
 * The comparison needs no memory that grows with the store: the log is replayed into a scratch index in a temporary
 * directory, and both are read side by side, region by region.
 */

import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { crc32c } from '../base/crc.ts';
import { AssertionError, StoreError } from '../base/errors.ts';
import { NodeStorage } from '../base/node-storage.ts';
import type { Storage } from '../base/storage.ts';
import { CHUNK_BYTES } from '../base/units.ts';
import { REGIONS_MAX } from '../index/directory.ts';
import {
  CanonicalForm,
  countLive,
  firstDifference,
  type IndexView,
  nextRegionOf,
  treesOf,
} from '../index/dump.ts';
import { ExtentRecount } from '../index/extent-recount.ts';
import { Overlay } from '../index/overlay.ts';
import { HOLE, PointerBlock, REGION_CHUNKS } from '../index/pointers.ts';
import { ENTRY_CATALOG, ENTRY_CHUNKS, type Entry } from '../log/entries.ts';
import { entriesOf, recordEnd, type ScannedRecord, ScannerCursor, SegmentScanner } from '../log/scan.ts';
import { decodeSuperblock, type LogBase, SLOT_BYTES, SUPERBLOCK_PATH } from '../log/superblock.ts';
import type { Catalog } from './catalog.ts';
import type { StatedSegments } from './catalog-parts.ts';
import { IndexBuilder, type IndexEnvironment } from './index-builder.ts';
import type { Finding } from './summary.ts';
import { WholeLog } from './whole-log.ts';

/** The index under check, and the record up to whose catalog it reflects the log. */
export interface CheckedIndex {
  /** undefined: it does not say how far it goes, and there is nothing to compare with the log up to `until`. */
  view: IndexView | undefined;
  /** The record that the check ends with; undefined: it goes on to the end of the log. */
  until: number | undefined;
  /** Records up to this append number are known to be synced; default: those up to `until`. */
  durable?: number | undefined;
  /** The segments of a store that is open. */
  present?: StatedSegments | undefined;
  /** Called with every entry, in order: what stands behind the index's checkpoint is replayed by the caller. */
  follow(record: ScannedRecord, entries: readonly Entry[]): void;
  /** Called once it has had all of them. @throws INDEX_DAMAGED */
  readonly followed?: (() => Promise<void>) | undefined;
}

/** A place beside the store for an index that is only compared with. */
export interface Scratch {
  storage: Storage;
  remove(): void;
}

/** In a directory of its own, on the disk: it may grow as large as the index. */
export function temporaryScratch(): Scratch {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'coppice-check-'));
  return {
    storage: new NodeStorage(directory),
    remove: () => fs.rmSync(directory, { recursive: true, force: true }),
  };
}

export interface CheckEnvironment extends IndexEnvironment {
  makeScratch(): Scratch;
}

export function damage(code: string, message: string): Finding {
  return { severity: 'damage', code, message };
}

/** A note about deletes that are still to be finished, if there are any. */
export function* noteDeletes(catalog: Catalog | undefined): Generator<Finding> {
  const count = catalog?.pending.size ?? 0;
  if (count > 0)
    yield note('UNFINISHED_DELETE', `the space of ${count} deleted versions has still to be given back`);
}

/** An index that was made anew holds any part of the log until its first checkpoint, for which a full store has no room. */
export function noteNoCheckpoint(): Finding {
  return note('NO_CHECKPOINT', 'the index has no checkpoint yet, and is not compared with the log');
}

export function note(code: string, message: string): Finding {
  return { severity: 'note', code, message };
}

export async function* checkSuperblock(storage: Storage): AsyncGenerator<Finding> {
  const file = await storage.open(SUPERBLOCK_PATH, 'read');
  try {
    const bytes = Buffer.alloc(2 * SLOT_BYTES);
    await file.read(bytes, 0, bytes.length, 0);
    for (const slot of [0, 1]) {
      const content = bytes.subarray(slot * SLOT_BYTES, (slot + 1) * SLOT_BYTES);
      // The second copy of a new store is written with its first epoch.
      if (content.every((byte) => byte === 0) || decodeSuperblock(content) !== undefined) continue;
      yield damage(
        'SUPERBLOCK_SLOT_DAMAGED',
        `copy ${slot + 1} of the superblock is damaged; the other one is used`,
      );
    }
  } finally {
    await file.close();
  }
}

/** Checks log and index. `environment` is of the store; `checked` is undefined if there is no index to compare. */
export async function* checkStore(
  environment: CheckEnvironment,
  base: LogBase | undefined,
  checked: CheckedIndex | undefined,
): AsyncGenerator<Finding> {
  const overlays = { active: new Overlay(), frozen: undefined };
  const durable = checked?.durable ?? checked?.until ?? base?.append ?? 0;
  const whole = await WholeLog.open(environment, base, durable, checked?.present);
  const scratch = environment.makeScratch();
  const builder = await IndexBuilder.begin({ ...environment, storage: scratch.storage }, overlays, whole);
  try {
    const { tail } = whole;
    const bad: BadChunk[] = [];
    const start = { segment: 0, offset: 0, append: 0, at: 0 };
    const cursor = new ScannerCursor(environment.storage, environment.uuid);
    try {
      for await (const record of whole.records(checked?.until)) {
        const { append, segment } = record.header;
        let entries = entriesOf(record);
        await checkPayloads((await cursor.at(segment))!, entries, bad);
        if (!record.isKept) checked?.follow(record, entries);
        if (!record.isKept && append === checked?.until) entries = beforeCatalog(entries);
        builder.replay.apply(segment, entries, record.isKept);
        if (builder.isFull) await builder.commit(start);
      }
    } finally {
      await cursor.close();
    }
    for (const each of bad) yield chunkDamaged(each, builder.replay.catalog!);
    // A store in use goes on: what is not yet chained to what is checked is not lost.
    const hasMore = checked?.until !== undefined && (tail.end?.append ?? 0) >= checked.until;
    for (const { code, message } of whole.damage) yield damage(code, message);
    for (const { code, message } of tail.damage)
      if (!hasMore || code !== 'LOG_SEGMENT_LOST') yield damage(code, message);
    // Of a store in use neither means anything: it is being appended to, and has a segment ready.
    if (tail.torn && checked?.until === undefined)
      yield note('TORN_TAIL', `an interrupted append ends the log, at ${JSON.stringify(tail.end)}`);
    for (const segment of checked?.until === undefined ? whole.leftovers() : [])
      yield note('LEFTOVER_SEGMENT', `segment ${segment} is not part of the log`);
    yield* checkFooters(environment, await endsOf(environment, whole));
    await builder.commit(start);
    if (checked?.view !== undefined)
      yield* compare(environment, checked.view, checked.followed, builder, overlays);
  } finally {
    await builder.abandon();
    scratch.remove();
  }
}

function beforeCatalog(entries: readonly Entry[]): Entry[] {
  const at = entries.findIndex((entry) => entry.kind === ENTRY_CATALOG);
  return at < 0 ? [...entries] : entries.slice(0, at);
}

interface BadChunk {
  segment: number;
  sequence: number;
  label: number;
  chunk: number;
}

async function checkPayloads(
  scanner: SegmentScanner,
  entries: readonly Entry[],
  found: BadChunk[],
): Promise<void> {
  for (const entry of entries) {
    if (entry.kind !== ENTRY_CHUNKS) continue;
    const { sequence, label, first } = entry;
    for (let bad = await scanner.badChunk(entry); bad >= 0; bad = await scanner.badChunk(entry, bad + 1)) {
      found.push({ segment: scanner.header.segment, sequence, label, chunk: first + bad });
    }
  }
}

/** `catalog` is that of the end of the log: what was written to a volume may belong to a snapshot by now. */
function chunkDamaged({ segment, sequence, label, chunk }: BadChunk, catalog: Catalog): Finding {
  const of = catalog.describe(label);
  return damage(
    'CHUNK_DAMAGED',
    `segment ${segment}, sequence ${sequence}: chunk ${chunk} of ${of} has a wrong checksum`,
  );
}

/**
 * A sealed segment's footer must say what its records say, as far as they belong to the log: a crash may have kept a
 * footer and lost the record before it, and what comes behind then names an earlier end.
 */
async function* checkFooters(
  environment: IndexEnvironment,
  ends: ReadonlyMap<number, number>,
): AsyncGenerator<Finding> {
  for (const [segment, end] of ends) {
    const scanner = await SegmentScanner.open(environment.storage, environment.uuid, segment);
    if (scanner === undefined) continue;
    try {
      const footer = (await scanner.footer())?.filter(({ header }) => header.offset < end);
      if (footer === undefined) {
        // Segments that a crash or a failed write ended have none; their records were read one by one.
        yield note('NO_FOOTER', `segment ${segment} has no footer`);
        continue;
      }
      let at = 0;
      for await (const record of scanner.walk()) {
        if (record.header.offset >= end) break;
        const stated = footer[at++];
        const same =
          stated !== undefined &&
          stated.table.equals(record.table) &&
          recordEnd(stated.header) === recordEnd(record.header);
        if (!same)
          yield damage(
            'FOOTER_DIFFERS',
            `segment ${segment}: the footer lacks the record at ${record.header.offset}`,
          );
      }
      if (at < footer.length) {
        yield damage(
          'LOG_RECORD_DAMAGED',
          `segment ${segment}: ${footer.length - at} records of the footer cannot be read`,
        );
      }
    } finally {
      await scanner.close();
    }
  }
}

/** Where sealed segments end, as what follows them says. */
async function endsOf(environment: IndexEnvironment, whole: WholeLog): Promise<Map<number, number>> {
  const { segments } = whole.tail;
  const ends = new Map(whole.keptEnds);
  for (const [i, segment] of segments.slice(0, -1).entries()) {
    const scanner = await SegmentScanner.open(environment.storage, environment.uuid, segments[i + 1]!);
    await scanner?.close();
    ends.set(segment, scanner?.header.predecessorEnd ?? Number.POSITIVE_INFINITY);
  }
  // What the log goes on in is not sealed.
  if (segments.length > 0) ends.delete(segments.at(-1)!);
  return ends;
}

/** Compares the index with the one made anew, region by region. */
async function* compare(
  environment: IndexEnvironment,
  view: IndexView,
  followed: CheckedIndex['followed'],
  builder: IndexBuilder,
  scratchOverlays: { active: Overlay },
): AsyncGenerator<Finding> {
  const made: IndexView = { index: builder.index, overlay: scratchOverlays.active };
  const next = async (tree: number, from: number): Promise<number> => {
    const inView = await ofView(nextRegionOf(tree, from, REGIONS_MAX, view));
    const inMade = await nextRegionOf(tree, from, REGIONS_MAX, made);
    return inView < 0 || inMade < 0 ? Math.max(inView, inMade) : Math.min(inView, inMade);
  };
  const catalog = builder.replay.catalog!;
  const canonical = new CanonicalForm(catalog.tree);
  const live = new Map<number, number>();
  const extents = new ExtentRecount(view.index.extents);
  const recounted = (tree: number, region: number) => async (blocks: ReadonlyMap<number, PointerBlock>) => {
    countLive(blocks, live);
    await extents.add(tree, region, blocks);
  };
  try {
    await ofView(followed?.() ?? Promise.resolve());
    for (const tree of treesOf(view, made)) {
      let region = await next(tree, 0);
      while (region >= 0) {
        const actual = await ofView(canonical.region(view, tree, region, recounted(tree, region)));
        const expected = await canonical.region(made, tree, region);
        for (const label of new Set([...actual.keys(), ...expected.keys()])) {
          const none = new PointerBlock();
          const [is, should] = [actual.get(label) ?? none, expected.get(label) ?? none];
          let at = firstDifference(is, should);
          while (at >= 0 && (await isCopy(environment, is, should, at)))
            at = firstDifference(is, should, at + 1);
          if (at < 0) continue;
          const chunk = region * REGION_CHUNKS + at;
          yield damage(
            'INDEX_DIFFERS',
            `chunk ${chunk} of ${catalog.describe(label)}: the index is not what the log says`,
          );
        }
        region = await next(tree, region + 1);
      }
    }
    await ofView(extents.finish());
    yield* compareUsage(view, live);
  } catch (error) {
    if (!(error instanceof StoreError)) throw error;
    yield damage('INDEX_DAMAGED', `${error.message}; it is made anew when the store is opened`);
  }
}

/**
 * True if two pointers lead to the same chunk in two places: moves that an interrupted compaction stated and did not come to
 * use. What the index says must hold the chunk all the same.
 */
async function isCopy(
  { storage, uuid }: IndexEnvironment,
  is: PointerBlock,
  should: PointerBlock,
  at: number,
): Promise<boolean> {
  const [segment, checksum] = [is.segment(at), is.checksum(at)];
  if (segment === 0 || segment === HOLE || checksum !== should.checksum(at)) return false;
  if (is.sequence(at) !== should.sequence(at)) return false;
  const scanner = await SegmentScanner.open(storage, uuid, segment);
  if (scanner === undefined) return false;
  try {
    const bytes = await scanner.bytesAt(is.offset(at), CHUNK_BYTES);
    return bytes.length === CHUNK_BYTES && crc32c(bytes) === checksum;
  } finally {
    await scanner.close();
  }
}

/** What the index under check answers; that it cannot be read is damage as well. */
async function ofView<T>(answer: Promise<T>): Promise<T> {
  try {
    return await answer;
  } catch (error) {
    if (error instanceof StoreError || error instanceof AssertionError) throw error;
    throw new StoreError('INDEX_DAMAGED', `LevelDB cannot read it: ${(error as Error).message}`, error);
  }
}

/** Live chunks as stated, and as counted in the rows. */
function* compareUsage(view: IndexView, live: ReadonlyMap<number, number>): Generator<Finding> {
  const stated = new Map(view.index.usage.entries());
  for (const segment of new Set([...stated.keys(), ...live.keys()])) {
    const [says, has] = [stated.get(segment) ?? 0, live.get(segment) ?? 0];
    if (says === has) continue;
    yield damage('USAGE_DIFFERS', `segment ${segment}: ${says} live chunks are stated, ${has} are counted`);
  }
}
