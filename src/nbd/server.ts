/**
 * The NBD server: listens on Unix sockets and TCP, and stops within a time.
 *
 * Invariants:
 * - Connections are limited in number. Those that have not finished their handshake are limited more, and the oldest of
 *   them makes room, so that clients that only connect keep nobody out.
 * - While anybody is served, connections are accepted at a pace: who is connected comes first.
 * - Memory for requests is limited for all connections together. While someone waits for it, a client that takes
 *   nothing off its hands for long enough is cut off.
 */

import type net from 'node:net';
import type { Logger } from 'pino';
import { type Clock, systemClock } from '../base/clock.ts';
import { setKeepAliveProbes } from '../base/libc.ts';
import { AccessRules } from './access-rules.ts';
import { ServerBudget } from './budget.ts';
import { Complaints } from './complaints.ts';
import { Connection, type ConnectionContext, type ConnectionEvents } from './connection.ts';
import { type ExportSource, offerOf } from './export-source.ts';
import type { HandshakeTerms, TlsMode } from './handshake.ts';
import { DEFAULT_LIMITS, type NbdLimits } from './limits.ts';
import type { TcpAddress } from '../base/address.ts';
import { Listeners, type NamedListener } from '../base/listeners.ts';
import { SlabPool } from './receive-slabs.ts';
import { ReplyBufferPool } from './reply-buffer.ts';
import type { TlsCredentials } from '../tls/credentials.ts';
import { TlsHandshakes } from '../tls/handshakes.ts';

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
  /** Who is offered which of them; without, everybody all. */
  readonly access?: AccessRules;
  readonly logger: Logger;
  /** Every export is read-only. */
  readonly readOnly?: boolean;
  /** Clients may ask for TLS, or must; undefined if there is none. */
  readonly tls?: TlsOffer | undefined;
  readonly limits?: Partial<NbdLimits>;
  readonly clock?: Clock;
}

export class NbdServer implements ConnectionEvents {
  readonly #options: NbdServerOptions;
  readonly #access: AccessRules;
  readonly #limits: NbdLimits;
  readonly #context: ConnectionContext;
  readonly #logger: Logger;
  readonly #clock: Clock;
  readonly #listeners: Listeners;
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
    this.#options = options;
    this.#access = options.access ?? new AccessRules();
    this.#limits = limits;
    this.#logger = options.logger;
    this.#clock = options.clock ?? systemClock;
    const { serverBytesMax, connectionsMax, keepAliveMs, acceptsPerSecondMax } = limits;
    this.#listeners = new Listeners({
      keepAliveMs,
      logger: options.logger,
      pace: {
        perSecondMax: acceptsPerSecondMax,
        servedBytes: () => this.#servedBytes,
        clock: this.#clock,
      },
      accepted: (socket, listener) => this.#accept(socket, listener),
    });
    const { tls } = options;
    this.#context = {
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

  get listeners(): readonly NamedListener[] {
    return this.#listeners.list();
  }

  /**
   * Listens on a Unix socket that only this user can connect to. The file goes away with the server.
   * @throws IN_USE (naming the path), NOT_FOUND, INVALID_ARGUMENT, IO
   */
  async listenUnix(path: string): Promise<void> {
    await this.#listeners.openUnix(path);
  }

  /** Listens on TCP; port 0 is any free one. @throws IN_USE, IO */
  async listenTcp(host: string, port: number): Promise<TcpAddress> {
    return await this.#listeners.openTcp(host, port);
  }

  /** Listens on a socket that this process was started with. @throws INVALID_ARGUMENT (what it is), IO */
  async listenInherited(fd: number, name: string): Promise<void> {
    await this.#listeners.adopt(fd, name);
  }

  /**
   * Stops: no new connection, ESHUTDOWN for new requests, those in flight finish. After `deadlineMs` what is left is
   * cut off; requests that the device still holds finish without an answer.
   */
  async close(deadlineMs: number): Promise<void> {
    this.#isClosing = true;
    const closed = this.#listeners.close();
    const idle = new Promise<void>((resolve) => {
      this.#onIdle = resolve;
    });
    for (const connection of this.#connections) connection.stop();
    const cancel = this.#clock.after(deadlineMs, () => {
      for (const connection of this.#connections) connection.destroy();
    });
    if (this.#connections.size > 0) await idle;
    cancel();
    await closed;
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

  /** Node sets when the first question comes; the system's own times for the next ones add up to eleven minutes. */
  #watchPeer(socket: net.Socket): void {
    const fd = (socket as unknown as { _handle?: { fd?: number } })._handle?.fd;
    if (socket.remoteAddress === undefined || fd === undefined || fd < 0) return;
    setKeepAliveProbes(fd, KEEP_ALIVE_PROBE_SECONDS, KEEP_ALIVE_PROBES);
  }

  #accept(socket: net.Socket, listener: string): void {
    const isFull = this.#connections.size >= this.#limits.connectionsMax;
    if (isFull) this.#context.complaints.note('there are too many connections', this.#acceptedCount);
    if (this.#isClosing || isFull) {
      socket.on('error', () => undefined);
      socket.destroy();
      return;
    }
    this.#watchPeer(socket);
    const { exports, readOnly = false } = this.#options;
    const terms: HandshakeTerms = {
      offerTo: (peerName) => offerOf(exports, this.#access.grant(listener, peerName), readOnly),
      tls: this.#options.tls?.mode ?? 'off',
      optionsMax: this.#limits.optionsMax,
      payloadBytesMax: this.#limits.requestBytesMax,
    };
    const connection = new Connection(socket, this.#context, terms, ++this.#acceptedCount, this);
    this.#connections.add(connection);
    this.#negotiating.add(connection);
    if (this.#negotiating.size > this.#limits.handshakesMax) {
      this.#context.complaints.note('there are too many clients without an export', this.#acceptedCount);
      const [oldest] = this.#negotiating;
      this.#negotiating.delete(oldest!);
      oldest!.destroy();
    }
  }

  /** Of those that are connected. */
  get #servedBytes(): number {
    let bytes = 0;
    for (const connection of this.#connections) bytes += connection.progressBytes;
    return bytes;
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
