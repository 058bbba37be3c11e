/** Checking a store that nobody has open: takes its lock, and changes nothing of the log. */

import path from 'node:path';
import { systemClock } from '../base/clock.ts';
import { hasCode } from '../base/errors.ts';
import { silentLogger } from '../base/logger.ts';
import { NodeStorage } from '../base/node-storage.ts';
import { OwnerLock } from '../base/owner-lock.ts';
import { Overlay } from '../index/overlay.ts';
import { type Overlays, PointerIndex } from '../index/pointer-index.ts';
import type { Entry } from '../log/entries.ts';
import type { ScannedRecord } from '../log/scan.ts';
import { type LogBase, readSuperblock } from '../log/superblock.ts';
import {
  type CheckEnvironment,
  checkStore,
  checkSuperblock,
  damage,
  note,
  noteDeletes,
  noteNoCheckpoint,
  temporaryScratch,
} from './check.ts';
import { INDEX_PATH, type OpenDatabase } from './index-builder.ts';
import { isTemporary, ofIndex } from './index-errors.ts';
import { followMoves, statedSince } from './moves-replay.ts';
import { Replay } from './replay.ts';
import type { Finding } from './summary.ts';

const SCRATCH_CACHE_BYTES = 64 << 20;

/** @throws NOT_A_STORE, LOCKED, UNSUPPORTED_FORMAT, CORRUPTION if no superblock can be read */
export async function* checkOffline(
  directory: string,
  lockPath: string,
  openDatabase: OpenDatabase,
): AsyncGenerator<Finding> {
  const storage = new NodeStorage(directory);
  const superblock = await readSuperblock(storage);
  const lock = OwnerLock.acquire(path.join(directory, lockPath), systemClock.now());
  try {
    const environment = {
      storage,
      uuid: superblock.uuid,
      cacheBytes: SCRATCH_CACHE_BYTES,
      openDatabase,
      logger: silentLogger,
      clock: systemClock,
      makeScratch: temporaryScratch,
    };
    yield* checkClosedStore(environment, superblock.base);
  } finally {
    lock.release();
  }
}

/** The check itself, for whoever knows that nobody writes the store. Only reads. */
export async function* checkClosedStore(
  environment: CheckEnvironment,
  base: LogBase | undefined,
): AsyncGenerator<Finding> {
  const { storage, uuid, cacheBytes, openDatabase } = environment;
  const overlays: Overlays = { active: new Overlay(), frozen: undefined };
  let index: PointerIndex | undefined;
  try {
    yield* checkSuperblock(storage);
    if ((await storage.list(INDEX_PATH)).length === 0) {
      yield note('NO_INDEX', 'there is no index; it is made from the log when the store is opened');
    } else {
      try {
        const database = await openDatabase(storage.nativePath(INDEX_PATH));
        index = await PointerIndex.open(database, overlays, uuid, cacheBytes).catch(
          async (error: unknown) => {
            await database.close();
            throw error;
          },
        );
      } catch (error) {
        if (isTemporary(error)) throw ofIndex(error, 'opening the index');
        if (hasCode(error, 'UNSUPPORTED_FORMAT')) {
          const message = (error as Error).message;
          yield note('OTHER_INDEX', `${message}; it is made anew from the log when the store is opened`);
        } else {
          const reason = hasCode(error, 'INDEX_DAMAGED')
            ? (error as Error).message
            : 'LevelDB cannot open it';
          yield damage('INDEX_DAMAGED', `${reason}; it is made anew from the log when the store is opened`);
        }
      }
    }
    if (
      index !== undefined &&
      index.checkpoint.segment > 0 &&
      index.checkpoint.append < (base?.append ?? 0)
    ) {
      yield note(
        'OLD_INDEX',
        'the index is older than the log; it is made anew from it when the store is opened',
      );
      await index.close();
      index = undefined;
    }
    if (index?.checkpoint.segment === 0) yield noteNoCheckpoint();
    const from = index?.checkpoint;
    const replay = new Replay(overlays, undefined);
    const checked =
      index === undefined || from === undefined || from.segment === 0
        ? undefined
        : {
            view: { index, overlay: overlays.active },
            until: undefined,
            durable: from.append,
            follow: (record: ScannedRecord, entries: readonly Entry[]) =>
              follow(replay, record, entries, from.append),
            followed: async () => {
              await followMoves(environment, statedSince(replay), replay.catalog!, index!, overlays.active);
            },
          };
    yield* checkStore(environment, base, checked);
    yield* noteDeletes(replay.catalog);
  } finally {
    await index?.close();
  }
}

/** Replays what stands behind the index's checkpoint. */
function follow(replay: Replay, record: ScannedRecord, entries: readonly Entry[], from: number): void {
  if (record.header.append < from) return;
  replay.apply(record.header.segment, entries);
}
