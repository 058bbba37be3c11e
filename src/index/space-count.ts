/**
 * Counts what versions read, alone and together, from pointers. Pure.
 *
 * Each pointer is visited once, whatever the number of versions: versions are numbered so that those below a version are
 * a range of numbers, and who inherits a pointer is its version's range less the ranges of the nearest pointers below.
 * What all versions of a range read is noted at the two ends of the range, and summed up at the end.
 */

import { DATA_POINTER, type LabelledRow } from './extents.ts';
import { REGION_CHUNKS } from './pointers.ts';
import type { VersionTree } from './version-tree.ts';

/** Chunks of a version: read by it, and of those, read by nobody else. */
export interface VersionSpace {
  readChunks: number;
  ownChunks: number;
}

export class SpaceCount {
  /** The number of each version, and the first behind those below it. */
  readonly #first = new Map<number, number>();
  readonly #end = new Map<number, number>();
  readonly #labels: number[] = [];
  /** Among versions with smaller numbers: how many are visible, the sum of their numbers, how many are of the set. */
  readonly #visible: Float64Array;
  readonly #numbers: Float64Array;
  readonly #inSet: Float64Array;
  /** What is read from a number on, compared with the number before. */
  readonly #read: Float64Array;
  readonly #own: Float64Array;
  /** For each chunk of a region, the pointers in whose ranges the walk is, and how many: used again for each region. */
  readonly #above: OpenPointer[][] = Array.from({ length: REGION_CHUNKS }, () => []);
  readonly #depths = new Uint32Array(REGION_CHUNKS);
  /** Chunks that nobody reads when the set is gone, and somebody reads now. */
  setChunks = 0;

  /** `set`: versions of which it is asked what would come back if they were deleted. */
  constructor(tree: VersionTree, set: ReadonlySet<number>) {
    this.#number(tree);
    const count = this.#labels.length;
    this.#visible = new Float64Array(count + 1);
    this.#numbers = new Float64Array(count + 1);
    this.#inSet = new Float64Array(count + 1);
    this.#read = new Float64Array(count + 1);
    this.#own = new Float64Array(count);
    for (let i = 0; i < count; i++) {
      const label = this.#labels[i]!;
      const isVisible = tree.get(label)!.hidden === 0;
      this.#visible[i + 1] = this.#visible[i]! + (isVisible ? 1 : 0);
      this.#numbers[i + 1] = this.#numbers[i]! + (isVisible ? i : 0);
      this.#inSet[i + 1] = this.#inSet[i]! + (isVisible && set.has(label) ? 1 : 0);
    }
  }

  /** Numbers every version before those below it; without recursion, because lines are long. */
  #number(tree: VersionTree): void {
    const pending: number[] = [];
    for (const { label, parent } of tree.nodes()) if (parent === 0) pending.push(label);
    while (pending.length > 0) {
      const label = pending.pop()!;
      if (label < 0) {
        this.#end.set(-label, this.#labels.length);
        continue;
      }
      this.#first.set(label, this.#labels.length);
      this.#labels.push(label);
      pending.push(-label);
      for (const child of tree.children(label)) pending.push(child);
    }
  }

  /** Takes a region: the rows of all versions that have pointers there, each standing at the region. */
  add(rows: readonly LabelledRow[]): void {
    const known = rows.filter(([label]) => this.#first.has(label));
    known.sort(([a], [b]) => this.#first.get(a)! - this.#first.get(b)!);
    for (const [label, row] of known) {
      const start = this.#first.get(label)!;
      const end = this.#end.get(label)!;
      row.forEachRun((first, count, kind) => {
        for (let chunk = first; chunk < first + count; chunk++)
          this.#put(chunk, start, end, kind === DATA_POINTER);
      });
    }
    for (let chunk = 0; chunk < REGION_CHUNKS; chunk++) this.#closeUpTo(chunk, Number.MAX_SAFE_INTEGER);
  }

  #put(chunk: number, start: number, end: number, isData: boolean): void {
    this.#closeUpTo(chunk, start);
    const above = this.#above[chunk]!;
    const depth = this.#depths[chunk]!;
    // What is below has another pointer: it is not read through the one above.
    if (depth > 0) this.#take(above[depth - 1]!, start, end);
    this.#open((above[depth] ??= newOpenPointer()), start, end, isData);
    this.#depths[chunk] = depth + 1;
  }

  /** Closes pointers whose ranges end at or before a number. */
  #closeUpTo(chunk: number, start: number): void {
    const above = this.#above[chunk]!;
    let depth = this.#depths[chunk]!;
    while (depth > 0 && above[depth - 1]!.end <= start) this.#close(above[--depth]!);
    this.#depths[chunk] = depth;
  }

  #open(at: OpenPointer, start: number, end: number, isData: boolean): void {
    at.end = end;
    at.isData = isData;
    at.visible = this.#visible[end]! - this.#visible[start]!;
    at.numbers = this.#numbers[end]! - this.#numbers[start]!;
    at.inSet = this.#inSet[end]! - this.#inSet[start]!;
    if (!isData) return;
    this.#read[start]! += 1;
    this.#read[end]! -= 1;
  }

  #take(from: OpenPointer, start: number, end: number): void {
    from.visible -= this.#visible[end]! - this.#visible[start]!;
    from.numbers -= this.#numbers[end]! - this.#numbers[start]!;
    from.inSet -= this.#inSet[end]! - this.#inSet[start]!;
    if (!from.isData) return;
    this.#read[start]! -= 1;
    this.#read[end]! += 1;
  }

  /** All nearest pointers below are known: what is left are the heirs. */
  #close({ visible, numbers, inSet, isData }: OpenPointer): void {
    if (!isData) return;
    if (visible === 1) this.#own[numbers]! += 1; // the sum of one number
    if (visible > 0 && visible === inSet) this.setChunks += 1;
  }

  /** What each version reads, by label; hidden ones too. */
  *versions(): Generator<[label: number, VersionSpace]> {
    let readChunks = 0;
    for (let i = 0; i < this.#labels.length; i++) {
      readChunks += this.#read[i]!;
      yield [this.#labels[i]!, { readChunks, ownChunks: this.#own[i]! }];
    }
  }
}

/** A pointer whose version's range is being passed, less what is below other pointers. */
interface OpenPointer {
  end: number;
  isData: boolean;
  visible: number;
  numbers: number;
  inSet: number;
}

function newOpenPointer(): OpenPointer {
  return { end: 0, isData: false, visible: 0, numbers: 0, inSet: 0 };
}
