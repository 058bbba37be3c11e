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

/** Chunks of a region that somebody wants to read. */
export interface WantedChunks {
  readonly region: number;
  readonly spans: readonly { readonly index: number; readonly count: number }[];
}

/**
 * Adds what a version reads of the wanted chunks, a block for each; of others there may be anything. Newest rows first, until
 * every wanted chunk has its pointer: of what changed last, that is one row. Asks for those of all regions at once.
 * @throws INDEX_DAMAGED
 */
export async function mergeWanted(
  source: RowSource,
  directory: Directory,
  blocks: readonly PointerBlock[],
  { tree, label, path }: Lineage,
  wanted: readonly WantedChunks[],
): Promise<void> {
  const lists = await directory.rowLists(wanted.map(({ region }) => ({ tree, region })));
  for (const list of lists) list.passNewer(label);
  let open = wanted.map((_, place) => place);
  for (let atOnce = 1; ; atOnce = ROWS_AT_ONCE) {
    const stated: { place: number; row: RowReference }[] = [];
    for (const place of open) for (const row of lists[place]!.next(atOnce, path)) stated.push({ place, row });
    if (stated.length === 0) return;
    const keys = stated.map(({ place, row }) =>
      pointerKey(tree, wanted[place]!.region, row.label, row.generation),
    );
    const values = await source.getMany(keys);
    stated.forEach(({ place, row }, i) => {
      mergePointerRow(openStatedRow(keys[i]!, values[i], row.checksum), blocks[place]!);
    });
    open = open.filter((place) => !isSettled(blocks[place]!, wanted[place]!));
  }
}

function isSettled(block: PointerBlock, { spans }: WantedChunks): boolean {
  for (const { index, count } of spans)
    for (let at = index; at < index + count; at++) if (block.segment(at) === 0) return false;
  return true;
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
