/** Reads single chunks out of segment files that may be damaged: a chunk is there as a whole, or it is lost. */

import { crc32c } from '../base/crc.ts';
import { hasCode } from '../base/errors.ts';
import type { Storage, StorageFile } from '../base/storage.ts';
import { CHUNK_BYTES } from '../base/units.ts';
import { segmentPath } from '../log/format.ts';

/** Files that are open at once. */
const FILES_MAX = 64;

export class ChunkSource {
  readonly #storage: Storage;
  /** Those opened last come last; undefined: it is missing. */
  readonly #files = new Map<number, StorageFile | undefined>();
  readonly #chunk = Buffer.alloc(CHUNK_BYTES);

  constructor(storage: Storage) {
    this.#storage = storage;
  }

  /** False if it is lost. @throws IO */
  async isWhole(segment: number, offset: number, checksum: number): Promise<boolean> {
    const file = await this.#file(segment);
    if (file === undefined) return false;
    const length = await file.read(this.#chunk, 0, CHUNK_BYTES, offset);
    return length === CHUNK_BYTES && crc32c(this.#chunk) === checksum;
  }

  async #file(segment: number): Promise<StorageFile | undefined> {
    if (this.#files.has(segment)) return this.#files.get(segment);
    if (this.#files.size >= FILES_MAX) {
      const [oldest, file] = this.#files.entries().next().value!;
      this.#files.delete(oldest);
      await file?.close();
    }
    const file = await this.#storage.open(segmentPath(segment), 'read').catch((error: unknown) => {
      if (hasCode(error, 'NOT_FOUND')) return undefined;
      throw error;
    });
    this.#files.set(segment, file);
    return file;
  }

  async close(): Promise<void> {
    for (const file of this.#files.values()) await file?.close();
    this.#files.clear();
  }
}
