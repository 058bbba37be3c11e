/**
 * Checking a store that nobody has open: takes its lock, and changes nothing, nor in its index, which is opened beside the
 * store. To look at a store that may be in use, or that cannot be written, the lock is left alone.
 */

import path from 'node:path';
import { systemClock } from '../base/clock.ts';
import { hasCode, StoreError } from '../base/errors.ts';
import { silentLogger } from '../base/logger.ts';
import { NodeStorage } from '../base/node-storage.ts';
import { OwnerLock } from '../base/owner-lock.ts';
import type { Storage } from '../base/storage.ts';
import { checkDirectory } from '../check/directory-check.ts';
import { type Finding, finding } from '../check/finding.ts';
import { checkSuperblock, slotsOf } from '../check/superblock-check.ts';
import { Overlay } from '../index/overlay.ts';
import { type Overlays, PointerIndex } from '../index/pointer-index.ts';
import type { Entry } from '../log/entries.ts';
import { FIRST_RECORD_OFFSET, segmentOfName } from '../log/format.ts';
import type { ScannedRecord } from '../log/scan.ts';
import { readSegmentStart, uuidOfSegments } from '../log/segment-summary.ts';
import { type LogBase, type Superblock, SUPERBLOCK_PATH } from '../log/superblock.ts';
import {
  type CheckEnvironment,
  type CheckOptions,
  checkStore,
  noteUnfinished,
  temporaryScratch,
} from './check.ts';
import { CheckedReplay } from './checked-replay.ts';
import { type IndexCopy, openIndexCopy } from './index-copy.ts';
import { INDEX_PATH, type OpenDatabase } from './index-builder.ts';
import { isDamage, isOfDatabase, isTemporary, ofIndex } from './index-errors.ts';
import { LOCK_PATH } from './init-store.ts';
import { readEndOfLog } from './log-end.ts';
import type { CheckedIndex } from './log-reading.ts';
import { followMoves, statedSince } from './moves-replay.ts';
import { Replay } from './replay.ts';
import { noStore, requireLog } from './store-parts.ts';
import type { LogPlace } from './whole-log.ts';

const SCRATCH_CACHE_BYTES = 64 << 20;

export interface OfflineCheckOptions extends CheckOptions {
  /** Neither takes the lock nor minds who has it. */
  readonly readOnly?: boolean | undefined;
}

/** @throws NOT_A_STORE, LOCKED, UNSUPPORTED_FORMAT, CORRUPTION if nothing says which store this is, IO */
export async function* checkOffline(
  directory: string,
  openDatabase: OpenDatabase,
  options: OfflineCheckOptions,
): AsyncGenerator<Finding> {
  const storage = new NodeStorage(directory);
  await requireRemains(storage, directory);
  const lockFile = path.join(directory, LOCK_PATH);
  const readOnly = options.readOnly === true;
  const lock = readOnly ? undefined : OwnerLock.acquire(lockFile, systemClock.now());
  try {
    const owner = readOnly ? OwnerLock.holderOf(lockFile) : undefined;
    if (owner !== undefined) {
      const what = `the store is in use by ${owner}: what is found may be the middle of a change`;
      yield finding('STORE_IN_USE', what);
    }
    const { superblock, uuid } = await identifyStore(storage);
    const environment = {
      storage,
      uuid,
      cacheBytes: SCRATCH_CACHE_BYTES,
      openDatabase,
      openIndex: (location: string) => openIndexCopy(location, openDatabase),
      logger: silentLogger,
      clock: systemClock,
      makeScratch: temporaryScratch,
    };
    const base = superblock === undefined ? await likelyBase(environment) : superblock.base;
    yield* checkClosedStore(environment, superblock, base, { ...options, isInUse: owner !== undefined });
  } finally {
    lock?.release();
  }
}

/** Which store this is; `superblock` undefined: it is lost. @throws UNSUPPORTED_FORMAT, CORRUPTION if nothing says it, IO */
export async function identifyStore(
  storage: Storage,
): Promise<{ superblock: Superblock | undefined; uuid: Buffer }> {
  const slots = await slotsOf(storage);
  const superblock = slots.find(({ counts }) => counts)?.block;
  const uuid = superblock?.uuid ?? (await uuidOfSegments(storage, await segmentsOf(storage)));
  if (uuid !== undefined) return { superblock, uuid };
  throw new StoreError(
    'CORRUPTION',
    'neither the superblock nor any segment says which store this is; no part of it can be checked',
  );
}

export async function segmentsOf(storage: Storage): Promise<number[]> {
  const names = await storage.list('log');
  return names.map(segmentOfName).filter((segment) => segment !== undefined);
}

/** A superblock may be lost: segments say which store they are of. @throws NOT_A_STORE, IO */
export async function requireRemains(storage: Storage, directory: string): Promise<void> {
  const names = await storage.list('.');
  if (!names.includes(SUPERBLOCK_PATH) && (await segmentsOf(storage)).length === 0) throw noStore(directory);
  requireLog(directory);
}

/** Where the log can be read from, if the superblock does not tell: its first segment, or the newest catalog. @throws IO */
export async function likelyBase(environment: LogPlace): Promise<LogBase | undefined> {
  const { storage, uuid } = environment;
  for (const segment of await segmentsOf(storage)) {
    const header = (await readSegmentStart(storage, uuid, segment))?.header;
    const isFirst = header?.predecessor === 0 && header.firstAppend === 1;
    if (isFirst && header.predecessorEnd < FIRST_RECORD_OFFSET) return undefined;
  }
  const end = await readEndOfLog(environment, undefined).catch((error: unknown) => {
    if (hasCode(error, 'IO')) throw error; // there may be one
    return undefined;
  });
  return end?.newest;
}

export interface ClosedStoreEnvironment extends CheckEnvironment {
  /** Opens the index of the store without changing it; default: as it is. */
  openIndex?: ((location: string) => Promise<IndexCopy>) | undefined;
}

/** The check itself, for whoever knows that nobody writes the store. Only reads. `superblock` undefined: it is lost. */
export async function* checkClosedStore(
  environment: ClosedStoreEnvironment,
  superblock: Superblock | undefined,
  base: LogBase | undefined,
  options: CheckOptions & { readonly isInUse?: boolean } = {},
): AsyncGenerator<Finding> {
  yield* checkSuperblock(environment.storage);
  yield* checkDirectory(environment.storage);
  const followed = yield* followedIndex(environment, base, options.isInUse === true);
  try {
    yield* checkStore(environment, { superblock, base, checked: followed }, options);
    if (followed !== undefined) yield* followed.judge();
  } finally {
    await followed?.close();
  }
}

/** The index as it is, if there is one that can be compared. */
async function* followedIndex(
  environment: ClosedStoreEnvironment,
  base: LogBase | undefined,
  isInUse: boolean,
): AsyncGenerator<Finding, FollowedIndex | undefined> {
  const { storage, uuid, cacheBytes, openDatabase } = environment;
  if (isInUse) {
    yield finding('INDEX_NOT_COMPARED', 'the index is not compared: who has the store open is writing it');
    return undefined;
  }
  if ((await storage.list(INDEX_PATH)).length === 0) {
    const message = 'there is no index; it is made from the log when the store is opened';
    yield finding('NO_INDEX', message, { mend: 'open' });
    return undefined;
  }
  const overlays: Overlays = { active: new Overlay(), frozen: undefined };
  const open = environment.openIndex ?? ((location: string) => openPlainly(location, openDatabase));
  let copy: IndexCopy | undefined;
  let index: PointerIndex;
  try {
    copy = await open(storage.nativePath(INDEX_PATH));
    index = await PointerIndex.open(copy.database, overlays, uuid, cacheBytes);
  } catch (error) {
    await copy?.close();
    if (isTemporary(error)) throw ofIndex(error, 'opening the index');
    const isOther = hasCode(error, 'UNSUPPORTED_FORMAT');
    const isTold = isOther || hasCode(error, 'INDEX_DAMAGED');
    const reason = isTold ? (error as Error).message : 'LevelDB cannot open it';
    const message = `${reason}; it is made anew from the log when the store is opened`;
    yield finding(isOther ? 'OTHER_INDEX' : 'INDEX_DAMAGED', message, { mend: 'open' });
    return undefined;
  }
  const { checkpoint } = index;
  if (checkpoint.segment > 0 && checkpoint.append >= (base?.append ?? 0))
    return new FollowedIndex(environment, index, overlays, copy);
  if (checkpoint.segment > 0) {
    const message = 'the index is older than the log; it is made anew from it when the store is opened';
    yield finding('OLD_INDEX', message, { mend: 'open' });
  } else yield finding('INDEX_NOT_COMPARED', 'the index is not compared: it has no checkpoint yet');
  await copy.close();
  return undefined;
}

async function openPlainly(location: string, openDatabase: OpenDatabase): Promise<IndexCopy> {
  const database = await openDatabase(location);
  return { database, close: () => database.close() };
}

/** An index with what the log has behind its checkpoint. */
class FollowedIndex implements CheckedIndex {
  readonly view: CheckedIndex['view'];
  readonly until = undefined;
  readonly durable: number;
  readonly #place: LogPlace;
  readonly #overlay: Overlay;
  readonly #copy: IndexCopy;
  readonly #replay: CheckedReplay;
  /** Whether the log has the record that the checkpoint names; undefined: it has not been reached. */
  #isOfLog: boolean | undefined;
  /** Why moves could not be followed. */
  #unread: Error | undefined;

  constructor(place: LogPlace, index: PointerIndex, overlays: Overlays, copy: IndexCopy) {
    this.#place = place;
    this.#overlay = overlays.active;
    this.view = { index, overlay: overlays.active };
    this.durable = index.checkpoint.append;
    this.#copy = copy;
    this.#replay = new CheckedReplay(new Replay(overlays, undefined), () => false);
  }

  /** It has its catalog from the log, and so is one of this log; and it can be read where it is behind. */
  get isComparable(): boolean {
    const { catalog } = this.#replay.replay;
    return this.#isOfLog === true && catalog !== undefined && this.#unread === undefined;
  }

  follow({ header }: ScannedRecord, entries: readonly Entry[]): void {
    const { append, segment, offset } = this.view.index.checkpoint;
    if (header.append < append) return;
    this.#isOfLog ??= header.append === append && header.segment === segment && header.offset === offset;
    if (this.#isOfLog) this.#replay.apply({ header, isKept: false }, entries);
  }

  /** Where rows cannot be read that moves were of, nothing is compared: it would differ wherever moves were not followed. */
  async followed(): Promise<void> {
    const { replay } = this.#replay;
    const { catalog } = replay;
    if (!this.isComparable || catalog === undefined) return;
    const { index } = this.view;
    await followMoves(this.#place, statedSince(replay), catalog, index, this.#overlay).catch(
      (error: unknown) => {
        if (isDamage(error) || isOfDatabase(error)) this.#unread = error as Error;
        // What is damaged in the log is told by who reads that.
        else if (!hasCode(error, 'CORRUPTION')) throw error;
      },
    );
  }

  *judge(): Generator<Finding> {
    if (this.#isOfLog === false) {
      const { segment, offset } = this.view.index.checkpoint;
      const message = `the index begins at segment ${segment}, offset ${offset}, where the log has no such record; it is made anew when the store is opened`;
      yield finding('INDEX_AHEAD', message, { segment, offset, mend: 'open' });
    }
    if (this.#unread !== undefined)
      yield finding('INDEX_DAMAGED', `${this.#unread.message}; it is made anew when the store is opened`, {
        mend: 'open',
      });
    yield* noteUnfinished(this.#replay.replay.catalog);
  }

  async close(): Promise<void> {
    await this.#copy.close();
  }
}
