/** Pages: found where they are, gone when they are dropped, within a bound over all readers. */

import { describe, expect, it } from 'vitest';
import { Page, PageCache, PageTable } from '../../src/index/pages.ts';
import { BLOCK_BYTES, PointerBlock } from '../../src/index/pointers.ts';
import { Random, seeds } from '../support/random.ts';

const ROOM = BLOCK_BYTES + 200;

const pageOf = (table: PageTable, region: number): Page => new Page(table, region, new PointerBlock());

describe('pages', () => {
  it('a page that takes the place of another is the one that is found, and stays so', () => {
    const table = new PageTable(new PageCache(100 * ROOM));
    const [old, other, fresh] = [pageOf(table, 5), pageOf(table, 6), pageOf(table, 5)];
    table.add(old);
    table.add(other);
    expect(table.find(5) === old).toBe(true);
    table.add(fresh); // loaded anew, because a chunk did not match its checksum
    expect(table.find(5) === fresh).toBe(true);
    table.find(6);
    expect(table.find(5) === fresh).toBe(true);
  });

  it('a dropped page is not found, though it was the last one asked for', () => {
    const table = new PageTable(new PageCache(ROOM));
    table.add(pageOf(table, 1));
    expect(table.find(1)).toBeDefined();
    table.add(pageOf(table, 2));
    expect(table.find(1)).toBeUndefined();
    expect(table.find(2)).toBeDefined();
    table.clear();
    expect(table.find(2)).toBeUndefined();
  });

  it('a table that is cleared gives its room back, and leaves those of others', () => {
    const cache = new PageCache(10 * ROOM);
    const [mine, theirs] = [new PageTable(cache), new PageTable(cache)];
    for (let i = 0; i < 4; i++) mine.add(pageOf(mine, i));
    for (let i = 0; i < 4; i++) theirs.add(pageOf(theirs, i));
    mine.clear();
    expect(cache.usedBytes).toBe(4 * ROOM);
    for (let i = 0; i < 4; i++) expect(theirs.find(i)).toBeDefined();
  });

  it('what is used again and again is hardly ever loaded anew while others come and go', () => {
    const table = new PageTable(new PageCache(8 * ROOM));
    let loads = 0;
    for (let i = 0; i < 1000; i++) {
      if (table.find(1_000_000) === undefined) {
        table.add(pageOf(table, 1_000_000));
        loads += 1;
      }
      table.add(pageOf(table, i));
    }
    expect(loads).toBeLessThan(50);
    expect(table.size).toBe(8);
  });

  it('pages with few pointers take little room, and what they take when they have more', () => {
    const cache = new PageCache(10 * ROOM);
    const [mine, theirs] = [new PageTable(cache), new PageTable(cache)];
    for (let region = 0; region < 40; region++) mine.add(new Page(mine, region, new PointerBlock(16)));
    expect(mine.size).toBe(40);
    const before = cache.usedBytes;
    const page = mine.find(3)!;
    for (let i = 0; i < 200; i++) page.block.put(i, 1, 4096 * i, i, i);
    page.changed();
    expect(cache.usedBytes - before).toBe(BLOCK_BYTES - new PointerBlock(16).bytes);
    for (const each of mine.pages()) {
      for (let i = 0; i < 200; i++) each.block.put(i, 1, 4096 * i, i, i);
      each.changed();
      expect(cache.usedBytes).toBeLessThanOrEqual(10 * ROOM);
    }
    // One that was let go meanwhile counts no more, whoever still has it.
    const [used, gone] = [cache.usedBytes, new Page(theirs, 1, new PointerBlock(16))];
    for (let i = 0; i < 200; i++) gone.block.put(i, 1, 4096 * i, i, i);
    gone.changed();
    expect(cache.usedBytes).toBe(used);
    mine.clear();
    expect(cache.usedBytes).toBe(0);
  });

  for (const seed of seeds(1)) {
    it(`the bound holds and the newest page stays, whatever is added, found and cleared (SEED=${seed})`, () => {
      const random = new Random(seed);
      for (let round = 0; round < 30; round++) {
        const bound = random.pick([0, 1, 2, 3, 20]);
        const cache = new PageCache(bound * ROOM);
        const tables = [0, 1, 2].map(() => new PageTable(cache));
        const newest = new Map<PageTable, Map<number, Page>>(tables.map((table) => [table, new Map()]));
        for (let step = 0; step < 400; step++) {
          const table = random.pick(tables);
          const region = random.below(30);
          if (random.chance(60)) {
            const page = pageOf(table, region);
            table.add(page);
            newest.get(table)!.set(region, page);
            if (table.find(region) !== page) throw new Error('the newest page is not found');
          } else if (random.chance(2)) {
            table.clear();
            newest.get(table)!.clear();
          } else {
            const found = table.find(region);
            if (found !== undefined && found !== newest.get(table)!.get(region))
              throw new Error('an old page is found');
          }
          expect(cache.usedBytes).toBeLessThanOrEqual(Math.max(1, bound) * ROOM);
        }
      }
    });
  }
});
