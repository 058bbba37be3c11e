/** Writes and zeroings that clients wait for. */

import { CHUNK_BYTES } from '../../src/base/units.ts';

export class ClientWrite {
  readonly volume: string;
  readonly offset: number;
  readonly lengthBytes: number;
  /** undefined: zeros. */
  readonly bytes: Buffer | undefined;
  /** Chunks that have not been handed to the disk. */
  readonly missing = new Set<number>();
  /** The highest sequence among its entries. */
  sequence = 0;

  constructor(volume: string, offset: number, lengthBytes: number, bytes: Buffer | undefined) {
    [this.volume, this.offset, this.lengthBytes, this.bytes] = [volume, offset, lengthBytes, bytes];
    const first = Math.floor(offset / CHUNK_BYTES);
    for (let at = first; at * CHUNK_BYTES < offset + lengthBytes; at++) this.missing.add(at);
  }

  covers(volume: string | undefined, chunk: number): boolean {
    const { offset, lengthBytes } = this;
    if (volume !== this.volume) return false;
    return (chunk + 1) * CHUNK_BYTES > offset && chunk * CHUNK_BYTES < offset + lengthBytes;
  }
}

export class ClientWrites extends Set<ClientWrite> {
  /** True if one of them has a chunk of this on its way too. */
  meets({ volume, missing }: ClientWrite): boolean {
    return [...this].some(
      (other) => other.volume === volume && [...missing].some((at) => other.missing.has(at)),
    );
  }

  /** True if one of them is of zeros, and has not handed over all of these chunks. */
  isZeroing(volume: string, first: number, last: number): boolean {
    for (const write of this) {
      if (write.bytes !== undefined || write.volume !== volume) continue;
      for (let at = first; at <= last; at++) if (write.missing.has(at)) return true;
    }
    return false;
  }

  isUnanswered(volume: string | undefined, chunk: number): boolean {
    return [...this].some((write) => write.covers(volume, chunk));
  }
}
