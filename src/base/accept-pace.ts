/**
 * Accepts at a pace: while others are served, connections that come faster wait in the system's queue, so that whoever connects
 * for nothing takes little from who is connected.
 *
 * Node accepts whatever comes for as long as it listens. So between two it does not: the server is closed, and later
 * listens again on a duplicate of its descriptor, by which the socket goes on to be there, and its queue with it.
 *
 * Invariants:
 * - The server's own close does not take the socket's name away: `unix-listener.ts` sees to that.
 * - What keeps it from listening again (no descriptor free) does so for a moment only: it is tried until it works.
 * - Where descriptors cannot be duplicated there is no pace.
 */

import fs from 'node:fs';
import type net from 'node:net';
import type { Clock } from './clock.ts';
import { duplicate, LISTEN_BACKLOG } from './libc.ts';
import { Rate } from './rate.ts';

/** Once it waits, it waits as long: to listen again costs about as much as to accept one. */
const WAIT_MS_MIN = 20;
/** And no longer, whatever came while nobody was served. */
const WAIT_MS_MAX = 100;
/** This much of the pace may be taken at once. */
const BURST_MS = 500;

export interface AcceptPaceOptions {
  readonly perSecondMax: number;
  /** Another number whenever anybody was served. */
  readonly servedBytes: () => number;
  readonly clock: Clock;
}

export class AcceptPace {
  readonly #server: net.Server;
  readonly #options: AcceptPaceOptions;
  readonly #rate: Rate;
  /** By which the socket is there while the server does not listen. */
  #descriptor: number | undefined;
  #cancelWait: () => void = () => undefined;
  #servedBytes = 0;
  #isClosed = false;

  constructor(server: net.Server, options: AcceptPaceOptions) {
    this.#server = server;
    this.#options = options;
    this.#rate = new Rate(options.perSecondMax, BURST_MS, WAIT_MS_MAX);
  }

  /** One was accepted: the next may have to wait. */
  accepted(): void {
    const waitMs = this.#rate.take(1, performance.now());
    if (waitMs === 0 || !this.#server.listening || !this.#areOthersServed()) return;
    const { fd } = (this.#server as unknown as { _handle: { fd?: number } })._handle;
    this.#descriptor ??= fd === undefined ? undefined : duplicate(fd);
    if (this.#descriptor === undefined) return;
    this.#server.close();
    this.#wait(waitMs);
  }

  /** The server is closed for good. */
  close(): void {
    this.#isClosed = true;
    this.#cancelWait();
    if (this.#descriptor !== undefined) fs.closeSync(this.#descriptor);
    this.#descriptor = undefined;
  }

  /** Since this was asked last. */
  #areOthersServed(): boolean {
    const bytes = this.#options.servedBytes();
    const are = bytes !== this.#servedBytes;
    this.#servedBytes = bytes;
    return are;
  }

  #wait(ms: number): void {
    this.#cancelWait = this.#options.clock.after(Math.max(ms, WAIT_MS_MIN), () => {
      const fd = duplicate(this.#descriptor!);
      // Where it stands among the options it is not looked at.
      if (fd !== undefined) this.#server.listen({ fd }, LISTEN_BACKLOG);
      if (!this.#isClosed && !this.#server.listening) this.#wait(0);
    });
  }
}
