/**
 * The NBD server: listens on Unix sockets and TCP, and stops within a time.
 *
 * Invariants:
 * - Connections are limited in number. Those that have not finished their handshake are limited more, and the oldest of
 *   them makes room, so that clients that only connect keep nobody out.
 * - Memory for requests is limited for all connections together. While someone waits for it, a client that takes
 *   nothing off its hands for long enough is cut off.
 */

import net from 'node:net';
import type { Logger } from 'pino';
import { type Clock, systemClock } from '../base/clock.ts';
import { fromSystemError, StoreError } from '../base/errors.ts';
import { setKeepAliveProbes } from '../base/libc.ts';
import { listenOnFile } from '../base/unix-listener.ts';
import type { SocketPath } from '../base/socket-path.ts';
import { ServerBudget } from './budget.ts';
import { Complaints } from './complaints.ts';
import { Connection, type ConnectionContext, type ConnectionEvents } from './connection.ts';
import type { ExportSource } from './export-source.ts';
import type { TlsMode } from './handshake.ts';
import { DEFAULT_LIMITS, type NbdLimits } from './limits.ts';
import { SlabPool } from './receive-slabs.ts';
import { ReplyBufferPool } from './reply-buffer.ts';
import type { TlsCredentials } from './tls-credentials.ts';
import { TlsHandshakes } from './tls-handshakes.ts';

export type { ExportSource } from './export-source.ts';

/** A TCP peer that has been silent is asked this often, so many times. */
const KEEP_ALIVE_PROBE_SECONDS = 10;
const KEEP_ALIVE_PROBES = 3;
/** A client that sends or takes less than this while others wait for what it holds does not move. */
const PROGRESS_BYTES_MIN = 2 ** 20;
/** Reply buffers that are kept for reuse when nobody needs them. */
const POOL_KEPT_BYTES_MAX = 32 * 2 ** 20;

export interface TlsOffer {
  readonly mode: Exclude<TlsMode, 'off'>;
  readonly credentials: TlsCredentials;
}

export interface NbdServerOptions {
  readonly exports: ExportSource;
  readonly logger: Logger;
  /** Every export is read-only. */
  readonly readOnly?: boolean;
  /** Clients may ask for TLS, or must; undefined if there is none. */
  readonly tls?: TlsOffer | undefined;
  readonly limits?: Partial<NbdLimits>;
  readonly clock?: Clock;
}

export class NbdServer implements ConnectionEvents {
  readonly #limits: NbdLimits;
  readonly #context: ConnectionContext;
  readonly #logger: Logger;
  readonly #clock: Clock;
  readonly #listeners = new Map<net.Server, SocketPath | undefined>();
  readonly #connections = new Set<Connection>();
  /** Those that have not finished their handshake, oldest first. */
  readonly #negotiating = new Set<Connection>();
  #acceptedCount = 0;
  #isClosing = false;
  #isWatchingStalls = false;
  /** Called when the last connection is gone. */
  #onIdle: () => void = () => undefined;

  constructor(options: NbdServerOptions) {
    const limits = { ...DEFAULT_LIMITS, ...options.limits };
    this.#limits = limits;
    this.#logger = options.logger;
    this.#clock = options.clock ?? systemClock;
    const { tls } = options;
    const { optionsMax, requestBytesMax: payloadBytesMax, serverBytesMax, connectionsMax } = limits;
    this.#context = {
      terms: {
        exports: options.exports,
        readOnly: options.readOnly ?? false,
        tls: tls?.mode ?? 'off',
        optionsMax,
        payloadBytesMax,
      },
      tls: tls === undefined ? undefined : new TlsHandshakes(tls.credentials),
      limits,
      budget: new ServerBudget(serverBytesMax, connectionsMax, () => this.#watchStalls()),
      pool: new ReplyBufferPool(POOL_KEPT_BYTES_MAX),
      slabs: new SlabPool(POOL_KEPT_BYTES_MAX),
      clock: this.#clock,
      logger: options.logger,
      complaints: new Complaints(options.logger),
    };
  }

  /** Connections there are now. */
  get connectionCount(): number {
    return this.#connections.size;
  }

  /** Bytes that requests of all connections hold in memory. */
  get inFlightBytes(): number {
    return this.#context.budget.takenBytes;
  }

  /** Bytes that each connection may hold whatever others do. */
  get ownBytes(): number {
    return this.#context.budget.ownBytes;
  }

  /** Paths of Unix sockets by which other processes reach this server; those with a long path go through /proc. */
  get unixPaths(): string[] {
    return [...this.#listeners.values()].flatMap((socketPath) => socketPath?.publicPath ?? []);
  }

  /**
   * Listens on a Unix socket that only this user can connect to. The file goes away with the server.
   * @throws IN_USE (naming the path), NOT_FOUND, INVALID_ARGUMENT, IO
   */
  async listenUnix(path: string): Promise<void> {
    const listener = this.#newListener();
    this.#listeners.set(listener, await listenOnFile(listener, path));
    this.#watch(listener);
  }

  /** Listens on TCP; port 0 is any free one. @throws IN_USE, IO */
  async listenTcp(host: string, port: number): Promise<{ host: string; port: number }> {
    const listener = this.#newListener();
    try {
      await new Promise<void>((resolve, reject) => {
        listener.once('error', reject);
        listener.listen({ host, port }, () => {
          listener.off('error', reject);
          resolve();
        });
      });
    } catch (error) {
      const doing = `listening on ${host}:${port}`;
      if ((error as NodeJS.ErrnoException).code === 'EADDRINUSE')
        throw new StoreError('IN_USE', `${doing}: in use`, error);
      throw fromSystemError(error, doing);
    }
    this.#listeners.set(listener, undefined);
    this.#watch(listener);
    const address = listener.address() as net.AddressInfo;
    return { host: address.address, port: address.port };
  }

  /**
   * Stops: no new connection, ESHUTDOWN for new requests, those in flight finish. After `deadlineMs` what is left is
   * cut off; requests that the device still holds finish without an answer.
   */
  async close(deadlineMs: number): Promise<void> {
    this.#isClosing = true;
    const closed = [...this.#listeners].map(([listener, socketPath]) => closeListener(listener, socketPath));
    this.#listeners.clear();
    const idle = new Promise<void>((resolve) => {
      this.#onIdle = resolve;
    });
    for (const connection of this.#connections) connection.stop();
    const cancel = this.#clock.after(deadlineMs, () => {
      for (const connection of this.#connections) connection.destroy();
    });
    if (this.#connections.size > 0) await idle;
    cancel();
    await Promise.all(closed);
  }

  /** The handshake of `connection` is over. */
  negotiated(connection: Connection): void {
    this.#negotiating.delete(connection);
  }

  closed(connection: Connection): void {
    this.#negotiating.delete(connection);
    this.#connections.delete(connection);
    if (this.#connections.size === 0) this.#onIdle();
  }

  #newListener(): net.Server {
    return net.createServer(
      {
        allowHalfOpen: true,
        noDelay: true,
        keepAlive: true,
        keepAliveInitialDelay: this.#limits.keepAliveMs,
        pauseOnConnect: true,
      },
      (socket) => this.#accept(socket),
    );
  }

  /** Node sets when the first question comes; the system's own times for the next ones add up to eleven minutes. */
  #watchPeer(socket: net.Socket): void {
    const fd = (socket as unknown as { _handle?: { fd?: number } })._handle?.fd;
    if (socket.remoteAddress === undefined || fd === undefined || fd < 0) return;
    setKeepAliveProbes(fd, KEEP_ALIVE_PROBE_SECONDS, KEEP_ALIVE_PROBES);
  }

  #watch(listener: net.Server): void {
    // Such as too many open files: this connection is lost, the server is not.
    listener.on('error', (error) => this.#logger.error({ err: error }, 'a connection could not be accepted'));
  }

  #accept(socket: net.Socket): void {
    const isFull = this.#connections.size >= this.#limits.connectionsMax;
    if (isFull) this.#context.complaints.note('there are too many connections', this.#acceptedCount);
    if (this.#isClosing || isFull) {
      socket.on('error', () => undefined);
      socket.destroy();
      return;
    }
    this.#watchPeer(socket);
    const connection = new Connection(socket, this.#context, ++this.#acceptedCount, this);
    this.#connections.add(connection);
    this.#negotiating.add(connection);
    if (this.#negotiating.size > this.#limits.handshakesMax) {
      this.#context.complaints.note('there are too many clients without an export', this.#acceptedCount);
      const [oldest] = this.#negotiating;
      this.#negotiating.delete(oldest!);
      oldest!.destroy();
    }
  }

  /** Someone waits for memory: whoever holds some and does not move until the time is over is cut off. */
  #watchStalls(): void {
    if (this.#isWatchingStalls) return;
    this.#isWatchingStalls = true;
    const before = new Map([...this.#connections].map((each) => [each, each.progressBytes]));
    this.#clock.after(this.#limits.stallMsMax, () => {
      this.#isWatchingStalls = false;
      if (!this.#context.budget.isContended) return;
      for (const connection of this.#connections) {
        const moved = connection.progressBytes - (before.get(connection) ?? 0);
        if (!connection.holdsMemory || !before.has(connection) || moved >= PROGRESS_BYTES_MIN) continue;
        this.#logger.warn('a client that holds memory and does not move is cut off: others wait for it');
        connection.destroy();
      }
      if (this.#context.budget.isContended) this.#watchStalls();
    });
  }
}

function closeListener(listener: net.Server, socketPath: SocketPath | undefined): Promise<void> {
  return new Promise((resolve) => {
    listener.close(() => {
      socketPath?.close();
      resolve();
    });
  });
}
