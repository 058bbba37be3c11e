/** Chunks that a repair has given up: no checksum makes one of them good, and they go wherever they are moved. */

import { describe, expect, it } from 'vitest';
import { crc32c } from '../../src/base/crc.ts';
import { fillerFor, isGivenUp, mayBeMoved } from '../../src/log/lost-chunk.ts';

describe('a chunk that is given up', () => {
  it('has never the checksum of the chunk in whose place it stands', () => {
    const first = fillerFor(7);
    for (const checksum of [7, 0, crc32c(first), crc32c(fillerFor(crc32c(first)))]) {
      const filler = fillerFor(checksum);
      expect(filler.length).toBe(4096);
      expect(crc32c(filler)).not.toBe(checksum);
      expect(isGivenUp(filler)).toBe(true);
      expect(mayBeMoved(filler, checksum)).toBe(true);
    }
  });

  it('is told from one that has rotten, which stays where it is', () => {
    const chunk = Buffer.alloc(4096, 3);
    expect(mayBeMoved(chunk, crc32c(chunk))).toBe(true);
    expect(mayBeMoved(chunk, crc32c(chunk) ^ 1)).toBe(false);
    expect(isGivenUp(Buffer.from(fillerFor(1)).fill(1, 5, 6))).toBe(false);
  });
});
