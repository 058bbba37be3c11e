/**
 * The extent rows of LevelDB (extents.ts): read whole, by version and window of 1 TiB, and changed by a batch.
 *
 * Invariant: for each version and window the number of its rows and the xor of their checksums are known from the
 * checkpoint on, so that a row that is missing or outdated is noticed by whoever reads the window. A change reads only
 * the rows that it replaces: what was wrong with them before is still wrong then, and is noticed later.
 */

import { StoreError } from '../base/errors.ts';
import { othersFirst } from '../base/event-loop.ts';
import type { RowSink, RowSource } from './directory.ts';
import { encodeExtents, ExtentRow, LEAF_REGIONS, replaceEntries } from './extents.ts';
import type { PointerBlock } from './pointers.ts';
import { decodeWindow, encodeWindow, extentKey, keyRange, openRow, sealRow, windowKey } from './rows.ts';

/** Leaves of a window. */
const WINDOW_LEAVES = 4096;
export const WINDOW_REGIONS = WINDOW_LEAVES * LEAF_REGIONS;
/** Leaves of a disk of 64 TiB: a label and a leaf make one number. */
const LEAVES_MAX = 2 ** 18;
/** Rows that a batch replaces before requests have their turn. */
const ROWS_AT_ONCE = 8;

/** What is known of a version's rows in a window. */
interface Window {
  rows: number;
  digest: number;
  /** Of the row that says so. */
  checksum: number;
}

const windowOf = (leaf: number): number => Math.floor(leaf / WINDOW_LEAVES);

export class ExtentTable {
  readonly #database: RowSource;
  /** By label, then by number. What is there for a label is replaced, never changed. */
  readonly #windows: Map<number, ReadonlyMap<number, Window>>;
  #digest = 0;

  constructor(database: RowSource, windows: ReadonlyMap<number, ReadonlyMap<number, Window>> = new Map()) {
    this.#database = database;
    this.#windows = new Map(windows);
  }

  /** The table as it is now, to be read from a source that stays as it is now. */
  pinned(source: RowSource): ExtentTable {
    return new ExtentTable(source, this.#windows);
  }

  /** Reads every window row. @throws INDEX_DAMAGED */
  async open(): Promise<void> {
    for await (const [key, value] of this.#database.iterator(keyRange('w'))) {
      const checksum = openRow(key, value);
      const { label, window, rows, digest } = decodeWindow(key, value);
      this.set(label, window, { rows, digest, checksum });
    }
  }

  /** The xor of the window rows' checksums. */
  get digest(): number {
    return this.#digest >>> 0;
  }

  /** Rows of all versions. */
  get rowCount(): number {
    let count = 0;
    for (const windows of this.#windows.values()) for (const { rows } of windows.values()) count += rows;
    return count;
  }

  /** Windows in which a version has pointers. */
  windows(label: number): number[] {
    return [...(this.#windows.get(label)?.keys() ?? [])].sort((a, b) => a - b);
  }

  window(label: number, number: number): Window | undefined {
    return this.#windows.get(label)?.get(number);
  }

  set(label: number, number: number, window: Window | undefined): void {
    const windows = new Map(this.#windows.get(label));
    this.#digest ^= windows.get(number)?.checksum ?? 0;
    this.#digest ^= window?.checksum ?? 0;
    if (window === undefined) windows.delete(number);
    else windows.set(number, window);
    if (windows.size === 0) this.#windows.delete(label);
    else this.#windows.set(label, windows);
  }

  /** A version's rows in a window, in order. @throws INDEX_DAMAGED */
  async read(label: number, number: number): Promise<ExtentRow[]> {
    const stated = this.window(label, number);
    if (stated === undefined) return [];
    const rows: ExtentRow[] = [];
    let digest = 0;
    const range = {
      gte: extentKey(label, number * WINDOW_LEAVES),
      lt: extentKey(label, (number + 1) * WINDOW_LEAVES),
    };
    for await (const [key, value] of this.#database.iterator(range)) {
      digest ^= openRow(key, value);
      rows.push(new ExtentRow(key.readUInt32BE(5), value));
    }
    if (rows.length !== stated.rows || digest >>> 0 !== stated.digest) {
      throw new StoreError('INDEX_DAMAGED', `extent rows of version ${label} are missing or outdated`);
    }
    return rows;
  }

  /** All rows of all versions, by version. Requires: no batch is written meanwhile. @throws INDEX_DAMAGED */
  async *readAll(): AsyncGenerator<[label: number, row: ExtentRow]> {
    const left = new Map<Window, { rows: number; digest: number }>();
    for (const windows of this.#windows.values()) {
      for (const window of windows.values()) left.set(window, { rows: window.rows, digest: window.digest });
    }
    for await (const [key, value] of this.#database.iterator(keyRange('v'))) {
      const checksum = openRow(key, value);
      const row = new ExtentRow(key.readUInt32BE(5), value);
      const label = key.readUInt32BE(1);
      const counted = left.get(this.window(label, windowOf(row.leaf))!);
      if (counted !== undefined) {
        counted.rows -= 1;
        counted.digest = (counted.digest ^ checksum) >>> 0;
      }
      yield [label, row];
    }
    for (const { rows, digest } of left.values()) {
      if (rows !== 0 || digest !== 0)
        throw new StoreError('INDEX_DAMAGED', 'extent rows are missing or outdated');
    }
  }

  rowValues(keys: Buffer[]): Promise<(Buffer | undefined)[]> {
    return this.#database.getMany(keys);
  }
}

/** Changes for one batch, put in place by `install` when LevelDB has it. */
export class ExtentEdit {
  readonly #table: ExtentTable;
  /** Entries by slot, by label and leaf. */
  readonly #changed = new Map<number, Map<number, Buffer>>();
  readonly #windows = new Map<number, { label: number; number: number; window: Window }>();

  constructor(table: ExtentTable) {
    this.#table = table;
  }

  /** The version has these pointers of its own in the region from now on. */
  put(label: number, region: number, block: PointerBlock): void {
    const key = label * LEAVES_MAX + Math.floor(region / LEAF_REGIONS);
    let slots = this.#changed.get(key);
    if (slots === undefined) {
      slots = new Map();
      this.#changed.set(key, slots);
    }
    slots.set(region % LEAF_REGIONS, encodeExtents(block));
  }

  /** Writes the rows; answers the digest of all windows. @throws INDEX_DAMAGED */
  async finish(sink: RowSink): Promise<number> {
    const changed = [...this.#changed.keys()].sort((a, b) => a - b);
    for (let from = 0; from < changed.length; from += ROWS_AT_ONCE) {
      const some = changed.slice(from, from + ROWS_AT_ONCE);
      const keys = some.map((each) => extentKey(Math.floor(each / LEAVES_MAX), each % LEAVES_MAX));
      const values = await this.#table.rowValues(keys);
      some.forEach((each, i) => this.#replace(each, keys[i]!, values[i], sink));
      await othersFirst();
    }
    let { digest } = this.#table;
    for (const { label, number, window } of this.#windows.values()) {
      digest ^= this.#table.window(label, number)?.checksum ?? 0;
      const key = windowKey(label, number);
      if (window.rows <= 0) {
        // Rows that nobody knew of, or fewer than were known: somebody lost or brought back some.
        if (window.rows < 0 || window.digest !== 0)
          throw new StoreError(
            'INDEX_DAMAGED',
            `extent rows of version ${label} are not those that were written`,
          );
        sink.del(key);
        continue;
      }
      const value = encodeWindow(window.rows, window.digest);
      window.checksum = sealRow(key, value);
      digest ^= window.checksum;
      sink.put(key, value);
    }
    return digest >>> 0;
  }

  #replace(labelAndLeaf: number, key: Buffer, before: Buffer | undefined, sink: RowSink): void {
    const window = this.#windowForChange(Math.floor(labelAndLeaf / LEAVES_MAX), labelAndLeaf % LEAVES_MAX);
    if (before !== undefined) {
      window.digest = (window.digest ^ openRow(key, before)) >>> 0;
      window.rows -= 1;
    }
    const value = replaceEntries(before, this.#changed.get(labelAndLeaf)!);
    if (value === undefined) {
      if (before !== undefined) sink.del(key);
      return;
    }
    window.digest = (window.digest ^ sealRow(key, value)) >>> 0;
    window.rows += 1;
    sink.put(key, value);
  }

  #windowForChange(label: number, leaf: number): Window {
    const number = windowOf(leaf);
    const key = label * (LEAVES_MAX / WINDOW_LEAVES) + number;
    let changed = this.#windows.get(key);
    if (changed === undefined) {
      const before = this.#table.window(label, number);
      changed = { label, number, window: { rows: 0, digest: 0, checksum: 0, ...before } };
      this.#windows.set(key, changed);
    }
    return changed.window;
  }

  install(): void {
    for (const { label, number, window } of this.#windows.values())
      this.#table.set(label, number, window.rows === 0 ? undefined : window);
  }
}
