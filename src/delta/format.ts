/**
 * Every byte of a stream: what `coppice send` writes and `coppice receive` reads; and of a list of hashes, which has the same
 * frames with other bodies (hash-list.ts). Pure.
 *
 * A stream says how one version of a disk (the target) becomes of another one (the base), or of nothing. It begins with 16
 * bytes, `COPPICE STREAM 1` (its format revision), and has frames behind it, one behind the other, and nothing else:
 *
 *     head | changes | changes | ... | end
 *
 * All integers are big-endian.
 *
 * | at | bytes | frame |
 * |---|---|---|
 * | 0 | 4 | `CPSF` |
 * | 4 | 1 | kind: 1 head, 2 changes, 3 end; 4 hashes, of no stream |
 * | 5 | 1 | codec of the body: 0 as it is, 1 raw deflate (RFC 1951); 2 and 3 are kept for brotli and zstd |
 * | 6 | 2 | zero |
 * | 8 | 4 | number of the frame in its stream, from 0 |
 * | 12 | 4 | bytes of the body as it travels |
 * | 16 | 4 | bytes of the body when it is unpacked; the same for codec 0 |
 * | 20 | 4 | CRC-32C of the body as it travels |
 * | 24 | 4 | zero |
 * | 28 | 4 | CRC-32C of bytes 0 to 27 |
 * | 32 | | body |
 * | | 32 | SHA-256 of all bytes of the stream before this field |
 *
 * So a frame counts only behind all that came before it: one that is altered, missing, doubled or in another place is
 * noticed at itself, before anything of it is used.
 *
 * | body | layout |
 * |---|---|
 * | head | JSON, see head.ts; never packed |
 * | changes | extents u32, from 1 to 4096; for each its first sector u48 and its count of sectors u48, whose highest bit says that it reads as zeros; then the bytes of the others, in order, 1 MiB at most |
 * | end | frames of changes u64, bytes of data in them u64, bytes of zeros u64; never packed |
 *
 * A sector has 512 bytes. Extents are in order, do not overlap, over all frames, and end within the target. What no
 * extent covers is as in the base; behind the end of the base, or without one, zeros.
 */

import { ByteReader, ByteWriter } from '../base/bytes.ts';
import { crc32c } from '../base/crc.ts';
import { assert, StoreError } from '../base/errors.ts';
import { SECTOR_BYTES } from '../base/units.ts';

export const SIGNATURE = Buffer.from('COPPICE STREAM 1', 'latin1');
const MAGIC = Buffer.from('CPSF', 'latin1');

export const HEAD_FRAME = 1;
export const CHANGES_FRAME = 2;
export const END_FRAME = 3;
export const HASHES_FRAME = 4;

export const CODEC_RAW = 0;
export const CODEC_DEFLATE = 1;

export const FRAME_HEADER_BYTES = 32;
export const DIGEST_BYTES = 32;
const CHECKED_BYTES = FRAME_HEADER_BYTES - 4;

export const EXTENTS_MAX = 4096;
export const PAYLOAD_BYTES_MAX = 1 << 20;
export const EXTENT_BYTES = 12;
export const HEAD_BYTES_MAX = 16 << 10;
export const END_BYTES = 24;
export const CHANGES_BYTES_MAX = 4 + EXTENTS_MAX * EXTENT_BYTES + PAYLOAD_BYTES_MAX;
/** SHA-256. */
export const HASH_BYTES = 32;
export const HASHES_MAX = 4096;
export const HASH_RUN_BYTES = 10;
const HASHES_BYTES_MAX = 4 + HASHES_MAX * (HASH_RUN_BYTES + HASH_BYTES);
/** The highest bit of 48. */
export const ZEROS_BIT = 2 ** 47;

export interface FrameHeader {
  readonly kind: number;
  readonly codec: number;
  readonly number: number;
  /** As it travels. */
  readonly bodyBytes: number;
  readonly unpackedBytes: number;
  readonly bodyChecksum: number;
}

/** What the body of a frame may have when it is unpacked; 0 for an unknown kind. */
function bodyBytesMax(kind: number): number {
  if (kind === HEAD_FRAME) return HEAD_BYTES_MAX;
  if (kind === CHANGES_FRAME) return CHANGES_BYTES_MAX;
  if (kind === HASHES_FRAME) return HASHES_BYTES_MAX;
  return kind === END_FRAME ? END_BYTES : 0;
}

export function encodeFrameHeader(header: FrameHeader): Buffer {
  const out = new ByteWriter(Buffer.alloc(FRAME_HEADER_BYTES));
  out.bytes(MAGIC).u8(header.kind).u8(header.codec).zeros(2).u32(header.number);
  out.u32(header.bodyBytes).u32(header.unpackedBytes).u32(header.bodyChecksum).zeros(4);
  assert(out.position === CHECKED_BYTES, 'frame layout');
  out.u32(crc32c(out.buffer.subarray(0, CHECKED_BYTES)));
  return out.buffer;
}

/** @throws CORRUPTION; lengths in the answer are bounded */
export function decodeFrameHeader(bytes: Buffer): FrameHeader {
  const input = new ByteReader(bytes);
  if (!input.bytes(4).equals(MAGIC)) throw damaged('there is no frame where one should begin');
  const [kind, codec, zeros, number] = [input.u8(), input.u8(), input.u16(), input.u32()];
  const [bodyBytes, unpackedBytes, bodyChecksum] = [input.u32(), input.u32(), input.u32()];
  if (input.u32() !== 0 || zeros !== 0 || input.u32() !== crc32c(bytes.subarray(0, CHECKED_BYTES)))
    throw damaged('the header of a frame does not match its checksum');
  if (kind < HEAD_FRAME || kind > HASHES_FRAME) throw damaged(`a frame has the unknown kind ${kind}`);
  if (codec !== CODEC_RAW && (codec !== CODEC_DEFLATE || kind !== CHANGES_FRAME))
    throw new StoreError(
      'UNSUPPORTED_FORMAT',
      `the stream has a codec ${codec} that this release does not know`,
    );
  const isLong = unpackedBytes > bodyBytesMax(kind) || bodyBytes > unpackedBytes;
  if (isLong || bodyBytes === 0 || (codec === CODEC_RAW && bodyBytes !== unpackedBytes))
    throw damaged(`a frame has ${bodyBytes} bytes of ${unpackedBytes}, which cannot be`);
  return { kind, codec, number, bodyBytes, unpackedBytes, bodyChecksum };
}

/** What a stream has in all. */
export interface StreamTotals {
  frames: number;
  dataBytes: number;
  zeroBytes: number;
}

export function encodeTotals({ frames, dataBytes, zeroBytes }: StreamTotals): Buffer {
  return new ByteWriter(Buffer.alloc(END_BYTES)).u64(frames).u64(dataBytes).u64(zeroBytes).buffer;
}

/** @throws CORRUPTION */
export function decodeTotals(body: Buffer): StreamTotals {
  if (body.length !== END_BYTES) throw damaged('its end is too short, or too long');
  const input = new ByteReader(body);
  return { frames: input.u64(), dataBytes: input.u64(), zeroBytes: input.u64() };
}

export function isSectors(bytes: number): boolean {
  return Number.isSafeInteger(bytes) && bytes >= 0 && bytes % SECTOR_BYTES === 0;
}

/** A stream that is not as it was sent. */
export function damaged(what: string): StoreError {
  return new StoreError('CORRUPTION', `the stream is damaged: ${what}; send it again`);
}
