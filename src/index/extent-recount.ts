/**
 * Holds the extents of an index against its pointers, leaf by leaf, as a check walks over all regions in order.
 */

import { StoreError } from '../base/errors.ts';
import type { ExtentTable } from './extent-table.ts';
import { encodeExtents, LEAF_REGIONS, replaceEntries } from './extents.ts';
import type { PointerBlock } from './pointers.ts';
import { extentKey, sealRow } from './rows.ts';

export class ExtentRecount {
  readonly #table: ExtentTable;
  /** Entries by slot, by label, of the leaf that the walk is in. */
  readonly #leaf = new Map<number, Map<number, Buffer>>();
  #tree = 0;
  #number = -1;
  #rows = 0;

  constructor(table: ExtentTable) {
    this.#table = table;
  }

  /** Takes all versions' own pointers in a region, as rows have them. @throws INDEX_DAMAGED */
  async add(tree: number, region: number, blocks: ReadonlyMap<number, PointerBlock>): Promise<void> {
    const number = Math.floor(region / LEAF_REGIONS);
    if (tree !== this.#tree || number !== this.#number) await this.#endLeaf();
    this.#tree = tree;
    this.#number = number;
    for (const [label, block] of blocks) {
      let slots = this.#leaf.get(label);
      if (slots === undefined) {
        slots = new Map();
        this.#leaf.set(label, slots);
      }
      slots.set(region % LEAF_REGIONS, encodeExtents(block));
    }
  }

  async #endLeaf(): Promise<void> {
    const keys = [...this.#leaf.keys()].map((label) => extentKey(label, this.#number));
    const values = keys.length > 0 ? await this.#table.rowValues(keys) : [];
    let at = 0;
    for (const [label, slots] of this.#leaf) {
      const expected = replaceEntries(undefined, slots)!;
      sealRow(keys[at]!, expected);
      if (values[at++]?.equals(expected) !== true)
        throw new StoreError(
          'INDEX_DAMAGED',
          `the extents of version ${label} are not those of its pointers`,
        );
    }
    this.#rows += this.#leaf.size;
    this.#leaf.clear();
  }

  /** The walk is over. @throws INDEX_DAMAGED */
  async finish(): Promise<void> {
    await this.#endLeaf();
    if (this.#rows !== this.#table.rowCount)
      throw new StoreError('INDEX_DAMAGED', 'there are extents of versions without pointers');
  }
}
