/**
 * Which zeroed extents of victims have to be kept: those that may still hide something older. Pure.
 *
 * What a version zeroed reads as zeros for as long as older chunks of it, or of what it inherits from, are anywhere in the
 * log: a rebuild would bring them back. Whether they are is not known here; that a later zeroing covers an extent is.
 */

import type { Zeros } from './layout.ts';

/** The parts of `zeros` that no later one of the same label covers; labels are those of the versions that have them. */
export function uncovered(zeros: readonly Zeros[]): Zeros[] {
  const byLabel = new Map<number, Zeros[]>();
  for (const each of zeros) {
    const others = byLabel.get(each.label);
    if (others === undefined) byLabel.set(each.label, [each]);
    else others.push(each);
  }
  const kept: Zeros[] = [];
  for (const [label, own] of byLabel) {
    const covered = new Covered();
    for (const { first, count, sequence } of own.sort((a, b) => b.sequence - a.sequence)) {
      for (const [from, to] of covered.add(first, first + count))
        kept.push({ label, first: from, count: to - from, sequence });
    }
  }
  return kept;
}

/** Disjoint extents, in order. */
class Covered {
  readonly #starts: number[] = [];
  readonly #ends: number[] = [];

  /** Adds an extent; answers the parts of it that were not covered before. */
  add(start: number, end: number): [from: number, to: number][] {
    let at = this.#firstEndingAt(start);
    const from = at;
    const gaps: [number, number][] = [];
    let open = start;
    let [low, high] = [start, end];
    while (at < this.#starts.length && this.#starts[at]! <= end) {
      if (this.#starts[at]! > open) gaps.push([open, this.#starts[at]!]);
      open = Math.max(open, this.#ends[at]!);
      low = Math.min(low, this.#starts[at]!);
      high = Math.max(high, this.#ends[at]!);
      at += 1;
    }
    if (open < end) gaps.push([open, end]);
    this.#starts.splice(from, at - from, low);
    this.#ends.splice(from, at - from, high);
    return gaps;
  }

  /** The first extent that ends at or behind `start`. */
  #firstEndingAt(start: number): number {
    let [low, high] = [0, this.#ends.length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#ends[middle]! < start) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
