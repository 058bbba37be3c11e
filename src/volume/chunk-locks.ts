/**
 * Locks on chunks: while a partial write merges its bytes into a chunk, nobody else writes that chunk. Pure.
 *
 * Invariant: a chunk is held by one at a time. Whole writes hold nothing; they wait until what they cover is free,
 * and are submitted in the step in which they find it free.
 */
export class ChunkLocks {
  readonly #held = new Set<number>();
  #waiting: (() => void)[] = [];

  /** True if no chunk of [first, first + count) is held. */
  isFree(first: number, count: number): boolean {
    if (this.#held.size === 0) return true;
    for (const chunk of this.#held) if (chunk >= first && chunk < first + count) return false;
    return true;
  }

  /** Resolves in a step in which the range is free. */
  async untilFree(first: number, count: number): Promise<void> {
    while (!this.isFree(first, count)) await new Promise<void>((resolve) => this.#waiting.push(resolve));
  }

  /** Holds all of `chunks`, once all are free. */
  async hold(chunks: readonly number[]): Promise<void> {
    while (chunks.some((chunk) => this.#held.has(chunk))) {
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
    for (const chunk of chunks) this.#held.add(chunk);
  }

  release(chunks: readonly number[]): void {
    for (const chunk of chunks) this.#held.delete(chunk);
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const resolve of waiting) resolve();
  }
}
