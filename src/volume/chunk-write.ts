/**
 * A write of whole chunks on its way through the log, in one or more entries. No I/O of its own.
 *
 * Invariant: the client is answered once, after the last entry is in the map, and with FUA after a sync that was
 * issued behind it. Entries of one write may lie in several records: a crash may keep some and lose others, as any
 * disk may do with an unfinished write.
 */

import type { StoreError } from '../base/errors.ts';
import { CHUNK_BYTES } from '../base/units.ts';
import { Append, type AppendOwner, type LabelSource } from '../log/append.ts';
import type { ChunkLog } from '../log/chunk-log.ts';
import { ENTRY_CHUNKS_MAX } from '../log/record-packer.ts';
import type { WriteRequest } from './device.ts';

/** Where the pointers of a write go: the disk that took it. */
export interface ChunkTarget extends LabelSource {
  putChunks(append: Append): void;
  writeBegun(): void;
  writeEnded(): void;
}

export class ChunkWrite implements AppendOwner {
  readonly #disk: ChunkTarget;
  readonly #log: ChunkLog;
  readonly #request: WriteRequest;
  #pending = 0;
  #error: StoreError | undefined;

  constructor(disk: ChunkTarget, log: ChunkLog, request: WriteRequest) {
    this.#disk = disk;
    this.#log = log;
    this.#request = request;
  }

  submit(first: number, count: number, slices: readonly Buffer[]): void {
    this.#disk.writeBegun();
    if (count <= ENTRY_CHUNKS_MAX) {
      this.#pending = 1;
      this.#log.submit(Append.chunks(this, this.#disk, first, count, slices));
      return;
    }
    this.#pending = Math.ceil(count / ENTRY_CHUNKS_MAX);
    const cursor = new SliceCursor(slices);
    for (let at = 0; at < count; at += ENTRY_CHUNKS_MAX) {
      const chunks = Math.min(ENTRY_CHUNKS_MAX, count - at);
      this.#log.submit(
        Append.chunks(this, this.#disk, first + at, chunks, cursor.take(chunks * CHUNK_BYTES)),
      );
    }
  }

  appended(append: Append, error: StoreError | undefined): void {
    if (error === undefined) this.#disk.putChunks(append);
    else this.#error = error;
    this.#pending -= 1;
    if (this.#pending > 0) return;
    this.#disk.writeEnded();
    const request = this.#request;
    if (this.#error !== undefined || !request.forceUnitAccess) request.complete(this.#error);
    else {
      this.#log.flush().then(
        () => request.complete(undefined),
        (reason: StoreError) => request.complete(reason),
      );
    }
  }
}

/** Takes bytes off a list of slices, without copying them. */
class SliceCursor {
  readonly #slices: readonly Buffer[];
  #index = 0;
  #from = 0;

  constructor(slices: readonly Buffer[]) {
    this.#slices = slices;
  }

  take(bytes: number): Buffer[] {
    const taken: Buffer[] = [];
    let left = bytes;
    while (left > 0) {
      const slice = this.#slices[this.#index]!;
      const count = Math.min(left, slice.length - this.#from);
      taken.push(slice.subarray(this.#from, this.#from + count));
      left -= count;
      this.#from += count;
      if (this.#from === slice.length) {
        this.#index += 1;
        this.#from = 0;
      }
    }
    return taken;
  }
}
