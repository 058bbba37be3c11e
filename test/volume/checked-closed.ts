/** What a check needs of a store that is closed, on a disk in memory: an index that it makes stands on a disk of its own. */

import { silentLogger } from '../../src/base/logger.ts';
import type { Storage } from '../../src/base/storage.ts';
import type { ClosedStoreEnvironment } from '../../src/volume/check-offline.ts';
import { UUID } from '../log/rig.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { MemoryStorage } from '../support/memory-storage.ts';

/** `files`: what is seen of the disk. */
export function closedEnvironment(
  disk: MemoryStorage,
  uuid: Buffer = UUID,
  files: Storage = disk,
): ClosedStoreEnvironment {
  const scratch = new MemoryStorage();
  return {
    storage: files,
    uuid,
    cacheBytes: 1 << 20,
    openDatabase: (path) => (path.endsWith('.new') ? scratch : disk).openDatabase(path),
    logger: silentLogger,
    clock: new ManualClock(),
    makeScratch: () => ({ storage: scratch, remove: () => undefined }),
  };
}
