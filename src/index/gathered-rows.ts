/**
 * Rows that are asked for in one turn of the event loop, read from LevelDB in one call: to wake a thread costs more than to
 * read a row. While as many calls are under way as there are threads, whoever asks waits for the next one with all others that do.
 * No I/O of its own.
 *
 * Invariants: everybody gets the rows of their own keys, in their order, read after they asked; an error is everybody's. No
 * more than CALLS_MAX calls are under way; what waits is bounded by the requests that are.
 */

import type { RowSource } from './directory.ts';

/** Node's threads, if nobody says otherwise. */
const CALLS_MAX = 4;

type Rows = (Buffer | undefined)[];

interface Waiter {
  readonly first: number;
  readonly count: number;
  readonly resolve: (rows: Rows) => void;
  readonly reject: (error: unknown) => void;
}

export class GatheredRows implements Pick<RowSource, 'getMany'> {
  readonly #source: Pick<RowSource, 'getMany'>;
  #keys: Buffer[] = [];
  #waiters: Waiter[] = [];
  #calls = 0;
  /** The next call comes behind this turn. */
  #isDue = false;

  constructor(source: Pick<RowSource, 'getMany'>) {
    this.#source = source;
  }

  getMany(keys: Buffer[]): Promise<Rows> {
    return new Promise((resolve, reject) => {
      this.#waiters.push({ first: this.#keys.length, count: keys.length, resolve, reject });
      for (const key of keys) this.#keys.push(key);
      this.#next();
    });
  }

  #next(): void {
    if (this.#isDue || this.#waiters.length === 0 || this.#calls === CALLS_MAX) return;
    this.#isDue = true;
    // Behind all promises of this turn, so that whoever still asks in it comes along.
    process.nextTick(() => void this.#read());
  }

  async #read(): Promise<void> {
    this.#isDue = false;
    this.#calls += 1;
    const [keys, waiters] = [this.#keys, this.#waiters];
    this.#keys = [];
    this.#waiters = [];
    try {
      const rows = await this.#source.getMany(keys);
      for (const { first, count, resolve } of waiters) resolve(rows.slice(first, first + count));
    } catch (error) {
      for (const { reject } of waiters) reject(error);
    }
    this.#calls -= 1;
    this.#next();
  }
}
