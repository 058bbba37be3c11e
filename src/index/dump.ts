/**
 * The index as canonical content, to compare one with another: runs and rows split by chunk, deletes finished, holes that
 * hide nothing left out. Two indexes of the same log are equal in this form, however they came about.
 */

import { type Destinies, destiniesOf, dropAndHandOver, orphansOf } from './heirs.ts';
import { mergeBlocks, PointerBlock, HOLE, REGION_CHUNKS } from './pointers.ts';
import type { Overlay } from './overlay.ts';
import type { PointerIndex } from './pointer-index.ts';
import { type VersionTree, VersionView } from './version-tree.ts';

/** An index, and what is behind its checkpoint. */
export interface IndexView {
  index: PointerIndex;
  overlay: Overlay | undefined;
}

/** Trees of either view, in order. */
export function treesOf(...views: IndexView[]): number[] {
  const trees = views.flatMap(({ index, overlay }) => [
    ...index.directory.trees(),
    ...(overlay?.trees() ?? []),
  ]);
  return [...new Set(trees)].sort((a, b) => a - b);
}

/** The first region at or behind `from` that any view has, or -1. */
export async function nextRegionOf(
  tree: number,
  from: number,
  end: number,
  ...views: IndexView[]
): Promise<number> {
  let first = -1;
  for (const { index, overlay } of views) {
    const inRows = await index.directory.nextRegion(tree, from, end);
    const inOverlay = overlay?.nextRegion(tree, from, end) ?? -1;
    for (const region of [inRows, inOverlay])
      if (region >= 0 && (first < 0 || region < first)) first = region;
  }
  return first;
}

/** Canonical content by the version tree of the log's end. */
export class CanonicalForm {
  readonly #tree: VersionTree;
  readonly #view: VersionView;
  readonly #destinies: Destinies;

  constructor(tree: VersionTree) {
    this.#tree = tree;
    this.#view = new VersionView(tree, Number.MAX_SAFE_INTEGER);
    const hidden = [...tree.nodes()].filter((node) => node.hidden > 0).map((node) => node.label);
    this.#destinies = destiniesOf(hidden, this.#view);
  }

  /** The version that has what another has in the rows, once all deletes are finished. */
  holderOf(label: number): number {
    return this.#destinies.get(label) ?? label;
  }

  /** Pointers by version of a region; `seen` gets them first, as the rows have them. @throws INDEX_DAMAGED */
  async region(
    view: IndexView,
    tree: number,
    region: number,
    seen?: (blocks: ReadonlyMap<number, PointerBlock>) => Promise<void>,
  ): Promise<Map<number, PointerBlock>> {
    const blocks = await view.index.regionBlocks(tree, region);
    await seen?.(blocks);
    addOverlay(blocks, view.overlay, tree, region);
    this.#finishDeletes(blocks);
    // Ancestors first: their labels are smaller.
    const canonical = new Map<number, PointerBlock>();
    for (const label of [...blocks.keys()].sort((a, b) => a - b)) {
      const block = blocks.get(label)!;
      dropIdleHoles(block, inherited(canonical, this.#tree, label));
      if (block.count() > 0) canonical.set(label, block);
    }
    return canonical;
  }

  #finishDeletes(blocks: Map<number, PointerBlock>): void {
    const labels = [...blocks.keys()];
    for (const label of labels) {
      const destiny = this.#destinies.get(label);
      if (destiny === undefined) continue;
      const block = blocks.get(label)!;
      const orphans = orphansOf(label, block, (each) => blocks.get(each) ?? null, this.#view);
      let heir: PointerBlock | undefined;
      if (destiny !== label && orphans.count < block.count()) {
        heir = blocks.get(destiny) ?? new PointerBlock();
        blocks.set(destiny, heir);
      }
      dropAndHandOver(block, orphans, heir, () => undefined);
    }
  }
}

/** Adds what versions have of their own in the overlay. */
function addOverlay(
  blocks: Map<number, PointerBlock>,
  overlay: Overlay | undefined,
  tree: number,
  region: number,
): void {
  if (overlay === undefined) return;
  for (const label of new Set([...blocks.keys(), ...overlay.labels(tree, region)])) {
    let block = blocks.get(label);
    if (block === undefined) {
      block = new PointerBlock();
      blocks.set(label, block);
    }
    overlay.mergeVersionInto(block, tree, region, label);
  }
}

/** Adds up how many pointers lead into each segment. */
export function countLive(blocks: ReadonlyMap<number, PointerBlock>, live: Map<number, number>): void {
  for (const block of blocks.values()) {
    for (let i = 0; i < REGION_CHUNKS; i++) {
      const segment = block.segment(i);
      if (segment !== 0 && segment !== HOLE) live.set(segment, (live.get(segment) ?? 0) + 1);
    }
  }
}

/** What a version would read without pointers of its own; nothing, if the tree does not know it. */
export function inherited(
  blocks: ReadonlyMap<number, PointerBlock>,
  versions: VersionTree,
  label: number,
): PointerBlock {
  const above = new PointerBlock();
  if (versions.get(label) === undefined) return above;
  for (const ancestor of versions.path(label).slice(1)) {
    const block = blocks.get(ancestor);
    if (block !== undefined) mergeBlocks(block, above);
  }
  return above;
}

function dropIdleHoles(block: PointerBlock, above: PointerBlock): void {
  for (let i = 0; i < REGION_CHUNKS; i++) {
    if (block.segment(i) !== HOLE) continue;
    const hidden = above.segment(i);
    if (hidden === 0 || hidden === HOLE) block.clear(i);
  }
}

/** The first chunk of the region, from `from` on, in which two versions' pointers differ; -1 if none does. */
export function firstDifference(a: PointerBlock, b: PointerBlock, from = 0): number {
  for (let i = from; i < REGION_CHUNKS; i++) {
    const same =
      a.segment(i) === b.segment(i) &&
      a.offset(i) === b.offset(i) &&
      a.checksum(i) === b.checksum(i) &&
      a.sequence(i) === b.sequence(i);
    if (!same && (a.segment(i) !== HOLE || b.segment(i) !== HOLE)) return i;
  }
  return -1;
}
