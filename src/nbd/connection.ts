/**
 * One client's socket, from accept to close: first the handshake, with TLS or without, then the transmission.
 *
 * Invariants:
 * - The first thing done with a socket is to listen for its errors: a reset ends this connection and nothing else.
 * - A handshake is over within its time, whatever the client does, and stops while its answers are not read. It has a
 *   few options in a turn of the event loop, so that others get theirs.
 * - Behind STARTTLS nothing that came in plain text is looked at: what came in one read with it ends the connection,
 *   and what came later is read by TLS, which fails.
 * - A device that the handshake opened belongs to the transmission, which releases it.
 */

import type { Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';
import type { Logger } from 'pino';
import type { Clock } from '../base/clock.ts';
import { assert } from '../base/errors.ts';
import { Budget, type ServerBudget } from './budget.ts';
import type { Complaints } from './complaints.ts';
import { type Agreement, Handshake, type HandshakeTerms } from './handshake.ts';
import type { NbdLimits } from './limits.ts';
import { type Slab, type SlabPool, SlabReader } from './receive-slabs.ts';
import type { ReplyBufferPool } from './reply-buffer.ts';
import { readIntoSlabs } from './slab-socket.ts';
import type { TlsClient, TlsHandshakes } from '../tls/handshakes.ts';
import { Transmission } from './transmission.ts';

/** How long a client has to take notice of our goodbye. */
const GOODBYE_MS = 200;
/** What one connection may take of a turn of the event loop for its options. */
const TURN_OPTIONS_MAX = 8;
const TURN_MS_MAX = 2;

/** What all connections of a server have in common. */
export interface ConnectionContext {
  /** Undefined where the terms offer no TLS. */
  readonly tls: TlsHandshakes | undefined;
  readonly limits: NbdLimits;
  readonly budget: ServerBudget;
  readonly pool: ReplyBufferPool;
  readonly slabs: SlabPool;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly complaints: Complaints;
}

/** Who is told of a connection's life. */
export interface ConnectionEvents {
  negotiated(connection: Connection): void;
  /** Called exactly once. */
  closed(connection: Connection): void;
}

export class Connection implements TlsClient {
  readonly #context: ConnectionContext;
  readonly #events: ConnectionEvents;
  readonly #number: number;
  readonly #cancelTimeout: () => void;
  readonly #reader: SlabReader;

  /** What is read and written: the accepted one, then TLS over it. */
  #socket: Socket;
  #handshake: Handshake | undefined;
  #transmission: Transmission | undefined;
  /** Bytes of the client that came while it had not read our answers, or behind its options of this turn. */
  #held: Buffer | undefined;
  #turnOptions = 0;

  constructor(
    accepted: Socket,
    context: ConnectionContext,
    terms: HandshakeTerms,
    number: number,
    events: ConnectionEvents,
  ) {
    accepted.on('error', (error) => this.#failed(error));
    this.#reader = new SlabReader(context.slabs);
    const socket = readIntoSlabs(accepted, this.#reader, (chunk, slab) => this.#received(chunk, slab));
    if (socket !== accepted) socket.on('error', (error) => this.#failed(error));
    socket.on('close', () => this.#closed());
    this.#socket = socket;
    this.#context = context;
    this.#events = events;
    this.#number = number;
    this.#cancelTimeout = context.clock.after(context.limits.handshakeMsMax, () => this.#timedOut());
    this.#handshake = new Handshake(terms, (bytes) => this.#socket.write(bytes));
    socket.on('end', () => this.#ended());
    socket.on('drain', this.#goOn);
    this.#handshake.begin();
  }

  get isNegotiating(): boolean {
    return this.#handshake !== undefined;
  }

  /** Lets requests in flight finish and says goodbye; a client that still haggles is shown the door. */
  stop(): void {
    if (this.#transmission === undefined) return this.destroy();
    this.#socket.once('finish', () => this.#context.clock.after(GOODBYE_MS, () => this.destroy()));
    this.#transmission.stop();
  }

  destroy(): void {
    this.#socket.destroy();
  }

  /** Bytes that the client has sent or taken in the transmission. */
  get progressBytes(): number {
    return this.#transmission?.progressBytes ?? 0;
  }

  /** True if this connection holds memory that others could have, and only its client could free it. */
  get holdsMemory(): boolean {
    return this.#transmission?.holdsMemory ?? false;
  }

  #received(chunk: Buffer, slab: Slab | undefined): void {
    if (this.#transmission !== undefined) this.#transmission.receive(chunk, slab);
    else this.#haggle(chunk);
  }

  /** The bytes hold until this returns. */
  #haggle(chunk: Buffer): void {
    const handshake = this.#handshake;
    const started = performance.now();
    let at = 0;
    while (handshake !== undefined && handshake.outcome === undefined && at < chunk.length) {
      // Answers pile up: not another option before the client has read them, nor before others had their turn.
      if (this.#socket.writableNeedDrain) return this.#hold(chunk.subarray(at));
      const isTurnOver = this.#turnOptions === TURN_OPTIONS_MAX || performance.now() - started > TURN_MS_MAX;
      if (isTurnOver) {
        setImmediate(this.#goOn);
        return this.#hold(chunk.subarray(at));
      }
      this.#turnOptions += 1;
      // A list of ten thousand exports is as many small replies.
      this.#socket.cork();
      at = handshake.receive(chunk, at);
      this.#socket.uncork();
    }
    const outcome = handshake?.outcome;
    if (outcome === undefined) return;
    if (outcome.kind === 'transmission') {
      this.#transmit(outcome.agreement, Buffer.from(chunk.subarray(at)));
    } else if (outcome.kind === 'starttls') {
      if (at < chunk.length) this.#refuse('bytes in plain text came with STARTTLS');
      else this.#beginTls();
    } else if (outcome.kind === 'abort') {
      this.#socket.destroySoon();
    } else {
      this.#refuse(outcome.reason);
    }
  }

  #refuse(reason: string): void {
    this.#context.complaints.note(reason, this.#number);
    this.#socket.destroy();
  }

  #beginTls(): void {
    const socket = this.#socket;
    // What comes from now on is for TLS, which reads it itself; Node sends its first word behind our answer.
    socket.pause();
    socket.off('drain', this.#goOn);
    const { tls } = this.#context;
    assert(tls !== undefined, 'TLS that is offered can be had');
    if (!socket.destroyed) tls.begin(socket, this);
  }

  encrypted(socket: TLSSocket, peerName: string | undefined): void {
    const handshake = this.#handshake;
    // It may be that the time was over, or that the server stopped.
    if (handshake === undefined) return void socket.destroy();
    this.#socket = socket;
    socket.on('error', (error) => {
      this.#failed(error);
      socket.destroy();
    });
    socket.on('end', () => this.#ended());
    socket.on('drain', this.#goOn);
    handshake.encrypted(peerName);
    socket.on('data', (chunk: Buffer) => this.#received(chunk, undefined));
  }

  tlsFailed(reason: string | undefined, error: Error): void {
    this.#failed(error);
    if (reason === undefined) this.#socket.destroy();
    else this.#refuse(reason);
  }

  #hold(rest: Buffer): void {
    this.#held = Buffer.from(rest);
    this.#socket.pause();
  }

  /** What was held may go on. */
  readonly #goOn = (): void => {
    this.#turnOptions = 0;
    const held = this.#held;
    if (held === undefined || this.#socket.writableNeedDrain) return;
    this.#held = undefined;
    this.#socket.resume();
    this.#haggle(held);
  };

  #transmit(agreement: Agreement, rest: Buffer): void {
    const client = this.#handshake?.peerName;
    this.#handshake = undefined;
    this.#cancelTimeout();
    this.#events.negotiated(this);
    this.#reader.useSlabs();
    const { style, readOnly, device } = agreement;
    const { pool, budget, limits, complaints } = this.#context;
    const number = this.#number;
    const logger = this.#context.logger.child({ connection: number, export: device.name, client });
    logger.debug({ style, readOnly }, 'transmission begins');
    const own = new Budget(limits.connectionBytesMax, budget);
    const complain = (reason: string): void => complaints.note(reason, number);
    this.#transmission = new Transmission(this.#socket, agreement, own, pool, logger, complain);
    if (rest.length > 0) this.#transmission.receive(rest, undefined);
  }

  #ended(): void {
    if (this.#transmission !== undefined) this.#transmission.end();
    else this.#socket.destroy();
  }

  #failed(error: Error): void {
    // A client that goes away without a word is no event; the socket closes by itself.
    this.#context.logger.debug({ err: error, connection: this.#number }, 'connection failed');
  }

  #timedOut(): void {
    if (!this.isNegotiating) return;
    this.#refuse('the handshake took too long');
  }

  #closed(): void {
    this.#cancelTimeout();
    this.#handshake = undefined;
    this.#held = undefined;
    this.#transmission?.close();
    this.#reader.close();
    this.#events.closed(this);
  }
}
