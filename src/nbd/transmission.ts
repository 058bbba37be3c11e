/**
 * The transmission phase of one connection: take requests off the socket, hand them to the device, send the replies.
 *
 * A request goes: parsed in place -> admitted (there is memory and a turn for it) -> judged -> started -> replied to.
 * What the device can do at once is answered at once; the rest comes back through the `finish` methods, in any order.
 * Replies are collected and sent once a turn of the event loop.
 *
 * Invariants:
 * - A request is admitted only while the bytes in memory for this connection, and for the server, stay within their
 *   budgets and the client takes its replies. Otherwise the socket is paused: no limit is enforced by buffering.
 * - A refused WRITE's payload is passed over, so that the stream stays in step, and answered behind it.
 * - The device is released once: when the socket is gone and no request is with the device.
 */

import type { Socket } from 'node:net';
import type { Logger } from 'pino';
import { assert, type StoreError } from '../base/errors.ts';
import type { AllocationRun, BlockDevice } from '../volume/device.ts';
import type { Budget } from './budget.ts';
import type { Agreement } from './handshake.ts';
import * as nbd from './protocol.ts';
import type { Slab } from './receive-slabs.ts';
import { HEADROOM_BYTES, type ReplyBufferPool } from './reply-buffer.ts';
import { readHeaderBytes, ReplyWriter, writeReadHeader, writeStructured } from './reply-writer.ts';
import { BAD_MAGIC, HEADER, MORE, RequestParser } from './request-parser.ts';
import { verdict } from './request-rules.ts';
import { OtherCommand, ReadCommand, type RequestOwner, WriteCommand } from './requests.ts';

/** Requests of one connection that the device may be working on. */
const REQUESTS_MAX = 4096;
/** Replies the socket has not taken: beyond this the client gets no further before it reads. */
const UNSENT_BYTES_MAX = 4 * 2 ** 20;
/** Reads up to this size are collected in the arena, larger ones have a buffer of their own. */
const ARENA_READ_BYTES_MAX = 64 * 1024;
/** Extents in one reply to BLOCK_STATUS: 16 KiB of them. */
const EXTENTS_MAX = 2048;
/** What one connection may do in a turn of the event loop, so that others get theirs. */
const TURN_REQUESTS_MAX = 128;
const TURN_BYTES_MAX = 2 ** 20;

export class Transmission implements RequestOwner {
  // Constant after construction.
  readonly #socket: Socket;
  readonly #device: BlockDevice;
  readonly #agreement: Agreement;
  readonly #budget: Budget;
  readonly #logger: Pick<Logger, 'warn' | 'debug'>;
  readonly #replies: ReplyWriter;
  readonly #parser = new RequestParser();
  readonly #readHeaderBytes: number;

  // The request at the front.
  /** Its header is parsed, but it was not admitted. */
  #isWaiting = false;
  /** The error it is answered with once its payload has been passed over. */
  #refusal = nbd.NBD_SUCCESS;
  /** Bytes of its payload that are counted in the budget. */
  #payloadBytes = 0;

  // The connection.
  #requestsInFlight = 0;
  #isHeld = false;
  /** Replies are flushed when what is being done is done. */
  #isServing = false;
  #isTurnScheduled = false;
  #isFlushScheduled = false;
  /** Counted since the last turn that was scheduled: a quiet connection needs none. */
  #turnRequests = 0;
  #turnBytes = 0;
  #isStopping = false;
  /** The client has said its last word, or we ours. */
  #isEnding = false;
  #isClosed = false;
  #isReleased = false;
  #failures = 0;
  #progress = 0;

  constructor(
    socket: Socket,
    agreement: Agreement,
    budget: Budget,
    pool: ReplyBufferPool,
    logger: Pick<Logger, 'warn' | 'debug'>,
  ) {
    this.#socket = socket;
    this.#device = agreement.device;
    this.#agreement = agreement;
    this.#budget = budget;
    this.#logger = logger;
    this.#replies = new ReplyWriter(socket, pool, budget, this.#sent);
    this.#readHeaderBytes = readHeaderBytes(agreement.structured);
    this.#device.attach(() => this.#drop('the export was deleted or rolled back'));
  }

  /** Changes whenever the client sends something or takes something. */
  get progress(): number {
    return this.#progress;
  }

  /** True if this connection holds memory and only its client could free it. */
  get holdsMemory(): boolean {
    return this.#requestsInFlight === 0 && this.#budget.takenBytes > 0;
  }

  /** Bytes from the socket. */
  receive(chunk: Buffer, slab: Slab | undefined): void {
    this.#progress += 1;
    if (this.#isEnding || this.#isClosed) return;
    this.#parser.push(chunk, slab);
    this.#serve();
  }

  /** The client sends no more; it may still wait for replies. */
  end(): void {
    this.#isEnding = true;
    this.#endIfIdle();
  }

  /** Answers what is in flight, refuses what still comes, and says goodbye. */
  stop(): void {
    this.#isStopping = true;
    this.#wake();
    this.#endIfIdle();
  }

  /** The socket is gone. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#budget.forget(this.#wake);
    this.#parser.clear();
    this.#budget.give(this.#payloadBytes);
    this.#payloadBytes = 0;
    this.#replies.close();
    if (this.#failures > 0)
      this.#logger.debug({ failures: this.#failures }, 'requests failed on this connection');
    this.#releaseIfIdle();
  }

  /** Does what the input asks for, and sends what could be answered at once: a lone client waits for each reply. */
  #serve(): void {
    this.#isServing = true;
    this.#parse();
    this.#isServing = false;
    this.#replies.flush();
    if (this.#turnRequests >= TURN_REQUESTS_MAX / 2 || this.#turnBytes >= TURN_BYTES_MAX / 2)
      this.#scheduleTurn();
  }

  #parse(): void {
    const parser = this.#parser;
    while (!this.#isEnding && !this.#isClosed) {
      if (!this.#isWaiting) {
        const found = parser.step();
        if (found === MORE) {
          if (this.#isHeld) this.#unhold();
          return;
        }
        if (found === BAD_MAGIC) return this.#drop('bad request magic');
        if (found !== HEADER) {
          this.#payloadPassed();
          continue;
        }
      }
      this.#isWaiting = !this.#isAdmitted();
      if (this.#isWaiting) return this.#hold();
      this.#start();
    }
  }

  /** True if there is memory and a turn for the request at the front; if not, someone will call `#wake`. */
  #isAdmitted(): boolean {
    const { type, lengthBytes } = this.#parser;
    const carriesBytes = type === nbd.NBD_CMD_READ || type === nbd.NBD_CMD_WRITE;
    // What is going to be refused needs no memory.
    const isRefused = this.#isStopping || lengthBytes > nbd.PAYLOAD_BYTES_MAX;
    const bytes = carriesBytes && !isRefused ? lengthBytes : 0;
    if (this.#requestsInFlight >= REQUESTS_MAX || this.#replies.unsentBytes >= UNSENT_BYTES_MAX) return false;
    if (this.#turnRequests >= TURN_REQUESTS_MAX || this.#turnBytes >= TURN_BYTES_MAX) {
      this.#scheduleTurn();
      return false;
    }
    if (!this.#budget.fits(bytes)) {
      this.#budget.wait(this.#wake);
      return false;
    }
    this.#turnRequests += 1;
    this.#turnBytes += bytes;
    return true;
  }

  #start(): void {
    const parser = this.#parser;
    const { type, cookieHigh, cookieLow } = parser;
    if (type === nbd.NBD_CMD_DISC) return this.end();
    const error = this.#isStopping ? nbd.NBD_ESHUTDOWN : verdict(parser, this.#agreement);
    if (type === nbd.NBD_CMD_WRITE) {
      this.#refusal = error;
      if (error !== nbd.NBD_SUCCESS) return parser.skip();
      this.#payloadBytes = parser.lengthBytes;
      this.#budget.take(parser.lengthBytes);
      return parser.collect();
    }
    if (error !== nbd.NBD_SUCCESS) this.#reply(error, type, cookieHigh, cookieLow);
    else if (type === nbd.NBD_CMD_READ) this.#read();
    else this.#startOther();
  }

  #payloadPassed(): void {
    const parser = this.#parser;
    const { cookieHigh, cookieLow, lengthBytes } = parser;
    if (this.#refusal !== nbd.NBD_SUCCESS || lengthBytes === 0) {
      return this.#reply(this.#refusal, nbd.NBD_CMD_WRITE, cookieHigh, cookieLow);
    }
    this.#payloadBytes = 0;
    this.#requestsInFlight += 1;
    const forceUnitAccess = (parser.flags & nbd.NBD_CMD_FLAG_FUA) !== 0;
    this.#device.write(
      new WriteCommand(
        this,
        parser.offset,
        lengthBytes,
        parser.payload,
        parser.payloadSlabs,
        forceUnitAccess,
        cookieHigh,
        cookieLow,
      ),
    );
  }

  #read(): void {
    const { offset, lengthBytes, cookieHigh, cookieLow } = this.#parser;
    const { structured } = this.#agreement;
    if (lengthBytes === 0) return this.#reply(nbd.NBD_SUCCESS, nbd.NBD_CMD_READ, cookieHigh, cookieLow);
    const headerBytes = this.#readHeaderBytes;
    if (lengthBytes <= ARENA_READ_BYTES_MAX) {
      const arena = this.#replies.reserve(headerBytes + lengthBytes);
      const at = arena.filled;
      if (this.#device.tryRead(arena.bytes, at + headerBytes, offset, lengthBytes)) {
        writeReadHeader(arena.bytes, at, structured, cookieHigh, cookieLow, offset, lengthBytes);
        this.#replies.commit(arena, headerBytes + lengthBytes);
        return;
      }
    }
    const own = this.#replies.takeOwn(lengthBytes);
    const request = new ReadCommand(this, offset, lengthBytes, cookieHigh, cookieLow, own);
    this.#requestsInFlight += 1;
    this.#budget.take(lengthBytes);
    if (
      lengthBytes > ARENA_READ_BYTES_MAX &&
      this.#device.tryRead(own.bytes, HEADROOM_BYTES, offset, lengthBytes)
    ) {
      return this.finishRead(request, undefined);
    }
    void this.#device
      .read(own.bytes, HEADROOM_BYTES, offset, lengthBytes)
      .then(request.succeed, request.fail);
  }

  #startOther(): void {
    const { type, flags, offset, lengthBytes, cookieHigh, cookieLow } = this.#parser;
    // A hint that needs no work, and nothing to do for an empty range.
    if (type === nbd.NBD_CMD_CACHE || (lengthBytes === 0 && type !== nbd.NBD_CMD_FLUSH)) {
      return this.#reply(nbd.NBD_SUCCESS, type, cookieHigh, cookieLow);
    }
    const request = new OtherCommand(this, type, flags, offset, lengthBytes, cookieHigh, cookieLow);
    this.#requestsInFlight += 1;
    if (type === nbd.NBD_CMD_FLUSH) {
      void this.#device.flush().then(request.succeed, request.fail);
    } else if (type === nbd.NBD_CMD_BLOCK_STATUS) {
      const runsMax = (flags & nbd.NBD_CMD_FLAG_REQ_ONE) !== 0 ? 1 : EXTENTS_MAX;
      void this.#device.allocation(offset, lengthBytes, runsMax).then(request.describe, request.fail);
    } else {
      const forceUnitAccess = (flags & nbd.NBD_CMD_FLAG_FUA) !== 0;
      void this.#device.zero(offset, lengthBytes, forceUnitAccess).then(request.succeed, request.fail);
    }
  }

  finishWrite(request: WriteCommand, error: StoreError | undefined): void {
    this.#budget.give(request.lengthBytes);
    this.#flushAfterStep();
    this.#finish(nbd.NBD_CMD_WRITE, request, error);
  }

  finishRead(request: ReadCommand, error: StoreError | undefined): void {
    const { buffer, lengthBytes, cookieHigh, cookieLow, offset } = request;
    const { structured } = this.#agreement;
    const headerBytes = this.#readHeaderBytes;
    this.#budget.give(lengthBytes);
    if (error !== undefined || this.#isClosed) {
      this.#replies.drop(buffer);
      return this.#finish(nbd.NBD_CMD_READ, request, error);
    }
    if (lengthBytes <= ARENA_READ_BYTES_MAX) {
      // Copied once more: a system call with many small pieces costs more than that.
      const arena = this.#replies.reserve(headerBytes + lengthBytes);
      const at = arena.filled;
      writeReadHeader(arena.bytes, at, structured, cookieHigh, cookieLow, offset, lengthBytes);
      buffer.bytes.copy(arena.bytes, at + headerBytes, HEADROOM_BYTES, HEADROOM_BYTES + lengthBytes);
      this.#replies.commit(arena, headerBytes + lengthBytes);
      this.#replies.drop(buffer);
    } else {
      const at = HEADROOM_BYTES - headerBytes;
      writeReadHeader(buffer.bytes, at, structured, cookieHigh, cookieLow, offset, lengthBytes);
      this.#replies.sendOwn(buffer, at, HEADROOM_BYTES + lengthBytes);
    }
    this.#finished();
  }

  finishOther(request: OtherCommand, error: StoreError | undefined): void {
    this.#finish(request.type, request, error);
  }

  finishBlockStatus(request: OtherCommand, runs: readonly AllocationRun[]): void {
    assert(runs.length > 0 && runs.length <= EXTENTS_MAX, 'a device describes at least one extent');
    if (!this.#isClosed) {
      const payloadBytes = 4 + 8 * runs.length;
      const arena = this.#replies.reserve(nbd.STRUCTURED_REPLY_BYTES + payloadBytes);
      const { bytes, filled } = arena;
      writeStructured(
        bytes,
        filled,
        nbd.NBD_REPLY_TYPE_BLOCK_STATUS,
        request.cookieHigh,
        request.cookieLow,
        payloadBytes,
      );
      let at = bytes.writeUInt32BE(nbd.BASE_ALLOCATION_ID, filled + nbd.STRUCTURED_REPLY_BYTES);
      let left = request.lengthBytes;
      for (const run of runs) {
        assert(
          run.lengthBytes > 0 && run.lengthBytes <= left,
          'extents lie inside the range that was asked for',
        );
        left -= run.lengthBytes;
        at = bytes.writeUInt32BE(run.lengthBytes, at);
        at = bytes.writeUInt32BE(run.allocated ? 0 : nbd.NBD_STATE_HOLE | nbd.NBD_STATE_ZERO, at);
      }
      this.#replies.commit(arena, nbd.STRUCTURED_REPLY_BYTES + payloadBytes);
    }
    this.#finished();
  }

  #finish(
    type: number,
    request: WriteCommand | ReadCommand | OtherCommand,
    error: StoreError | undefined,
  ): void {
    if (error !== undefined) this.#logFailure(type, request, error);
    if (!this.#isClosed) {
      const value = error === undefined ? nbd.NBD_SUCCESS : nbd.NBD_ERROR[error.code];
      this.#reply(value, type, request.cookieHigh, request.cookieLow);
    }
    this.#finished();
  }

  #finished(): void {
    this.#requestsInFlight -= 1;
    if (this.#isClosed) return this.#releaseIfIdle();
    this.#scheduleFlush();
    if (this.#isEnding || this.#isStopping) this.#endIfIdle();
  }

  /** A reply without data. Errors and empty reads need a structured one where that was negotiated. */
  #reply(error: number, type: number, cookieHigh: number, cookieLow: number): void {
    const { structured } = this.#agreement;
    if (structured && error !== nbd.NBD_SUCCESS) this.#replies.structuredError(error, cookieHigh, cookieLow);
    else if (structured && type === nbd.NBD_CMD_READ) this.#replies.structuredNone(cookieHigh, cookieLow);
    else this.#replies.simple(error, cookieHigh, cookieLow);
    this.#scheduleFlush();
  }

  /** An errno says little: the error itself is kept here. The 1st, 2nd, 4th, 8th ...: a full disk fails thousands. */
  #logFailure(type: number, request: { offset: number; lengthBytes: number }, error: StoreError): void {
    const count = ++this.#failures;
    if ((count & (count - 1)) !== 0) return;
    const { offset, lengthBytes } = request;
    const command = nbd.COMMAND_NAMES[type];
    this.#logger.warn(
      { err: error, code: error.code, command, offset, lengthBytes, count },
      'a request failed',
    );
  }

  /** Something changed that held input may have waited for. */
  readonly #wake = (): void => {
    if (this.#isHeld && !this.#isClosed) this.#scheduleTurn();
  };

  readonly #sent = (): void => {
    this.#progress += 1;
    this.#wake();
  };

  /** Requests that the device finishes together are answered together. */
  #scheduleFlush(): void {
    if (!this.#isServing && !this.#isFlushScheduled) this.#scheduleTurn();
  }

  /** Writes of one record finish in one step: behind it the client gets its answers, while the next batch is read. */
  #flushAfterStep(): void {
    if (this.#isFlushScheduled || this.#isServing) return;
    this.#isFlushScheduled = true;
    queueMicrotask(this.#flushStep);
  }

  readonly #flushStep = (): void => {
    this.#isFlushScheduled = false;
    if (this.#isClosed) return;
    this.#replies.flush();
    if (this.#isHeld) this.#scheduleTurn();
  };

  #scheduleTurn(): void {
    if (this.#isTurnScheduled) return;
    this.#isTurnScheduled = true;
    setImmediate(this.#turn);
  }

  /** Ends a turn of the event loop: sends what it produced, and goes on with what was held. */
  readonly #turn = (): void => {
    this.#isTurnScheduled = false;
    this.#turnRequests = 0;
    this.#turnBytes = 0;
    if (this.#isClosed) return;
    this.#replies.flush();
    if (!this.#isHeld) return;
    this.#serve();
    this.#endIfIdle();
  };

  #hold(): void {
    if (this.#isHeld) return;
    this.#isHeld = true;
    this.#socket.pause();
  }

  #unhold(): void {
    this.#isHeld = false;
    this.#socket.resume();
  }

  #drop(reason: string): void {
    this.#logger.warn({ reason }, 'connection dropped');
    this.#socket.destroy();
  }

  /** Once nothing is in flight: the last replies, and goodbye. */
  #endIfIdle(): void {
    if (this.#isClosed || this.#requestsInFlight > 0) return;
    if (this.#isEnding) {
      this.#replies.flush();
      this.#socket.destroySoon();
    } else if (this.#isStopping && !this.#isHeld) {
      // Not destroyed: what the client has sent meanwhile is read and dropped, or its replies would be lost with it.
      this.#isEnding = true;
      this.#replies.flush();
      this.#socket.end();
    }
  }

  #releaseIfIdle(): void {
    if (this.#isReleased || this.#requestsInFlight > 0) return;
    this.#isReleased = true;
    this.#device.release();
  }
}
