/** Who waits for a flush. No I/O. */

import type { StoreError } from '../base/errors.ts';

interface Waiter {
  resolve(): void;
  reject(error: StoreError): void;
}

export class FlushWaiters {
  #waiting: Waiter[] = [];

  get isEmpty(): boolean {
    return this.#waiting.length === 0;
  }

  /** Resolves or rejects with those of the next `take`. */
  wait(): Promise<void> {
    return new Promise((resolve, reject) => this.#waiting.push({ resolve, reject }));
  }

  /** All that wait now; `settle` tells them. */
  take(): { isEmpty: boolean; settle(error: StoreError | undefined): void } {
    const taken = this.#waiting;
    this.#waiting = [];
    const settle = (error: StoreError | undefined): void => {
      for (const waiter of taken) {
        if (error === undefined) waiter.resolve();
        else waiter.reject(error);
      }
    };
    return { isEmpty: taken.length === 0, settle };
  }
}
