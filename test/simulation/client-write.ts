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
  /** Another one writes the same: a sender who came back, before its old connection was known to be dead. */
  hasTwin = false;

  constructor(volume: string, offset: number, lengthBytes: number, bytes: Buffer | undefined) {
    [this.volume, this.offset, this.lengthBytes, this.bytes] = [volume, offset, lengthBytes, bytes];
    const first = Math.floor(offset / CHUNK_BYTES);
    for (let at = first; at * CHUNK_BYTES < offset + lengthBytes; at++) this.missing.add(at);
  }

  isTwinOf({ volume, offset, lengthBytes, bytes }: ClientWrite): boolean {
    if (volume !== this.volume || offset !== this.offset || lengthBytes !== this.lengthBytes) return false;
    return bytes === undefined ? this.bytes === undefined : this.bytes?.equals(bytes) === true;
  }

  covers(volume: string | undefined, chunk: number): boolean {
    const { offset, lengthBytes } = this;
    if (volume !== this.volume) return false;
    return (chunk + 1) * CHUNK_BYTES > offset && chunk * CHUNK_BYTES < offset + lengthBytes;
  }

  /** How much it is like an entry of these chunks: 2 if of the same, 1 if it covers them all. */
  likeness(first: number, count: number): number {
    const [from, to] = [
      Math.floor(this.offset / CHUNK_BYTES),
      Math.ceil((this.offset + this.lengthBytes) / CHUNK_BYTES),
    ];
    if (from > first || to < first + count) return 0;
    return from === first && to === first + count ? 2 : 1;
  }
}

export class ClientWrites extends Set<ClientWrite> {
  override add(write: ClientWrite): this {
    for (const other of this) if (other.isTwinOf(write)) other.hasTwin = write.hasTwin = true;
    return super.add(write);
  }

  /**
   * The write is over. Whose of two that write the same an entry is nobody can tell: where this one was answered, what it lacks
   * was its own; where it failed, what it has may have been the other's.
   */
  end(write: ClientWrite, isAnswered: boolean): void {
    this.delete(write);
    if (!write.hasTwin) return;
    for (const twin of this) {
      if (!twin.isTwinOf(write)) continue;
      for (let at = Math.floor(write.offset / CHUNK_BYTES); write.covers(write.volume, at); at++) {
        const [lacks, twinLacks] = [write.missing.has(at), twin.missing.has(at)];
        if (isAnswered && lacks && !twinLacks) {
          write.missing.delete(at);
          twin.missing.add(at);
          write.sequence = Math.max(write.sequence, twin.sequence);
        } else if (!isAnswered && !lacks) twin.missing.delete(at);
      }
    }
  }

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
