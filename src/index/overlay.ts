/**
 * What the log says and LevelDB does not yet: pointers and zeroed extents since a checkpoint. Pure.
 *
 * Two overlays live at most: the one that takes changes, and the one that a checkpoint is writing. A region is
 * resolved from its rows and from both, by the higher sequence.
 *
 * Zeros over a few chunks are hole pointers; over whole regions they are one extent, however long, so that a trim of
 * 64 TiB costs what a trim of 8 MiB costs.
 */

import { CHUNK_BYTES } from '../base/units.ts';
import { HOLE, type PointerBlock, PointerSet, REGION_CHUNKS } from './pointers.ts';

/** Rough memory of a pointer in a set, and of a region with its set. */
const POINTER_BYTES = 32;
const REGION_BYTES = 250;

/** What one version changed in a region. */
export interface RegionChange {
  label: number;
  set: PointerSet;
}

/** Regions [first, end) of a tree read as zeros in this version since this sequence. */
export interface ZeroedRegions {
  tree: number;
  label: number;
  first: number;
  end: number;
  sequence: number;
}

export class Overlay {
  readonly #trees = new Map<number, Map<number, RegionChange[]>>();
  readonly zeroed: ZeroedRegions[] = [];
  /** Pointers put, overwritten ones included: an upper bound of what is held. */
  pointerCount = 0;
  regionCount = 0;

  get isEmpty(): boolean {
    return this.regionCount === 0 && this.zeroed.length === 0;
  }

  get usedBytes(): number {
    return this.pointerCount * POINTER_BYTES + this.regionCount * REGION_BYTES + this.zeroed.length * 64;
  }

  trees(): number[] {
    const trees = new Set(this.#trees.keys());
    for (const extent of this.zeroed) trees.add(extent.tree);
    return [...trees].sort((a, b) => a - b);
  }

  /** Regions of a tree with pointers, in order. */
  regions(tree: number): number[] {
    const regions = this.#trees.get(tree);
    return regions === undefined ? [] : [...new Float64Array(regions.keys()).sort()];
  }

  changes(tree: number, region: number): readonly RegionChange[] {
    return this.#trees.get(tree)?.get(region) ?? [];
  }

  #set(tree: number, label: number, region: number): PointerSet {
    let regions = this.#trees.get(tree);
    if (regions === undefined) {
      regions = new Map();
      this.#trees.set(tree, regions);
    }
    let changes = regions.get(region);
    if (changes === undefined) {
      changes = [];
      regions.set(region, changes);
    }
    for (let i = 0; i < changes.length; i++) if (changes[i]!.label === label) return changes[i]!.set;
    const set = new PointerSet();
    changes.push({ label, set });
    this.regionCount += 1;
    return set;
  }

  /** `count` chunks from `first` on, stored one behind the other from `offset` on. */
  putChunks(
    tree: number,
    label: number,
    first: number,
    count: number,
    segment: number,
    offset: number,
    checksums: Uint32Array,
    sequence: number,
  ): void {
    let region = -1;
    let set: PointerSet | undefined;
    for (let i = 0; i < count; i++) {
      const chunk = first + i;
      const at = Math.floor(chunk / REGION_CHUNKS);
      if (at !== region) {
        region = at;
        set = this.#set(tree, label, region);
      }
      set!.put(chunk % REGION_CHUNKS, segment, offset + i * CHUNK_BYTES, checksums[i]!, sequence);
    }
    this.pointerCount += count;
  }

  putZeros(tree: number, label: number, first: number, count: number, sequence: number): void {
    const end = first + count;
    const wholeFirst = Math.ceil(first / REGION_CHUNKS);
    const wholeEnd = Math.floor(end / REGION_CHUNKS);
    if (wholeFirst >= wholeEnd) {
      this.#putHoles(tree, label, first, end, sequence);
      return;
    }
    this.#putHoles(tree, label, first, wholeFirst * REGION_CHUNKS, sequence);
    this.zeroed.push({ tree, label, first: wholeFirst, end: wholeEnd, sequence });
    this.#putHoles(tree, label, wholeEnd * REGION_CHUNKS, end, sequence);
  }

  #putHoles(tree: number, label: number, first: number, end: number, sequence: number): void {
    for (let chunk = first; chunk < end; chunk++) {
      const set = this.#set(tree, label, Math.floor(chunk / REGION_CHUNKS));
      set.put(chunk % REGION_CHUNKS, HOLE, 0, 0, sequence);
    }
    this.pointerCount += end - first;
  }

  /** The versions that changed anything in a region. */
  labels(tree: number, region: number): number[] {
    const labels = new Set<number>();
    for (const change of this.changes(tree, region)) labels.add(change.label);
    for (const extent of this.zeroed) if (covers(extent, tree, region)) labels.add(extent.label);
    return [...labels];
  }

  /** The first region at or behind `from`, below `end`, with pointers; -1 if there is none. */
  nextRegion(tree: number, from: number, end: number): number {
    const regions = this.#trees.get(tree);
    if (regions === undefined) return -1;
    if (regions.size > end - from) {
      for (let region = from; region < end; region++) if (regions.has(region)) return region;
      return -1;
    }
    let first = -1;
    for (const region of regions.keys()) {
      if (region >= from && region < end && (first < 0 || region < first)) first = region;
    }
    return first;
  }

  /** Puts what one version changed in the region into `block`. */
  mergeVersionInto(block: PointerBlock, tree: number, region: number, label: number): void {
    for (const change of this.changes(tree, region)) if (change.label === label) change.set.mergeInto(block);
    for (const extent of this.zeroed) {
      if (extent.label === label && covers(extent, tree, region)) fillHoles(block, extent.sequence);
    }
  }

  /** Puts what versions in `path` changed in the region into `block`. */
  mergeInto(block: PointerBlock, tree: number, region: number, path: ReadonlySet<number>): void {
    for (const change of this.changes(tree, region)) {
      if (path.has(change.label)) change.set.mergeInto(block);
    }
    for (const extent of this.zeroed) {
      if (path.has(extent.label) && covers(extent, tree, region)) fillHoles(block, extent.sequence);
    }
  }
}

function covers(extent: ZeroedRegions, tree: number, region: number): boolean {
  return extent.tree === tree && region >= extent.first && region < extent.end;
}

/** Hides everything in the region that is older than `sequence`. */
export function fillHoles(block: PointerBlock, sequence: number): void {
  for (let index = 0; index < REGION_CHUNKS; index++) block.put(index, HOLE, 0, 0, sequence);
}
