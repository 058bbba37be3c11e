/**
 * How a region's rows change at a checkpoint: old pointers and new ones in, rows and usage out. Pure.
 *
 * A version's pointers in a region stand in a base row and rows of changes since: few changes make a small row of
 * their own, many are merged into a new base. So random writes over a large disk do not rewrite every pointer of
 * each region they touch, and a region is still read from a bounded number of rows.
 */

import type { RowReference } from './row-list.ts';
import type { IndexBatch } from './index-batch.ts';
import type { Overlay } from './overlay.ts';
import { HOLE, PointerBlock, REGION_CHUNKS } from './pointers.ts';
import { mergePointerRow, pointerKey } from './rows.ts';

/** Rows of one version in a region before they are merged into one. */
const VERSION_ROWS_MAX = 8;

/** Used again for each version and region: making three of them costs more than filling them. */
const before = new PointerBlock();
const after = new PointerBlock();
const changes = new PointerBlock();

export interface RegionRows {
  tree: number;
  region: number;
  /** All pointer rows of the region. */
  rows: RowReference[];
  /** Versions that changed. */
  labels: number[];
  /** The rows of those versions. */
  values: Map<RowReference, Buffer>;
}

/** Puts what changed into `batch`, and answers the pointer rows that the region has now. */
export function mergeRegion(
  region: RegionRows,
  overlay: Overlay,
  isRoot: (label: number) => boolean,
  batch: IndexBatch,
): RowReference[] {
  const { usage, sink } = batch;
  let rows = region.rows;
  for (const label of region.labels) {
    const own = rows.filter((row) => row.label === label);
    before.reset();
    for (const row of own) mergePointerRow(region.values.get(row)!, before);
    after.copyFrom(before);
    overlay.mergeVersionInto(after, region.tree, region.region, label);
    if (isRoot(label)) clearHoles(after);

    changes.reset();
    const { changed, cleared } = compare(usage);
    if (changed === 0 && cleared === 0) continue;
    batch.extents.put(label, region.region, after);
    const rewrite = cleared > 0 || own.length >= VERSION_ROWS_MAX || 2 * changed >= before.count();
    if (rewrite) {
      for (const row of own) sink.del(pointerKey(region.tree, region.region, row.label, row.generation));
      rows = rows.filter((row) => row.label !== label);
    }
    const row = batch.putPointers(region.tree, region.region, label, rewrite ? after : changes);
    if (row !== undefined) rows = [...rows, row];
  }
  return rows;
}

/** Nothing above: what reads as zeros needs no pointer. */
function clearHoles(block: PointerBlock): void {
  for (let i = 0; i < REGION_CHUNKS; i++) if (block.segment(i) === HOLE) block.clear(i);
}

/** Puts the pointers that differ into `changes`, and counts the chunks that segments lose and win. */
function compare(usage: Map<number, number>): { changed: number; cleared: number } {
  let changed = 0;
  let cleared = 0;
  for (let i = 0; i < REGION_CHUNKS; i++) {
    const from = before.segment(i);
    const to = after.segment(i);
    if (from === to && before.offset(i) === after.offset(i) && before.sequence(i) === after.sequence(i))
      continue;
    if (from !== 0 && from !== HOLE) usage.set(from, (usage.get(from) ?? 0) - 1);
    if (to !== 0 && to !== HOLE) usage.set(to, (usage.get(to) ?? 0) + 1);
    if (to === 0) {
      cleared += 1;
      continue;
    }
    changed += 1;
    changes.put(i, to, after.offset(i), after.checksum(i), after.sequence(i));
  }
  return { changed, cleared };
}
