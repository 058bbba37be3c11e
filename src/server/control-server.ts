/**
 * The control server: a door over HTTP on the Unix socket `control.sock` in the store's directory (see wire.ts).
 *
 * Invariants:
 * - the socket is 0600, and a file left by a server that died is replaced;
 * - what a client sends can be refused, never end the process; a programmer's mistake still does;
 * - `close` answers within its deadline, whatever clients do, and forgets no request that was let in before it.
 */

import fastify, { type FastifyError, type FastifyInstance } from 'fastify';
import type { Logger } from 'pino';
import { type Clock, systemClock } from '../base/clock.ts';
import { StoreError } from '../base/errors.ts';
import { listenOnFile, type SocketFile } from '../base/unix-listener.ts';
import { DiskLeases } from './disk-leases.ts';
import { addDiskRoutes } from './disk-routes.ts';
import type { Door } from './door.ts';
import { addFeedRoutes } from './feed-routes.ts';
import { addMetricsRoutes } from './metrics-routes.ts';
import { addReceiveRoutes } from './receive-routes.ts';
import { addScheduleRoutes } from './schedule-routes.ts';
import { addVersionRoutes } from './version-routes.ts';
import { encodeError, statusOf } from './wire.ts';

/** JSON bodies are names and numbers; the largest is a snapshot of very many volumes at once. */
const JSON_BYTES_MAX = 2 ** 20;

export interface ControlServerOptions {
  readonly door: Door;
  readonly logger: Logger;
  readonly clock?: Clock;
}

export class ControlServer {
  readonly #app: FastifyInstance;
  readonly #leases: DiskLeases;
  readonly #logger: Logger;
  #socketFile: SocketFile | undefined;
  /** Answers on their way, streams included. */
  #running = 0;
  #closing = false;
  #whenIdle: (() => void) | undefined;

  constructor(options: ControlServerOptions) {
    this.#logger = options.logger;
    this.#leases = new DiskLeases(options.door, options.clock ?? systemClock);
    // A field of the wrong type is refused: made to fit, what JSON has for a number that is none would be a zero.
    const ajv = { customOptions: { coerceTypes: false } } as const;
    this.#app = fastify({ logger: false, bodyLimit: JSON_BYTES_MAX, ajv });
    // A client that reads a slow pipe is silent for as long as it likes.
    this.#app.server.keepAliveTimeout = 0;
    this.#countAnswers();
    this.#app.setErrorHandler((error: FastifyError, request, reply) => {
      const refusal = this.#asStoreError(error);
      this.#logger.debug(
        { method: request.method, url: request.url, error: refusal.message },
        'control: refused',
      );
      void reply.code(statusOf(refusal.code)).send(encodeError(refusal));
    });
    this.#app.setNotFoundHandler((request, reply) => {
      const refusal = new StoreError(
        'INVALID_ARGUMENT',
        `this server does not know ${request.method} ${request.url}`,
      );
      void reply.code(statusOf(refusal.code)).send(encodeError(refusal));
    });
    addVersionRoutes(this.#app, options.door, this.#leases, () => this.#closing);
    addDiskRoutes(this.#app, this.#leases);
    addReceiveRoutes(this.#app, options.door, this.#leases);
    addScheduleRoutes(this.#app, options.door, this.#leases);
    addFeedRoutes(this.#app, options.door);
    addMetricsRoutes(this.#app, options.door);
  }

  /** Requires: this process holds the lock of the store, so that a socket file left there is nobody's. @throws IN_USE, IO */
  async listen(file: string): Promise<void> {
    await this.#app.ready();
    this.#socketFile = await listenOnFile(this.#app.server, file);
  }

  /** Lets running requests end for at most `deadlineMs`, then hangs up. */
  async close(deadlineMs: number): Promise<void> {
    this.#closing = true;
    if (this.#running > 0) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, deadlineMs);
        this.#whenIdle = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
    if (this.#running > 0) this.#logger.warn({ requests: this.#running }, 'control: requests were cut off');
    const { server } = this.#app;
    await new Promise<void>((resolve) => {
      server.close(() => resolve());
      this.#socketFile?.remove();
      server.closeAllConnections();
    });
    await this.#app.close();
    this.#leases.close();
  }

  #countAnswers(): void {
    this.#app.addHook('onRequest', async (_request, reply) => {
      if (this.#closing) throw new StoreError('CLOSED', 'the server is stopping; try again');
      this.#running++;
      reply.raw.once('close', () => {
        this.#running--;
        if (this.#running === 0) this.#whenIdle?.();
      });
    });
  }

  #asStoreError(error: FastifyError): StoreError {
    if (error instanceof StoreError) return error;
    if (error.statusCode !== undefined && error.statusCode < 500) {
      return new StoreError('INVALID_ARGUMENT', `the server refused the request: ${error.message}`, error);
    }
    // A system error, or a client that went away in the middle, has a code; what is left is our mistake.
    if (error.code === undefined || error instanceof TypeError || error instanceof RangeError) {
      setImmediate(() => {
        throw error;
      });
    }
    return new StoreError('IO', `the server failed: ${error.message}`, error);
  }
}
