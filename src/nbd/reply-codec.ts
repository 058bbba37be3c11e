/**
 * Encodes replies: simple ones, and chunks behind a structured or an extended header. No I/O.
 *
 * A read is encoded around its payload, in place: the header is put before it, and where parts of it are holes, what is
 * behind them moves up. Layouts of the payload of a chunk:
 *
 *     OFFSET_DATA        8 offset | bytes
 *     OFFSET_HOLE        8 offset | 4 length
 *     BLOCK_STATUS       4 context | (4 length | 4 status) x count
 *     BLOCK_STATUS_EXT   4 context | 4 count | (8 length | 8 status) x count
 *     ERROR              4 error | 2 length of text | text
 *     ERROR_OFFSET       the same | 8 offset
 */

import type { StatusRun } from '../volume/device.ts';
import type { HoleList } from './hole-list.ts';
import * as nbd from './protocol.ts';

const TWO_32 = 2 ** 32;

/** What a reply says of the request that it answers. */
export interface Answered {
  readonly cookieHigh: number;
  readonly cookieLow: number;
  readonly offsetHigh: number;
  readonly offsetLow: number;
}

/** Bytes before the payload of a chunk; in the simple style, before the data of a read. */
export function headerBytes(style: nbd.ReplyStyle): number {
  if (style === nbd.SIMPLE) return nbd.SIMPLE_REPLY_BYTES;
  return style === nbd.STRUCTURED ? nbd.STRUCTURED_REPLY_BYTES : nbd.EXTENDED_REPLY_BYTES;
}

/** Bytes before the data of a read that has no holes. */
export function readHeaderBytes(style: nbd.ReplyStyle): number {
  return style === nbd.SIMPLE ? nbd.SIMPLE_REPLY_BYTES : headerBytes(style) + 8;
}

export function writeSimple(bytes: Buffer, at: number, error: number, to: Answered): number {
  bytes.writeUInt32BE(nbd.NBD_SIMPLE_REPLY_MAGIC, at);
  bytes.writeUInt32BE(error, at + 4);
  bytes.writeUInt32BE(to.cookieHigh, at + 8);
  return bytes.writeUInt32BE(to.cookieLow, at + 12);
}

/** The header of a chunk; answers where its payload begins. */
export function writeChunk(
  bytes: Buffer,
  at: number,
  style: nbd.ReplyStyle,
  flags: number,
  type: number,
  to: Answered,
  payloadBytes: number,
): number {
  const isExtended = style === nbd.EXTENDED;
  bytes.writeUInt32BE(isExtended ? nbd.NBD_EXTENDED_REPLY_MAGIC : nbd.NBD_STRUCTURED_REPLY_MAGIC, at);
  bytes.writeUInt16BE(flags, at + 4);
  bytes.writeUInt16BE(type, at + 6);
  bytes.writeUInt32BE(to.cookieHigh, at + 8);
  bytes.writeUInt32BE(to.cookieLow, at + 12);
  if (!isExtended) return bytes.writeUInt32BE(payloadBytes, at + 16);
  bytes.writeUInt32BE(to.offsetHigh, at + 16);
  bytes.writeUInt32BE(to.offsetLow, at + 20);
  bytes.writeUInt32BE(0, at + 24);
  return bytes.writeUInt32BE(payloadBytes, at + 28);
}

function writeU64(bytes: Buffer, at: number, value: number): number {
  bytes.writeUInt32BE(Math.floor(value / TWO_32), at);
  return bytes.writeUInt32BE(value % TWO_32, at + 4);
}

/**
 * Puts the headers of a successful read around its data, which lies `readHeaderBytes` behind `at`; answers where the
 * reply ends. Holes are given as they lie in `bytes`.
 */
export function writeRead(
  bytes: Buffer,
  at: number,
  style: nbd.ReplyStyle,
  to: Answered,
  offset: number,
  lengthBytes: number,
  holes: HoleList | undefined,
): number {
  const ahead = readHeaderBytes(style);
  if (style === nbd.SIMPLE) {
    writeSimple(bytes, at, nbd.NBD_SUCCESS, to);
    return at + ahead + lengthBytes;
  }
  if (holes === undefined || holes.count === 0) {
    const { NBD_REPLY_FLAG_DONE, NBD_REPLY_TYPE_OFFSET_DATA } = nbd;
    const payload = writeChunk(
      bytes,
      at,
      style,
      NBD_REPLY_FLAG_DONE,
      NBD_REPLY_TYPE_OFFSET_DATA,
      to,
      8 + lengthBytes,
    );
    return writeU64(bytes, payload, offset) + lengthBytes;
  }
  return writeSparseRead(bytes, at, style, to, offset, lengthBytes, holes);
}

function writeSparseRead(
  bytes: Buffer,
  at: number,
  style: nbd.ReplyStyle,
  to: Answered,
  offset: number,
  lengthBytes: number,
  holes: HoleList,
): number {
  const first = at + readHeaderBytes(style);
  const end = first + lengthBytes;
  let out = at;
  let chunk = at;
  /** Data from here on is not in the reply yet. What is written never reaches it: a hole is longer than two headers. */
  let from = first;
  for (let i = 0; i <= holes.count; i++) {
    const hole = i < holes.count ? holes.start(i) : end;
    if (hole > from) {
      chunk = out;
      const payload = writeChunk(bytes, out, style, 0, nbd.NBD_REPLY_TYPE_OFFSET_DATA, to, 8 + hole - from);
      out = writeU64(bytes, payload, offset + from - first);
      if (out !== from) bytes.copyWithin(out, from, hole);
      out += hole - from;
    }
    if (i === holes.count) break;
    chunk = out;
    const payload = writeChunk(bytes, out, style, 0, nbd.NBD_REPLY_TYPE_OFFSET_HOLE, to, 12);
    out = bytes.writeUInt32BE(holes.lengthBytes(i), writeU64(bytes, payload, offset + hole - first));
    from = hole + holes.lengthBytes(i);
  }
  bytes.writeUInt16BE(nbd.NBD_REPLY_FLAG_DONE, chunk + 4);
  return out;
}

export function errorBytes(style: nbd.ReplyStyle, text: Buffer, hasOffset: boolean): number {
  return headerBytes(style) + 6 + text.length + (hasOffset ? 8 : 0);
}

/** An error as a chunk, with the offset at which it is if that is known (-1 if not). */
export function writeError(
  bytes: Buffer,
  at: number,
  style: nbd.ReplyStyle,
  to: Answered,
  error: number,
  text: Buffer,
  offset: number,
): number {
  const type = offset < 0 ? nbd.NBD_REPLY_TYPE_ERROR : nbd.NBD_REPLY_TYPE_ERROR_OFFSET;
  const payloadBytes = 6 + text.length + (offset < 0 ? 0 : 8);
  let out = writeChunk(bytes, at, style, nbd.NBD_REPLY_FLAG_DONE, type, to, payloadBytes);
  out = bytes.writeUInt32BE(error, out);
  out = bytes.writeUInt16BE(text.length, out);
  out += text.copy(bytes, out);
  return offset < 0 ? out : writeU64(bytes, out, offset);
}

export function statusBytes(style: nbd.ReplyStyle, count: number): number {
  return headerBytes(style) + (style === nbd.EXTENDED ? 8 + 16 * count : 4 + 8 * count);
}

/** What a context says of a range: one chunk. */
export function writeStatus(
  bytes: Buffer,
  at: number,
  style: nbd.ReplyStyle,
  flags: number,
  to: Answered,
  context: number,
  runs: readonly StatusRun[],
): number {
  const payloadBytes = statusBytes(style, runs.length) - headerBytes(style);
  if (style === nbd.EXTENDED) {
    let out = writeChunk(bytes, at, style, flags, nbd.NBD_REPLY_TYPE_BLOCK_STATUS_EXT, to, payloadBytes);
    out = bytes.writeUInt32BE(context, out);
    out = bytes.writeUInt32BE(runs.length, out);
    for (const run of runs) out = writeU64(bytes, writeU64(bytes, out, run.lengthBytes), run.status);
    return out;
  }
  let out = writeChunk(bytes, at, style, flags, nbd.NBD_REPLY_TYPE_BLOCK_STATUS, to, payloadBytes);
  out = bytes.writeUInt32BE(context, out);
  for (const run of runs) {
    out = bytes.writeUInt32BE(run.lengthBytes, out);
    out = bytes.writeUInt32BE(run.status, out);
  }
  return out;
}
