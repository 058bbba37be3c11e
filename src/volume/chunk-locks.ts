/**
 * Locks on chunks: while a partial write merges its bytes into the chunks it covers, nobody else writes any of them.
 * Pure.
 *
 * Invariants:
 * - A chunk is held by one at a time. Whole writes hold nothing: they wait until what they cover is free, and are
 *   submitted in the very step in which it is found free; a step later somebody else may hold it.
 * - Who waits stands in the queue of one that is in its way, in the order in which they came to it. A queue is handed on whole
 *   where it can be: clients may have thousands wait for a chunk, and to wake all for each would be quadratic.
 */

/** Chunks [first, first + count). */
export interface ChunkRange {
  readonly first: number;
  readonly count: number;
}

interface Waiter extends ChunkRange {
  /** Takes its turn; the range is free. */
  readonly go: () => void;
}

interface Held extends ChunkRange {
  queue: Waiter[];
  /** How many of the queue have gone. */
  gone: number;
}

/** So many that have gone stay in a queue at most. */
const GONE_MAX = 1024;

export class ChunkLocks {
  readonly #held = new Set<Held>();

  /** True if no chunk of [first, first + count) is held. */
  isFree(first: number, count: number): boolean {
    return this.#inTheWayOf(first, count) === undefined;
  }

  /** Runs `work` in a step in which the range is free. */
  async whenFree(first: number, count: number, work: () => void): Promise<void> {
    const held = this.#inTheWayOf(first, count);
    if (held === undefined) {
      work();
      return;
    }
    await new Promise<void>((resolve, reject) => {
      const go = (): void => {
        try {
          work();
          resolve();
        } catch (error) {
          reject(error as Error);
        }
      };
      held.queue.push({ first, count, go });
    });
  }

  /** Holds the whole range, once all of it is free; to be given back by `release`. */
  async hold(first: number, count: number): Promise<ChunkRange> {
    const range: Held = { first, count, queue: [], gone: 0 };
    await this.whenFree(first, count, () => this.#held.add(range));
    return range;
  }

  release(range: ChunkRange): void {
    const released = range as Held;
    this.#held.delete(released);
    const { queue } = released;
    let at = released.gone;
    while (at < queue.length) {
      const next = queue[at++]!;
      const held = this.#inTheWayOf(next.first, next.count);
      if (held === undefined) next.go();
      else if (!covers(held, released) || held.queue.length > 0) held.queue.push(next);
      else {
        // The other is in the way of all that waited for the one.
        [held.queue, held.gone] = [queue, at - 1];
        if (held.gone >= GONE_MAX) held.gone -= queue.splice(0, GONE_MAX).length;
        return;
      }
    }
  }

  #inTheWayOf(first: number, count: number): Held | undefined {
    for (const held of this.#held)
      if (held.first < first + count && first < held.first + held.count) return held;
    return undefined;
  }
}

function covers(outer: ChunkRange, inner: ChunkRange): boolean {
  return outer.first <= inner.first && inner.first + inner.count <= outer.first + outer.count;
}
