/**
 * A chunk that a repair has given up: its entry in the log says which chunk it was, with the sequence and the checksum that it had,
 * and in the place of its bytes stands a filler that does not match them. So it reads as an error, never as zeros or as what stood
 * there before, until it is written over or trimmed. No I/O.
 */

import { crc32c } from '../base/crc.ts';
import { CHUNK_BYTES } from '../base/units.ts';

/** On disk. Never change. The second one is for a chunk that has the checksum of the first. */
const FILLERS = [
  'lost, and given up by a repair of the store\n',
  'given up by a repair of the store, and lost\n',
].map((text) => Buffer.alloc(CHUNK_BYTES, text));

/** What is written in the place of a chunk with this checksum. */
export function fillerFor(checksum: number): Buffer {
  return FILLERS.find((filler) => crc32c(filler) !== checksum)!;
}

/** Requires: the chunk does not have its checksum. */
export function isGivenUp(chunk: Buffer): boolean {
  return FILLERS.some((filler) => filler.equals(chunk));
}

/** True for a chunk that is what it should be, and for one that is known to be lost: both stay what they are wherever they go. */
export function mayBeMoved(chunk: Buffer, checksum: number): boolean {
  return crc32c(chunk) === checksum || isGivenUp(chunk);
}
