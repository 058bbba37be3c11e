/**
 * Which bytes of a piece are worth storing: everything but whole blocks of zeros. Pure.
 *
 * Node has no SEEK_HOLE, so a hole is found by looking. That also finds zeros that somebody wrote.
 */

import { CHUNK_BYTES } from '../base/units.ts';

/** A run of bytes in a piece, `start` inclusive, `end` exclusive. */
export interface Run {
  readonly start: number;
  readonly end: number;
}

const ZEROS = Buffer.alloc(2 ** 20);

/** Runs of `piece` that hold anything but zeros, in steps of a chunk. Requires: the piece begins at a chunk. */
export function nonZeroRuns(piece: Buffer): Run[] {
  // Large stretches first: most of a hole is told by one comparison a MiB.
  if (piece.length > CHUNK_BYTES && isZero(piece)) return [];
  const runs: { start: number; end: number }[] = [];
  for (let start = 0; start < piece.length; start += CHUNK_BYTES) {
    const end = Math.min(start + CHUNK_BYTES, piece.length);
    if (isZero(piece.subarray(start, end))) continue;
    const last = runs.at(-1);
    if (last?.end === start) last.end = end;
    else runs.push({ start, end });
  }
  return runs;
}

function isZero(bytes: Buffer): boolean {
  for (let start = 0; start < bytes.length; start += ZEROS.length) {
    const end = Math.min(start + ZEROS.length, bytes.length);
    if (bytes.compare(ZEROS, 0, end - start, start, end) !== 0) return false;
  }
  return true;
}
