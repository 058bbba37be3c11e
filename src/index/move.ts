/**
 * Chunks that compaction has copied from one place of the log to another. Pure.
 *
 * A chunk that is moved keeps its sequence, which belongs to one write: so a pointer that has the sequence leads to the
 * chunk, wherever it is, and of two with the same sequence the later place counts.
 */

import type { PointerBlock } from './pointers.ts';

export interface Move {
  readonly label: number;
  /** In its region. */
  readonly index: number;
  readonly segment: number;
  readonly offset: number;
  readonly toSegment: number;
  readonly toOffset: number;
  readonly checksum: number;
  readonly sequence: number;
}

/** Tree, region, moves. */
export type MovesByRegion = ReadonlyMap<number, ReadonlyMap<number, readonly Move[]>>;

/** Moves that are being put together. */
export class MoveTable {
  readonly trees = new Map<number, Map<number, Move[]>>();

  add(tree: number, region: number, move: Move): void {
    let regions = this.trees.get(tree);
    if (regions === undefined) {
      regions = new Map();
      this.trees.set(tree, regions);
    }
    const there = regions.get(region);
    if (there === undefined) regions.set(region, [move]);
    else there.push(move);
  }
}

/** The same moves in parts of about `count`, in their order. */
export function* partsOf(moves: MovesByRegion, count: number): Generator<MovesByRegion> {
  let part = new Map<number, Map<number, readonly Move[]>>();
  let inPart = 0;
  for (const [tree, regions] of moves) {
    for (const [region, there] of regions) {
      let partOfTree = part.get(tree);
      if (partOfTree === undefined) part.set(tree, (partOfTree = new Map<number, readonly Move[]>()));
      partOfTree.set(region, there);
      inPart += there.length;
      if (inPart < count) continue;
      yield part;
      part = new Map();
      inPart = 0;
    }
  }
  if (inPart > 0) yield part;
}

/** True if the pointer that a version has is of the write that was moved. */
export function isOf(block: PointerBlock, { index, sequence }: Move): boolean {
  return block.segment(index) !== 0 && block.sequence(index) === sequence;
}

/** True if the pointer that a version has was written after what was moved. */
export function isNewerThan(block: PointerBlock, { index, sequence }: Move): boolean {
  return block.segment(index) !== 0 && block.sequence(index) > sequence;
}

/** Leads the pointer to where the chunk is now, if it still leads to where it was. */
export function follow(block: PointerBlock, move: Move): void {
  const { index, segment, offset, toSegment, toOffset } = move;
  if (block.segment(index) !== segment || block.offset(index) !== offset) return;
  block.put(index, toSegment, toOffset, move.checksum, move.sequence);
}
