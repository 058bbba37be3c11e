/**
 * Counts the bytes that requests hold in memory, against limits: one for the server, one for each connection. Payloads on
 * their way to the store, reads that run, and replies nobody has taken yet all count. No I/O.
 *
 * Each connection has a share that nobody else can take: however much others hold, requests that fit into it go on. The
 * rest is shared, and who wants some of that may have to wait. Who has moved as many bytes before as he wants now goes before
 * who has not, and who reads before who writes: those who claim much and send nothing are cut off one after the other, and
 * others do not wait for all of them. But nobody is passed by more often than RANK_PLACES says for each rank.
 *
 * Invariant: every byte taken is given back exactly once; `takenBytes` never falls below zero.
 */

import { assert } from '../base/errors.ts';

/** A connection's own share, unless the server's limit is a small one. */
const OWN_BYTES_MAX = 256 << 10;
/** Who came before is passed by at most so many of a better rank. */
const RANK_PLACES = 1024;

export class ServerBudget {
  /** Bytes that all connections hold. */
  takenBytes = 0;
  /** What of it is more than their own shares. */
  sharedBytes = 0;
  /** A connection's own share. */
  readonly ownBytes: number;
  readonly #sharedBytesMax: number;
  /** With their places; the lowest come first. */
  readonly #waiting = new Map<() => void, number>();
  #lastPlace = 0;
  /** Called when the first listener begins to wait. */
  readonly #onContention: () => void;

  constructor(bytesMax: number, connectionsMax: number, onContention: () => void) {
    this.ownBytes = Math.min(OWN_BYTES_MAX, Math.floor(bytesMax / 2 / connectionsMax));
    this.#sharedBytesMax = bytesMax - connectionsMax * this.ownBytes;
    this.#onContention = onContention;
  }

  /** Room for a request of any size comes when nobody holds anything of what is shared. */
  fits(bytes: number): boolean {
    return this.sharedBytes + bytes <= this.#sharedBytesMax || this.sharedBytes === 0;
  }

  /** Calls `listener` when bytes of what is shared were given back; asked twice, it is still called once. */
  wait(listener: () => void, place: number): void {
    const isFirst = this.#waiting.size === 0;
    this.#waiting.set(listener, place);
    if (isFirst) this.#onContention();
  }

  forget(listener: () => void): void {
    this.#waiting.delete(listener);
  }

  nextPlace(): number {
    this.#lastPlace += 1;
    return this.#lastPlace;
  }

  /** True if someone waits for bytes. */
  get isContended(): boolean {
    return this.#waiting.size > 0;
  }

  wake(): void {
    if (this.#waiting.size === 0) return;
    const listeners = [...this.#waiting].sort(([, a], [, b]) => a - b);
    this.#waiting.clear();
    for (const [listener] of listeners) listener();
  }
}

/** The budget of one connection. */
export class Budget {
  takenBytes = 0;
  /** All that it has given back. */
  #movedBytes = 0;
  /** When it began to wait; 0: it does not. */
  #place = 0;
  readonly #bytesMax: number;
  readonly #server: ServerBudget;
  #listener: (() => void) | undefined;

  constructor(bytesMax: number, server: ServerBudget) {
    this.#bytesMax = bytesMax;
    this.#server = server;
  }

  /** Bytes that others could have if this connection did not hold them. */
  get sharedBytes(): number {
    return Math.max(0, this.takenBytes - this.#server.ownBytes);
  }

  fits(bytes: number): boolean {
    const taken = this.takenBytes + bytes;
    if (taken > this.#bytesMax) return false;
    const shared = taken - this.#server.ownBytes;
    return shared <= 0 || this.#server.fits(shared - this.sharedBytes);
  }

  take(bytes: number): void {
    this.#place = 0;
    this.#count(bytes);
  }

  give(bytes: number): void {
    const before = this.#server.sharedBytes;
    this.#movedBytes += bytes;
    this.#count(-bytes);
    assert(this.takenBytes >= 0, 'a budget gets back what was taken');
    if (this.#listener !== undefined) {
      const listener = this.#listener;
      this.#listener = undefined;
      listener();
    }
    if (this.#server.sharedBytes < before) this.#server.wake();
  }

  /** Calls `listener`, once or twice, when `bytes`, which do not fit now, may fit: it has to look again. */
  wait(bytes: number, listener: () => void, hasPayload: boolean): void {
    this.#listener = listener;
    const rank = this.#movedBytes >= bytes ? 0 : hasPayload ? 2 : 1;
    if (this.#place === 0) this.#place = this.#server.nextPlace();
    if (this.takenBytes + bytes <= this.#bytesMax)
      this.#server.wait(listener, this.#place + rank * RANK_PLACES);
  }

  /** Takes back `wait`. */
  forget(listener: () => void): void {
    this.#listener = undefined;
    this.#server.forget(listener);
  }

  #count(bytes: number): void {
    const before = this.sharedBytes;
    this.takenBytes += bytes;
    this.#server.takenBytes += bytes;
    this.#server.sharedBytes += this.sharedBytes - before;
  }
}
