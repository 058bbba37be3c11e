/**
 * Every byte that two stores say to each other: messages, in both directions, over one connection. Pure.
 *
 * All integers are big-endian. A message:
 *
 * | at | bytes | |
 * |---|---|---|
 * | 0 | 4 | `CPSR` |
 * | 4 | 1 | kind |
 * | 5 | 3 | zero |
 * | 8 | 4 | bytes of the body |
 * | 12 | 4 | CRC-32C of bytes 0 to 11, and of the body unless it is a piece of a stream, which has checksums of its own |
 * | 16 | | body: JSON, or a piece of a stream (delta/format.ts) |
 *
 * | kind | who | body |
 * |---|---|---|
 * | 1 hello | both, first who has connected | `{"service": "coppice replication", "protocol": 1, "store": UUID, "wants": null or a push or pull}` |
 * | 2 offer | who sends | what it would send, and what it has: see negotiation.ts |
 * | 3 answer | who receives | `{"state": "there", "name"}` or `{"state": "send", "target", "base", "position"}` |
 * | 4 stream | who sends | a piece of the stream, of any length up to 256 KiB |
 * | 5 kept | who receives | `{"position"}`: bytes of the disk that are on the disk there |
 * | 6 published | who receives | `{"name"}`: the snapshot is there, and on the disk |
 * | 7 done | who sends | `{}`: there is nothing more to offer |
 * | 8 refused | both | `{"code", "message"}`; nothing follows |
 * | 9 alive | both | `{}`, whenever nothing else was said for ten seconds |
 *
 * Invariants: what is answered is whole and of a known kind; memory is bounded by the longest JSON, whatever a header says.
 */

import { ByteReader, ByteWriter } from '../base/bytes.ts';
import { crc32c } from '../base/crc.ts';
import { assert, StoreError } from '../base/errors.ts';

export const PROTOCOL = 1;
export const SERVICE = 'coppice replication';

export const HELLO = 1;
export const OFFER = 2;
export const ANSWER = 3;
export const STREAM = 4;
export const KEPT = 5;
export const PUBLISHED = 6;
export const DONE = 7;
export const REFUSED = 8;
export const ALIVE = 9;

const MAGIC = Buffer.from('CPSR', 'latin1');
export const MESSAGE_HEADER_BYTES = 16;
const CHECKED_BYTES = 12;
export const JSON_BYTES_MAX = 256 << 10;
export const PIECE_BYTES_MAX = 256 << 10;

export type Message =
  | { readonly kind: typeof STREAM; readonly bytes: Buffer }
  | { readonly kind: number; readonly fields: Record<string, unknown> };

export function encodeJson(kind: number, fields: object): Buffer {
  const body = Buffer.from(JSON.stringify(fields));
  assert(kind !== STREAM && body.length <= JSON_BYTES_MAX, 'a message is no longer than one may be');
  const out = new ByteWriter(Buffer.alloc(MESSAGE_HEADER_BYTES + body.length));
  out.bytes(MAGIC).u8(kind).zeros(3).u32(body.length);
  const checksum = crc32c(body, crc32c(out.buffer.subarray(0, CHECKED_BYTES)));
  return out.u32(checksum).bytes(body).buffer;
}

/** What stands before a piece of a stream. */
export function encodePieceHeader(bytes: number): Buffer {
  assert(bytes > 0 && bytes <= PIECE_BYTES_MAX, 'a piece is no longer than one may be');
  const out = new ByteWriter(Buffer.alloc(MESSAGE_HEADER_BYTES));
  out.bytes(MAGIC).u8(STREAM).zeros(3).u32(bytes);
  return out.u32(crc32c(out.buffer.subarray(0, CHECKED_BYTES))).buffer;
}

/** Reads messages as their bytes come. Pieces of a stream are handed on as they come, in whatever parts. */
export class MessageReader {
  readonly #header = Buffer.alloc(MESSAGE_HEADER_BYTES);
  #headerFilled = 0;
  #kind = 0;
  /** Of JSON; undefined in a piece of a stream. */
  #body: Buffer | undefined;
  #bodyLeft = 0;

  /** Messages that are whole with these bytes; parts of a stream are views of them. @throws CORRUPTION */
  *push(bytes: Buffer): Generator<Message> {
    for (let at = 0; at < bytes.length; ) {
      if (this.#headerFilled < MESSAGE_HEADER_BYTES) {
        const taken = bytes.copy(this.#header, this.#headerFilled, at);
        at += taken;
        this.#headerFilled += taken;
        if (this.#headerFilled === MESSAGE_HEADER_BYTES) this.#begin();
        continue;
      }
      const part = bytes.subarray(at, at + this.#bodyLeft);
      at += part.length;
      if (this.#body !== undefined) part.copy(this.#body, this.#body.length - this.#bodyLeft);
      this.#bodyLeft -= part.length;
      if (this.#body === undefined) yield { kind: STREAM, bytes: part };
      else if (this.#bodyLeft === 0) yield { kind: this.#kind, fields: this.#fields(this.#body) };
      if (this.#bodyLeft === 0) this.#headerFilled = 0;
    }
  }

  #begin(): void {
    const input = new ByteReader(this.#header);
    if (!input.bytes(4).equals(MAGIC)) throw garbled('there is no message where one should begin');
    const [kind, first, second, bytes, checksum] = [
      input.u8(),
      input.u8(),
      input.u16(),
      input.u32(),
      input.u32(),
    ];
    if (kind < HELLO || kind > ALIVE || first !== 0 || second !== 0)
      throw garbled(`there is a message of the unknown kind ${kind}`);
    if (bytes === 0 || bytes > (kind === STREAM ? PIECE_BYTES_MAX : JSON_BYTES_MAX))
      throw garbled(`a message has ${bytes} bytes`);
    if (kind === STREAM && checksum !== crc32c(this.#header.subarray(0, CHECKED_BYTES)))
      throw garbled('a message does not match its checksum');
    [this.#kind, this.#bodyLeft] = [kind, bytes];
    this.#body = kind === STREAM ? undefined : Buffer.allocUnsafe(bytes);
  }

  #fields(body: Buffer): Record<string, unknown> {
    const expected = this.#header.readUInt32BE(CHECKED_BYTES);
    if (crc32c(body, crc32c(this.#header.subarray(0, CHECKED_BYTES))) !== expected)
      throw garbled('a message does not match its checksum');
    let value: unknown;
    try {
      value = JSON.parse(body.toString());
    } catch {
      throw garbled('a message is no JSON');
    }
    if (typeof value === 'object' && value !== null) return value as Record<string, unknown>;
    throw garbled('a message has no fields');
  }
}

/** The other end does not speak as it should. */
export function garbled(what: string): StoreError {
  return new StoreError(
    'CORRUPTION',
    `the other end cannot be understood: ${what}; look at what listens there, and whether one end uses TLS and the other not`,
  );
}
