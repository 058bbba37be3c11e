/**
 * Takes pointers that nobody inherits out of a region, and hands those of versions that go to the versions that stay.
 * Reads only the rows that decide: a ghost with a branch that never wrote in the region has an heir there for
 * everything, and that is known without a row.
 */

import type { RowReference } from './row-list.ts';
import { DEAD, type Destinies, dropAndHandOver, orphansOf } from './heirs.ts';
import type { IndexBatch } from './index-batch.ts';
import { HOLE, PointerBlock, REGION_CHUNKS } from './pointers.ts';
import { pointerKey } from './rows.ts';
import type { VersionView } from './version-tree.ts';

/** Versions whose rows are read at once to find heirs. */
const READ_VERSIONS = 32;

/** A region's content as the batch will leave it, but for what is pruned. */
export interface RegionContent {
  tree: number;
  region: number;
  /** All pointer rows; those that are replaced go. */
  rows: RowReference[];
  /** Whether a version has pointers of its own there. */
  has(label: number): boolean;
  /** Pointers of their own of versions that have some; the blocks are the caller's to change. @throws INDEX_DAMAGED */
  read(labels: readonly number[]): Promise<PointerBlock[]>;
}

/**
 * Prunes what hidden versions have in the region: `labels`, each with its destiny, or staying. Answers the pointer rows
 * that the region has then.
 */
export async function pruneRegion(
  content: RegionContent,
  labels: readonly number[],
  destinies: Destinies,
  view: VersionView,
  batch: IndexBatch,
): Promise<RowReference[]> {
  const blocks = new Map<number, PointerBlock>();
  const blockOf = (label: number): PointerBlock | null | undefined =>
    content.has(label) || blocks.has(label) ? blocks.get(label) : null;
  const load = async (wanted: readonly number[]): Promise<void> => {
    const missing = wanted.filter((label) => blockOf(label) === undefined);
    if (missing.length === 0) return;
    const read = await content.read(missing);
    missing.forEach((label, i) => blocks.set(label, read[i]!));
  };
  const changed = new Set<number>();
  for (const label of labels) {
    if (!content.has(label)) continue;
    const destiny = destinies.get(label) ?? label;
    // One that stays, and is inherited as a whole by somebody who never wrote here, loses nothing.
    if (destiny === label && orphansOf(label, FULL, blockOf, view).count === 0) continue;
    await load([label]);
    const block = blocks.get(label)!;
    let orphans = orphansOf(label, block, blockOf, view);
    while (orphans.count > 0 && orphans.unknown.length > 0) {
      await load(orphans.unknown.slice(0, READ_VERSIONS));
      orphans = orphansOf(label, block, blockOf, view);
    }
    let heir: PointerBlock | undefined;
    if (destiny !== label && destiny !== DEAD) {
      await load([destiny]);
      heir = blocks.get(destiny) ?? new PointerBlock();
      blocks.set(destiny, heir);
    }
    if (!dropAndHandOver(block, orphans, heir, (segment) => batch.dropped(segment))) continue;
    changed.add(label);
    if (heir !== undefined) changed.add(destiny);
  }
  let { rows } = content;
  for (const label of changed) {
    const block = blocks.get(label)!;
    for (const row of rows) {
      if (row.label === label)
        batch.sink.del(pointerKey(content.tree, content.region, label, row.generation));
    }
    rows = rows.filter((row) => row.label !== label);
    const row = batch.putPointers(content.tree, content.region, label, block);
    if (row !== undefined) rows.push(row);
    batch.extents.put(label, content.region, block);
  }
  return rows;
}

/** Stands for pointers that are not read yet: any chunk may have one. */
const FULL = new PointerBlock();
for (let i = 0; i < REGION_CHUNKS; i++) FULL.put(i, HOLE, 0, 0, 1);
