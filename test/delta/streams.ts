/** Streams in memory, made of what a test says, and what they do to a disk. */

import { createHash, randomUUID } from 'node:crypto';
import { crc32c } from '../../src/base/crc.ts';
import { buildChanges, type BuiltChanges, ChangesPlan } from '../../src/delta/changes.ts';
import { piecesOf } from '../../src/delta/compose.ts';
import { type FrameHeader, SIGNATURE } from '../../src/delta/format.ts';
import type { StreamHead } from '../../src/delta/head.ts';
import { type Frame, StreamReader } from '../../src/delta/stream-reader.ts';
import { packedBody, rawBody, StreamWriter } from '../../src/delta/stream-writer.ts';
import type { Random } from '../support/random.ts';

export const CHUNK = 4096;

/** Zeros, or bytes, at a place. */
export interface TestExtent {
  offset: number;
  bytes: Buffer;
  zeros?: boolean;
}

export interface Made {
  head: StreamHead;
  bytes: Buffer;
}

export function headOf(size: number, base: StreamHead['target'] | null = null, name = 'two'): StreamHead {
  return {
    store: randomUUID(),
    volume: { uuid: randomUUID(), name: 'disk' },
    target: { uuid: randomUUID(), name, size, created: 1_600_000_000_000 },
    base: base === null ? null : { uuid: base.uuid, name: base.name, size: base.size },
    position: 0,
  };
}

/** One frame for each list of extents. */
export async function makeStream(
  head: StreamHead,
  frames: TestExtent[][],
  isPacked = false,
): Promise<Buffer> {
  const writer = new StreamWriter();
  const slices = writer.begin(head);
  for (const extents of frames) {
    const body = builtOf(extents);
    slices.push(...writer.changes(isPacked ? await packedBody(body) : rawBody(body)));
  }
  slices.push(...writer.end());
  return Buffer.concat(slices);
}

/** A stream with headers that somebody made up, and digests that fit. */
export function forgedStream(frames: { header: Buffer; body: Buffer }[]): Buffer {
  const digest = createHash('sha256').update(SIGNATURE);
  const slices: Buffer[] = [SIGNATURE];
  for (const { header, body } of frames) {
    digest.update(header).update(body);
    const sum = digest.copy().digest();
    digest.update(sum);
    slices.push(header, body, sum);
  }
  return Buffer.concat(slices);
}

export function headerFor(number: number, kind: number, body: Buffer): FrameHeader {
  const [bodyBytes, bodyChecksum] = [body.length, crc32c(body)];
  return { kind, codec: 0, number, bodyBytes, unpackedBytes: bodyBytes, bodyChecksum };
}

export function bodyOf(extents: TestExtent[]): Buffer {
  return Buffer.concat(builtOf(extents).slices);
}

function builtOf(extents: TestExtent[]): BuiltChanges {
  const plan = new ChangesPlan();
  for (const { offset, bytes, zeros = false } of extents) plan.take({ offset, length: bytes.length, zeros });
  const payload = extents.filter(({ zeros }) => zeros !== true).map(({ bytes }) => bytes);
  return buildChanges(plan, Buffer.concat(payload), true)!;
}

export function readAll(bytes: Buffer, pieceBytes = bytes.length): Frame[] {
  const reader = new StreamReader();
  const frames: Frame[] = [];
  for (let at = 0; at < bytes.length; at += pieceBytes)
    frames.push(...reader.push(bytes.subarray(at, at + pieceBytes)));
  reader.close();
  return frames;
}

/** What becomes of a disk; what its base had behind the end of a shorter one is gone. */
export function applied(base: Buffer, head: StreamHead, frames: Iterable<Frame>): Buffer {
  const disk = Buffer.alloc(head.target.size);
  base.copy(disk);
  for (const frame of frames) {
    if (frame.kind !== 'changes') continue;
    for (const { offset, length, bytes } of piecesOf(frame.changes)) {
      if (bytes === undefined) disk.fill(0, offset, offset + length);
      else bytes.copy(disk, offset);
    }
  }
  return disk;
}

/** Frames of extents at random places, in order, no longer than `size`. */
export function randomFrames(random: Random, size: number): TestExtent[][] {
  const frames: TestExtent[][] = [];
  let at = 512 * random.below(8);
  while (at < size) {
    const extents: TestExtent[] = [];
    for (let left = random.between(1, 6); left > 0 && at < size; left--) {
      const length = Math.min(size - at, 512 * random.between(1, 24));
      const zeros = random.chance(25);
      const bytes = Buffer.alloc(length, zeros ? 0 : random.between(1, 255));
      if (!zeros && random.chance(30)) bytes.fill(0, 0, Math.min(length, CHUNK));
      extents.push({ offset: at, bytes, zeros });
      at += length + 512 * random.below(random.chance(30) ? 200 : 10);
    }
    frames.push(extents);
  }
  return frames;
}
