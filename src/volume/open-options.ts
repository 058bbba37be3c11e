/** What a store can be opened with, and what its parts find around them. */

import { type Clock, systemClock } from '../base/clock.ts';
import { type Logger, silentLogger } from '../base/logger.ts';
import type { Owner } from '../base/owner-lock.ts';
import type { Storage } from '../base/storage.ts';
import { type CheckEnvironment, type Scratch, temporaryScratch } from './check.ts';
import type { OpenDatabase } from './index-builder.ts';
import { openLevel } from './level-database.ts';
import type { RebuildObserver } from './rebuild-progress.ts';

export const CACHE_BYTES_DEFAULT = 256 << 20;

/** Held by whoever has the store open. */
export interface StoreLock {
  readonly owner: Owner;
  release(): void;
}

export interface OpenOptions {
  /** Bound of pages in memory, in bytes; default 256 MiB. */
  cacheBytes?: number | undefined;
  logger?: Logger | undefined;
  /** Compaction begins by itself when it is due; default true, where nothing stands in the place of files. */
  compacts?: boolean | undefined;
  /** Bytes a second that such compaction copies at most, as long as nobody waits for room; default: no bound. */
  compactionRate?: number | undefined;
  /** Set: the index is made anew from the log, whatever there is, and this is told how far that has come. */
  onRebuild?: RebuildObserver | undefined;
  /** What a test puts in the place of the machine. */
  clock?: Clock | undefined;
  storage?: Storage | undefined;
  openDatabase?: OpenDatabase | undefined;
  acquireLock?: ((file: string, since: number) => StoreLock) | undefined;
  makeScratch?: (() => Scratch) | undefined;
  replayBytesMax?: number | undefined;
}

export interface StoreEnvironment extends CheckEnvironment {
  /** Compaction begins by itself. */
  compacts: boolean;
  compactionRate: number;
}

export function environmentOf(storage: Storage, uuid: Buffer, options: OpenOptions): StoreEnvironment {
  return {
    storage,
    uuid,
    cacheBytes: options.cacheBytes ?? CACHE_BYTES_DEFAULT,
    openDatabase: options.openDatabase ?? openLevel,
    logger: options.logger ?? silentLogger,
    clock: options.clock ?? systemClock,
    makeScratch: options.makeScratch ?? temporaryScratch,
    compacts: options.compacts ?? options.storage === undefined,
    compactionRate: options.compactionRate ?? Number.POSITIVE_INFINITY,
    onRebuild: options.onRebuild,
    replayBytesMax: options.replayBytesMax,
  };
}
