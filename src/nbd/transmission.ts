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
import type { StoreError } from '../base/errors.ts';
import type { BlockDevice } from '../volume/device.ts';
import { STATUS_BYTES, type StatusQuestion } from './block-status.ts';
import type { Budget } from './budget.ts';
import type { Agreement } from './handshake.ts';
import { HoleList } from './hole-list.ts';
import * as nbd from './protocol.ts';
import type { Slab } from './receive-slabs.ts';
import { ARENA_READ_BYTES_MAX, Replies } from './replies.ts';
import { HEADROOM_BYTES, type ReplyBufferPool } from './reply-buffer.ts';
import { ReplyWriter } from './reply-writer.ts';
import { BAD_MAGIC, HEADER, MORE, RequestParser } from './request-parser.ts';
import { verdict } from './request-rules.ts';
import {
  type Command,
  offsetIn,
  OtherCommand,
  ReadCommand,
  type RequestOwner,
  StatusCommand,
  WriteCommand,
} from './requests.ts';

/** Requests of one connection that the device may be working on, and questions about its extents among them. */
const REQUESTS_MAX = 4096;
const QUESTIONS_MAX = 16;
/** Replies the socket has not taken: beyond this the client gets no further before it reads. */
const UNSENT_BYTES_MAX = 4 * 2 ** 20;
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
  /** Told why the client is cut off, where that is its own doing. */
  readonly #complain: (reason: string) => void;
  readonly #writer: ReplyWriter;
  readonly #replies: Replies;
  readonly #parser: RequestParser;

  // The request at the front.
  /** Its header is parsed, but it was not admitted. */
  #isWaiting = false;
  /** The error it is answered with once its payload has been passed over. */
  #refusal = nbd.NBD_SUCCESS;
  /** Bytes that are counted in the budget for it while its payload comes. */
  #payloadBytes = 0;
  /** Holes of the read that is tried at once; given away where that fails. */
  #holes = new HoleList();

  // The connection.
  #requestsInFlight = 0;
  #questionsInFlight = 0;
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
  #progressBytes = 0;

  constructor(
    socket: Socket,
    agreement: Agreement,
    budget: Budget,
    pool: ReplyBufferPool,
    logger: Pick<Logger, 'warn' | 'debug'>,
    complain: (reason: string) => void,
  ) {
    this.#socket = socket;
    this.#complain = complain;
    this.#device = agreement.device;
    this.#agreement = agreement;
    this.#budget = budget;
    this.#logger = logger;
    this.#writer = new ReplyWriter(socket, pool, budget, this.#sent);
    this.#replies = new Replies(this.#writer, agreement.style);
    this.#parser = new RequestParser(agreement.style === nbd.EXTENDED);
    this.#device.attach(() => this.#drop('the export was deleted, or goes on in another version'));
    agreement.contexts.attach(() => this.#drop('a snapshot that changes are counted from was deleted'));
  }

  /** Bytes that the client has sent or taken. */
  get progressBytes(): number {
    return this.#progressBytes;
  }

  /** True if this connection holds memory that others could have, and only its client could free it. */
  get holdsMemory(): boolean {
    return this.#requestsInFlight === 0 && this.#budget.sharedBytes > 0;
  }

  /** Bytes from the socket. */
  receive(chunk: Buffer, slab: Slab | undefined): void {
    this.#progressBytes += chunk.length;
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
    this.#writer.close();
    if (this.#failures > 0)
      this.#logger.debug({ failures: this.#failures }, 'requests failed on this connection');
    this.#releaseIfIdle();
  }

  /** Does what the input asks for, and sends what could be answered at once: a lone client waits for each reply. */
  #serve(): void {
    this.#isServing = true;
    this.#parse();
    this.#isServing = false;
    this.#writer.flush();
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
        if (found === BAD_MAGIC) return this.#refuseClient('bad request magic');
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
    const bytes = this.#memoryBytes();
    if (this.#requestsInFlight >= REQUESTS_MAX || this.#writer.unsentBytes >= UNSENT_BYTES_MAX) return false;
    if (this.#questionsInFlight >= QUESTIONS_MAX && this.#parser.type === nbd.NBD_CMD_BLOCK_STATUS)
      return false;
    if (this.#turnRequests >= TURN_REQUESTS_MAX || this.#turnBytes >= TURN_BYTES_MAX) {
      this.#scheduleTurn();
      return false;
    }
    if (!this.#budget.fits(bytes)) {
      this.#budget.wait(bytes, this.#wake, this.#parser.payloadBytes > 0);
      return false;
    }
    this.#turnRequests += 1;
    this.#turnBytes += bytes;
    return true;
  }

  /** What the request at the front will take. What is going to be refused takes none. */
  #memoryBytes(): number {
    const { type, lengthBytes } = this.#parser;
    const { payloadBytesMax, contexts } = this.#agreement;
    if (this.#isStopping) return 0;
    if (type === nbd.NBD_CMD_READ || type === nbd.NBD_CMD_WRITE)
      return lengthBytes > payloadBytesMax ? 0 : lengthBytes;
    return type === nbd.NBD_CMD_BLOCK_STATUS ? STATUS_BYTES * contexts.count : 0;
  }

  #start(): void {
    const parser = this.#parser;
    const { type, payloadBytes } = parser;
    if (type === nbd.NBD_CMD_DISC) return this.end();
    if (payloadBytes > 0 || type === nbd.NBD_CMD_WRITE) return this.#startPayload();
    const error = this.#isStopping ? nbd.NBD_ESHUTDOWN : verdict(parser, this.#agreement);
    if (error !== nbd.NBD_SUCCESS) this.#refuse(error);
    else if (type === nbd.NBD_CMD_READ) this.#read();
    else if (type === nbd.NBD_CMD_BLOCK_STATUS) this.#ask(this.#agreement.contexts.ofAll(parser.lengthBytes));
    else this.#startOther();
  }

  /** Decides what becomes of the payload that follows the request at the front. */
  #startPayload(): void {
    const parser = this.#parser;
    const { type, payloadBytes } = parser;
    const { contexts, payloadBytesMax, style } = this.#agreement;
    if (style === nbd.EXTENDED && payloadBytes > payloadBytesMax)
      return this.#refuseClient('a payload of absurd length');
    const isQuestion = type === nbd.NBD_CMD_BLOCK_STATUS && payloadBytes <= contexts.payloadBytesMax;
    if (this.#isStopping) this.#refusal = nbd.NBD_ESHUTDOWN;
    // What a question is about is in its payload; it is judged behind that.
    else this.#refusal = isQuestion ? nbd.NBD_SUCCESS : verdict(parser, this.#agreement);
    if (this.#refusal === nbd.NBD_SUCCESS && !isQuestion && type !== nbd.NBD_CMD_WRITE)
      this.#refusal = nbd.NBD_EINVAL;
    if (this.#refusal !== nbd.NBD_SUCCESS) return parser.skip();
    // All that was admitted, before others can have it.
    this.#payloadBytes = this.#memoryBytes();
    this.#budget.take(this.#payloadBytes);
    parser.collect();
  }

  #payloadPassed(): void {
    const parser = this.#parser;
    const { payload, payloadSlabs } = parser;
    if (this.#refusal !== nbd.NBD_SUCCESS) return this.#refuse(this.#refusal);
    if (parser.type === nbd.NBD_CMD_BLOCK_STATUS) return this.#questionPassed();
    if (parser.lengthBytes === 0) return this.#done(false);
    this.#payloadBytes = 0;
    this.#requestsInFlight += 1;
    const isForced = (parser.flags & nbd.NBD_CMD_FLAG_FUA) !== 0;
    this.#device.write(new WriteCommand(this, parser, payload, payloadSlabs, isForced));
  }

  #questionPassed(): void {
    const { type, flags, offset, payload, payloadSlabs, payloadBytes } = this.#parser;
    const question = this.#agreement.contexts.decode(payload, payloadBytes);
    for (const slab of payloadSlabs) slab.release();
    this.#budget.give(this.#payloadBytes);
    this.#payloadBytes = 0;
    const lengthBytes = question?.lengthBytes ?? 0;
    const error = verdict({ type, flags, offset, lengthBytes }, this.#agreement);
    if (question === undefined || error !== nbd.NBD_SUCCESS) return this.#refuse(error || nbd.NBD_EINVAL);
    this.#ask(question);
  }

  #read(): void {
    const parser = this.#parser;
    const { offset, lengthBytes, flags } = parser;
    if (lengthBytes === 0) return this.#done(true);
    const replies = this.#replies;
    // Without structured replies, and for who wants one piece, zeros are sent as bytes.
    const mayHaveHoles = replies.style !== nbd.SIMPLE && (flags & nbd.NBD_CMD_FLAG_DF) === 0;
    const holes = mayHaveHoles ? this.#holes : undefined;
    if (lengthBytes <= ARENA_READ_BYTES_MAX) {
      const arena = replies.arenaForRead(lengthBytes);
      const start = arena.filled + replies.readHeaderBytes;
      holes?.clear();
      if (this.#device.tryRead(arena.bytes, start, offset, lengthBytes, holes)) {
        holes?.settle();
        return replies.readInArena(arena, parser, offset, lengthBytes, holes);
      }
    }
    if (holes !== undefined) this.#holes = new HoleList();
    holes?.clear();
    const own = this.#writer.takeOwn(lengthBytes);
    const request = new ReadCommand(this, parser, own, holes);
    this.#requestsInFlight += 1;
    this.#budget.take(lengthBytes);
    if (lengthBytes > ARENA_READ_BYTES_MAX) {
      if (this.#device.tryRead(own.bytes, HEADROOM_BYTES, offset, lengthBytes, holes))
        return this.finishRead(request, undefined);
      holes?.clear();
    }
    void this.#device
      .read(own.bytes, HEADROOM_BYTES, offset, lengthBytes, holes)
      .then(request.succeed, request.fail);
  }

  #startOther(): void {
    const { type, flags, offset, lengthBytes } = this.#parser;
    // A hint that needs no work, and nothing to do for an empty range.
    if (type === nbd.NBD_CMD_CACHE || (lengthBytes === 0 && type !== nbd.NBD_CMD_FLUSH))
      return this.#done(false);
    const request = new OtherCommand(this, this.#parser, type);
    this.#requestsInFlight += 1;
    if (type === nbd.NBD_CMD_FLUSH) {
      void this.#device.flush().then(request.succeed, request.fail);
    } else {
      const forceUnitAccess = (flags & nbd.NBD_CMD_FLAG_FUA) !== 0;
      void this.#device.zero(offset, lengthBytes, forceUnitAccess).then(request.succeed, request.fail);
    }
  }

  #ask({ lengthBytes, ids }: StatusQuestion): void {
    const { flags } = this.#parser;
    const bytes = STATUS_BYTES * ids.length;
    const request = new StatusCommand(this, this.#parser, lengthBytes, bytes);
    this.#requestsInFlight += 1;
    this.#questionsInFlight += 1;
    this.#budget.take(bytes);
    const one = (flags & nbd.NBD_CMD_FLAG_REQ_ONE) !== 0;
    const { contexts } = this.#agreement;
    void contexts.answer(request, this.#device, ids, one).then(request.succeed, request.fail);
  }

  finishWrite(request: WriteCommand, error: StoreError | undefined): void {
    this.#budget.give(request.lengthBytes);
    this.#flushAfterStep();
    this.#finish(nbd.NBD_CMD_WRITE, request, error);
  }

  finishRead(request: ReadCommand, error: StoreError | undefined): void {
    const { buffer, offset, lengthBytes, holes } = request;
    this.#budget.give(lengthBytes);
    if (error !== undefined || this.#isClosed) {
      this.#writer.drop(buffer);
      return this.#finish(nbd.NBD_CMD_READ, request, error);
    }
    holes?.settle();
    this.#replies.readInOwn(buffer, request, offset, lengthBytes, holes);
    this.#finished();
  }

  finishOther(request: OtherCommand, error: StoreError | undefined): void {
    this.#finish(request.type, request, error);
  }

  finishStatus(request: StatusCommand, error: StoreError | undefined): void {
    this.#questionsInFlight -= 1;
    this.#budget.give(request.budgetBytes);
    if (error !== undefined || this.#isClosed) return this.#finish(nbd.NBD_CMD_BLOCK_STATUS, request, error);
    const { answers } = request;
    answers.forEach(({ context, runs }, i) => {
      this.#replies.status(request, context, runs, i === answers.length - 1);
    });
    this.#finished();
  }

  /** Ends a request that has no data to show, and gives its answer. */
  #finish(type: number, request: Command, error: StoreError | undefined): void {
    if (error !== undefined) this.#logFailure(type, request, error);
    if (!this.#isClosed) {
      if (error === undefined) this.#replies.done(request, type === nbd.NBD_CMD_READ);
      else this.#replies.failed(request, error, offsetIn(request, error));
    }
    this.#finished();
  }

  #finished(): void {
    this.#requestsInFlight -= 1;
    if (this.#isClosed) return this.#releaseIfIdle();
    this.#scheduleFlush();
    if (this.#isEnding || this.#isStopping) this.#endIfIdle();
  }

  /** Success of the request at the front, which needed no work. */
  #done(isRead: boolean): void {
    this.#replies.done(this.#parser, isRead);
    this.#scheduleFlush();
  }

  #refuse(error: number): void {
    this.#replies.refused(this.#parser, error);
    this.#scheduleFlush();
  }

  /** An errno says little: the error itself is kept here. The 1st, 2nd, 4th, 8th ...: a full disk fails thousands. */
  #logFailure(type: number, request: Command, error: StoreError): void {
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

  readonly #sent = (bytes: number): void => {
    this.#progressBytes += bytes;
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
    this.#writer.flush();
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
    this.#writer.flush();
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

  /** Nothing behind this is a request: the stream cannot be read any further. */
  #refuseClient(reason: string): void {
    this.#complain(reason);
    this.#isEnding = true;
    this.#socket.destroy();
  }

  #drop(reason: string): void {
    this.#logger.warn({ reason }, 'connection dropped');
    this.#socket.destroy();
  }

  /** Once nothing is in flight: the last replies, and goodbye. */
  #endIfIdle(): void {
    if (this.#isClosed || this.#requestsInFlight > 0) return;
    if (this.#isEnding) {
      this.#writer.flush();
      this.#socket.destroySoon();
    } else if (this.#isStopping && !this.#isHeld) {
      // Not destroyed: what the client has sent meanwhile is read and dropped, or its replies would be lost with it.
      this.#isEnding = true;
      this.#writer.flush();
      this.#socket.end();
    }
  }

  #releaseIfIdle(): void {
    if (this.#isReleased || this.#requestsInFlight > 0) return;
    this.#isReleased = true;
    this.#device.release();
    this.#agreement.contexts.release();
  }
}
