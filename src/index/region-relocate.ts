/**
 * How a region's rows change when compaction has moved chunks: as compare-and-swap, one pointer at a time. Pure.
 *
 * A pointer that does not lead to where the chunk was found is newer, or gone, and stays what it is.
 */

import type { RowReference } from './directory.ts';
import type { IndexBatch } from './index-batch.ts';
import { PointerBlock } from './pointers.ts';
import { pointerKey } from './rows.ts';

/** Rows of one version in a region before they are merged into one: as few as a checkpoint leaves. */
const VERSION_ROWS_MAX = 8;

/** A chunk that has been copied from one place of the log to another. */
export interface Move {
  readonly label: number;
  /** In its region. */
  readonly index: number;
  readonly segment: number;
  readonly offset: number;
  readonly toSegment: number;
  readonly toOffset: number;
}

/** Tree, region, moves. */
export type MovesByRegion = ReadonlyMap<number, ReadonlyMap<number, readonly Move[]>>;

export interface RelocatedRegion {
  tree: number;
  region: number;
  /** All pointer rows of the region. */
  rows: RowReference[];
  /** Versions of which anything was moved, and the pointers of each. */
  labels: readonly number[];
  blocks: readonly PointerBlock[];
}

const changes = new PointerBlock();

/** Puts what changed into `batch`, and answers the pointer rows that the region has now. */
export function relocateRegion(
  { tree, region, rows, labels, blocks }: RelocatedRegion,
  moves: readonly Move[],
  batch: IndexBatch,
): RowReference[] {
  let left = rows;
  labels.forEach((label, at) => {
    const block = blocks[at]!;
    changes.reset();
    let changed = 0;
    for (const move of moves) {
      if (move.label !== label || !follow(block, move)) continue;
      const { index } = move;
      changes.put(index, move.toSegment, move.toOffset, block.checksum(index), block.sequence(index));
      batch.moved(move.segment, move.toSegment);
      changed += 1;
    }
    if (changed === 0) return;
    const own = left.filter((row) => row.label === label);
    const rewrite = own.length >= VERSION_ROWS_MAX || 2 * changed >= block.count();
    if (rewrite) {
      for (const row of own) batch.sink.del(pointerKey(tree, region, row.label, row.generation));
      left = left.filter((row) => row.label !== label);
    }
    left = [...left, batch.putPointers(tree, region, label, rewrite ? block : changes)!];
  });
  return left;
}

/** Swaps the address if the pointer still leads to where the chunk was found. */
export function follow(block: PointerBlock, move: Move): boolean {
  const { index, segment, offset, toSegment, toOffset } = move;
  if (block.segment(index) !== segment || block.offset(index) !== offset) return false;
  block.put(index, toSegment, toOffset, block.checksum(index), block.sequence(index));
  return true;
}
