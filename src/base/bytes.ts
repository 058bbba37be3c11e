/**
 * Bounds-checked big-endian cursors over a buffer: the order of calls is the layout. No I/O.
 *
 * Big-endian everywhere, because LevelDB keys must sort as bytes and NBD is network order. A 64-bit field holds a
 * number below 2^53; a larger one is refused on read, so that no field is ever rounded.
 */

import { StoreError } from './errors.ts';

const TWO_32 = 2 ** 32;

export class ByteWriter {
  readonly buffer: Buffer;
  position: number;

  constructor(buffer: Buffer, position = 0) {
    this.buffer = buffer;
    this.position = position;
  }

  u8(value: number): this {
    this.position = this.buffer.writeUInt8(value, this.position);
    return this;
  }

  u16(value: number): this {
    this.position = this.buffer.writeUInt16BE(value, this.position);
    return this;
  }

  u32(value: number): this {
    this.position = this.buffer.writeUInt32BE(value, this.position);
    return this;
  }

  u48(value: number): this {
    this.position = this.buffer.writeUIntBE(value, this.position, 6);
    return this;
  }

  u64(value: number): this {
    this.buffer.writeUInt32BE(Math.floor(value / TWO_32), this.position);
    this.position = this.buffer.writeUInt32BE(value % TWO_32, this.position + 4);
    return this;
  }

  /** Seven bits a byte, lowest first; the high bit says that more follow (LEB128). */
  varint(value: number): this {
    let rest = value;
    while (rest >= 128) {
      this.buffer[this.position++] = 128 + (rest % 128);
      rest = Math.floor(rest / 128);
    }
    this.buffer[this.position++] = rest;
    return this;
  }

  bytes(value: Uint8Array): this {
    this.buffer.set(value, this.position);
    this.position += value.length;
    return this;
  }

  /** `count` zero bytes: reserved space or padding. */
  zeros(count: number): this {
    this.buffer.fill(0, this.position, this.position + count);
    this.position += count;
    return this;
  }
}

/** Bytes of a number as `varint` writes it. */
export function varintBytes(value: number): number {
  let bytes = 1;
  for (let rest = value; rest >= 128; rest = Math.floor(rest / 128)) bytes += 1;
  return bytes;
}

/** Every read past the end throws `CORRUPTION`: a length field that lies must not look like a programmer's mistake. */
export class ByteReader {
  readonly buffer: Buffer;
  position: number;

  constructor(buffer: Buffer, position = 0) {
    this.buffer = buffer;
    this.position = position;
  }

  #advance(bytes: number): number {
    const at = this.position;
    if (at + bytes > this.buffer.length) {
      throw new StoreError('CORRUPTION', `${bytes} bytes wanted at ${at} of ${this.buffer.length}`);
    }
    this.position = at + bytes;
    return at;
  }

  get remaining(): number {
    return this.buffer.length - this.position;
  }

  u8(): number {
    return this.buffer.readUInt8(this.#advance(1));
  }

  u16(): number {
    return this.buffer.readUInt16BE(this.#advance(2));
  }

  u32(): number {
    return this.buffer.readUInt32BE(this.#advance(4));
  }

  u48(): number {
    return this.buffer.readUIntBE(this.#advance(6), 6);
  }

  u64(): number {
    const at = this.#advance(8);
    const value = this.buffer.readUInt32BE(at) * TWO_32 + this.buffer.readUInt32BE(at + 4);
    if (!Number.isSafeInteger(value))
      throw new StoreError('CORRUPTION', `a 64-bit field at ${at} exceeds 2^53`);
    return value;
  }

  varint(): number {
    let value = 0;
    for (let unit = 1; ; unit *= 128) {
      const byte = this.u8();
      value += (byte % 128) * unit;
      if (!Number.isSafeInteger(value) || unit > 2 ** 49)
        throw new StoreError('CORRUPTION', `a number at ${this.position} exceeds 2^53`);
      if (byte < 128) return value;
    }
  }

  /** A view, not a copy. */
  bytes(count: number): Buffer {
    const at = this.#advance(count);
    return this.buffer.subarray(at, at + count);
  }

  skip(count: number): this {
    this.#advance(count);
    return this;
  }
}
