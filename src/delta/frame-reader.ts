/**
 * Reads frames as their bytes come, whoever sent them; what is in their bodies is for others to say. Pure.
 *
 * Invariants: what is answered has been verified: its own checksum, and the digest over all that came before it; frames have
 * the numbers 0, 1, 2 and so on, a head first, an end last, nothing behind it. Memory is bounded by one frame, whatever a
 * header says. After an error nothing more is answered.
 */

import { createHash, type Hash } from 'node:crypto';
import zlib from 'node:zlib';
import { crc32c } from '../base/crc.ts';
import { assert, StoreError } from '../base/errors.ts';
import {
  CODEC_RAW,
  damaged,
  decodeFrameHeader,
  DIGEST_BYTES,
  END_FRAME,
  FRAME_HEADER_BYTES,
  type FrameHeader,
  HEAD_FRAME,
} from './format.ts';

/** What the frames are of. */
export interface Framed {
  /** Ends with the number of its revision. */
  readonly signature: Buffer;
  /** Kind of the frames between head and end. */
  readonly kind: number;
  /** The command that makes it. */
  readonly maker: string;
}

export interface VerifiedFrame {
  readonly kind: number;
  readonly codec: number;
  /** Unpacked. */
  readonly body: Buffer;
}

type Part = 'signature' | 'header' | 'body' | 'digest' | 'nothing';

export class FrameReader {
  readonly #framed: Framed;
  readonly #digest: Hash = createHash('sha256');
  readonly #header = Buffer.alloc(FRAME_HEADER_BYTES);
  readonly #expected = Buffer.alloc(DIGEST_BYTES);
  /** What is being filled, and what it is. */
  #part: Part = 'signature';
  #target: Buffer;
  #filled = 0;
  #frame: FrameHeader | undefined;
  #body: Buffer;
  #number = 0;
  #isBroken = false;

  constructor(framed: Framed) {
    this.#framed = framed;
    this.#target = Buffer.alloc(framed.signature.length);
    this.#body = this.#target;
  }

  /** Frames that are whole with these bytes. @throws CORRUPTION, UNSUPPORTED_FORMAT */
  *push(bytes: Buffer): Generator<VerifiedFrame> {
    assert(!this.#isBroken, 'nothing is read behind an error');
    this.#isBroken = true; // until all of it has been taken
    for (let at = 0; at < bytes.length; ) {
      if (this.#part === 'nothing') throw damaged('it goes on behind its end');
      const taken = bytes.copy(this.#target, this.#filled, at, at + this.#target.length - this.#filled);
      at += taken;
      this.#filled += taken;
      if (this.#filled < this.#target.length) break;
      const frame = this.#filledPart();
      if (frame !== undefined) yield frame;
    }
    this.#isBroken = false;
  }

  /** No more bytes come. @throws CORRUPTION if the end has not come */
  close(): void {
    if (this.#part === 'nothing') return;
    if (this.#part === 'signature' && this.#filled === 0)
      throw new StoreError('CORRUPTION', 'there is no stream: nothing came; look at what sends it');
    if (
      this.#part === 'signature' &&
      !this.#framed.signature.subarray(0, this.#filled).equals(this.#target.subarray(0, this.#filled))
    )
      throw this.#foreign();
    throw new StoreError('CORRUPTION', `the stream was cut off in its frame ${this.#number}; send it again`);
  }

  #filledPart(): VerifiedFrame | undefined {
    switch (this.#part) {
      case 'signature':
        this.#checkSignature();
        this.#digest.update(this.#target);
        this.#expect('header', this.#header);
        return undefined;
      case 'header':
        this.#frame = this.#checkedHeader();
        this.#digest.update(this.#header);
        this.#body = Buffer.allocUnsafe(this.#frame.bodyBytes);
        this.#expect('body', this.#body);
        return undefined;
      case 'body':
        if (crc32c(this.#body) !== this.#frame!.bodyChecksum)
          throw damaged(`frame ${this.#number} does not match its checksum`);
        this.#digest.update(this.#body);
        this.#expect('digest', this.#expected);
        return undefined;
      case 'digest':
      case 'nothing':
        return this.#verifiedFrame();
    }
  }

  #expect(part: Part, target: Buffer): void {
    [this.#part, this.#target, this.#filled] = [part, target, 0];
  }

  #checkSignature(): void {
    const { signature } = this.#framed;
    if (this.#target.equals(signature)) return;
    if (this.#target.subarray(0, -1).equals(signature.subarray(0, -1)))
      throw new StoreError(
        'UNSUPPORTED_FORMAT',
        'the stream is of another release; receive it with that one',
      );
    throw this.#foreign();
  }

  /** What came is something else. */
  #foreign(): StoreError {
    const { maker } = this.#framed;
    return new StoreError('CORRUPTION', `that is no stream of \`${maker}\`; give what that command writes`);
  }

  #checkedHeader(): FrameHeader {
    const frame = decodeFrameHeader(this.#header);
    const { number, kind } = frame;
    if (number !== this.#number) throw damaged(`frame ${number} stands where ${this.#number} should`);
    if ((number === 0) !== (kind === HEAD_FRAME))
      throw damaged('a head stands where none should, or there is none');
    if (kind !== HEAD_FRAME && kind !== this.#framed.kind && kind !== END_FRAME)
      throw damaged(`a frame has the kind ${kind}, which belongs elsewhere`);
    return frame;
  }

  #verifiedFrame(): VerifiedFrame {
    if (!this.#digest.copy().digest().equals(this.#expected))
      throw damaged(`frame ${this.#number} does not follow what came before it`);
    this.#digest.update(this.#expected);
    this.#number += 1;
    const { kind, codec, unpackedBytes } = this.#frame!;
    if (kind === END_FRAME) this.#expect('nothing', this.#header);
    else this.#expect('header', this.#header);
    return { kind, codec, body: unpack(this.#body, codec, unpackedBytes) };
  }
}

function unpack(body: Buffer, codec: number, unpackedBytes: number): Buffer {
  if (codec === CODEC_RAW) return body;
  let unpacked: Buffer;
  try {
    unpacked = zlib.inflateRawSync(body, { maxOutputLength: unpackedBytes });
  } catch {
    throw damaged('a body cannot be unpacked');
  }
  if (unpacked.length !== unpackedBytes) throw damaged('a body has another length when it is unpacked');
  return unpacked;
}
