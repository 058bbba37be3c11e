/**
 * Data entries (chunks, zeros) in a table, in few bytes: each says how it differs from the one before. No I/O.
 *
 *     | kind u8 | sequence | label | first chunk | count | for chunks a CRC-32C u32 for each |
 *
 * The kind is PACKED and bits: zeros rather than chunks; the sequence follows the one before, and is left out; so is the label,
 * if it is the same, and the count, if it is 1. Numbers are varints. Sequence and first chunk are differences, zigzag (0, -1, 1, -2 ...
 * as 0, 1, 2, 3 ...): from the sequence before plus one, and from the chunk behind the last one. Before the first entry of a table all
 * is zero, so that each table can be read by itself.
 *
 * A random write of a chunk takes 8 bytes of each of the three tables that say it, and of 4096 bytes of payload.
 */

import { type ByteReader, type ByteWriter, varintBytes } from '../base/bytes.ts';
import { StoreError } from '../base/errors.ts';

/** Kinds of packed entries are this and bits. On disk. Never renumber. */
const PACKED = 16;
const ZEROS = 1;
const NEXT_SEQUENCE = 2;
const SAME_LABEL = 4;
const SINGLE = 8;

/** No chunk has a higher number, and no entry more of them: what the first layout had room for. */
const POSITIONS_MAX = 2 ** 48;

/** What an entry takes at most, without checksums: kind, sequence, label, first chunk and count below 2^34. */
export const DATA_ENTRY_BYTES_MAX = 1 + 8 + 5 + 5 + 5;

function zigzag(value: number): number {
  return value >= 0 ? 2 * value : -2 * value - 1;
}

function unzigzag(value: number): number {
  return value % 2 === 0 ? value / 2 : -(value + 1) / 2;
}

export function isPacked(kind: number): boolean {
  return kind >= PACKED && kind < 2 * PACKED;
}

/** Writes, reads or measures the entries of one table, in order; holds what the next one is told against, and what was read. */
export class EntryCoder {
  isZeros = false;
  sequence = 0;
  label = 0;
  first = 0;
  count = 0;

  /** A new table begins. */
  reset(): void {
    this.sequence = 0;
    this.label = 0;
    this.first = 0;
    this.count = 0;
  }

  #become(isZeros: boolean, sequence: number, label: number, first: number, count: number): void {
    this.isZeros = isZeros;
    this.sequence = sequence;
    this.label = label;
    this.first = first;
    this.count = count;
  }

  /** Without the checksums of chunks. */
  write(
    out: ByteWriter,
    isZeros: boolean,
    sequence: number,
    label: number,
    first: number,
    count: number,
  ): void {
    const step = zigzag(sequence - this.sequence - 1);
    let kind = PACKED;
    if (isZeros) kind += ZEROS;
    if (step === 0) kind += NEXT_SEQUENCE;
    if (label === this.label) kind += SAME_LABEL;
    if (count === 1) kind += SINGLE;
    out.u8(kind);
    if (step !== 0) out.varint(step);
    if (label !== this.label) out.varint(label);
    out.varint(zigzag(first - this.first - this.count));
    if (count !== 1) out.varint(count);
    this.#become(isZeros, sequence, label, first, count);
  }

  /** Bytes that `write` would write. */
  measure(isZeros: boolean, sequence: number, label: number, first: number, count: number): number {
    const step = zigzag(sequence - this.sequence - 1);
    let bytes = 1 + varintBytes(zigzag(first - this.first - this.count));
    if (step !== 0) bytes += varintBytes(step);
    if (label !== this.label) bytes += varintBytes(label);
    if (count !== 1) bytes += varintBytes(count);
    this.#become(isZeros, sequence, label, first, count);
    return bytes;
  }

  /** The rest of an entry of this kind; without checksums. @throws CORRUPTION */
  read(input: ByteReader, kind: number): void {
    const step = (kind & NEXT_SEQUENCE) === 0 ? unzigzag(input.varint()) : 0;
    const label = (kind & SAME_LABEL) === 0 ? input.varint() : this.label;
    const first = this.first + this.count + unzigzag(input.varint());
    const count = (kind & SINGLE) === 0 ? input.varint() : 1;
    const sequence = this.sequence + 1 + step;
    const isOfDisk = first >= 0 && first < POSITIONS_MAX && count < POSITIONS_MAX;
    if (!Number.isSafeInteger(sequence) || sequence < 0 || label >= 2 ** 32 || !isOfDisk)
      throw new StoreError('CORRUPTION', `an entry before ${input.position} is of what cannot be`);
    this.#become((kind & ZEROS) !== 0, sequence, label, first, count);
  }
}
