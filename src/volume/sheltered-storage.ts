/**
 * The files of a store that is only read: whatever would write to its directory is refused. The index is the exception, since
 * LevelDB cannot be opened without writing: it stands in a scratch directory, where it may be mended and made anew.
 */

import fs from 'node:fs';
import { StoreError } from '../base/errors.ts';
import type { OpenMode, Storage, StorageFile } from '../base/storage.ts';
import { INDEX_PATH } from './index-builder.ts';
import { linkIndex } from './index-copy.ts';

export class ShelteredStorage implements Storage {
  readonly #store: Storage;
  readonly #scratch: Storage;

  private constructor(store: Storage, scratch: Storage) {
    this.#store = store;
    this.#scratch = scratch;
  }

  /** What the store has of an index is in `scratch` too when this resolves. @throws IO */
  static async over(store: Storage, scratch: Storage): Promise<ShelteredStorage> {
    if ((await store.list(INDEX_PATH)).length > 0) {
      await scratch.makeDirectory(INDEX_PATH);
      await linkIndex(fs.realpathSync(store.nativePath(INDEX_PATH)), scratch.nativePath(INDEX_PATH));
    }
    return new ShelteredStorage(store, scratch);
  }

  #of(path: string): Storage {
    return path === INDEX_PATH || path.startsWith(`${INDEX_PATH}.`) ? this.#scratch : this.#store;
  }

  #toWrite(path: string): Storage {
    const storage = this.#of(path);
    if (storage === this.#store)
      throw new StoreError('READ_ONLY', `the store is open read-only: ${path} is not written`);
    return storage;
  }

  async open(path: string, mode: OpenMode): Promise<StorageFile> {
    return await (mode === 'read' ? this.#of(path) : this.#toWrite(path)).open(path, mode);
  }

  list(path: string): Promise<string[]> {
    return this.#of(path).list(path);
  }

  async makeDirectory(path: string): Promise<void> {
    await this.#toWrite(path).makeDirectory(path);
  }

  async remove(path: string): Promise<void> {
    await this.#toWrite(path).remove(path);
  }

  async rename(from: string, to: string): Promise<void> {
    await this.#toWrite(from).rename(from, to);
  }

  async link(from: string, to: string): Promise<void> {
    await this.#toWrite(to).link(from, to);
  }

  async syncDirectory(path: string): Promise<void> {
    await this.#toWrite(path).syncDirectory(path);
  }

  /** Where the index is. */
  freeBytes(): Promise<number> {
    return this.#scratch.freeBytes();
  }

  nativePath(path: string): string {
    return this.#of(path).nativePath(path);
  }
}
