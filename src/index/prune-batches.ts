/**
 * What a prune has to visit, in batches: the regions in which hidden versions have pointers, found by extents. Costs what
 * these versions have, whatever else is in their trees.
 */

import { byRegion, type ExtentRow, type LabelledRow } from './extents.ts';
import type { VersionView } from './version-tree.ts';

/** Regions of a batch: one is written in a few milliseconds, and a checkpoint waits no longer than that. */
const BATCH_REGIONS = 256;

/** Where extents are read: the index, or who keeps it whole. */
export interface ExtentSource {
  /** Windows of the disk in which a version has pointers. */
  extentWindows(label: number): number[];
  readExtents(label: number, window: number): Promise<ExtentRow[]>;
}

export interface PruneBatch {
  tree: number;
  /** By region, the versions that have pointers there. */
  regions: Map<number, number[]>;
}

/** @throws what `source` throws */
export async function* pruneBatches(
  source: ExtentSource,
  labels: Iterable<number>,
  view: VersionView,
  regionsMax = BATCH_REGIONS,
): AsyncGenerator<PruneBatch> {
  const trees = new Map<number, number[]>();
  for (const label of labels) {
    const tree = view.tree.get(label)!.tree;
    const others = trees.get(tree);
    if (others === undefined) trees.set(tree, [label]);
    else others.push(label);
  }
  for (const [tree, versions] of trees) {
    for (const window of windowsOf(source, versions)) {
      let regions = new Map<number, number[]>();
      for await (const [region, there] of regionsOf(source, versions, window)) {
        regions.set(region, there);
        if (regions.size < regionsMax) continue;
        yield { tree, regions };
        regions = new Map();
      }
      if (regions.size > 0) yield { tree, regions };
    }
  }
}

/** Windows in which any of the versions has pointers, in order. */
export function windowsOf(source: ExtentSource, versions: Iterable<number>): number[] {
  const windows = new Set<number>();
  for (const label of versions) for (const window of source.extentWindows(label)) windows.add(window);
  return [...windows].sort((a, b) => a - b);
}

/** Regions of a window in which any of the versions has pointers, each with those that do; in order. */
async function* regionsOf(
  source: ExtentSource,
  versions: readonly number[],
  window: number,
): AsyncGenerator<[region: number, labels: number[]]> {
  for (const rows of await leavesOf(source, versions, window)) {
    for (const [region, there] of byRegion(rows)) yield [region, there.map(([label]) => label)];
  }
}

/** Rows of several versions in a window, leaf by leaf, in order. @throws what `source` throws */
export async function leavesOf(
  source: ExtentSource,
  versions: Iterable<number>,
  window: number,
): Promise<LabelledRow[][]> {
  const leaves = new Map<number, LabelledRow[]>();
  for (const label of versions) {
    for (const row of await source.readExtents(label, window)) {
      const others = leaves.get(row.leaf);
      if (others === undefined) leaves.set(row.leaf, [[label, row]]);
      else others.push([label, row]);
    }
  }
  return [...leaves].sort(([a], [b]) => a - b).map(([, rows]) => rows);
}
