/** Pointers of a region in memory: a block behaves like a map; the higher sequence counts. */

import { describe, expect, it } from 'vitest';
import { CHUNK_BYTES } from '../../src/base/units.ts';
import { HOLE, mergeBlocks, PointerBlock, REGION_CHUNKS } from '../../src/index/pointers.ts';
import { Random, seeds } from '../support/random.ts';
import { IndexRig, type Pointer, pointerAt } from './rig.ts';

function contentOf(block: PointerBlock): Map<number, Pointer> {
  const content = new Map<number, Pointer>();
  for (let i = 0; i < REGION_CHUNKS; i++) if (block.segment(i) !== 0) content.set(i, pointerAt(block, i));
  return content;
}

function putInto(map: Map<number, Pointer>, index: number, pointer: Pointer): void {
  const before = map.get(index);
  if (before === undefined || before.sequence <= pointer.sequence) map.set(index, pointer);
}

const sorted = (map: Map<number, Pointer>): [number, Pointer][] => [...map].sort((a, b) => a[0] - b[0]);

describe('pointers of a region', () => {
  for (const seed of seeds(1)) {
    it(`a block holds what a map holds, from the first pointer to the last (SEED=${seed})`, () => {
      const random = new Random(seed);
      for (let round = 0; round < 150; round++) {
        const [block, map] = [new PointerBlock(), new Map<number, Pointer>()];
        const puts = random.pick([0, 1, 4, 5, 31, 32, 33, 34, 70, 600]);
        const span = random.pick([3, 33, REGION_CHUNKS]);
        for (let i = 0; i < puts; i++) {
          const index = random.below(span);
          const isHole = random.chance(25);
          const pointer = {
            segment: isHole ? HOLE : random.between(1, 2 ** 32 - 2),
            offset: isHole ? 0 : CHUNK_BYTES * random.below(2 ** 18),
            checksum: isHole ? 0 : random.next(),
            sequence: random.chance(50) ? random.below(8) : random.below(2 ** 20) * 2 ** 32 + random.next(),
          };
          block.put(index, pointer.segment, pointer.offset, pointer.checksum, pointer.sequence);
          putInto(map, index, pointer);
        }
        expect(sorted(contentOf(block))).toEqual(sorted(map));
        expect(block.count()).toBe(map.size);
        expect(block.isFull()).toBe(map.size === REGION_CHUNKS);
      }
    });

    it(`a block that is compacted, again and again, holds the same, in the memory that it says (SEED=${seed})`, () => {
      const random = new Random(seed);
      for (let round = 0; round < 150; round++) {
        const map = new Map<number, Pointer>();
        let block = random.chance(50) ? new PointerBlock() : new PointerBlock(random.below(20));
        const puts = random.pick([0, 1, 5, 60, 128, 129, 140, 600]);
        const span = random.pick([3, 120, 128, 129, REGION_CHUNKS]);
        for (let i = 0; i < puts; i++) {
          if (random.chance(5)) {
            block = block.compacted();
            if (map.size <= 128) expect(block.bytes).toBeLessThanOrEqual(500 + 40 * map.size);
          }
          const index = random.below(span);
          if (random.chance(10)) {
            block.clear(index);
            map.delete(index);
            continue;
          }
          const pointer = {
            segment: random.between(1, 2 ** 32 - 2),
            offset: CHUNK_BYTES * random.below(2 ** 18),
            checksum: random.next(),
            sequence: random.chance(50) ? random.below(8) : random.below(2 ** 20) * 2 ** 32 + random.next(),
          };
          if (random.chance(30)) {
            block.putBeneath(index, pointer.segment, pointer.offset, pointer.checksum, pointer.sequence);
            if ((map.get(index)?.sequence ?? -1) < pointer.sequence) map.set(index, pointer);
          } else {
            block.put(index, pointer.segment, pointer.offset, pointer.checksum, pointer.sequence);
            putInto(map, index, pointer);
          }
        }
        expect(sorted(contentOf(block))).toEqual(sorted(map));
        expect(sorted(contentOf(block.compacted()))).toEqual(sorted(map));
        expect(block.count()).toBe(map.size);
        expect(block.isFull()).toBe(map.size === REGION_CHUNKS);
        block.reset();
        expect(block.count()).toBe(0);
      }
    });

    it(`blocks merge into what is there already (SEED=${seed})`, () => {
      const random = new Random(seed);
      for (let round = 0; round < 100; round++) {
        const [from, into, map] = [new PointerBlock(), new PointerBlock(), new Map<number, Pointer>()];
        const puts = random.pick([10, 200]);
        for (let i = 0; i < puts; i++) {
          const index = random.below(40);
          const target = random.pick([from, into]);
          const pointer = {
            segment: 1,
            offset: 4096 * i,
            checksum: i,
            sequence: random.below(2 ** 31) * 64 + i,
          };
          target.put(index, pointer.segment, pointer.offset, pointer.checksum, pointer.sequence);
          putInto(map, index, pointer);
        }
        mergeBlocks(from, into);
        expect(sorted(contentOf(into))).toEqual(sorted(map));
      }
    });
  }

  it('a pointer of the same sequence takes the place of the one before: a chunk that moved', () => {
    const block = new PointerBlock();
    block.put(5, 1, 4096, 7, 10);
    block.put(5, 2, 8192, 7, 10);
    block.put(5, 3, 12_288, 7, 9);
    expect(pointerAt(block, 5)).toEqual({ segment: 2, offset: 8192, checksum: 7, sequence: 10 });
  });

  it('sequences beyond 2^32 keep their order', () => {
    const block = new PointerBlock();
    block.put(0, 1, 0, 0, 2 ** 32);
    block.put(0, 2, 0, 0, 2 ** 32 - 1);
    expect(block.segment(0)).toBe(1);
    block.put(0, 3, 0, 0, 2 ** 33);
    expect(block.sequence(0)).toBe(2 ** 33);
  });
});

describe('what writes cost in rows', () => {
  it('1 MiB written in order is one pointer row, wherever its commits fall, and two rows where it lies across', async () => {
    for (const [first, pointerRows] of [
      [256, 1],
      [300, 2],
    ] as const) {
      const rig = await IndexRig.begin();
      rig.apply({ op: 'create' });
      rig.apply({ op: 'write', label: 1, first: 0, count: 1 });
      await rig.commit();
      const before = await rig.rows();
      // As the log cuts it: 64 chunks an entry.
      for (let i = 0; i < 4; i++) rig.apply({ op: 'write', label: 1, first: first + 64 * i, count: 64 });
      await rig.commit();
      const added = [...(await rig.rows()).keys()].filter((key) => !before.has(key));
      expect(added.filter((key) => key.startsWith('70')).length).toBe(pointerRows);
      // The directory of this disk stood already: what else is new is usage.
      expect(added.filter((key) => !key.startsWith('75')).length).toBe(pointerRows);
    }
  });

  it('a few chunks over a full region make a small row of their own; many rows become one again', async () => {
    const rig = await IndexRig.begin();
    rig.apply({ op: 'create' });
    rig.apply({ op: 'write', label: 1, first: 0, count: 256 });
    await rig.commit();
    const counts: number[] = [];
    for (let i = 0; i < 40; i++) {
      rig.apply({ op: 'write', label: 1, first: (i * 37) % 256, count: 1 });
      await rig.commit();
      const rows = [...(await rig.rows())].filter(([key]) => key.startsWith('70'));
      counts.push(rows.length);
      if (rows.length > 1) expect(rows.map(([, value]) => value.length).sort((a, b) => a - b)[0]).toBe(26);
      await rig.readAll();
    }
    expect(Math.max(...counts)).toBe(8);
    expect(counts.filter((count) => count === 1).length).toBe(5);
  });
});
