/** A read under way: what each of its chunks had when it began, and what it got meanwhile. Any of these may be read. */

import { CHUNK_BYTES } from '../../src/base/units.ts';

const ZEROS = Buffer.alloc(CHUNK_BYTES);

export class Reading {
  readonly #version: string | number;
  readonly #offset: number;
  readonly #lengthBytes: number;
  readonly #candidates = new Map<number, Buffer[]>();
  wasChanged = false;

  /** `version` is the UUID of a volume, or the label of a snapshot. */
  constructor(
    version: string | number,
    offset: number,
    lengthBytes: number,
    contents: (chunk: number) => Buffer[],
  ) {
    this.#version = version;
    this.#offset = offset;
    this.#lengthBytes = lengthBytes;
    for (let chunk = Math.floor(offset / CHUNK_BYTES); chunk * CHUNK_BYTES < offset + lengthBytes; chunk++)
      this.#candidates.set(chunk, contents(chunk));
  }

  add(volume: string, chunk: number, bytes: Buffer): void {
    if (volume !== this.#version) return;
    const candidates = this.#candidates.get(chunk);
    if (candidates === undefined) return;
    candidates.push(bytes);
    this.wasChanged = true;
  }

  /** Chunks [first, end) read as zeros from now on. */
  addZeros(volume: string, first: number, end: number): void {
    for (const chunk of this.#candidates.keys())
      if (chunk >= first && chunk < end) this.add(volume, chunk, ZEROS);
  }

  /** What is wrong with what was read, if anything. */
  wrong(found: Buffer): string | undefined {
    for (const [chunk, candidates] of this.#candidates) {
      const at = chunk * CHUNK_BYTES;
      const from = Math.max(at, this.#offset);
      const to = Math.min(at + CHUNK_BYTES, this.#offset + this.#lengthBytes);
      const isRight = candidates.some(
        (bytes) => bytes.compare(found, from - this.#offset, to - this.#offset, from - at, to - at) === 0,
      );
      if (!isRight) return `chunk ${chunk} of ${this.#version} reads as what it never was`;
    }
    return undefined;
  }
}
