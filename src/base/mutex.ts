/**
 * A FIFO lock over a promise chain, the only one in the house.
 *
 * Invariant: at most one `run` body is between its start and its settlement; bodies start in call order.
 */
export class Mutex {
  #tail: Promise<unknown> = Promise.resolve();

  /** Runs `body` once all bodies handed in before have settled; answers what it answers. */
  run<T>(body: () => Promise<T>): Promise<T> {
    const result = this.#tail.then(body);
    this.#tail = result.catch(() => undefined);
    return result;
  }
}
