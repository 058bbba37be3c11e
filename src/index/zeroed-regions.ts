/**
 * Whole regions that read as zeros since some sequence: one extent, however long. Pure.
 *
 * Invariant: extents of a version are disjoint and in order, each with the highest sequence of what covered it; so a
 * region is looked up by halving, however many trims there were.
 */

/** Regions [first, end) read as zeros since this sequence. */
export interface ZeroedExtent {
  first: number;
  end: number;
  sequence: number;
}

const EXTENT_BYTES = 72;

export class ZeroedRegions {
  /** By tree, then by label. */
  readonly #trees = new Map<number, Map<number, ZeroedExtent[]>>();
  #count = 0;

  get isEmpty(): boolean {
    return this.#count === 0;
  }

  get usedBytes(): number {
    return this.#count * EXTENT_BYTES;
  }

  hasVersion(label: number): boolean {
    for (const labels of this.#trees.values()) if (labels.has(label)) return true;
    return false;
  }

  trees(): IterableIterator<number> {
    return this.#trees.keys();
  }

  /** All extents of a tree, version by version. */
  *extents(tree: number): Generator<ZeroedExtent & { label: number }> {
    for (const [label, extents] of this.#trees.get(tree) ?? [])
      for (const extent of extents) yield { label, ...extent };
  }

  /** The first region at or behind `from` that an extent of one of the versions covers; -1 if there is none. */
  next(tree: number, labels: ReadonlySet<number>, from: number): number {
    let first = -1;
    for (const [label, extents] of this.#trees.get(tree) ?? []) {
      const extent = labels.has(label) ? extents[firstEndingBehind(extents, from)] : undefined;
      if (extent === undefined) continue;
      const region = Math.max(from, extent.first);
      if (first < 0 || region < first) first = region;
    }
    return first;
  }

  put(tree: number, label: number, first: number, end: number, sequence: number): void {
    let labels = this.#trees.get(tree);
    if (labels === undefined) {
      labels = new Map();
      this.#trees.set(tree, labels);
    }
    let extents = labels.get(label);
    if (extents === undefined) {
      extents = [];
      labels.set(label, extents);
    }
    const from = firstEndingBehind(extents, first);
    let to = from;
    while (to < extents.length && extents[to]!.first < end) to += 1;
    const covered = extents.slice(from, to);
    // What is newer than this stays; the gaps between such are of this.
    const made: ZeroedExtent[] = [];
    let at = first;
    for (const extent of covered) {
      if (extent.first < first) made.push({ ...extent, end: first });
      if (extent.sequence > sequence) {
        const newer = { ...extent, first: Math.max(extent.first, first), end: Math.min(extent.end, end) };
        if (at < newer.first) made.push({ first: at, end: newer.first, sequence });
        made.push(newer);
        at = newer.end;
      }
    }
    if (at < end) made.push({ first: at, end, sequence });
    const last = covered.at(-1);
    if (last !== undefined && last.end > end) made.push({ ...last, first: end });
    extents.splice(from, covered.length, ...made);
    this.#count += made.length - covered.length;
  }

  /** Calls `found` for each version whose extents cover the region, with the sequence since which they do. */
  forEach(tree: number, region: number, found: (label: number, sequence: number) => void): void {
    for (const [label, extents] of this.#trees.get(tree) ?? []) {
      const extent = extents[firstEndingBehind(extents, region)];
      if (extent !== undefined && extent.first <= region) found(label, extent.sequence);
    }
  }
}

/** The place of the first extent that ends behind `region`. */
function firstEndingBehind(extents: readonly ZeroedExtent[], region: number): number {
  let low = 0;
  let high = extents.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (extents[middle]!.end > region) high = middle;
    else low = middle + 1;
  }
  return low;
}
