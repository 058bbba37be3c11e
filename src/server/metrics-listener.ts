/**
 * Where metrics are fetched from outside, as Prometheus does: a listener that answers `GET /metrics`, and nothing else.
 *
 * Invariants:
 * - no request changes what anybody reads, and none is told more than metrics.ts tells;
 * - connections are few, each is one request, and ends in its time, whatever its client does;
 * - what one sends can end its own connection, and nothing else; a programmer's mistake still ends the process.
 */

import http from 'node:http';
import type net from 'node:net';
import type { Logger } from 'pino';
import type { ListenerAddress } from '../base/address.ts';
import type { Clock } from '../base/clock.ts';
import { StoreError } from '../base/errors.ts';
import { Listeners } from '../base/listeners.ts';
import type { Door } from './door.ts';
import { METRICS_CONTENT_TYPE, renderMetrics } from './metrics.ts';

const CONNECTIONS_MAX = 16;
/** From the first byte of the request to the last of the answer. */
const CONNECTION_MS_MAX = 10_000;
const KEEP_ALIVE_MS = 30_000;
const PLAIN_TEXT = 'text/plain; charset=utf-8';

export interface MetricsListenerOptions {
  readonly door: Pick<Door, 'status'>;
  readonly clock: Clock;
  readonly logger: Logger;
}

export class MetricsListener {
  readonly #options: MetricsListenerOptions;
  readonly #listeners: Listeners;
  /** Never listens itself: it is handed each connection. */
  readonly #http: http.Server;
  readonly #sockets = new Set<net.Socket>();
  /** Of those, the ones that have said what they want: what else comes on one is not looked at. */
  readonly #asked = new WeakSet<net.Socket>();
  readonly #answers = new Set<Promise<void>>();
  /** Some were refused, and that has been said. */
  #isCrowded = false;

  constructor(options: MetricsListenerOptions) {
    this.#options = options;
    const accepted = (socket: net.Socket): void => this.#accept(socket);
    this.#listeners = new Listeners({ keepAliveMs: KEEP_ALIVE_MS, logger: options.logger, accepted });
    this.#http = http.createServer((request, response) => {
      if (this.#asked.has(request.socket)) return;
      this.#asked.add(request.socket);
      const answer = this.#answer(request, response).finally(() => this.#answers.delete(answer));
      this.#answers.add(answer);
    });
  }

  /** Answers where it listens; port 0 is any free one. @throws IN_USE, NOT_FOUND, INVALID_ARGUMENT, IO */
  async listen(address: ListenerAddress): Promise<ListenerAddress> {
    if (!('socketPath' in address)) return await this.#listeners.openTcp(address.host, address.port);
    await this.#listeners.openUnix(address.socketPath);
    return address;
  }

  /** Hangs up; waits for what the store has been asked, but no longer than so. */
  async close(msMax: number): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    const ended = Promise.all([this.#listeners.close(), ...this.#answers]);
    let cancel = (): void => undefined;
    const late = new Promise<void>((resolve) => {
      cancel = this.#options.clock.after(msMax, resolve);
    });
    await Promise.race([ended, late]);
    cancel();
  }

  #accept(socket: net.Socket): void {
    const { clock, logger } = this.#options;
    socket.on('error', (error) => logger.debug({ err: error }, 'metrics: a connection failed'));
    if (this.#sockets.size >= CONNECTIONS_MAX) {
      if (!this.#isCrowded)
        logger.warn(
          { connections: this.#sockets.size },
          'metrics: connections are refused, there are too many',
        );
      this.#isCrowded = true;
      return void socket.destroy();
    }
    this.#sockets.add(socket);
    const cancelTimer = clock.after(CONNECTION_MS_MAX, () => socket.destroy());
    socket.once('close', () => {
      cancelTimer();
      this.#sockets.delete(socket);
      if (this.#sockets.size === 0) this.#isCrowded = false;
    });
    this.#http.emit('connection', socket);
    socket.resume(); // listeners hand them over paused
  }

  async #answer(request: http.IncomingMessage, response: http.ServerResponse): Promise<void> {
    // One that stayed would keep its place from others.
    response.setHeader('connection', 'close');
    response.setHeader('content-type', PLAIN_TEXT);
    if (request.url!.split('?', 1)[0] !== '/metrics') {
      response.writeHead(404).end('metrics are at /metrics\n');
      return;
    }
    if (request.method !== 'GET') {
      response.writeHead(405, { allow: 'GET' }).end('metrics are only read\n');
      return;
    }
    try {
      const text = await renderMetrics(await this.#options.door.status({ atCheckpoint: true }));
      response.writeHead(200, { 'content-type': METRICS_CONTENT_TYPE }).end(text);
    } catch (error) {
      if (!(error instanceof StoreError)) throw error;
      // Who asks may be anyone: what it says of files and disks is for the log.
      this.#options.logger.warn({ code: error.code }, `metrics: ${error.message}`);
      response.writeHead(503).end('the store cannot tell its status; the log of its server says why\n');
    }
  }
}
