/**
 * The index as it is between two of its batches, for who reads more than one row and goes on meanwhile: what commits and
 * prunes move or take away stays where it was. It has what is in rows, not what stands in overlays.
 *
 * Held by a snapshot of LevelDB, which costs nothing but the room of what is replaced until it is closed.
 */

import { Directory, type IndexDatabase, type RowSource } from './directory.ts';
import type { ExtentTable } from './extent-table.ts';
import type { ExtentRow } from './extents.ts';
import { PointerBlock } from './pointers.ts';
import type { ExtentSource } from './prune-batches.ts';
import { type Lineage, mergeRows, readBlocks } from './region-read.ts';

/** Bound of directory nodes in memory. */
const DIRECTORY_BYTES = 1 << 20;

export class PinnedIndex implements ExtentSource {
  readonly #source: RowSource;
  readonly #directory: Directory;
  readonly #extents: ExtentTable;
  readonly #release: () => Promise<void>;
  /** See PointerIndex.moment. */
  readonly moment: symbol;
  /** Live chunks by segment. */
  readonly usage: ReadonlyMap<number, number>;

  /** Requires: no batch is being written, and none begins before this returns. */
  constructor(
    database: IndexDatabase,
    directory: Directory,
    extents: ExtentTable,
    moment: symbol,
    usage: ReadonlyMap<number, number>,
  ) {
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

  /** Pointers of their own of versions in a region, in the order of `labels`. @throws INDEX_DAMAGED */
  async blocks(tree: number, region: number, labels: readonly number[]): Promise<PointerBlock[]> {
    const rows = await this.#directory.rows(tree, region);
    return await readBlocks(this.#source, tree, region, rows, labels);
  }

  close(): Promise<void> {
    return this.#release();
  }
}
