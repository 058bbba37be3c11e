/**
 * One client's socket, from accept to close: first the handshake, then the transmission.
 *
 * Invariants:
 * - The first thing done with a socket is to listen for its errors: a reset ends this connection and nothing else.
 * - A handshake is over within its time, whatever the client does, and stops while its answers are not read.
 * - A device that the handshake opened belongs to the transmission, which releases it.
 */

import type { Socket } from 'node:net';
import type { Logger } from 'pino';
import type { Clock } from '../base/clock.ts';
import { Budget } from './budget.ts';
import type { ExportSource } from './export-source.ts';
import { type Agreement, Handshake } from './handshake.ts';
import { type Slab, type SlabPool, SlabReader } from './receive-slabs.ts';
import type { ReplyBufferPool } from './reply-buffer.ts';
import { readIntoSlabs } from './slab-socket.ts';
import { Transmission } from './transmission.ts';

/** How long a client has to take notice of our goodbye. */
const GOODBYE_MS = 200;

/** What all connections of a server have in common. */
export interface ConnectionContext {
  readonly exports: ExportSource;
  readonly readOnly: boolean;
  readonly handshakeMsMax: number;
  /** In-flight bytes of one connection. */
  readonly connectionBytesMax: number;
  readonly budget: Budget;
  readonly pool: ReplyBufferPool;
  readonly slabs: SlabPool;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** Who is told of a connection's life. */
export interface ConnectionEvents {
  negotiated(connection: Connection): void;
  /** Called exactly once. */
  closed(connection: Connection): void;
}

export class Connection {
  readonly #context: ConnectionContext;
  readonly #socket: Socket;
  readonly #events: ConnectionEvents;
  readonly #logger: Logger;
  readonly #cancelTimeout: () => void;
  readonly #reader: SlabReader;

  #handshake: Handshake | undefined;
  #transmission: Transmission | undefined;
  /** Bytes of the client that came while it had not read our answers. */
  #held: Buffer | undefined;

  constructor(accepted: Socket, context: ConnectionContext, number: number, events: ConnectionEvents) {
    accepted.on('error', (error) => this.#failed(error));
    this.#reader = new SlabReader(context.slabs);
    const socket = readIntoSlabs(accepted, this.#reader, (chunk, slab) => this.#received(chunk, slab));
    if (socket !== accepted) socket.on('error', (error) => this.#failed(error));
    socket.on('close', () => this.#closed());
    this.#socket = socket;
    this.#context = context;
    this.#events = events;
    this.#logger = context.logger.child({ connection: number });
    this.#cancelTimeout = context.clock.after(context.handshakeMsMax, () => this.#timedOut());
    this.#handshake = new Handshake(context.exports, context.readOnly, (bytes) => socket.write(bytes));
    socket.on('end', () => this.#ended());
    socket.on('drain', () => this.#drained());
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

  /** Changes whenever the client sends something or takes something. */
  get progress(): number {
    return this.#transmission?.progress ?? 0;
  }

  /** True if this connection holds memory and only its client could free it. */
  get holdsMemory(): boolean {
    return this.#transmission?.holdsMemory ?? false;
  }

  #received(chunk: Buffer, slab: Slab | undefined): void {
    if (this.#transmission !== undefined) this.#transmission.receive(chunk, slab);
    else this.#haggle(slab === undefined ? chunk : Buffer.from(chunk)); // it may be held for longer than the slab
  }

  #haggle(chunk: Buffer): void {
    const handshake = this.#handshake;
    let at = 0;
    while (handshake !== undefined && handshake.outcome === undefined && at < chunk.length) {
      if (this.#socket.writableNeedDrain) {
        // Answers pile up: not another option before the client has read them.
        this.#held = chunk.subarray(at);
        this.#socket.pause();
        return;
      }
      at = handshake.receive(chunk, at);
    }
    const outcome = handshake?.outcome;
    if (outcome === undefined) return;
    if (outcome.kind === 'transmission') {
      this.#transmit(outcome.agreement, chunk.subarray(at));
    } else if (outcome.kind === 'abort') {
      this.#socket.destroySoon();
    } else {
      this.#logger.info({ reason: outcome.reason }, 'handshake failed');
      this.#socket.destroy();
    }
  }

  #drained(): void {
    const held = this.#held;
    if (held === undefined) return;
    this.#held = undefined;
    this.#socket.resume();
    this.#haggle(held);
  }

  #transmit(agreement: Agreement, rest: Buffer): void {
    this.#handshake = undefined;
    this.#cancelTimeout();
    this.#events.negotiated(this);
    const { structured, readOnly, device } = agreement;
    this.#logger.debug({ export: device.name, structured, readOnly }, 'transmission begins');
    const { pool, budget, connectionBytesMax } = this.#context;
    const own = new Budget(connectionBytesMax, budget);
    const logger = this.#logger.child({ export: device.name });
    this.#transmission = new Transmission(this.#socket, agreement, own, pool, logger);
    if (rest.length > 0) this.#transmission.receive(rest, undefined);
  }

  #ended(): void {
    if (this.#transmission !== undefined) this.#transmission.end();
    else this.#socket.destroy();
  }

  #failed(error: Error): void {
    // A client that goes away without a word is no event; the socket closes by itself.
    this.#logger.debug({ err: error }, 'connection failed');
  }

  #timedOut(): void {
    if (!this.isNegotiating) return;
    this.#logger.info('handshake timed out');
    this.#socket.destroy();
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
