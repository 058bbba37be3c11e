/**
 * The entries that wait to be appended, in order, and who waits for them to be settled. No I/O.
 *
 * Invariants: every entry's owner is told exactly once; those of written entries in the order of the log. Entries that are
 * being written stand in front: what was set aside comes back behind them.
 */

import type { StoreError } from '../base/errors.ts';
import { type Append, isWrite, rankOf } from './append.ts';

/** Entries taken off before the list is made shorter. */
const TAKEN_OFF_MAX = 1024;

export class AppendQueue {
  #entries: Append[] = [];
  #head = 0;
  /** Entries from the front on that are being written. */
  #issued = 0;
  #parked: Append[] = [];
  /** Entries wait in the order in which they came. */
  #isInOrder = true;
  #submitted = 0;
  #settled = 0;
  #waiters: { after: number; resolve(): void }[] = [];

  push(append: Append): void {
    this.#entries.push(append);
    this.#submitted += 1;
    append.turn = this.#submitted;
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

  /** The first `count` are being written, until `takeOff` or `refuse`. */
  issue(count: number): void {
    this.#issued = count;
  }

  /** Takes off those that were written. */
  takeOff(): void {
    this.#head += this.#issued;
    this.#issued = 0;
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
    if (this.#waiters.length === 0) return;
    const settled = this.#settledUpTo();
    while (this.#waiters.length > 0 && this.#waiters[0]!.after <= settled) this.#waiters.shift()!.resolve();
  }

  /** The turn up to which all owners have been told. */
  #settledUpTo(): number {
    if (this.#isInOrder) return this.#settled;
    let lowest = this.#submitted + 1;
    this.#isInOrder = this.#parked.length === 0;
    for (let i = this.#entries.length - 1; i >= this.#head; i--) {
      const { turn } = this.#entries[i]!;
      if (turn > lowest) this.#isInOrder = false;
      else lowest = turn;
    }
    for (const { turn } of this.#parked) lowest = Math.min(lowest, turn);
    return lowest - 1;
  }

  /** Takes all off, and tells them why. */
  refuse(error: StoreError): void {
    this.#issued = 0;
    this.tell(
      this.#remove(() => true),
      error,
    );
  }

  /**
   * There is no room for those of `rank` and higher ones: they are told. If room is coming, writes are set aside
   * instead: what waits behind them goes first, and may, because nobody has been told of them. Changes are not: no catalog
   * is made while one waits, and whoever makes room may be waiting for a catalog. Requires: none is being written.
   */
  withoutRoom(rank: number, isComing: boolean, error: StoreError): void {
    const needing = this.#remove((append) => rankOf(append) >= rank);
    const waits = (append: Append): boolean => isComing && isWrite(append);
    this.#parked.push(...needing.filter(waits));
    this.#isInOrder &&= this.#parked.length === 0;
    this.tell(
      needing.filter((append) => !waits(append)),
      error,
    );
  }

  /** What was set aside waits again, before what has come since; answers whether there was anything. */
  unpark(): boolean {
    if (this.#parked.length === 0) return false;
    const behind = this.#head + this.#issued;
    const issued = this.#entries.slice(this.#head, behind);
    this.#entries = [...issued, ...this.#parked, ...this.#entries.slice(behind)];
    this.#head = 0;
    this.#parked = [];
    return true;
  }

  #remove(isRemoved: (append: Append) => boolean): Append[] {
    const waiting = this.#entries.slice(this.#head);
    this.#entries = waiting.filter((append) => !isRemoved(append));
    this.#head = 0;
    return waiting.filter(isRemoved);
  }

  /** Resolves once the owners of all entries pushed before this call have been told. */
  settled(): Promise<void> {
    if (this.#settled === this.#submitted) return Promise.resolve();
    return new Promise((resolve) => this.#waiters.push({ after: this.#submitted, resolve }));
  }
}
