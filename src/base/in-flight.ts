/**
 * Work in flight, several pieces at a time and never more than a limit. No I/O of its own.
 *
 * Invariants: at most `limit` tasks run; the first failure is thrown to whoever adds or settles next, and no other is
 * lost as an unhandled rejection; after `settle` nothing runs.
 */

import { assert } from './errors.ts';

/** Tasks whose order does not matter. */
export class InFlight {
  readonly #limit: number;
  readonly #running = new Set<Promise<void>>();
  #failure: { readonly error: unknown } | undefined;

  constructor(limit: number) {
    assert(limit > 0, 'something may be in flight');
    this.#limit = limit;
  }

  /** Starts `task` when there is room. @throws what an earlier task threw */
  async add(task: () => Promise<void>): Promise<void> {
    while (this.#running.size >= this.#limit) await Promise.race(this.#running);
    this.#throwFailure();
    const run: Promise<void> = task()
      .catch((error: unknown) => {
        this.#failure ??= { error };
      })
      .finally(() => this.#running.delete(run));
    this.#running.add(run);
  }

  /** Waits for all of them. @throws what a task threw */
  async settle(): Promise<void> {
    await Promise.all(this.#running);
    this.#throwFailure();
  }

  #throwFailure(): void {
    if (this.#failure !== undefined) throw this.#failure.error;
  }
}

/** Answers of `start` for `items`, in their order, with up to `limit` started ahead of the one that is taken. */
export async function* inOrder<T, R>(
  items: AsyncIterable<T>,
  start: (item: T) => Promise<R>,
  limit: number,
): AsyncGenerator<R> {
  const started: Promise<R>[] = [];
  for await (const item of items) {
    const answer = start(item);
    // Thrown when its turn comes; if it never comes, an earlier one has been thrown.
    answer.catch(() => undefined);
    started.push(answer);
    if (started.length >= limit) yield await started.shift()!;
  }
  for (const answer of started) yield await answer;
}
