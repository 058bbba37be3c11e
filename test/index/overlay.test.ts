/** The overlay: what the log says and LevelDB does not yet. */

import v8 from 'node:v8';
import vm from 'node:vm';
import { describe, expect, it } from 'vitest';
import { CHUNK_BYTES } from '../../src/base/units.ts';
import { Overlay } from '../../src/index/overlay.ts';
import { HOLE, PointerBlock, REGION_CHUNKS } from '../../src/index/pointers.ts';
import { pointerAt, REGIONS_END } from './rig.ts';

const DISK_CHUNKS = 2 ** 34;
const SOME = new Uint32Array(1024).map((_, i) => i + 1);

function put(
  overlay: Overlay,
  tree: number,
  label: number,
  first: number,
  count: number,
  sequence: number,
): void {
  overlay.putChunks(tree, label, first, count, 1, 4096, SOME, sequence);
}

function merged(overlay: Overlay, tree: number, region: number, ...path: number[]): PointerBlock {
  const block = new PointerBlock();
  overlay.mergeInto(block, tree, region, new Set(path));
  return block;
}

describe('the overlay', () => {
  it('holds zeros over 64 TiB as one extent, and their ragged edges as holes', () => {
    const overlay = new Overlay();
    const before = overlay.usedBytes;
    const started = performance.now();
    overlay.putZeros(1, 1, 0, DISK_CHUNKS, 5);
    overlay.putZeros(1, 1, 3, DISK_CHUNKS - 6, 6);
    expect(performance.now() - started).toBeLessThan(200);
    expect([...overlay.zeroed.extents(1)]).toEqual([
      { label: 1, first: 0, end: 1, sequence: 5 },
      { label: 1, first: 1, end: REGIONS_END - 1, sequence: 6 },
      { label: 1, first: REGIONS_END - 1, end: REGIONS_END, sequence: 5 },
    ]);
    expect(overlay.usedBytes - before).toBeLessThan(64 << 10);
    expect(overlay.isEmpty).toBe(false);
    expect(overlay.trees()).toEqual([1]);
    for (const region of [0, 1, 12_345, REGIONS_END - 1]) {
      const block = merged(overlay, 1, region, 1);
      expect(block.isFull()).toBe(true);
      for (const index of [0, 2, 3, 252, 253, 255]) {
        const chunk = region * REGION_CHUNKS + index;
        const sequence = chunk >= 3 && chunk < DISK_CHUNKS - 3 ? 6 : 5;
        expect(pointerAt(block, index)).toEqual({ segment: HOLE, offset: 0, checksum: 0, sequence });
      }
    }
  });

  it('holds zeros below a region, and those that touch two, as holes alone', () => {
    const overlay = new Overlay();
    overlay.putZeros(1, 1, 200, 300, 9); // reaches into two regions, and covers none
    expect(overlay.zeroed.isEmpty).toBe(true);
    expect(overlay.regions(1)).toEqual([0, 1]);
    expect(merged(overlay, 1, 0, 1).count()).toBe(56);
    expect(merged(overlay, 1, 1, 1).count()).toBe(244);
    expect(merged(overlay, 1, 1, 1).segment(243)).toBe(HOLE);
  });

  it('merges what the versions of a path did, and nothing of others, by sequence and not by order', () => {
    const overlay = new Overlay();
    put(overlay, 1, 3, 10, 4, 30); // the newest version first
    put(overlay, 1, 1, 8, 4, 10);
    overlay.putZeros(1, 2, 0, 512, 20);
    put(overlay, 1, 4, 0, 256, 99); // a sibling
    put(overlay, 2, 2, 0, 256, 98); // another tree
    const block = merged(overlay, 1, 0, 1, 2, 3);
    expect([8, 9, 10, 13, 14].map((i) => block.sequence(i))).toEqual([20, 20, 30, 30, 20]);
    expect(block.segment(10)).toBe(1);
    expect(block.offset(12)).toBe(4096 + 2 * CHUNK_BYTES);
    const below = merged(overlay, 1, 0, 1);
    expect(below.count()).toBe(4);
    const own = new PointerBlock();
    overlay.mergeVersionInto(own, 1, 0, 2);
    expect([own.count(), own.sequence(8)]).toEqual([REGION_CHUNKS, 20]);
    expect(overlay.labels(1, 0).sort((a, b) => a - b)).toEqual([1, 2, 3, 4]);
    expect(overlay.labels(1, 1)).toEqual([2]);
    expect(overlay.labels(1, 2)).toEqual([]);
    expect(overlay.labels(2, 0)).toEqual([2]);
  });

  it('a write behind zeros and zeros behind a write: the later one counts', () => {
    const overlay = new Overlay();
    put(overlay, 1, 1, 5, 1, 10);
    overlay.putZeros(1, 1, 0, 256, 11);
    put(overlay, 1, 1, 6, 1, 12);
    const block = merged(overlay, 1, 0, 1);
    expect([block.segment(5), block.segment(6)]).toEqual([HOLE, 1]);
  });

  it('finds the next region with pointers, in any order of writing, also when asked again after a write', () => {
    const overlay = new Overlay();
    expect(overlay.nextRegion(1, 0, REGIONS_END)).toBe(-1);
    for (const region of [900, 7, REGIONS_END - 1, 40]) put(overlay, 1, 1, region * REGION_CHUNKS, 1, 1);
    const walk = (from: number, end: number): number[] => {
      const found: number[] = [];
      let region = overlay.nextRegion(1, from, end);
      while (region >= 0) {
        found.push(region);
        region = overlay.nextRegion(1, region + 1, end);
      }
      return found;
    };
    expect(walk(0, REGIONS_END)).toEqual([7, 40, 900, REGIONS_END - 1]);
    expect(walk(8, 900)).toEqual([40]);
    expect(walk(7, 9)).toEqual([7]); // a short range, with more regions than it has places
    put(overlay, 1, 1, 8 * REGION_CHUNKS, 1, 1);
    expect(walk(0, 50)).toEqual([7, 8, 40]);
    expect(overlay.nextRegion(2, 0, REGIONS_END)).toBe(-1);
    expect(overlay.regions(1)).toEqual([7, 8, 40, 900, REGIONS_END - 1]);
    overlay.putZeros(1, 1, 0, DISK_CHUNKS, 9);
    expect(walk(0, 50)).toEqual([7, 8, 40]); // zeros are nothing that is stored
  });

  it('says about what it costs in memory: within a third', () => {
    v8.setFlagsFromString('--expose-gc');
    const gc = vm.runInNewContext('gc') as () => void;
    const overlay = new Overlay();
    gc();
    const before = process.memoryUsage();
    for (let region = 0; region < 100_000; region++) put(overlay, 1, 1, region * REGION_CHUNKS, 1, region);
    gc();
    const after = process.memoryUsage();
    const used = after.heapUsed + after.arrayBuffers - before.heapUsed - before.arrayBuffers;
    expect(overlay.usedBytes / 100_000).toBeLessThan(100);
    expect(used / overlay.usedBytes).toBeGreaterThan(0.67);
    expect(used / overlay.usedBytes).toBeLessThan(1.33);
  });
});
