/**
 * Rows that are asked for in one turn of the event loop, read from LevelDB in one call: to wake a thread costs more than to
 * read a row. No I/O of its own.
 *
 * Invariant: everybody gets the rows of their own keys, in their order, read after they asked; an error is everybody's. What
 * waits is bounded by the requests that are under way.
 */

import type { RowSource } from './directory.ts';

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

  constructor(source: Pick<RowSource, 'getMany'>) {
    this.#source = source;
  }

  getMany(keys: Buffer[]): Promise<Rows> {
    return new Promise((resolve, reject) => {
      // Behind all promises of this turn, so that whoever still asks in it comes along.
      if (this.#waiters.length === 0) process.nextTick(() => void this.#read());
      this.#waiters.push({ first: this.#keys.length, count: keys.length, resolve, reject });
      for (const key of keys) this.#keys.push(key);
    });
  }

  async #read(): Promise<void> {
    const [keys, waiters] = [this.#keys, this.#waiters];
    this.#keys = [];
    this.#waiters = [];
    try {
      const rows = await this.#source.getMany(keys);
      for (const { first, count, resolve } of waiters) resolve(rows.slice(first, first + count));
    } catch (error) {
      for (const { reject } of waiters) reject(error);
    }
  }
}
