/**
 * The second ordering of the index: for each version, which chunks it has pointers of its own for. No I/O.
 *
 * So deleting a version and listing what changed cost what that version changed, and not what its tree holds. A row is
 * about one version in LEAF_REGIONS regions (256 MiB of disk). Layout of a row behind its checksum: for each region that
 * has any, in order, slot u8, runs u8, then for each run first u8, count - 1 u8, kind u8; or, with 0 runs, two bitmaps
 * of 32 bytes: chunks with data, chunks with holes.
 */

import { ByteWriter } from '../base/bytes.ts';
import { HOLE, type PointerBlock, REGION_CHUNKS } from './pointers.ts';

/** Regions of a row. */
export const LEAF_REGIONS = 256;
const CHECKSUM_BYTES = 4;
const BITMAP_BYTES = REGION_CHUNKS / 8;
/** More are shorter as bitmaps. */
const RUNS_MAX = 20;
const RUN_BYTES = 3;
const ENTRY_BYTES_MAX = 2 + 2 * BITMAP_BYTES;

/** What a version has at a chunk: no pointer, one to data, one that says zeros. On disk. */
export const NO_POINTER = 0;
export const DATA_POINTER = 1;
export const HOLE_POINTER = 2;

const scratch = Buffer.alloc(ENTRY_BYTES_MAX);
const EMPTY = Buffer.alloc(0);

function kindAt(block: PointerBlock, index: number): number {
  const segment = block.segment(index);
  if (segment === 0) return NO_POINTER;
  return segment === HOLE ? HOLE_POINTER : DATA_POINTER;
}

/** A region's part of a row, without the slot; empty if the block is. */
export function encodeExtents(block: PointerBlock): Buffer {
  let runs = 0;
  const out = new ByteWriter(scratch, 1);
  for (let first = 0; first < REGION_CHUNKS; ) {
    const kind = kindAt(block, first);
    let end = first + 1;
    while (end < REGION_CHUNKS && kindAt(block, end) === kind) end += 1;
    if (kind !== NO_POINTER) {
      if (++runs > RUNS_MAX) return encodeBitmaps(block);
      out
        .u8(first)
        .u8(end - first - 1)
        .u8(kind);
    }
    first = end;
  }
  if (runs === 0) return EMPTY;
  scratch[0] = runs;
  return Buffer.from(scratch.subarray(0, out.position));
}

function encodeBitmaps(block: PointerBlock): Buffer {
  const entry = Buffer.alloc(1 + 2 * BITMAP_BYTES);
  for (let i = 0; i < REGION_CHUNKS; i++) {
    const kind = kindAt(block, i);
    if (kind !== NO_POINTER) entry[1 + (kind - 1) * BITMAP_BYTES + (i >> 3)]! |= 0x80 >> (i & 7);
  }
  return entry;
}

/** Bytes of the entry at `at`, which stands behind its slot. */
function entryBytes(row: Buffer, at: number): number {
  const runs = row[at]!;
  return 1 + (runs === 0 ? 2 * BITMAP_BYTES : runs * RUN_BYTES);
}

/** A row that was read, one region after the other. */
export class ExtentRow {
  readonly leaf: number;
  readonly #row: Buffer;
  #at = CHECKSUM_BYTES;

  constructor(leaf: number, row: Buffer) {
    this.leaf = leaf;
    this.#row = row;
  }

  /** The region at the front, or -1 behind the last. */
  get region(): number {
    return this.#at < this.#row.length ? this.leaf * LEAF_REGIONS + this.#row[this.#at]! : -1;
  }

  /** Calls `found` for each run of chunks with pointers of one kind in the region at the front. */
  forEachRun(found: (first: number, count: number, kind: number) => void): void {
    const at = this.#at + 1;
    const runs = this.#row[at]!;
    for (let run = 0; run < runs; run++) {
      const from = at + 1 + run * RUN_BYTES;
      found(this.#row[from]!, this.#row[from + 1]! + 1, this.#row[from + 2]!);
    }
    if (runs > 0) return;
    for (let i = 0; i < REGION_CHUNKS; i++) {
      const bit = 0x80 >> (i & 7);
      if ((this.#row[at + 1 + (i >> 3)]! & bit) !== 0) found(i, 1, DATA_POINTER);
      else if ((this.#row[at + 1 + BITMAP_BYTES + (i >> 3)]! & bit) !== 0) found(i, 1, HOLE_POINTER);
    }
  }

  /** True if the version has no holes in the region at the front. */
  hasDataOnly(): boolean {
    let hasHoles = false;
    this.forEachRun((_first, _count, kind) => {
      if (kind === HOLE_POINTER) hasHoles = true;
    });
    return !hasHoles;
  }

  /** Sets what the version has in the region at the front; what it has not, stays. */
  kindsInto(kinds: Uint8Array): void {
    this.forEachRun((first, count, kind) => kinds.fill(kind, first, first + count));
  }

  next(): void {
    this.#at += 1 + entryBytes(this.#row, this.#at + 1);
  }
}

/** A version's row. */
export type LabelledRow = readonly [label: number, row: ExtentRow];

/** Regions of a leaf in order, each with the rows that stand there; they go on when the next region is asked for. */
export function* byRegion(rows: Iterable<LabelledRow>): Generator<[region: number, rows: LabelledRow[]]> {
  const slots = Array.from<LabelledRow[] | undefined>({ length: LEAF_REGIONS });
  const place = (each: LabelledRow): void => {
    const { region } = each[1];
    if (region < 0) return;
    const others = slots[region % LEAF_REGIONS];
    if (others === undefined) slots[region % LEAF_REGIONS] = [each];
    else others.push(each);
  };
  for (const each of rows) place(each);
  for (const there of slots) {
    if (there === undefined) continue;
    yield [there[0]![1].region, there];
    for (const each of there) {
      each[1].next();
      place(each);
    }
  }
}

/** A row with the entries of some slots replaced, its checksum yet to be set; undefined if nothing is left. */
export function replaceEntries(
  row: Buffer | undefined,
  changed: ReadonlyMap<number, Buffer>,
): Buffer | undefined {
  const slots = Array.from<Buffer | undefined>({ length: LEAF_REGIONS });
  if (row !== undefined) {
    for (let at = CHECKSUM_BYTES; at < row.length; ) {
      const end = at + 1 + entryBytes(row, at + 1);
      slots[row[at]!] = row.subarray(at + 1, end);
      at = end;
    }
  }
  for (const [slot, entry] of changed) slots[slot] = entry.length > 0 ? entry : undefined;
  let bytes = 0;
  for (const entry of slots) if (entry !== undefined) bytes += 1 + entry.length;
  if (bytes === 0) return undefined;
  const out = new ByteWriter(Buffer.allocUnsafe(CHECKSUM_BYTES + bytes), CHECKSUM_BYTES);
  for (let slot = 0; slot < LEAF_REGIONS; slot++) {
    const entry = slots[slot];
    if (entry !== undefined) out.u8(slot).bytes(entry);
  }
  return out.buffer;
}
