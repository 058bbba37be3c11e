/** Makes the bytes of a stream: a head, changes in their order, an end. Pure. */

import zlib from 'node:zlib';
import { type BuiltChanges, joined } from './changes.ts';
import {
  CHANGES_FRAME,
  CODEC_DEFLATE,
  CODEC_RAW,
  encodeTotals,
  SIGNATURE,
  type StreamTotals,
} from './format.ts';
import { FrameWriter } from './frame-writer.ts';
import type { StreamHead } from './head.ts';

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
  readonly #frames = new FrameWriter(SIGNATURE);
  readonly #totals: StreamTotals = { frames: 0, dataBytes: 0, zeroBytes: 0 };

  get totals(): Readonly<StreamTotals> {
    return this.#totals;
  }

  /** The first bytes. */
  begin(head: StreamHead): Buffer[] {
    return this.#frames.begin(head);
  }

  changes({ codec, slices, unpackedBytes, dataBytes, zeroBytes }: PackedBody): Buffer[] {
    this.#totals.frames += 1;
    this.#totals.dataBytes += dataBytes;
    this.#totals.zeroBytes += zeroBytes;
    return this.#frames.frame(CHANGES_FRAME, codec, slices, unpackedBytes);
  }

  /** The last bytes. */
  end(): Buffer[] {
    return this.#frames.end(encodeTotals(this.#totals));
  }
}
