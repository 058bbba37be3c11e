/**
 * Reads a stream as its bytes come, whoever sent it. Pure.
 *
 * Invariants: what is answered has been verified: its own checksum, and the digest over all that came before it; frames have
 * the numbers 0, 1, 2 and so on, a head first, an end last, nothing behind it; extents are in order over all frames, and in
 * the target. Memory is bounded by one frame, whatever a header says. After an error nothing more is answered.
 */

import { createHash, type Hash } from 'node:crypto';
import zlib from 'node:zlib';
import { crc32c } from '../base/crc.ts';
import { assert, StoreError } from '../base/errors.ts';
import { Changes } from './changes.ts';
import {
  CHANGES_FRAME,
  CODEC_RAW,
  damaged,
  decodeFrameHeader,
  decodeTotals,
  DIGEST_BYTES,
  FRAME_HEADER_BYTES,
  type FrameHeader,
  HEAD_FRAME,
  SIGNATURE,
  SIGNATURE_PREFIX,
  type StreamTotals,
} from './format.ts';
import { decodeHead, type StreamHead } from './head.ts';

export type Frame =
  | { readonly kind: 'head'; readonly head: StreamHead }
  | { readonly kind: 'changes'; readonly changes: Changes; readonly codec: number }
  | { readonly kind: 'end'; readonly totals: StreamTotals };

type Part = 'signature' | 'header' | 'body' | 'digest' | 'nothing';

export class StreamReader {
  readonly #digest: Hash = createHash('sha256');
  readonly #header = Buffer.alloc(FRAME_HEADER_BYTES);
  readonly #expected = Buffer.alloc(DIGEST_BYTES);
  readonly #totals: StreamTotals = { frames: 0, dataBytes: 0, zeroBytes: 0 };
  /** What is being filled, and what it is. */
  #part: Part = 'signature';
  #target: Buffer = Buffer.alloc(SIGNATURE.length);
  #filled = 0;
  #frame: FrameHeader | undefined;
  #body: Buffer = this.#target;
  #number = 0;
  #head: StreamHead | undefined;
  /** Where the last extent ends. */
  #position = 0;
  #isBroken = false;

  /** Frames that are whole with these bytes. @throws CORRUPTION, UNSUPPORTED_FORMAT */
  *push(bytes: Buffer): Generator<Frame> {
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

  /** No more bytes come. @throws CORRUPTION if the stream has not come to its end */
  close(): void {
    if (this.#part === 'nothing') return;
    if (this.#part === 'signature' && this.#filled === 0)
      throw new StoreError('CORRUPTION', 'there is no stream: nothing came; look at what sends it');
    throw new StoreError('CORRUPTION', `the stream was cut off in its frame ${this.#number}`);
  }

  #filledPart(): Frame | undefined {
    switch (this.#part) {
      case 'signature':
        this.#checkSignature();
        this.#digest.update(this.#target);
        this.#expect('header', this.#header);
        return undefined;
      case 'header':
        this.#frame = decodeFrameHeader(this.#header);
        if (this.#frame.number !== this.#number)
          throw damaged(`frame ${this.#frame.number} stands where ${this.#number} should`);
        if ((this.#number === 0) !== (this.#frame.kind === HEAD_FRAME))
          throw damaged('a head stands where none should, or there is none');
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
    if (this.#target.equals(SIGNATURE)) return;
    if (this.#target.toString('latin1').startsWith(SIGNATURE_PREFIX))
      throw new StoreError(
        'UNSUPPORTED_FORMAT',
        'the stream is of another release; receive it with that one',
      );
    throw new StoreError('CORRUPTION', 'that is no stream of `coppice send`');
  }

  #verifiedFrame(): Frame {
    if (!this.#digest.copy().digest().equals(this.#expected))
      throw damaged(`frame ${this.#number} does not follow what came before it`);
    this.#digest.update(this.#expected);
    this.#number += 1;
    const { kind, codec, unpackedBytes } = this.#frame!;
    this.#expect('header', this.#header);
    if (kind === HEAD_FRAME) {
      this.#head = decodeHead(this.#body);
      this.#position = this.#head.position;
      return { kind: 'head', head: this.#head };
    }
    if (kind === CHANGES_FRAME)
      return { kind: 'changes', changes: this.#changes(unpack(this.#body, codec, unpackedBytes)), codec };
    const totals = decodeTotals(this.#body);
    const { frames, dataBytes, zeroBytes } = this.#totals;
    if (totals.frames !== frames || totals.dataBytes !== dataBytes || totals.zeroBytes !== zeroBytes)
      throw damaged('its end tells of other changes than came');
    this.#part = 'nothing';
    return { kind: 'end', totals };
  }

  #changes(body: Buffer): Changes {
    const changes = new Changes(body);
    if (changes.offset(0) < this.#position) throw damaged('extents of two frames are not in order');
    if (changes.end > this.#head!.target.size)
      throw damaged('it changes what lies behind the end of the disk');
    this.#position = changes.end;
    this.#totals.frames += 1;
    this.#totals.dataBytes += changes.dataBytes;
    this.#totals.zeroBytes += changes.zeroBytes;
    return changes;
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
