/**
 * Makes frames, in the order in which their bodies are given. Pure.
 *
 * Invariant: the digest runs over all that was made so far, so frames are made one at a time, and in order.
 */

import { createHash } from 'node:crypto';
import { crc32c } from '../base/crc.ts';
import { assert } from '../base/errors.ts';
import { CODEC_RAW, encodeFrameHeader, END_FRAME, HEAD_FRAME } from './format.ts';
import { encodeHead, type StreamHead } from './head.ts';

export class FrameWriter {
  readonly #signature: Buffer;
  readonly #digest = createHash('sha256');
  #number = 0;

  constructor(signature: Buffer) {
    this.#signature = signature;
  }

  /** The first bytes. */
  begin(head: StreamHead): Buffer[] {
    assert(this.#number === 0, 'a stream begins once');
    this.#digest.update(this.#signature);
    const body = encodeHead(head);
    return [this.#signature, ...this.frame(HEAD_FRAME, CODEC_RAW, [body], body.length)];
  }

  /** The last bytes. */
  end(body: Buffer): Buffer[] {
    return this.frame(END_FRAME, CODEC_RAW, [body], body.length);
  }

  frame(kind: number, codec: number, body: readonly Buffer[], unpackedBytes: number): Buffer[] {
    assert(this.#number > 0 || kind === HEAD_FRAME, 'a head comes first');
    const number = this.#number++;
    let [bodyBytes, bodyChecksum] = [0, 0];
    for (const slice of body) {
      bodyBytes += slice.length;
      bodyChecksum = crc32c(slice, bodyChecksum);
    }
    const header = encodeFrameHeader({ kind, codec, number, bodyBytes, unpackedBytes, bodyChecksum });
    this.#digest.update(header);
    for (const slice of body) this.#digest.update(slice);
    const digest = this.#digest.copy().digest();
    this.#digest.update(digest);
    return [header, ...body, digest];
  }
}
