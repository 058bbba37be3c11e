/**
 * The store as it would be: what is made goes to a place of its own, where nobody looks for it, and can be read as if it
 * stood in the log already.
 */

import { StoreError } from '../base/errors.ts';
import type { OpenMode, Storage, StorageFile } from '../base/storage.ts';
import { segmentOfName, segmentPath } from '../log/format.ts';
import { NEW_SEGMENTS_PATH, newSegmentPath } from '../volume/interrupted-repair.ts';

export class ProposedStorage implements Storage {
  readonly #store: Storage;
  /** Segments that have been made, in the order of their making. */
  readonly made = new Set<number>();

  private constructor(store: Storage) {
    this.#store = store;
  }

  /** @throws IO, NO_SPACE */
  static async over(store: Storage): Promise<ProposedStorage> {
    await store.remove(NEW_SEGMENTS_PATH);
    await store.makeDirectory(NEW_SEGMENTS_PATH);
    return new ProposedStorage(store);
  }

  async open(path: string, mode: OpenMode): Promise<StorageFile> {
    const segment = segmentOfName(path.slice('log/'.length));
    if (segment === undefined) throw refusal(path);
    if (mode === 'create') {
      const file = await this.#store.open(newSegmentPath(segment), 'create');
      this.made.add(segment);
      return file;
    }
    if (mode !== 'read') throw refusal(path);
    return await this.#store.open(this.made.has(segment) ? newSegmentPath(segment) : path, 'read');
  }

  async list(path: string): Promise<string[]> {
    const names = await this.#store.list(path);
    if (path !== 'log') return names;
    const made = [...this.made].map((segment) => segmentPath(segment).slice('log/'.length));
    return [...new Set([...names, ...made])].sort();
  }

  /** Only what has been made here. */
  async remove(path: string): Promise<void> {
    const segment = segmentOfName(path.slice('log/'.length));
    if (segment === undefined || !this.made.has(segment)) throw refusal(path);
    await this.#store.remove(newSegmentPath(segment));
    this.made.delete(segment);
  }

  async syncDirectory(): Promise<void> {
    await this.#store.syncDirectory(NEW_SEGMENTS_PATH);
  }

  async makeDirectory(path: string): Promise<void> {
    throw refusal(path);
  }

  async rename(from: string): Promise<void> {
    throw refusal(from);
  }

  async link(from: string): Promise<void> {
    throw refusal(from);
  }

  freeBytes(): Promise<number> {
    return this.#store.freeBytes();
  }

  nativePath(path: string): string {
    return this.#store.nativePath(path);
  }
}

function refusal(path: string): StoreError {
  return new StoreError(
    'READ_ONLY',
    `a repair changes nothing before all of it is there: ${path} is left alone`,
  );
}
