/**
 * Files of a disk that fails: what it does not give reads as a pattern that no checksum matches, so that it is lost like whatever has
 * rotten, and all around it is read. Else the files are what they are.
 */

import { AssertionError } from '../base/errors.ts';
import type { OpenMode, Storage, StorageFile } from '../base/storage.ts';
import { PacedFiles } from '../log/paced-files.ts';

export class ReadableStorage implements Storage {
  readonly #store: Storage;
  readonly #files: PacedFiles;

  constructor(store: Storage) {
    this.#store = store;
    this.#files = new PacedFiles(store, async () => undefined);
  }

  /** What the disk did not give. */
  get unreadableBytes(): number {
    return this.#files.unreadableBytes;
  }

  async open(path: string, mode: OpenMode): Promise<StorageFile> {
    if (mode !== 'read') return await this.#store.open(path, mode);
    const file = await this.#files.open(path);
    return {
      ...file,
      readCached: () => -1,
      write: refuse,
      writeCached: () => false,
      datasync: refuse,
      allocate: refuse,
      dropCached: async () => undefined,
    };
  }

  list(path: string): Promise<string[]> {
    return this.#store.list(path);
  }

  makeDirectory(path: string): Promise<void> {
    return this.#store.makeDirectory(path);
  }

  remove(path: string): Promise<void> {
    return this.#store.remove(path);
  }

  rename(from: string, to: string): Promise<void> {
    return this.#store.rename(from, to);
  }

  link(from: string, to: string): Promise<void> {
    return this.#store.link(from, to);
  }

  syncDirectory(path: string): Promise<void> {
    return this.#store.syncDirectory(path);
  }

  freeBytes(): Promise<number> {
    return this.#store.freeBytes();
  }

  nativePath(path: string): string {
    return this.#store.nativePath(path);
  }
}

async function refuse(): Promise<never> {
  throw new AssertionError('a file that is open to read is not written');
}
