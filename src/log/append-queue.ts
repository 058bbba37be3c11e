/**
 * The entries that wait to be appended, in order, and who waits for them to be settled. No I/O.
 *
 * Invariant: every entry's owner is told exactly once; those of written entries in the order of the log.
 */

import type { StoreError } from '../base/errors.ts';
import type { Append } from './append.ts';

/** Entries taken off before the list is made shorter. */
const TAKEN_OFF_MAX = 1024;

export class AppendQueue {
  #entries: Append[] = [];
  #head = 0;
  #submitted = 0;
  #settled = 0;
  #waiters: { after: number; resolve(): void }[] = [];

  push(append: Append): void {
    this.#entries.push(append);
    this.#submitted += 1;
  }

  /** The entries, and from where on they wait. */
  get entries(): readonly Append[] {
    return this.#entries;
  }

  get head(): number {
    return this.#head;
  }

  get first(): Append | undefined {
    return this.#entries[this.#head];
  }

  get isEmpty(): boolean {
    return this.#head === this.#entries.length;
  }

  takeOff(count: number): void {
    this.#head += count;
    if (this.#head === this.#entries.length) {
      this.#entries = [];
      this.#head = 0;
    } else if (this.#head > TAKEN_OFF_MAX) {
      this.#entries = this.#entries.slice(this.#head);
      this.#head = 0;
    }
  }

  /** Tells the owners of entries that were taken off. */
  tell(appends: readonly Append[], error: StoreError | undefined): void {
    for (let i = 0; i < appends.length; i++) appends[i]!.owner.appended(appends[i]!, error);
    this.#settled += appends.length;
    while (this.#waiters.length > 0 && this.#waiters[0]!.after <= this.#settled)
      this.#waiters.shift()!.resolve();
  }

  /** Takes off those that `isRefused`, and tells them why. */
  refuse(isRefused: (append: Append) => boolean, error: StoreError): void {
    const waiting = this.#entries.slice(this.#head);
    const refused = waiting.filter(isRefused);
    this.#entries = waiting.filter((append) => !isRefused(append));
    this.#head = 0;
    this.tell(refused, error);
  }

  /** Resolves once the owners of all entries pushed before this call have been told. */
  settled(): Promise<void> {
    if (this.#settled === this.#submitted) return Promise.resolve();
    return new Promise((resolve) => this.#waiters.push({ after: this.#submitted, resolve }));
  }
}
