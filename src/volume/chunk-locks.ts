/**
 * Locks on chunks: while a partial write merges its bytes into the chunks it covers, nobody else writes any of them.
 * Pure.
 *
 * Invariant: a chunk is held by one at a time. Whole writes hold nothing: they wait until what they cover is free,
 * and are submitted in the very step in which it is found free; a step later somebody else may hold it.
 */

/** Chunks [first, first + count). */
export interface ChunkRange {
  readonly first: number;
  readonly count: number;
}

export class ChunkLocks {
  readonly #held = new Set<ChunkRange>();
  #waiting: (() => void)[] = [];

  /** True if no chunk of [first, first + count) is held. */
  isFree(first: number, count: number): boolean {
    for (const held of this.#held) {
      if (held.first < first + count && first < held.first + held.count) return false;
    }
    return true;
  }

  /** Runs `work` in a step in which the range is free. */
  async whenFree(first: number, count: number, work: () => void): Promise<void> {
    while (!this.isFree(first, count)) await this.#change();
    work();
  }

  /** Holds the whole range, once all of it is free; to be given back by `release`. */
  async hold(first: number, count: number): Promise<ChunkRange> {
    const range = { first, count };
    await this.whenFree(first, count, () => this.#held.add(range));
    return range;
  }

  release(range: ChunkRange): void {
    this.#held.delete(range);
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const resolve of waiting) resolve();
  }

  #change(): Promise<void> {
    return new Promise((resolve) => this.#waiting.push(resolve));
  }
}
