/**
 * Segment files for who reads all of them beside everything else: at a pace, without taking the page cache away from others,
 * and past what the disk cannot read.
 *
 * Invariants: before each read the pace has been asked, and others have had their turn; what was not in memory before it was
 * read is let go behind the read; bytes that the disk does not give are filled with a pattern that no checksum matches,
 * and counted.
 */

import { hasCode } from '../base/errors.ts';
import type { ReadFile, ReadStorage, Storage, StorageFile } from '../base/storage.ts';
import { CHUNK_BYTES } from '../base/units.ts';

/** Stands where bytes could not be read. */
const UNREADABLE = 0xee;

export class PacedFiles implements ReadStorage {
  readonly #storage: Storage;
  readonly #pace: (bytes: number) => Promise<void>;
  /** Bytes that the disk did not give, of all files. */
  unreadableBytes = 0;

  /** `pace` resolves when so many bytes may be read, never in the same turn. */
  constructor(storage: Storage, pace: (bytes: number) => Promise<void>) {
    this.#storage = storage;
    this.#pace = pace;
  }

  /** @throws NOT_FOUND, IO */
  async open(path: string): Promise<ReadFile> {
    const file = await this.#storage.open(path, 'read');
    return {
      read: (target, start, length, position) => this.#read(file, target, start, length, position),
      sizeBytes: () => file.sizeBytes(),
      close: () => file.close(),
    };
  }

  async #read(
    file: StorageFile,
    target: Buffer,
    start: number,
    length: number,
    position: number,
  ): Promise<number> {
    const wanted = Math.min(length, (await file.sizeBytes()) - position);
    if (wanted <= 0) return 0;
    await this.#pace(wanted);
    if (file.readCached(target, start, wanted, position) === wanted) return wanted;
    try {
      return await file.read(target, start, wanted, position);
    } catch (error) {
      if (!hasCode(error, 'IO')) throw error;
      return await this.#readPieces(file, target, start, wanted, position);
    } finally {
      await file.dropCached(position, wanted).catch(() => undefined);
    }
  }

  /** Chunk by chunk: one sector that cannot be read is not to hide what stands around it. */
  async #readPieces(
    file: StorageFile,
    target: Buffer,
    start: number,
    length: number,
    position: number,
  ): Promise<number> {
    for (let done = 0; done < length; ) {
      // Pieces end where blocks of the file do.
      const bytes = Math.min(length - done, CHUNK_BYTES - ((position + done) % CHUNK_BYTES));
      try {
        if ((await file.read(target, start + done, bytes, position + done)) < bytes) return done;
      } catch (error) {
        if (!hasCode(error, 'IO')) throw error;
        target.fill(UNREADABLE, start + done, start + done + bytes);
        this.unreadableBytes += bytes;
      }
      done += bytes;
    }
    return length;
  }
}
