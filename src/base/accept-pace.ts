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
import { duplicate } from './libc.ts';
import { Rate } from './rate.ts';

/** Once it waits, it waits as long: to listen again costs about as much as to accept one. */
const WAIT_MS_MIN = 20;
/** This much of the pace may be taken at once. */
const BURST_MS = 500;

export interface AcceptPaceOptions {
  readonly perSecondMax: number;
  /** Whether anybody was served since this was asked last. */
  readonly areOthersServed: () => boolean;
  readonly clock: Clock;
}

export class AcceptPace {
  readonly #server: net.Server;
  readonly #options: AcceptPaceOptions;
  readonly #rate: Rate;
  /** By which the socket is there while the server does not listen. */
  #descriptor: number | undefined;
  #cancelWait: () => void = () => undefined;

  constructor(server: net.Server, options: AcceptPaceOptions) {
    this.#server = server;
    this.#options = options;
    this.#rate = new Rate(options.perSecondMax, BURST_MS);
  }

  /** One was accepted: the next may have to wait. */
  accepted(): void {
    const waitMs = this.#rate.take(1, performance.now());
    if (waitMs === 0 || !this.#server.listening || !this.#options.areOthersServed()) return;
    const { fd } = (this.#server as unknown as { _handle: { fd?: number } })._handle;
    this.#descriptor ??= fd === undefined ? undefined : duplicate(fd);
    if (this.#descriptor === undefined) return;
    this.#server.close();
    this.#wait(waitMs);
  }

  /** The server is closed for good. */
  close(): void {
    this.#cancelWait();
    if (this.#descriptor !== undefined) fs.closeSync(this.#descriptor);
    this.#descriptor = undefined;
  }

  #wait(ms: number): void {
    this.#cancelWait = this.#options.clock.after(Math.max(ms, WAIT_MS_MIN), () => {
      const fd = duplicate(this.#descriptor!);
      if (fd === undefined) return this.#wait(0);
      // It has listened on this before: what may be missing is memory, and then this ends the process, as it should.
      this.#server.listen({ fd });
    });
  }
}
