/**
 * Counts the bytes that requests hold in memory, against a limit: one budget for the server, one below it for each
 * connection. Payloads on their way to the store, reads that run, and replies nobody has taken yet all count.
 * No I/O.
 *
 * Invariant: every byte taken is given back exactly once; `takenBytes` never falls below zero.
 */

import { assert } from '../base/errors.ts';

export class Budget {
  takenBytes = 0;
  readonly #bytesMax: number;
  readonly #parent: Budget | undefined;
  readonly #waiting = new Set<() => void>();

  /** Called when the first listener begins to wait. */
  readonly #onContention: (() => void) | undefined;

  constructor(bytesMax: number, parent?: Budget, onContention?: () => void) {
    this.#bytesMax = bytesMax;
    this.#parent = parent;
    this.#onContention = onContention;
  }

  fits(bytes: number): boolean {
    return (
      this.takenBytes + bytes <= this.#bytesMax && (this.#parent === undefined || this.#parent.fits(bytes))
    );
  }

  take(bytes: number): void {
    this.takenBytes += bytes;
    this.#parent?.take(bytes);
  }

  give(bytes: number): void {
    this.takenBytes -= bytes;
    assert(this.takenBytes >= 0, 'a budget gets back what was taken');
    this.#parent?.give(bytes);
    if (this.#waiting.size > 0) this.#wake();
  }

  /** Calls `listener` when bytes were given back, here or above; asked twice, it is still called once. */
  wait(listener: () => void): void {
    const isFirst = this.#waiting.size === 0;
    this.#waiting.add(listener);
    this.#parent?.wait(listener);
    if (isFirst) this.#onContention?.();
  }

  /** Takes back `wait`. */
  forget(listener: () => void): void {
    this.#waiting.delete(listener);
    this.#parent?.forget(listener);
  }

  /** True if someone waits for bytes. */
  get isContended(): boolean {
    return this.#waiting.size > 0;
  }

  #wake(): void {
    const listeners = [...this.#waiting];
    this.#waiting.clear();
    for (const listener of listeners) listener();
  }
}
