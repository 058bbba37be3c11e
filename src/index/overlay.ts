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
import { ChangeTable } from './change-table.ts';
import { isNewerThan, type MovesByRegion, MoveTable } from './move.ts';
import { HOLE, PointerBlock, REGION_CHUNKS } from './pointers.ts';
import { ZeroedRegions } from './zeroed-regions.ts';

const NO_CHECKSUMS = new Uint32Array(0);

export class Overlay {
  readonly #changes = new ChangeTable();
  readonly zeroed = new ZeroedRegions();
  /** What earlier parts of a replay have zeroed: rows of then have it, and what comes into other regions may be older. */
  #zeroedBefore = new ZeroedRegions();
  /** Pointers put, overwritten ones included: an upper bound of what is held. */
  pointerCount = 0;

  /** Versions by region that have pointers. */
  get regionCount(): number {
    return this.#changes.changeCount;
  }

  get isEmpty(): boolean {
    return this.regionCount === 0 && this.zeroed.isEmpty;
  }

  get usedBytes(): number {
    return this.#changes.usedBytes + this.zeroed.usedBytes;
  }

  trees(): number[] {
    return [...new Set([...this.#changes.trees(), ...this.zeroed.trees()])].sort((a, b) => a - b);
  }

  /** Regions of a tree with pointers, in order. */
  regions(tree: number): number[] {
    return this.#changes.regions(tree);
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
    let done = 0;
    while (done < count) {
      const index = (first + done) % REGION_CHUNKS;
      const some = Math.min(count - done, REGION_CHUNKS - index);
      const at = offset + done * CHUNK_BYTES;
      const run = { index, count: some, segment, offset: at, checksums, from: done, sequence };
      this.#changes.put(tree, label, Math.floor((first + done) / REGION_CHUNKS), run);
      done += some;
    }
    this.pointerCount += count;
  }

  /** Leads to where chunks have been moved, unless something newer is there: sequences are those of the writes. */
  putMoves(moves: MovesByRegion): void {
    const checksums = new Uint32Array(1);
    for (const [tree, regions] of moves) {
      for (const [region, there] of regions) {
        for (const { label, index, toSegment, toOffset, checksum, sequence } of there) {
          checksums[0] = checksum;
          const chunk = region * REGION_CHUNKS + index;
          this.putChunks(tree, label, chunk, 1, toSegment, toOffset, checksums, sequence);
        }
      }
    }
  }

  /** Those moves of whose chunks nothing newer stands here. */
  withoutNewer(moves: MovesByRegion): MovesByRegion {
    const left = new MoveTable();
    const block = new PointerBlock();
    for (const [tree, regions] of moves) {
      for (const [region, there] of regions) {
        for (const label of new Set(there.map((move) => move.label))) {
          block.reset();
          this.mergeVersionInto(block, tree, region, label);
          for (const move of there)
            if (move.label === label && !isNewerThan(block, move)) left.add(tree, region, move);
        }
      }
    }
    return left.trees;
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
    this.zeroed.put(tree, label, wholeFirst, wholeEnd, sequence);
    this.#putHoles(tree, label, wholeEnd * REGION_CHUNKS, end, sequence);
  }

  #putHoles(tree: number, label: number, first: number, end: number, sequence: number): void {
    this.putChunks(tree, label, first, end - first, HOLE, 0, NO_CHECKSUMS, sequence);
  }

  /** True if the version changed anything. */
  hasVersion(label: number): boolean {
    return this.#changes.hasVersion(label) || this.zeroed.hasVersion(label);
  }

  /** The versions that changed anything in a region. */
  labels(tree: number, region: number): number[] {
    const labels = new Set<number>();
    this.#changes.labelsInto(labels, tree, region);
    this.zeroed.forEach(tree, region, (label) => labels.add(label));
    this.#zeroedBefore.forEach(tree, region, (label) => labels.add(label));
    return [...labels];
  }

  /** The first region at or behind `from`, below `end`, with pointers; -1 if there is none. */
  nextRegion(tree: number, from: number, end: number): number {
    return this.#changes.nextRegion(tree, from, end);
  }

  /** True if one of the versions changed anything in the region. */
  hasAny(tree: number, region: number, versions: ReadonlySet<number>): boolean {
    return this.labels(tree, region).some((label) => versions.has(label));
  }

  /** Puts what one version changed in the region into `block`. */
  mergeVersionInto(block: PointerBlock, tree: number, region: number, label: number): void {
    this.#mergeInto(block, tree, region, (each) => each === label);
  }

  /** Puts what versions in `path` changed in the region into `block`. */
  mergeInto(block: PointerBlock, tree: number, region: number, path: ReadonlySet<number>): void {
    this.#mergeInto(block, tree, region, (label) => path.has(label));
  }

  #mergeInto(block: PointerBlock, tree: number, region: number, takes: (label: number) => boolean): void {
    this.#changes.mergeInto(block, tree, region, takes);
    const fill = (label: number, sequence: number): void => {
      if (takes(label)) fillHoles(block, sequence);
    };
    this.zeroed.forEach(tree, region, fill);
    this.#zeroedBefore.forEach(tree, region, fill);
  }

  /** Goes on behind `before`, an earlier part of the same replay, which has become rows. */
  goOnBehind(before: Overlay): void {
    this.#zeroedBefore = before.#zeroedBefore;
    for (const tree of before.zeroed.trees())
      for (const { label, first, end, sequence } of before.zeroed.extents(tree))
        this.#zeroedBefore.put(tree, label, first, end, sequence);
  }
}

/** Hides everything in the region that is older than `sequence`. */
export function fillHoles(block: PointerBlock, sequence: number): void {
  for (let index = 0; index < REGION_CHUNKS; index++) block.put(index, HOLE, 0, 0, sequence);
}
