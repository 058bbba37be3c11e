/**
 * Where other stores connect: accepts them, by TLS unless they are on this machine, and serves a session to each.
 *
 * Invariants: who has not proved to have a key or a certificate says nothing that is listened to; connections are limited in
 * number, and their beginning in time; what one sends can end its own session, and nothing else.
 */

import type net from 'node:net';
import type { Duplex } from 'node:stream';
import type { Logger } from 'pino';
import { type ListenerAddress, isOfThisMachine } from '../base/address.ts';
import type { Clock } from '../base/clock.ts';
import { StoreError } from '../base/errors.ts';
import { Listeners } from '../base/listeners.ts';
import type { TlsCredentials } from '../tls/credentials.ts';
import { TlsHandshakes } from '../tls/handshakes.ts';
import type { Store } from '../volume/store.ts';
import { Channel } from './channel.ts';
import { serveSession } from './session.ts';

const CONNECTIONS_MAX = 64;
const HANDSHAKE_MS_MAX = 10_000;
const KEEP_ALIVE_MS = 30_000;

export interface ListenerOptions {
  readonly store: Store;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Undefined where there is no TLS. */
  readonly credentials: TlsCredentials | undefined;
  /** Whether TCP of other machines is listened to without TLS. */
  readonly isInsecure: boolean;
}

export class ReplicationListener {
  readonly #options: ListenerOptions;
  readonly #tls: TlsHandshakes | undefined;
  readonly #listeners: Listeners;
  /** Names of listeners that are Unix sockets. */
  readonly #local = new Set<string>();
  readonly #sockets = new Set<net.Socket>();
  readonly #sessions = new Set<Promise<void>>();
  #isClosing = false;

  constructor(options: ListenerOptions) {
    this.#options = options;
    const { credentials, logger } = options;
    this.#tls = credentials === undefined ? undefined : new TlsHandshakes(credentials);
    const accepted = (socket: net.Socket, name: string): void => this.#accept(socket, name);
    this.#listeners = new Listeners({ keepAliveMs: KEEP_ALIVE_MS, logger, accepted });
  }

  /** Sessions that there are now. */
  get sessionCount(): number {
    return this.#sessions.size;
  }

  /** Answers where it listens; port 0 is any free one. @throws INVALID_ARGUMENT (no TLS), IN_USE, NOT_FOUND, IO */
  async listen(address: ListenerAddress): Promise<ListenerAddress> {
    if ('socketPath' in address) {
      this.#local.add(address.socketPath);
      await this.#listeners.openUnix(address.socketPath);
      return address;
    }
    if (this.#tls === undefined && !this.#options.isInsecure && !isOfThisMachine(address))
      throw new StoreError(
        'INVALID_ARGUMENT',
        `--replication-listen ${address.host}:${address.port} needs --tls-psk or --tls-certificates: whoever reaches the port could read and replace volumes; --replication-insecure accepts that`,
      );
    return await this.#listeners.openTcp(address.host, address.port);
  }

  /** Ends all sessions; what has come of their streams is kept. */
  async close(): Promise<void> {
    this.#isClosing = true;
    for (const socket of this.#sockets) socket.destroy();
    await Promise.all([this.#listeners.close(), ...this.#sessions]);
  }

  #accept(socket: net.Socket, listener: string): void {
    const { logger, clock } = this.#options;
    socket.on('error', (error) => logger.debug({ err: error }, 'replication: a connection failed'));
    if (this.#isClosing || this.#sockets.size >= CONNECTIONS_MAX) {
      logger.warn(
        { connections: this.#sockets.size },
        'replication: a connection was refused, there are too many',
      );
      return void socket.destroy();
    }
    this.#sockets.add(socket);
    socket.once('close', () => this.#sockets.delete(socket));
    if (this.#tls === undefined || this.#local.has(listener)) return this.#serve(socket, undefined);
    const cancelTimer = clock.after(HANDSHAKE_MS_MAX, () => socket.destroy());
    this.#tls.begin(socket, {
      encrypted: (encrypted, peerName) => {
        cancelTimer();
        this.#serve(encrypted, peerName);
      },
      tlsFailed: (reason, error) => {
        cancelTimer();
        if (reason !== undefined) logger.warn({ err: error }, `replication: ${reason}`);
        socket.destroy();
      },
    });
  }

  #serve(socket: Duplex, peerName: string | undefined): void {
    const session = this.#session(socket, peerName).finally(() => this.#sessions.delete(session));
    this.#sessions.add(session);
  }

  async #session(socket: Duplex, peerName: string | undefined): Promise<void> {
    const { store, clock, logger } = this.#options;
    const channel = new Channel(socket, clock);
    try {
      await serveSession(store, channel, () => clock.now());
      await channel.end();
    } catch (error) {
      if (!(error instanceof StoreError)) throw error;
      logger.warn({ code: error.code, peer: peerName }, `replication: ${error.message}`);
      await channel.refuse(error);
    } finally {
      channel.destroy();
    }
  }
}
