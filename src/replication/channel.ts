/**
 * Messages over a connection, whatever it is: TCP, TLS or a Unix socket.
 *
 * Invariants:
 * - What the other end sends is read one piece at a time, when somebody asks for it: who does not ask holds it back.
 * - A channel on which the other end says nothing for half a minute, while somebody waits for it, is over; each end speaks
 *   every ten seconds. What is written and not taken is bounded: writers wait.
 * - After an error or `destroy` everything fails.
 */

import type { Duplex } from 'node:stream';
import type { Clock } from '../base/clock.ts';
import { AssertionError, type ErrorCode, StoreError } from '../base/errors.ts';
import {
  ALIVE,
  encodeJson,
  encodePieceHeader,
  garbled,
  type Message,
  MessageReader,
  PIECE_BYTES_MAX,
  REFUSED,
} from './messages.ts';

const ALIVE_EVERY_MS = 10_000;
const SILENCE_MS_MAX = 30_000;
const GOODBYE_MS_MAX = 1000;
const MESSAGE_CHARACTERS_MAX = 1000;

export class Channel {
  readonly #socket: Duplex;
  readonly #clock: Clock;
  readonly #reader = new MessageReader();
  readonly #input: AsyncIterator<Buffer>;
  #waiting: Iterator<Message> = [][Symbol.iterator]();
  #failure: StoreError | undefined;
  readonly #ending = new AbortController();
  readonly #whyGone: WhyGone;
  #hasHeard = false;
  #cancelAlive: () => void = () => undefined;

  /** `whyGone` says more of its end, for who knows what the connection was. */
  constructor(socket: Duplex, clock: Clock, whyGone: WhyGone = inItsWords) {
    this.#socket = socket;
    this.#clock = clock;
    this.#whyGone = whyGone;
    socket.on('error', (error) => this.#fail(this.#gone(error)));
    socket.on('close', () => this.#fail(this.#gone()));
    this.#input = socket[Symbol.asyncIterator]() as AsyncIterator<Buffer>;
    this.#sayAlive();
  }

  /** Aborted when it is over. */
  get over(): AbortSignal {
    return this.#ending.signal;
  }

  /** The next message that is not just a sign of life. @throws IO when the connection is over, CORRUPTION, what was refused */
  async next(): Promise<Message> {
    for (;;) {
      const message = this.#waiting.next();
      if (message.done === true) {
        this.#waiting = this.#reader.push(await this.#bytes());
        continue;
      }
      if (message.value.kind === ALIVE) continue;
      if (message.value.kind === REFUSED) throw refusalOf(message.value as { fields: object });
      return message.value;
    }
  }

  /** The fields of the next message, which has to be of this kind. @throws as `next` */
  async expect(kind: number): Promise<Record<string, unknown>> {
    const message = await this.next();
    if ('fields' in message && message.kind === kind) return message.fields;
    throw garbled(`a message of kind ${message.kind} came where ${kind} should`);
  }

  async say(kind: number, fields: object): Promise<void> {
    await this.#write([encodeJson(kind, fields)]);
  }

  /** Bytes of a stream, in pieces. Resolves when more may be written. */
  async stream(slices: readonly Buffer[]): Promise<void> {
    let pieces: Buffer[] = [];
    let bytes = 0;
    for (const slice of slices) {
      for (let at = 0; at < slice.length; ) {
        const part = slice.subarray(at, at + PIECE_BYTES_MAX - bytes);
        pieces.push(part);
        bytes += part.length;
        at += part.length;
        if (bytes < PIECE_BYTES_MAX) continue;
        await this.#write([encodePieceHeader(bytes), ...pieces]);
        [pieces, bytes] = [[], 0];
      }
    }
    if (bytes > 0) await this.#write([encodePieceHeader(bytes), ...pieces]);
  }

  /** Says why this is the end, as far as the other end listens. */
  async refuse({ code, message }: StoreError): Promise<void> {
    if (this.#failure !== undefined) return;
    this.#socket.write(encodeJson(REFUSED, { code, message: message.slice(0, MESSAGE_CHARACTERS_MAX) }));
    await this.end();
  }

  /** The last word has been said. Resolves when it is on its way, or the other end has not taken it for a while. */
  async end(): Promise<void> {
    this.#cancelAlive();
    await new Promise<void>((resolve) => {
      if (this.#socket.destroyed) return resolve();
      const giveUp = this.#clock.after(GOODBYE_MS_MAX, resolve);
      const isOver = (): void => {
        giveUp();
        resolve();
      };
      this.#socket.once('close', isOver);
      this.#socket.end(isOver);
    });
  }

  destroy(reason = new StoreError('CLOSED', 'replication was stopped')): void {
    this.#fail(reason);
    this.#socket.destroy();
  }

  async #bytes(): Promise<Buffer> {
    if (this.#failure !== undefined) throw this.#failure;
    const cancel = this.#clock.after(SILENCE_MS_MAX, () => {
      this.destroy(
        new StoreError('IO', `the other end has said nothing for ${SILENCE_MS_MAX / 1000} seconds`),
      );
    });
    try {
      const next = await this.#input.next();
      if (next.done !== true) {
        this.#hasHeard = true;
        return next.value;
      }
    } catch (error) {
      throw this.#failure ?? this.#gone(error);
    } finally {
      cancel();
    }
    throw this.#failure ?? this.#gone();
  }

  async #write(slices: readonly Buffer[]): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure;
    const socket = this.#socket;
    socket.cork();
    for (const slice of slices) socket.write(slice);
    socket.uncork();
    if (!socket.writableNeedDrain) return;
    await new Promise<void>((resolve) => {
      const goOn = (): void => {
        socket.off('drain', goOn);
        socket.off('close', goOn);
        resolve();
      };
      socket.on('drain', goOn);
      socket.on('close', goOn);
    });
    if (this.#failure !== undefined) throw this.#failure;
  }

  #sayAlive(): void {
    this.#cancelAlive = this.#clock.after(ALIVE_EVERY_MS, () => {
      // Where something waits to be taken, that is a sign of life already.
      if (this.#failure === undefined && this.#socket.writableLength === 0)
        this.#socket.write(encodeJson(ALIVE, {}));
      this.#sayAlive();
    });
  }

  #gone(error?: unknown): StoreError {
    if (error instanceof AssertionError) throw error;
    if (error instanceof StoreError) return error;
    const why = this.#whyGone(error as Error | undefined, this.#hasHeard);
    return new StoreError('IO', `the connection to the other end is gone${why}`, error);
  }

  #fail(reason: StoreError): void {
    this.#failure ??= reason;
    this.#cancelAlive();
    this.#ending.abort();
  }
}

/** The end of the sentence that the connection is gone; `hasHeard`: the other end has said something. */
export type WhyGone = (error: Error | undefined, hasHeard: boolean) => string;

function inItsWords(error: Error | undefined): string {
  return error === undefined ? '' : `: ${error.message}`;
}

/** Codes that the other end may give, as they are. */
const CODES = new Set<string>([
  'NOT_FOUND',
  'ALREADY_EXISTS',
  'INVALID_ARGUMENT',
  'READ_ONLY',
  'IN_USE',
  'WRONG_BASE',
  'UNSUPPORTED_FORMAT',
  'NO_SPACE',
  'CORRUPTION',
  'POISONED',
  'CLOSED',
]);

function refusalOf({ fields }: { fields: object }): StoreError {
  const { code, message } = fields as { code?: unknown; message?: unknown };
  const known = typeof code === 'string' && CODES.has(code) ? (code as ErrorCode) : 'IO';
  const said = typeof message === 'string' ? message.slice(0, MESSAGE_CHARACTERS_MAX) : 'it does not say why';
  // What is printed must not move a cursor.
  return new StoreError(known, `the other end refuses: ${said.replace(/\p{Cc}/gu, ' ')}`);
}
