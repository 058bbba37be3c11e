/**
 * The open files of segments, for reading: bounded in number, pinned while something is read from them.
 *
 * Invariants: a pinned file is not closed; at most OPEN_FILES_MAX unpinned files are open. The segment that is being
 * written shares its file with its readers.
 */

import { StoreError } from '../base/errors.ts';
import type { Storage, StorageFile } from '../base/storage.ts';
import { segmentPath } from './format.ts';

const OPEN_FILES_MAX = 512;

interface OpenSegment {
  file: StorageFile;
  pins: number;
  /** The file has no name any more. */
  isGone: boolean;
}

export class SegmentFiles {
  readonly #storage: Storage;
  /** In order of last use: a Map keeps insertion order. */
  readonly #open = new Map<number, OpenSegment>();
  readonly #opening = new Map<number, Promise<OpenSegment>>();
  /** The segment looked up last: most reads in a row come from one. */
  #lastNumber = 0;
  #last: OpenSegment | undefined;

  constructor(storage: Storage) {
    this.#storage = storage;
  }

  /** Lends the file of a segment that is being written, pinned until `unpin`. */
  adopt(segment: number, file: StorageFile): void {
    this.#open.set(segment, { file, pins: 1, isGone: false });
    this.#evict();
  }

  /** The segment is sealed and synced: nothing but reads needs its file now. */
  unpin(segment: number): void {
    const open = this.#open.get(segment);
    if (open !== undefined) this.#release(segment, open);
  }

  /** From the page cache and an open file only; the bytes read, or -1. */
  readCached(segment: number, target: Buffer, start: number, length: number, offset: number): number {
    let open = this.#last;
    if (segment !== this.#lastNumber || open === undefined) {
      open = this.#open.get(segment);
      if (open === undefined) return -1;
      this.#last = open;
      this.#lastNumber = segment;
    }
    return open.file.readCached(target, start, length, offset);
  }

  /** Fills `length` bytes or throws. @throws IO, CORRUPTION if the segment is missing or ends before */
  async read(segment: number, target: Buffer, start: number, length: number, offset: number): Promise<void> {
    const open = await this.#pin(segment);
    try {
      const bytes = await open.file.read(target, start, length, offset);
      if (bytes < length) {
        throw new StoreError(
          'CORRUPTION',
          `segment ${segment} ends at ${offset + bytes}, before ${offset + length}`,
        );
      }
    } finally {
      this.#release(segment, open);
    }
  }

  /** The file has been removed: nothing keeps it open but reads under way. */
  forget(segment: number): void {
    const open = this.#open.get(segment);
    if (open === undefined) return;
    if (open.pins === 0) this.#forget(segment, open);
    else open.isGone = true;
  }

  #release(segment: number, open: OpenSegment): void {
    open.pins -= 1;
    if (open.isGone && open.pins === 0) this.#forget(segment, open);
  }

  /** Gives back the memory of a segment that hardly anything lives in any more. */
  async dropCached(segment: number): Promise<void> {
    const open = await this.#pin(segment);
    try {
      await open.file.dropCached();
    } finally {
      this.#release(segment, open);
    }
  }

  async #pin(segment: number): Promise<OpenSegment> {
    let open = this.#open.get(segment);
    if (open === undefined) {
      let opening = this.#opening.get(segment);
      if (opening === undefined) {
        opening = this.#load(segment).finally(() => this.#opening.delete(segment));
        this.#opening.set(segment, opening);
      }
      open = await opening;
    }
    open.pins += 1;
    this.#open.delete(segment);
    this.#open.set(segment, open);
    return open;
  }

  async #load(segment: number): Promise<OpenSegment> {
    const file = await this.#storage.open(segmentPath(segment), 'read').catch((error: unknown) => {
      if (error instanceof StoreError && error.code === 'NOT_FOUND') {
        throw new StoreError('CORRUPTION', `segment ${segment} is missing`, error);
      }
      throw error;
    });
    const open = { file, pins: 0, isGone: false };
    this.#open.set(segment, open);
    this.#evict();
    return open;
  }

  /** Closes the files longest unused. The newest is never the one: it is about to be pinned. */
  #evict(): void {
    let excess = this.#open.size - OPEN_FILES_MAX;
    for (const [segment, open] of this.#open) {
      if (excess-- <= 0) return;
      if (open.pins === 0) this.#forget(segment, open);
    }
  }

  #forget(segment: number, open: OpenSegment): void {
    this.#open.delete(segment);
    if (segment === this.#lastNumber) this.#last = undefined;
    // Closing a file that was only read, or whose sync has been answered, can lose nothing.
    open.file.close().catch(() => undefined);
  }

  async close(): Promise<void> {
    this.#last = undefined;
    const files = [...this.#open.values()];
    this.#open.clear();
    await Promise.all(files.map((open) => open.file.close()));
  }
}
