/** Which pointer rows a region has: what a leaf of the directory or a list row says (directory.ts). Pure. */

import { ByteWriter } from '../base/bytes.ts';

/** A pointer row: its key has label and generation. */
export interface RowReference {
  label: number;
  generation: number;
  checksum: number;
}

const CHECKSUM_BYTES = 4;
const ROW_REFERENCE_BYTES = 12;
const EMPTY_LIST = Buffer.alloc(CHECKSUM_BYTES);

/** The pointer rows of a region, newest version first, looked at only as far as somebody wants them. */
export class RowList {
  readonly #encoded: Buffer;
  #at = CHECKSUM_BYTES;

  /** A list row, or none. */
  constructor(encoded: Buffer = EMPTY_LIST) {
    this.#encoded = encoded;
  }

  static of(row: RowReference): RowList {
    return new RowList(encodeRowList([row]));
  }

  /** Passes by the rows of versions newer than `label`, by halving. */
  passNewer(label: number): void {
    let low = 0;
    let high = (this.#encoded.length - CHECKSUM_BYTES) / ROW_REFERENCE_BYTES;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#encoded.readUInt32BE(CHECKSUM_BYTES + middle * ROW_REFERENCE_BYTES) <= label) high = middle;
      else low = middle + 1;
    }
    this.#at = CHECKSUM_BYTES + low * ROW_REFERENCE_BYTES;
  }

  /** The next rows of versions in `path`, at most `count`; none at the end. */
  next(count: number, path?: ReadonlySet<number>): RowReference[] {
    const rows: RowReference[] = [];
    while (rows.length < count && this.#at < this.#encoded.length) {
      const label = this.#encoded.readUInt32BE(this.#at);
      if (path === undefined || path.has(label)) {
        const generation = this.#encoded.readUInt32BE(this.#at + 4);
        rows.push({ label, generation, checksum: this.#encoded.readUInt32BE(this.#at + 8) });
      }
      this.#at += ROW_REFERENCE_BYTES;
    }
    return rows;
  }
}

/** A list row of these, newest version first, whose checksum is still to be set. */
export function encodeRowList(rows: readonly RowReference[]): Buffer {
  const value = Buffer.alloc(CHECKSUM_BYTES + ROW_REFERENCE_BYTES * rows.length);
  const out = new ByteWriter(value, CHECKSUM_BYTES);
  for (const row of rows) out.u32(row.label).u32(row.generation).u32(row.checksum);
  return value;
}
