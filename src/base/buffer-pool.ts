/**
 * Buffers of one size, used over and over by who moves a lot through them: a fresh one of megabytes costs as much in page faults
 * as a copy into it, and the collector's time when it is left behind. No I/O.
 */

import { assert } from './errors.ts';

export class BufferPool {
  readonly #bytes: number;
  readonly #keptMax: number;
  readonly #free: Buffer[] = [];

  /** At most `keptMax` wait to be used again. */
  constructor(bytes: number, keptMax: number) {
    this.#bytes = bytes;
    this.#keptMax = keptMax;
  }

  /** With anything in it. */
  take(): Buffer {
    return this.#free.pop() ?? Buffer.allocUnsafeSlow(this.#bytes);
  }

  /** Requires: it was taken from here, and nobody uses it any more, nor a part of it. */
  give(buffer: Buffer): void {
    assert(buffer.length === this.#bytes, 'a pool has buffers of one size');
    if (this.#free.length < this.#keptMax) this.#free.push(buffer);
  }
}
