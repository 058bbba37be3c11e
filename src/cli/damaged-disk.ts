/**
 * A disk of a damaged store, read to the end: what cannot be read counts as zeros, and is noted.
 *
 * Invariants: only blocks that fail by themselves are given up; an error that is not about a place of the disk (a server that
 * went away) is one.
 */

import { hasCode } from '../base/errors.ts';
import { CHUNK_BYTES } from '../base/units.ts';
import type { AllocationRun } from '../volume/device.ts';
import type { Disk, Run } from '../server/door.ts';

export interface ByteRange {
  readonly offset: number;
  readonly length: number;
}

export class DamagedDisk implements Disk {
  readonly #disk: Disk;
  readonly #lost: ByteRange[] = [];

  constructor(disk: Disk) {
    this.#disk = disk;
  }

  get name(): string {
    return this.#disk.name;
  }

  get sizeBytes(): number {
    return this.#disk.sizeBytes;
  }

  get readOnly(): boolean {
    return this.#disk.readOnly;
  }

  /** What could not be read, in order, joined. */
  get lost(): ByteRange[] {
    const joined: ByteRange[] = [];
    for (const { offset, length } of this.#lost.sort((a, b) => a.offset - b.offset)) {
      const last = joined.at(-1);
      if (last !== undefined && last.offset + last.length === offset)
        joined[joined.length - 1] = { offset: last.offset, length: last.length + length };
      else joined.push({ offset, length });
    }
    return joined;
  }

  async read(offset: number, lengthBytes: number, into?: Buffer): Promise<Buffer> {
    try {
      return await this.#disk.read(offset, lengthBytes, into);
    } catch (error) {
      if (!hasCode(error, 'CORRUPTION') && !hasCode(error, 'IO')) throw error;
      if (lengthBytes > CHUNK_BYTES) {
        const half = Math.max(CHUNK_BYTES, Math.floor(lengthBytes / 2 / CHUNK_BYTES) * CHUNK_BYTES);
        const first = await this.read(offset, half);
        return Buffer.concat([first, await this.read(offset + half, lengthBytes - half)]);
      }
      // A server that is there answers this.
      if (hasCode(error, 'IO')) await this.#disk.allocation(offset, lengthBytes);
      this.#lost.push({ offset, length: lengthBytes });
      return Buffer.alloc(lengthBytes);
    }
  }

  readRuns(runs: readonly Run[], into?: Buffer): Promise<Buffer> {
    return this.#disk.readRuns(runs, into);
  }

  write(offset: number, slices: readonly Buffer[]): Promise<void> {
    return this.#disk.write(offset, slices);
  }

  zero(offset: number, lengthBytes: number): Promise<void> {
    return this.#disk.zero(offset, lengthBytes);
  }

  allocation(offset: number, lengthBytes: number): Promise<AllocationRun[]> {
    return this.#disk.allocation(offset, lengthBytes);
  }

  flush(): Promise<void> {
    return this.#disk.flush();
  }

  release(): void {
    this.#disk.release();
  }
}
