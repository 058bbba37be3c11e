/**
 * What requests are answered with, in the style that the client has agreed to. Puts together; `ReplyWriter` sends.
 *
 * Invariants: one reply for each request, of which nothing is sent before it is whole; texts say what the client did or
 * what it may expect, and name nothing of this machine.
 */

import type { StatusRun } from '../volume/device.ts';
import { failureText, refusalText } from './error-texts.ts';
import type { HoleList } from './hole-list.ts';
import * as nbd from './protocol.ts';
import { HEADROOM_BYTES, type ReplyBuffer } from './reply-buffer.ts';
import * as codec from './reply-codec.ts';
import type { ReplyWriter } from './reply-writer.ts';
import type { StoreError } from '../base/errors.ts';

/** Reads up to this size are collected in the arena, larger ones have a buffer of their own. */
export const ARENA_READ_BYTES_MAX = 64 * 1024;

export class Replies {
  readonly style: nbd.ReplyStyle;
  /** Bytes before the data of a read. */
  readonly readHeaderBytes: number;
  readonly #writer: ReplyWriter;

  constructor(writer: ReplyWriter, style: nbd.ReplyStyle) {
    this.#writer = writer;
    this.style = style;
    this.readHeaderBytes = codec.readHeaderBytes(style);
  }

  /** Success without data. */
  done(to: codec.Answered, isRead: boolean): void {
    const { style } = this;
    // A simple reply is shorter, and allowed for all but reads; once headers are extended, for none.
    const isSimple = style === nbd.SIMPLE || (style === nbd.STRUCTURED && !isRead);
    const bytes = isSimple ? nbd.SIMPLE_REPLY_BYTES : codec.headerBytes(style);
    const arena = this.#writer.reserve(bytes);
    const { filled } = arena;
    if (isSimple) codec.writeSimple(arena.bytes, filled, nbd.NBD_SUCCESS, to);
    else
      codec.writeChunk(arena.bytes, filled, style, nbd.NBD_REPLY_FLAG_DONE, nbd.NBD_REPLY_TYPE_NONE, to, 0);
    this.#writer.commit(arena, bytes);
  }

  /** A request that was not let through. */
  refused(to: codec.Answered, error: number): void {
    this.#error(to, error, refusalText(error), -1);
  }

  /** A request that the device could not do; `offset` is where, -1 if that is not known. */
  failed(to: codec.Answered, error: StoreError, offset: number): void {
    this.#error(to, nbd.NBD_ERROR[error.code], failureText(error.code), offset);
  }

  #error(to: codec.Answered, error: number, text: Buffer, offset: number): void {
    const { style } = this;
    const bytes = style === nbd.SIMPLE ? nbd.SIMPLE_REPLY_BYTES : codec.errorBytes(style, text, offset >= 0);
    const arena = this.#writer.reserve(bytes);
    if (style === nbd.SIMPLE) codec.writeSimple(arena.bytes, arena.filled, error, to);
    else codec.writeError(arena.bytes, arena.filled, style, to, error, text, offset);
    this.#writer.commit(arena, bytes);
  }

  /** The arena, with room for a read; its data goes `readHeaderBytes` behind what is filled. Then `readInArena`. */
  arenaForRead(lengthBytes: number): ReplyBuffer {
    return this.#writer.reserve(this.readHeaderBytes + lengthBytes);
  }

  readInArena(
    arena: ReplyBuffer,
    to: codec.Answered,
    offset: number,
    lengthBytes: number,
    holes?: HoleList,
  ): void {
    const { filled } = arena;
    const end = codec.writeRead(arena.bytes, filled, this.style, to, offset, lengthBytes, holes);
    this.#writer.commit(arena, end - filled);
  }

  /** A read whose data lies in a buffer of its own, behind the headroom. The buffer is done with. */
  readInOwn(
    own: ReplyBuffer,
    to: codec.Answered,
    offset: number,
    lengthBytes: number,
    holes?: HoleList,
  ): void {
    const start = HEADROOM_BYTES - this.readHeaderBytes;
    const end = codec.writeRead(own.bytes, start, this.style, to, offset, lengthBytes, holes);
    if (end - start > ARENA_READ_BYTES_MAX) return this.#writer.sendOwn(own, start, end);
    // Copied once more: a system call with many small pieces costs more than that.
    const arena = this.#writer.reserve(end - start);
    own.bytes.copy(arena.bytes, arena.filled, start, end);
    this.#writer.commit(arena, end - start);
    this.#writer.drop(own);
  }

  /** What one context says; `isLast` ends the reply. */
  status(to: codec.Answered, context: number, runs: readonly StatusRun[], isLast: boolean): void {
    const { style } = this;
    const bytes = codec.statusBytes(style, runs.length);
    const arena = this.#writer.reserve(bytes);
    const flags = isLast ? nbd.NBD_REPLY_FLAG_DONE : 0;
    codec.writeStatus(arena.bytes, arena.filled, style, flags, to, context, runs);
    this.#writer.commit(arena, bytes);
  }
}
