/** Changed pointers in flat memory: the table holds what maps hold, from the first node to blocks; and zeroed extents. */

import { describe, expect, it } from 'vitest';
import { CHUNK_BYTES } from '../../src/base/units.ts';
import { ChangeTable } from '../../src/index/change-table.ts';
import { HOLE, PointerBlock, REGION_CHUNKS } from '../../src/index/pointers.ts';
import { ZeroedRegions } from '../../src/index/zeroed-regions.ts';
import { Random, seeds } from '../support/random.ts';
import { type Pointer, pointerAt } from './rig.ts';

const place = (tree: number, region: number, label: number): string => `${tree} ${region} ${label}`;

function contentOf(block: PointerBlock): [number, Pointer][] {
  const content: [number, Pointer][] = [];
  for (let i = 0; i < REGION_CHUNKS; i++) if (block.segment(i) !== 0) content.push([i, pointerAt(block, i)]);
  return content;
}

function putIntoMap(map: Map<number, Pointer>, index: number, pointer: Pointer): void {
  const before = map.get(index);
  if (before === undefined || before.sequence <= pointer.sequence) map.set(index, pointer);
}

describe('the table of changes', () => {
  for (const seed of seeds(1)) {
    it(`holds what maps hold, whatever is put, by version and region (SEED=${seed})`, () => {
      const random = new Random(seed);
      for (let round = 0; round < 60; round++) {
        const table = new ChangeTable();
        const maps = new Map<string, Map<number, Pointer>>();
        const labels = random.pick([1, 2, 9]);
        const regions = random.pick([1, 3, 700]);
        const longest = random.pick([1, 1, 5, 33, 256]);
        for (let i = 0; i < random.pick([1, 40, 300]); i++) {
          const [tree, label] = [random.between(1, 2), random.between(1, labels)];
          const region = random.below(regions) * random.pick([1, 97]);
          const index = random.below(REGION_CHUNKS);
          const count = Math.min(random.between(1, longest), REGION_CHUNKS - index);
          const isHole = random.chance(20);
          const segment = isHole ? HOLE : random.between(1, 2 ** 32 - 2);
          const offset = isHole ? 0 : CHUNK_BYTES * random.below(2 ** 18);
          const sequence = random.chance(50)
            ? random.below(8)
            : random.below(2 ** 20) * 2 ** 32 + random.next();
          const checksums = Uint32Array.from({ length: count + 3 }, () => random.next());
          table.put(tree, label, region, { index, count, segment, offset, checksums, from: 3, sequence });
          const key = place(tree, region, label);
          const map = maps.get(key) ?? new Map<number, Pointer>();
          maps.set(key, map);
          for (let c = 0; c < count; c++) {
            const pointer = isHole
              ? { segment, offset: 0, checksum: 0, sequence }
              : { segment, offset: offset + c * CHUNK_BYTES, checksum: checksums[c + 3]!, sequence };
            putIntoMap(map, index + c, pointer);
          }
        }
        expect(table.changeCount).toBe(maps.size);
        for (const tree of [1, 2]) {
          const changed = [...maps.keys()]
            .map((key) => key.split(' ').map(Number))
            .filter(([of]) => of === tree);
          const expected = [...new Set(changed.map(([, region]) => region!))].sort((a, b) => a - b);
          expect(table.regions(tree)).toEqual(expected);
          let region = -1;
          for (const next of [...expected, -1])
            expect((region = table.nextRegion(tree, region + 1, 2 ** 26))).toBe(next);
        }
        for (const [key, map] of maps) {
          const [tree, region, label] = key.split(' ').map(Number) as [number, number, number];
          const block = new PointerBlock();
          table.mergeInto(block, tree, region, (each) => each === label);
          expect(contentOf(block)).toEqual([...map].sort((a, b) => a[0] - b[0]));
          const found = new Set<number>();
          table.labelsInto(found, tree, region);
          // Newest first: what a walk of the nodes relies on.
          expect([...found]).toEqual([...found].sort((a, b) => b - a));
          expect(found.has(label)).toBe(true);
        }
      }
    });

    it(`zeroed extents say for each region what a list of all trims says (SEED=${seed})`, () => {
      const random = new Random(seed);
      for (let round = 0; round < 100; round++) {
        const zeroed = new ZeroedRegions();
        const since = new Map<string, number>();
        for (let i = 0; i < 40; i++) {
          const [tree, label, first] = [random.between(1, 2), random.between(1, 3), random.below(60)];
          const end = first + random.between(1, 25);
          // Now and then an older one comes late.
          const sequence = random.chance(80) ? 100 + i : random.below(140);
          zeroed.put(tree, label, first, end, sequence);
          for (let region = first; region < end; region++) {
            const key = place(tree, region, label);
            since.set(key, Math.max(since.get(key) ?? 0, sequence));
          }
        }
        const found = new Map<string, number>();
        for (const tree of [1, 2]) {
          for (let region = 0; region < 100; region++) {
            zeroed.forEach(tree, region, (label, sequence) =>
              found.set(place(tree, region, label), sequence),
            );
          }
          const extents = [...zeroed.extents(tree)];
          for (const [i, extent] of extents.entries()) {
            expect(extent.first).toBeLessThan(extent.end);
            const before = extents[i - 1];
            if (before?.label === extent.label) expect(before.end).toBeLessThanOrEqual(extent.first);
          }
        }
        expect(found).toEqual(since);
      }
    });
  }

  it('a pointer of the same sequence takes the place of the one before: a chunk that moved', () => {
    const table = new ChangeTable();
    const run = {
      index: 5,
      count: 1,
      segment: 1,
      offset: 4096,
      checksums: new Uint32Array([7]),
      from: 0,
      sequence: 10,
    };
    table.put(1, 1, 0, run);
    table.put(1, 1, 0, { ...run, segment: 2, offset: 8192 });
    table.put(1, 1, 0, { ...run, segment: 3, offset: 12_288, sequence: 9 });
    const block = new PointerBlock();
    table.mergeInto(block, 1, 0, () => true);
    expect(pointerAt(block, 5)).toEqual({ segment: 2, offset: 8192, checksum: 7, sequence: 10 });
  });
});
