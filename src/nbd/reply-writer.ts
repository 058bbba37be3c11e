/**
 * Sends replies, many at a time: all of one turn of the event loop go out in one write.
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
import { type BufferOwner, type ReplyBuffer, type ReplyBufferPool } from './reply-buffer.ts';

/** Fits the second-level cache of a core, and what a Unix socket takes at once. */
const ARENA_BYTES = 256 * 1024;

export class ReplyWriter implements BufferOwner {
  readonly #socket: Socket;
  readonly #pool: ReplyBufferPool;
  readonly #budget: Budget;
  /** Called when the socket took replies, so that a connection that waits for this can go on. */
  readonly #onSent: (bytes: number) => void;

  #arena: ReplyBuffer | undefined;
  /** Complete and not sent yet, but for the arena. */
  #ready: ReplyBuffer[] = [];
  #isClosed = false;

  /** Bytes of replies that the socket has not taken. */
  unsentBytes = 0;

  constructor(socket: Socket, pool: ReplyBufferPool, budget: Budget, onSent: (bytes: number) => void) {
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
    const bytes = buffer.sent - buffer.settled;
    this.#settle(buffer, buffer.sent);
    if (buffer.filled === buffer.sent || this.#isClosed) {
      if (buffer === this.#arena) this.#arena = undefined;
      this.#pool.give(buffer);
    }
    this.#onSent(bytes);
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
