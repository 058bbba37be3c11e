/** A whole store on a disk in memory, which can lose its power at any moment. */

import fs from 'node:fs';
import { createSuperblock, type Superblock } from '../../src/log/superblock.ts';
import type { BlockDevice } from '../../src/volume/device.ts';
import { Store } from '../../src/volume/store.ts';
import { freshSuperblock } from '../log/rig.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { MemoryStorage } from '../support/memory-storage.ts';
import { scratchDirectory, write } from '../support/stores.ts';

export class CrashRig {
  storage: MemoryStorage;
  clock = new ManualClock();
  /** What the store has logged. */
  readonly messages: string[] = [];
  /** Compaction begins by itself in a store that is opened from now on. */
  compacts = false;
  /** Bytes of changes that a replay holds, from the next opening on. */
  replayBytesMax: number | undefined;
  #store: Store | undefined;
  readonly #devices = new Map<string, BlockDevice>();
  #directory = '';

  private constructor(storage: MemoryStorage) {
    this.storage = storage;
  }

  static async begin(options: Partial<Superblock> = {}): Promise<CrashRig> {
    const storage = new MemoryStorage();
    await createSuperblock(storage, freshSuperblock(options));
    await storage.syncDirectory('.');
    return new CrashRig(storage);
  }

  static over(storage: MemoryStorage): CrashRig {
    return new CrashRig(storage);
  }

  /** Another machine with the same disk as it is now. */
  fork(): CrashRig {
    return new CrashRig(this.storage.copy());
  }

  get store(): Store {
    if (this.#store === undefined) throw new Error('the store is not open');
    return this.#store;
  }

  async open(): Promise<Store> {
    this.messages.length = 0;
    this.clock = new ManualClock();
    this.#forget();
    this.#directory = scratchDirectory();
    const say = (_: object, message: string): void => {
      this.messages.push(message);
    };
    try {
      this.#store = await Store.open(this.#directory, {
        storage: this.storage,
        openDatabase: this.storage.openDatabase,
        clock: this.clock,
        compacts: this.compacts,
        replayBytesMax: this.replayBytesMax,
        cacheBytes: 1 << 20,
        logger: { debug: () => undefined, info: say, warn: say, error: say },
      });
      return this.#store;
    } catch (error) {
      this.#removeDirectory();
      throw error;
    }
  }

  #removeDirectory(): void {
    if (this.#directory !== '') fs.rmSync(this.#directory, { recursive: true, force: true });
    this.#directory = '';
  }

  #forget(): void {
    this.#store = undefined;
    this.#devices.clear();
    this.#removeDirectory();
  }

  async close(): Promise<void> {
    for (const device of this.#devices.values()) device.release();
    const store = this.store;
    this.#forget();
    await store.close();
  }

  /** The power goes; see MemoryStorage. The next `open` is another process. */
  crash(keep?: () => boolean, keepIndex = false): void {
    this.#forget();
    this.storage.crash(keep, keepIndex);
  }

  kill(): void {
    this.#forget();
    this.storage.kill();
  }

  device(name: string): BlockDevice {
    let device = this.#devices.get(name);
    if (device === undefined) {
      device = this.store.device(name);
      this.#devices.set(name, device);
    }
    return device;
  }

  async write(name: string, offset: number, bytes: Buffer, forceUnitAccess = false): Promise<void> {
    await write(this.device(name), offset, bytes, forceUnitAccess);
  }

  async read(name: string, offset: number, lengthBytes: number): Promise<Buffer> {
    const target = Buffer.alloc(lengthBytes, 0xee);
    await this.device(name).read(target, 0, offset, lengthBytes);
    return target;
  }

  async rest(turns = 60): Promise<void> {
    for (let i = 0; i < turns; i++) await new Promise((resolve) => setImmediate(resolve));
  }

  segments(): number[] {
    return this.storage.names('log').map((name) => Number(name.slice(0, 10)));
  }
}
