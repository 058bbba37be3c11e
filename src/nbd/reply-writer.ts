/**
 * Puts replies together and sends them, many at a time: all replies of one turn of the event loop go out in one write.
 *
 * Small replies are encoded one behind the other in an arena; a read fills its place there directly. Large reads have
 * a buffer of their own. `flush` hands all that is complete to the socket.
 *
 * Invariants:
 * - Only complete replies are sent: bytes reserved and not committed are overwritten by the next reply.
 * - A buffer goes back to the pool when the socket has called back for each write of it, never before.
 * - Every byte from commit to callback counts in the budget.
 */

import type { Socket } from 'node:net';
import type { Budget } from './budget.ts';
import * as nbd from './protocol.ts';
import { type BufferOwner, type ReplyBuffer, type ReplyBufferPool } from './reply-buffer.ts';

/** Fits the second-level cache of a core, and what a Unix socket takes at once. */
const ARENA_BYTES = 256 * 1024;

/** Header of a successful read under structured replies: the chunk's, and the offset. */
const STRUCTURED_READ_BYTES = nbd.STRUCTURED_REPLY_BYTES + 8;
const TWO_32 = 2 ** 32;

export class ReplyWriter implements BufferOwner {
  readonly #socket: Socket;
  readonly #pool: ReplyBufferPool;
  readonly #budget: Budget;
  /** Called when the socket took replies, so that a connection that waits for this can go on. */
  readonly #onSent: () => void;

  #arena: ReplyBuffer | undefined;
  /** Complete and not sent yet, but for the arena. */
  #ready: ReplyBuffer[] = [];
  #isClosed = false;

  /** Bytes of replies that the socket has not taken. */
  unsentBytes = 0;

  constructor(socket: Socket, pool: ReplyBufferPool, budget: Budget, onSent: () => void) {
    this.#socket = socket;
    this.#pool = pool;
    this.#budget = budget;
    this.#onSent = onSent;
  }

  /** The arena with room for `bytes` at its `filled`; nothing is sent of it before `commit`. */
  reserve(bytes: number): ReplyBuffer {
    let arena = this.#arena;
    if (arena !== undefined && arena.filled + bytes <= arena.bytes.length) return arena;
    // A full arena is sent at once: the client can work on it while the next one fills.
    if (arena !== undefined) {
      this.#arena = undefined;
      this.#ready.push(arena);
      this.flush();
    }
    arena = this.#pool.take(ARENA_BYTES, this);
    this.#arena = arena;
    return arena;
  }

  /** The next `bytes` of the arena are a complete reply. */
  commit(arena: ReplyBuffer, bytes: number): void {
    arena.filled += bytes;
    this.#count(bytes);
  }

  /** A reply without payload. */
  simple(error: number, cookieHigh: number, cookieLow: number): void {
    const arena = this.reserve(nbd.SIMPLE_REPLY_BYTES);
    writeSimple(arena.bytes, arena.filled, error, cookieHigh, cookieLow);
    this.commit(arena, nbd.SIMPLE_REPLY_BYTES);
  }

  /** An error under structured replies. No message: it could name what is the server's business. */
  structuredError(error: number, cookieHigh: number, cookieLow: number): void {
    const arena = this.reserve(nbd.STRUCTURED_REPLY_BYTES + 6);
    const at = arena.filled;
    writeStructured(arena.bytes, at, nbd.NBD_REPLY_TYPE_ERROR, cookieHigh, cookieLow, 6);
    arena.bytes.writeUInt32BE(error, at + nbd.STRUCTURED_REPLY_BYTES);
    arena.bytes.writeUInt16BE(0, at + nbd.STRUCTURED_REPLY_BYTES + 4);
    this.commit(arena, nbd.STRUCTURED_REPLY_BYTES + 6);
  }

  /** Success without content, under structured replies. */
  structuredNone(cookieHigh: number, cookieLow: number): void {
    const arena = this.reserve(nbd.STRUCTURED_REPLY_BYTES);
    writeStructured(arena.bytes, arena.filled, nbd.NBD_REPLY_TYPE_NONE, cookieHigh, cookieLow, 0);
    this.commit(arena, nbd.STRUCTURED_REPLY_BYTES);
  }

  /** A buffer of its own for a read: the payload goes to HEADROOM_BYTES. Then `sendOwn` or `drop` it. */
  takeOwn(payloadBytes: number): ReplyBuffer {
    return this.#pool.take(payloadBytes, this);
  }

  /** The reply in `own`, header included, lies between `start` and `end`. */
  sendOwn(own: ReplyBuffer, start: number, end: number): void {
    own.reset(start);
    own.filled = end;
    this.#count(end - start);
    this.#ready.push(own);
  }

  drop(own: ReplyBuffer): void {
    this.#pool.give(own);
  }

  /** Hands everything complete to the socket. */
  flush(): void {
    if (this.#isClosed) return;
    const ready = this.#ready;
    if (ready.length > 0) {
      this.#socket.cork();
      for (const buffer of ready) this.#write(buffer);
      if (this.#arena !== undefined) this.#write(this.#arena);
      ready.length = 0;
      this.#socket.uncork();
    } else if (this.#arena !== undefined) {
      this.#write(this.#arena);
    }
  }

  #write(buffer: ReplyBuffer): void {
    const { sent, filled } = buffer;
    if (sent === filled) {
      // An arena that filled up after its last flush.
      if (buffer.writes === 0 && buffer !== this.#arena) this.#pool.give(buffer);
      return;
    }
    buffer.sent = filled;
    buffer.writes += 1;
    this.#socket.write(buffer.bytes.subarray(sent, filled), buffer.onWritten);
  }

  /** The socket is done with all writes of `buffer`, or has failed. */
  written(buffer: ReplyBuffer): void {
    this.#settle(buffer, buffer.sent);
    if (buffer.filled > buffer.sent && !this.#isClosed) return;
    if (buffer === this.#arena) this.#arena = undefined;
    this.#pool.give(buffer);
    this.#onSent();
  }

  /** The socket is gone: nothing more is sent. What it still writes goes back to the pool when it calls back. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    const buffers = this.#ready;
    if (this.#arena !== undefined) buffers.push(this.#arena);
    this.#arena = undefined;
    this.#ready = [];
    for (const buffer of buffers) {
      const unsent = buffer.filled - buffer.sent;
      this.#budget.give(unsent);
      this.unsentBytes -= unsent;
      buffer.filled = buffer.sent;
      if (buffer.writes === 0) {
        this.#settle(buffer, buffer.sent);
        this.#pool.give(buffer);
      }
    }
  }

  #count(bytes: number): void {
    this.unsentBytes += bytes;
    this.#budget.take(bytes);
  }

  #settle(buffer: ReplyBuffer, end: number): void {
    const bytes = end - buffer.settled;
    buffer.settled = end;
    this.unsentBytes -= bytes;
    this.#budget.give(bytes);
  }
}

export function readHeaderBytes(structured: boolean): number {
  return structured ? STRUCTURED_READ_BYTES : nbd.SIMPLE_REPLY_BYTES;
}

/** Writes the header of a successful read of `lengthBytes` at `offset`; the payload follows it. */
export function writeReadHeader(
  bytes: Buffer,
  at: number,
  structured: boolean,
  cookieHigh: number,
  cookieLow: number,
  offset: number,
  lengthBytes: number,
): void {
  if (!structured) return writeSimple(bytes, at, nbd.NBD_SUCCESS, cookieHigh, cookieLow);
  writeStructured(bytes, at, nbd.NBD_REPLY_TYPE_OFFSET_DATA, cookieHigh, cookieLow, 8 + lengthBytes);
  bytes.writeUInt32BE(Math.floor(offset / TWO_32), at + 20);
  bytes.writeUInt32BE(offset % TWO_32, at + 24);
}

function writeSimple(bytes: Buffer, at: number, error: number, cookieHigh: number, cookieLow: number): void {
  bytes.writeUInt32BE(nbd.NBD_SIMPLE_REPLY_MAGIC, at);
  bytes.writeUInt32BE(error, at + 4);
  bytes.writeUInt32BE(cookieHigh, at + 8);
  bytes.writeUInt32BE(cookieLow, at + 12);
}

/** Every reply is one chunk, so every chunk is the last of its reply. */
export function writeStructured(
  bytes: Buffer,
  at: number,
  type: number,
  cookieHigh: number,
  cookieLow: number,
  payloadBytes: number,
): void {
  bytes.writeUInt32BE(nbd.NBD_STRUCTURED_REPLY_MAGIC, at);
  bytes.writeUInt16BE(nbd.NBD_REPLY_FLAG_DONE, at + 4);
  bytes.writeUInt16BE(type, at + 6);
  bytes.writeUInt32BE(cookieHigh, at + 8);
  bytes.writeUInt32BE(cookieLow, at + 12);
  bytes.writeUInt32BE(payloadBytes, at + 16);
}
