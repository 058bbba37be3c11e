/** A repair of a store in a directory: takes its lock, and has its scratch places on the disk. */

import path from 'node:path';
import { systemClock } from '../base/clock.ts';
import { silentLogger } from '../base/logger.ts';
import { NodeStorage } from '../base/node-storage.ts';
import { OwnerLock } from '../base/owner-lock.ts';
import { temporaryScratch } from '../volume/check.ts';
import { type ClosedStoreEnvironment, requireRemains } from '../volume/check-offline.ts';
import { openIndexCopy } from '../volume/index-copy.ts';
import { LOCK_PATH } from '../volume/init-store.ts';
import { ShelteredStorage } from '../volume/sheltered-storage.ts';
import { openLevel, Store } from '../volume/store.ts';
import { type RepairOptions, type RepairResult, type RepairSurroundings, repairStore } from './repair.ts';

const CACHE_BYTES = 64 << 20;

/** @throws NOT_A_STORE, LOCKED, UNSUPPORTED_FORMAT, and what `repairStore` throws */
export async function repairOffline(directory: string, options: RepairOptions): Promise<RepairResult> {
  const storage = new NodeStorage(directory);
  await requireRemains(storage, directory);
  const lock = OwnerLock.acquire(path.join(directory, LOCK_PATH), systemClock.now());
  const surroundings: RepairSurroundings = {
    storage,
    environment: (uuid) => ({
      storage,
      uuid,
      cacheBytes: CACHE_BYTES,
      openDatabase: openLevel,
      openIndex: (location: string) => openIndexCopy(location, openLevel),
      logger: silentLogger,
      clock: systemClock,
      makeScratch: temporaryScratch,
    }),
    async shelter(environment: ClosedStoreEnvironment) {
      const scratch = temporaryScratch();
      try {
        const sheltered = await ShelteredStorage.over(environment.storage, scratch.storage);
        return { environment: { ...environment, storage: sheltered }, remove: () => scratch.remove() };
      } catch (error) {
        scratch.remove();
        throw error;
      }
    },
    async openOnce({ rebuildsIndex }) {
      const onRebuild = rebuildsIndex ? () => undefined : undefined;
      const acquireLock = () => ({ owner: lock.owner, release: () => undefined });
      const store = await Store.open(directory, { acquireLock, onRebuild, compacts: false });
      await store.close();
    },
  };
  try {
    return await repairStore(surroundings, options);
  } finally {
    lock.release();
  }
}
