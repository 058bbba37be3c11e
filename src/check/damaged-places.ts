/** Places of the log at which something is damaged, to be asked by the pointers that lead into them. Pure. */

interface Place<T> {
  from: number;
  to: number;
  of: T;
}

export class DamagedPlaces<T> {
  readonly #places = new Map<number, Place<T>[]>();
  #isSorted = true;

  get isEmpty(): boolean {
    return this.#places.size === 0;
  }

  /** Bytes [from, to) of a segment. */
  add(segment: number, from: number, to: number, of: T): void {
    const places = this.#places.get(segment);
    if (places === undefined) this.#places.set(segment, [{ from, to, of }]);
    else places.push({ from, to, of });
    this.#isSorted = false;
  }

  /** What is damaged where a chunk lies; of places that overlap, the one that begins last. */
  at(segment: number, offset: number): T | undefined {
    const places = this.#places.get(segment);
    if (places === undefined) return undefined;
    if (!this.#isSorted) {
      for (const each of this.#places.values()) each.sort((a, b) => a.from - b.from);
      this.#isSorted = true;
    }
    let low = 0;
    let high = places.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (places[middle]!.from <= offset) low = middle + 1;
      else high = middle;
    }
    for (let i = low - 1; i >= 0; i--) if (offset < places[i]!.to) return places[i]!.of;
    return undefined;
  }
}
