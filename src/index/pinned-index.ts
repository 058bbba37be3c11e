/**
 * The index as it is between two of its batches, for who reads more than one row and goes on meanwhile: what commits and
 * prunes move or take away stays where it was. It has what is in rows; what stood in overlays then it can add.
 *
 * Held by a snapshot of LevelDB, which costs nothing but the room of what is replaced until it is closed.
 */

import { Directory, type IndexDatabase, REGIONS_MAX, type RowSource } from './directory.ts';
import type { ExtentTable } from './extent-table.ts';
import type { ExtentRow } from './extents.ts';
import type { Overlay } from './overlay.ts';
import { PointerBlock } from './pointers.ts';
import type { ExtentSource } from './prune-batches.ts';
import { type Lineage, mergeRows, readRegion } from './region-read.ts';
import type { RowReference } from './row-list.ts';
import { mergePointerRow, openStatedRow, pointerKey } from './rows.ts';

/** Bound of directory nodes in memory. */
const DIRECTORY_BYTES = 1 << 20;

/** A version in a region. */
export interface OwnPlace {
  readonly tree: number;
  readonly region: number;
  readonly label: number;
}

export class PinnedIndex implements ExtentSource {
  readonly #source: RowSource;
  readonly #directory: Directory;
  readonly #extents: ExtentTable;
  readonly #release: () => Promise<void>;
  /** See PointerIndex.moment. */
  readonly moment: symbol;
  /** Live chunks by segment. */
  readonly usage: ReadonlyMap<number, number>;
  /** What is not in these rows; they go on taking changes. */
  readonly overlays: readonly Overlay[];

  /** Requires: no batch is being written, and none begins before this returns. */
  constructor(
    database: IndexDatabase,
    directory: Directory,
    extents: ExtentTable,
    moment: symbol,
    usage: ReadonlyMap<number, number>,
    overlays: readonly Overlay[],
  ) {
    this.overlays = overlays;
    this.moment = moment;
    this.usage = usage;
    const snapshot = database.snapshot();
    const source: RowSource = {
      get: (key) => database.get(key, { snapshot }),
      getMany: (keys) => database.getMany(keys, { snapshot }),
      iterator: (range) => database.iterator({ ...range, snapshot }),
    };
    this.#source = source;
    this.#directory = directory.pinned(source, DIRECTORY_BYTES);
    this.#extents = extents.pinned(source);
    this.#release = () => snapshot.close();
  }

  extentWindows(label: number): number[] {
    return this.#extents.windows(label);
  }

  /** @throws INDEX_DAMAGED */
  readExtents(label: number, window: number): Promise<ExtentRow[]> {
    return this.#extents.read(label, window);
  }

  /** What a version reads in a region. @throws INDEX_DAMAGED */
  async resolve(lineage: Lineage, region: number): Promise<PointerBlock> {
    const block = new PointerBlock();
    await mergeRows(this.#source, this.#directory, block, lineage, region);
    return block;
  }

  /** What a version reads in a region, with all that it wrote until now or a little before. @throws INDEX_DAMAGED */
  async resolveLive(lineage: Lineage, region: number): Promise<PointerBlock> {
    const block = await this.resolve(lineage, region);
    for (const overlay of this.overlays) overlay.mergeInto(block, lineage.tree, region, lineage.path);
    return block;
  }

  /** The first region at or behind `from` with pointers, in rows or not; `end` if none is below. @throws INDEX_DAMAGED */
  async nextRegionLive(tree: number, from: number, end: number): Promise<number> {
    const inRows = await this.#directory.nextRegion(tree, from, end);
    let next = inRows < 0 ? end : inRows;
    for (const overlay of this.overlays) {
      const region = overlay.nextRegion(tree, from, next);
      if (region >= 0) next = region;
    }
    return next;
  }

  /**
   * Pointers of its own of each version in a region, in the order of `places`, one block for each; asks LevelDB once.
   * @throws INDEX_DAMAGED
   */
  async ownPointers(places: readonly OwnPlace[], blocks: readonly PointerBlock[]): Promise<void> {
    const keys: Buffer[] = [];
    const stated: { row: RowReference; block: PointerBlock }[] = [];
    const rows = await this.#directory.rowsOfAll(places);
    places.forEach(({ tree, region, label }, i) => {
      const block = blocks[i]!;
      block.reset();
      for (const row of rows[i]!) {
        if (row.label !== label) continue;
        keys.push(pointerKey(tree, region, label, row.generation));
        stated.push({ row, block });
      }
    });
    const values = keys.length > 0 ? await this.#source.getMany(keys) : [];
    stated.forEach(({ row, block }, i) => {
      mergePointerRow(openStatedRow(keys[i]!, values[i], row.checksum), block);
    });
  }

  /** Every region that has rows, with the pointers of its versions by label. @throws INDEX_DAMAGED */
  async *regions(): AsyncGenerator<{ region: number; blocks: ReadonlyMap<number, PointerBlock> }> {
    for (const tree of this.#directory.trees()) {
      let region = await this.#directory.nextRegion(tree, 0, REGIONS_MAX);
      while (region >= 0) {
        const rows = await this.#directory.rows(tree, region);
        yield { region, blocks: await readRegion(this.#source, tree, region, rows) };
        region = await this.#directory.nextRegion(tree, region + 1, REGIONS_MAX);
      }
    }
  }

  close(): Promise<void> {
    return this.#release();
  }
}
