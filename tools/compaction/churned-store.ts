/** A store in a directory of its own with one volume, and the guest that writes to it. */

import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { CHUNK_BYTES } from '../../src/base/units.ts';
import { Store } from '../../src/volume/store.ts';
import { CountedStorage, processBytes } from './counted-storage.ts';
import { Guest } from './guest.ts';
import { inOrder, type NextRequest } from './loads.ts';
import { saturate } from './pressure.ts';

const VOLUME = 'disk';
const CLOSE_MS_MAX = 30_000;

export interface StoreShape {
  segmentBytes: number;
  /** Undefined: without. */
  capacityBytes: number | undefined;
  volumeBytes: number;
}

/** What had been written when it was taken. */
export interface Mark {
  at: number;
  /** Payload of the guest's writes. */
  userBytes: number;
  /** Headers, records and footers of the guest's segments. */
  logBytes: number;
  /** Payload that compaction moved, and files that it made of it. */
  movedBytes: number;
  movesBytes: number;
  /** By LevelDB: what the process wrote beside all else. */
  indexBytes: number;
}

export class ChurnedStore {
  readonly directory: string;
  readonly guest: Guest;
  readonly shape: StoreShape;
  store: Store;
  readonly #storage: CountedStorage;

  private constructor(directory: string, shape: StoreShape, store: Store, storage: CountedStorage) {
    this.directory = directory;
    this.shape = shape;
    this.store = store;
    this.#storage = storage;
    this.guest = new Guest(store.device(VOLUME), shape.volumeBytes / CHUNK_BYTES);
  }

  /** Makes the store in `scratch`, opens it, and writes the volume in order. @throws GivenUp, StoreError */
  static async fill(scratch: string, shape: StoreShape, compacts = true): Promise<ChurnedStore> {
    const directory = path.join(scratch, 'store');
    const { segmentBytes, capacityBytes, volumeBytes } = shape;
    await Store.init(directory, { segmentBytes, capacityBytes });
    const storage = new CountedStorage(directory);
    const store = await Store.open(directory, { storage, compacts });
    await store.createVolume(VOLUME, volumeBytes);
    const churned = new ChurnedStore(directory, shape, store, storage);
    await churned.guarding(() => saturate(churned.guest, inOrder(churned.guest.chunks), volumeBytes));
    return churned;
  }

  /** Overwrites so many times the volume's bytes. @throws GivenUp */
  overwrite(next: NextRequest, times: number): Promise<void> {
    return saturate(this.guest, next, times * this.shape.volumeBytes);
  }

  async mark(): Promise<Mark> {
    const { compaction } = await this.store.status();
    return {
      at: Date.now(),
      userBytes: this.guest.writtenBytes,
      logBytes: this.#storage.logBytes,
      movedBytes: compaction.movedBytes,
      movesBytes: compaction.writtenBytes,
      indexBytes: processBytes() - this.#storage.allBytes - compaction.writtenBytes,
    };
  }

  /** Lets the memory go that holds the log's content, so that reading it is reading the disk. */
  async dropCached(): Promise<void> {
    await this.store.flush();
    for (const name of await this.#storage.list('log')) {
      const file = await this.#storage.open(`log/${name}`, 'read');
      await file.dropCached();
      await file.close();
    }
  }

  async reopen(compacts: boolean): Promise<void> {
    this.store = await Store.open(this.directory, { storage: this.#storage, compacts });
    this.guest.device = this.store.device(VOLUME);
  }

  /** @throws StoreError, or if it takes too long */
  async close(): Promise<void> {
    this.guest.device.release();
    const closed = this.store.close().then(() => true);
    const isClosed = await Promise.race([closed, delay(CLOSE_MS_MAX, false, { ref: false })]);
    if (!isClosed) throw new Error(`the store was not closed within ${CLOSE_MS_MAX / 1000} s`);
  }

  /** Runs `work`; if it fails, the store is closed, if it can be. */
  async guarding<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      await this.close().catch((closing: unknown) => {
        console.error(`and then: ${String(closing)}`);
      });
      throw error;
    }
  }
}
