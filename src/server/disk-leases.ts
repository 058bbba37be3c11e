/**
 * Disks that requests share: opened by the first request for a name, given back a while after the last.
 *
 * Why: the pages of a version are let go with its last device, and an import is thousands of requests. A client
 * that dies gives nothing back, so nothing is handed to clients: only requests hold a disk, and a pause ends the rest.
 *
 * Invariants: a disk is released once, never while a request uses it; after `close` each goes with its last request.
 */

import type { Clock } from '../base/clock.ts';
import { hasCode } from '../base/errors.ts';
import type { Disk, Door } from './door.ts';

const IDLE_MS_MAX = 2_000;

interface Lease {
  readonly disk: Promise<Disk>;
  users: number;
  /** Ends the wait for another request. */
  cancelEnd: (() => void) | undefined;
}

export class DiskLeases {
  readonly #door: Door;
  readonly #clock: Clock;
  readonly #leases = new Map<string, Lease>();
  #closed = false;

  constructor(door: Door, clock: Clock) {
    this.#door = door;
    this.#clock = clock;
  }

  /** Runs `body` with the disk called `name`. @throws NOT_FOUND, and what `body` throws */
  async use<T>(name: string, body: (disk: Disk) => Promise<T>): Promise<T> {
    const lease = this.#leases.get(name) ?? this.#open(name);
    lease.cancelEnd?.();
    lease.cancelEnd = undefined;
    lease.users++;
    try {
      return await body(await lease.disk);
    } catch (error) {
      // The name goes on with another version, as where a replica gets a snapshot: the next request opens that.
      if (hasCode(error, 'CLOSED')) this.#forget(name, lease);
      throw error;
    } finally {
      lease.users--;
      if (lease.users === 0) this.#unused(name, lease);
    }
  }

  close(): void {
    this.#closed = true;
    this.end();
  }

  /** Ends all leases, each with its last request: whoever asks for a name from now on opens what has it then. */
  end(): void {
    for (const [name, lease] of this.#leases) {
      if (lease.users === 0) this.#end(name, lease);
      else this.#forget(name, lease);
    }
  }

  #open(name: string): Lease {
    const lease: Lease = { disk: this.#door.disk(name), users: 0, cancelEnd: undefined };
    this.#leases.set(name, lease);
    // A failure is for those who asked, and not for the next: the volume may exist by then.
    lease.disk.catch(() => this.#forget(name, lease));
    return lease;
  }

  #unused(name: string, lease: Lease): void {
    if (this.#closed || this.#leases.get(name) !== lease) this.#end(name, lease);
    else lease.cancelEnd = this.#clock.after(IDLE_MS_MAX, () => this.#end(name, lease));
  }

  #end(name: string, lease: Lease): void {
    lease.cancelEnd?.();
    this.#forget(name, lease);
    void lease.disk.then(
      (disk) => disk.release(),
      () => undefined,
    );
  }

  #forget(name: string, lease: Lease): void {
    if (this.#leases.get(name) === lease) this.#leases.delete(name);
  }
}
