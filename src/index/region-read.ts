/** Pointers of a region, put together from the rows that the directory states. */

import type { Directory, RowSource } from './directory.ts';
import { PointerBlock } from './pointers.ts';
import type { RowReference } from './row-list.ts';
import { mergePointerRow, openStatedRow, pointerKey } from './rows.ts';

/** Rows that are read at once behind the first. */
const ROWS_AT_ONCE = 32;

/** Where a version stands: which rows it reads. */
export interface Lineage {
  readonly tree: number;
  /** The version itself: the newest of its path. */
  readonly label: number;
  readonly path: ReadonlySet<number>;
}

/** Adds what a version reads in a region: newest rows first, until every chunk has its pointer. @throws INDEX_DAMAGED */
export async function mergeRows(
  source: Pick<RowSource, 'getMany'>,
  directory: Directory,
  block: PointerBlock,
  { tree, label, path }: Lineage,
  region: number,
): Promise<void> {
  const list = await directory.rowList(tree, region);
  list.passNewer(label);
  // What a version wrote over as a whole hides all above it: its one row is often all there is to read.
  let rows = list.next(1, path);
  while (rows.length > 0) {
    const keys = rows.map((row) => pointerKey(tree, region, row.label, row.generation));
    const values = await source.getMany(keys);
    for (let i = 0; i < rows.length; i++) {
      mergePointerRow(openStatedRow(keys[i]!, values[i], rows[i]!.checksum), block);
    }
    const following = list.next(ROWS_AT_ONCE, path);
    if (following.length > 0 && block.isFull()) return;
    rows = following;
  }
}

/** Own pointers of versions in a region, in the order of `labels`, from those of `rows` that are theirs. @throws INDEX_DAMAGED */
export async function readBlocks(
  source: RowSource,
  tree: number,
  region: number,
  rows: readonly RowReference[],
  labels: readonly number[],
): Promise<PointerBlock[]> {
  const blocks = new Map(labels.map((label) => [label, new PointerBlock()]));
  const own = rows.filter((row) => blocks.has(row.label));
  const keys = own.map((row) => pointerKey(tree, region, row.label, row.generation));
  const values = keys.length > 0 ? await source.getMany(keys) : [];
  own.forEach((row, i) => {
    mergePointerRow(openStatedRow(keys[i]!, values[i], row.checksum), blocks.get(row.label)!);
  });
  return [...blocks.values()];
}

/** Own pointers of all versions that have any in a region, by label. @throws INDEX_DAMAGED */
export async function readRegion(
  source: RowSource,
  tree: number,
  region: number,
  rows: readonly RowReference[],
): Promise<Map<number, PointerBlock>> {
  const labels = [...new Set(rows.map((row) => row.label))];
  const blocks = await readBlocks(source, tree, region, rows, labels);
  return new Map(labels.map((label, i) => [label, blocks[i]!]));
}
