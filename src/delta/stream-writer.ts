/**
 * Makes the bytes of a stream: frames in the order in which their bodies are given. Pure.
 *
 * Invariant: the digest runs over all that was made so far, so frames are made one at a time, and in order.
 */

import { createHash } from 'node:crypto';
import zlib from 'node:zlib';
import { crc32c } from '../base/crc.ts';
import { assert } from '../base/errors.ts';
import { type BuiltChanges, joined } from './changes.ts';
import {
  CHANGES_FRAME,
  CODEC_DEFLATE,
  CODEC_RAW,
  encodeFrameHeader,
  encodeTotals,
  END_FRAME,
  HEAD_FRAME,
  SIGNATURE,
  type StreamTotals,
} from './format.ts';
import { encodeHead, type StreamHead } from './head.ts';

/** A packed body has to be shorter by this part of it. */
const GAIN_PARTS = 16;
const DEFLATE_LEVEL = 1;

/** A body of changes as it will travel. */
export interface PackedBody {
  readonly codec: number;
  readonly slices: readonly Buffer[];
  readonly unpackedBytes: number;
  readonly dataBytes: number;
  readonly zeroBytes: number;
}

export function rawBody({ slices, bytes, dataBytes, zeroBytes }: BuiltChanges): PackedBody {
  return { codec: CODEC_RAW, slices, unpackedBytes: bytes, dataBytes, zeroBytes };
}

/** Packed if that pays, in a thread beside. */
export async function packedBody(built: BuiltChanges): Promise<PackedBody> {
  const raw = rawBody(built);
  const body = joined(built.slices, built.bytes);
  const bytes = await new Promise<Buffer>((resolve, reject) => {
    zlib.deflateRaw(body, { level: DEFLATE_LEVEL }, (error, result) =>
      error === null ? resolve(result) : reject(error),
    );
  });
  return bytes.length > body.length - body.length / GAIN_PARTS
    ? raw
    : { ...raw, codec: CODEC_DEFLATE, slices: [bytes] };
}

export class StreamWriter {
  readonly #digest = createHash('sha256');
  readonly #totals: StreamTotals = { frames: 0, dataBytes: 0, zeroBytes: 0 };
  #number = 0;

  get totals(): Readonly<StreamTotals> {
    return this.#totals;
  }

  /** The first bytes. */
  begin(head: StreamHead): Buffer[] {
    assert(this.#number === 0, 'a stream begins once');
    this.#digest.update(SIGNATURE);
    const body = encodeHead(head);
    return [SIGNATURE, ...this.#frame(HEAD_FRAME, CODEC_RAW, [body], body.length)];
  }

  changes({ codec, slices, unpackedBytes, dataBytes, zeroBytes }: PackedBody): Buffer[] {
    this.#totals.frames += 1;
    this.#totals.dataBytes += dataBytes;
    this.#totals.zeroBytes += zeroBytes;
    return this.#frame(CHANGES_FRAME, codec, slices, unpackedBytes);
  }

  /** The last bytes. */
  end(): Buffer[] {
    const body = encodeTotals(this.#totals);
    return this.#frame(END_FRAME, CODEC_RAW, [body], body.length);
  }

  #frame(kind: number, codec: number, body: readonly Buffer[], unpackedBytes: number): Buffer[] {
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
