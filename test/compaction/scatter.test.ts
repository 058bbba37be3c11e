/** What is scattered, and in which order it is put together again. */

import { describe, expect, it } from 'vitest';
import { Scatter } from '../../src/compaction/scatter.ts';
import type { SegmentUse } from '../../src/compaction/victims.ts';
import { CHUNK_BYTES } from '../../src/base/units.ts';
import { HOLE, PointerBlock, REGION_CHUNKS } from '../../src/index/pointers.ts';

/** A region whose chunk i lies in segment `segmentOf(i)`. */
function regionOf(segmentOf: (chunk: number) => number): PointerBlock {
  const block = new PointerBlock();
  for (let i = 0; i < REGION_CHUNKS; i++) {
    const segment = segmentOf(i);
    if (segment !== 0) block.put(i, segment, 4096 * i, 1, 1);
  }
  return block;
}

const use = (segment: number, liveChunks = 100): SegmentUse => ({
  segment,
  liveChunks,
  bytes: 1 << 20,
  zerosBytes: 0,
  age: 0,
});

describe('a segment', () => {
  it('is scattered where its chunks share their regions with many others', () => {
    const scatter = new Scatter();
    for (let region = 0; region < 4; region++)
      scatter.add(
        1,
        region,
        regionOf((chunk) => 1 + (chunk % 8)),
      );
    for (let segment = 1; segment <= 8; segment++) expect(scatter.isScattered(segment)).toBe(true);
  });

  it('is not where it begins or ends in a region that another one shares', () => {
    const scatter = new Scatter();
    scatter.add(
      1,
      0,
      regionOf((chunk) => (chunk < 40 ? 1 : 2)),
    );
    scatter.add(
      1,
      1,
      regionOf((chunk) => (chunk < 200 ? 2 : 3)),
    );
    for (const segment of [1, 2, 3]) expect(scatter.isScattered(segment)).toBe(false);
  });

  it('is not for a few chunks among strangers, if the most of it lies together', () => {
    const scatter = new Scatter();
    for (let region = 0; region < 9; region++)
      scatter.add(
        1,
        region,
        regionOf(() => 1),
      );
    scatter.add(
      1,
      9,
      regionOf((chunk) => 1 + (chunk % 8)),
    );
    expect(scatter.isScattered(1)).toBe(false);
    expect(scatter.isScattered(2)).toBe(true);
  });

  it('is not because several versions have something of a region, nor for holes', () => {
    const scatter = new Scatter();
    for (let label = 1; label <= 8; label++)
      scatter.add(
        label,
        0,
        regionOf((chunk) => (chunk % 8 === label - 1 ? label : HOLE)),
      );
    for (let label = 1; label <= 8; label++) expect(scatter.isScattered(label)).toBe(false);
    expect(scatter.isScattered(HOLE)).toBe(false);
    expect(scatter.isScattered(99)).toBe(false);
  });
});

describe('segments are put in order', () => {
  const scatter = new Scatter();
  scatter.add(
    2,
    0,
    regionOf((chunk) => (chunk < 128 ? 5 : 7)),
  );
  scatter.add(
    1,
    9,
    regionOf(() => 5),
  );
  scatter.add(
    1,
    3,
    regionOf((chunk) => (chunk < 128 ? 6 : 8)),
  );
  scatter.add(
    1,
    4,
    regionOf(() => 8),
  );

  const order = (bytesMax: number): number[] =>
    scatter.firstOf([use(7), use(5), use(8), use(6)], bytesMax).map(({ segment }) => segment);

  it('by where they begin: version first, then region', () => {
    expect(order(Number.MAX_SAFE_INTEGER)).toEqual([6, 8, 5, 7]);
  });

  it('as many as may be moved at once', () => {
    expect(order(250 * CHUNK_BYTES)).toEqual([6, 8]);
    expect(order(200 * CHUNK_BYTES)).toEqual([6, 8]);
    expect(order(99 * CHUNK_BYTES)).toEqual([]);
  });

  it('those that nothing leads to come last', () => {
    expect(scatter.firstOf([use(1), use(7)], Number.MAX_SAFE_INTEGER).map(({ segment }) => segment)).toEqual([
      7, 1,
    ]);
  });
});
