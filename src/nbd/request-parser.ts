/**
 * Cuts the bytes of a connection into requests, in place: headers are read where they lie, payloads are views of the
 * socket's buffers. No I/O.
 *
 * Pulled, not pushed: `push` hands in a chunk, `step` says what was found next, and whoever pulls may stop at any
 * point and go on later. After HEADER the fields describe the request until the next HEADER; the caller then says by
 * `collect` or `skip` what becomes of a payload, and is told PAYLOAD when it has passed.
 *
 * Under extended headers a flag says whether a payload follows, without them only a WRITE has one.
 *
 * Invariant: a new chunk is pushed only when `step` has answered MORE.
 */

import { assert } from '../base/errors.ts';
import * as nbd from './protocol.ts';
import type { Slab } from './receive-slabs.ts';

/** The chunk is used up. */
export const MORE = 0;
/** A request begins; its header is in the fields. */
export const HEADER = 1;
/** The payload of the request has passed. */
export const PAYLOAD = 2;
/** The stream is out of step and cannot be read any further. */
export const BAD_MAGIC = 3;

export type Found = typeof MORE | typeof HEADER | typeof PAYLOAD | typeof BAD_MAGIC;

const TWO_32 = 2 ** 32;
const NOTHING = Buffer.alloc(0);

export class RequestParser {
  // The request that began last.
  flags = 0;
  type = 0;
  cookieHigh = 0;
  cookieLow = 0;
  offsetHigh = 0;
  offsetLow = 0;
  /** Exact below 2^53. What is larger is rounded, and lies outside every disk all the same; so is the length. */
  offset = 0;
  lengthBytes = 0;
  /** Bytes that follow the header. */
  payloadBytes = 0;
  /** The payload collected for it: the list is new for each request, and the caller may keep it. */
  payload: Buffer[] = [];
  /** The slabs that it lies in, each retained once for the caller. */
  payloadSlabs: Slab[] = [];

  #chunk: Buffer = NOTHING;
  /** Where the chunk lies, retained while it is parsed. */
  #slab: Slab | undefined;
  #position = 0;
  readonly #isExtended: boolean;
  readonly #magic: number;
  readonly #headerBytesMax: number;
  readonly #header = Buffer.alloc(nbd.EXTENDED_REQUEST_BYTES);
  #headerBytes = 0;
  #payloadBytesLeft = -1;
  #collecting = false;

  constructor(isExtended: boolean) {
    this.#isExtended = isExtended;
    this.#magic = isExtended ? nbd.NBD_EXTENDED_REQUEST_MAGIC : nbd.NBD_REQUEST_MAGIC;
    this.#headerBytesMax = isExtended ? nbd.EXTENDED_REQUEST_BYTES : nbd.REQUEST_BYTES;
  }

  push(chunk: Buffer, slab: Slab | undefined): void {
    assert(this.#position === this.#chunk.length, 'a chunk is parsed to its end before the next');
    slab?.retain();
    this.#slab?.release();
    this.#slab = slab;
    this.#chunk = chunk;
    this.#position = 0;
  }

  step(): Found {
    if (this.#payloadBytesLeft >= 0) return this.#stepPayload();
    const chunk = this.#chunk;
    const at = this.#position;
    const headerBytesMax = this.#headerBytesMax;
    if (this.#headerBytes === 0 && chunk.length - at >= headerBytesMax) {
      this.#position = at + headerBytesMax;
      return this.#decode(chunk, at);
    }
    // A header in pieces is put together in a place of its own.
    const bytes = Math.min(headerBytesMax - this.#headerBytes, chunk.length - at);
    chunk.copy(this.#header, this.#headerBytes, at, at + bytes);
    this.#position += bytes;
    this.#headerBytes += bytes;
    if (this.#headerBytes < headerBytesMax) return this.#usedUp();
    this.#headerBytes = 0;
    return this.#decode(this.#header, 0);
  }

  /** The payload of the request that just began is wanted. */
  collect(): void {
    this.payload = [];
    this.payloadSlabs = [];
    this.#payloadBytesLeft = this.payloadBytes;
    this.#collecting = true;
  }

  /** The payload of the request that just began is to be passed over. */
  skip(): void {
    this.#payloadBytesLeft = this.payloadBytes;
    this.#collecting = false;
  }

  /** Lets go of all input and of a payload half collected. */
  clear(): void {
    this.#usedUp();
    if (this.#collecting && this.#payloadBytesLeft >= 0) for (const slab of this.payloadSlabs) slab.release();
    this.#payloadBytesLeft = -1;
    this.payload = [];
    this.payloadSlabs = [];
  }

  #usedUp(): typeof MORE {
    // An idle connection must not pin the last chunk it sent.
    this.#chunk = NOTHING;
    this.#slab?.release();
    this.#slab = undefined;
    this.#position = 0;
    return MORE;
  }

  #stepPayload(): Found {
    const start = this.#position;
    const end = Math.min(start + this.#payloadBytesLeft, this.#chunk.length);
    if (this.#collecting && end > start) this.#keep(start, end);
    this.#position = end;
    this.#payloadBytesLeft -= end - start;
    if (this.#payloadBytesLeft > 0) return this.#usedUp();
    this.#payloadBytesLeft = -1;
    return PAYLOAD;
  }

  #keep(start: number, end: number): void {
    this.payload.push(this.#chunk.subarray(start, end));
    const { payloadSlabs } = this;
    if (this.#slab === undefined || payloadSlabs[payloadSlabs.length - 1] === this.#slab) return;
    this.#slab.retain();
    payloadSlabs.push(this.#slab);
  }

  #decode(bytes: Buffer, at: number): Found {
    if (bytes.readUInt32BE(at) !== this.#magic) return BAD_MAGIC;
    this.flags = bytes.readUInt16BE(at + 4);
    this.type = bytes.readUInt16BE(at + 6);
    this.cookieHigh = bytes.readUInt32BE(at + 8);
    this.cookieLow = bytes.readUInt32BE(at + 12);
    this.offsetHigh = bytes.readUInt32BE(at + 16);
    this.offsetLow = bytes.readUInt32BE(at + 20);
    this.offset = this.offsetHigh * TWO_32 + this.offsetLow;
    this.lengthBytes = bytes.readUInt32BE(at + 24);
    if (this.#isExtended) {
      this.lengthBytes = this.lengthBytes * TWO_32 + bytes.readUInt32BE(at + 28);
      this.payloadBytes = (this.flags & nbd.NBD_CMD_FLAG_PAYLOAD_LEN) !== 0 ? this.lengthBytes : 0;
    } else {
      this.payloadBytes = this.type === nbd.NBD_CMD_WRITE ? this.lengthBytes : 0;
    }
    return HEADER;
  }
}
