/**
 * Every row that goes missing, is damaged, or is what it was a commit before: whoever loads a region with it is told
 * so. Wrong pointers are never an answer (design section 13, rule 5).
 */

import { beforeAll, describe, expect, it } from 'vitest';
import { hasCode } from '../../src/base/errors.ts';
import type { IndexDatabase } from '../../src/index/directory.ts';
import { CanonicalForm } from '../../src/index/dump.ts';
import { Overlay } from '../../src/index/overlay.ts';
import { PageCache, PageTable } from '../../src/index/pages.ts';
import { PointerIndex } from '../../src/index/pointer-index.ts';
import { PointerBlock } from '../../src/index/pointers.ts';
import { Random, seeds } from '../support/random.ts';
import { IndexRig, memoryDatabase, REGIONS_END, UUID } from './rig.ts';

type Rows = Map<string, Buffer>;

const fromHex = (text: string): Buffer => Buffer.from(text, 'hex');
const kindOf = (key: string): string => fromHex(key.slice(0, 2)).toString();

/** Regions in one leaf, another one, and under another middle node. */
const REGIONS = [0, 1, 300, 140_000];

let rig: IndexRig;
/** The rows as they are, and as they were one commit before. */
let rows: Rows;
let predecessors: Rows;
/** What versions have of their own, as first read, from rows that are whole. */
let own: PointerBlock[] = [];

/** Two commits over versions of every kind; the second changes a row of each. */
async function makeHistory(): Promise<void> {
  rig = await IndexRig.begin();
  rig.apply({ op: 'create' });
  for (const region of REGIONS) rig.apply({ op: 'write', label: 1, first: region * 256, count: 40 });
  rig.apply({ op: 'snapshot', label: 1 });
  rig.apply({ op: 'clone', label: 1 });
  for (const label of [2, 3]) {
    for (const region of REGIONS.slice(0, 3)) {
      rig.apply({ op: 'write', label, first: region * 256 + 10, count: 20 });
      rig.apply({ op: 'zero', label, first: region * 256 + 12, count: 2 });
    }
  }
  rig.apply({ op: 'create' });
  rig.apply({ op: 'write', label: 4, first: 0, count: 5 });
  await rig.commit();
  predecessors = await rig.rows();
  for (const region of REGIONS) {
    rig.apply({ op: 'write', label: 2, first: region * 256, count: 1 }); // a row of changes
    rig.apply({ op: 'write', label: 3, first: region * 256, count: 60 }); // a base row anew
  }
  rig.apply({ op: 'write', label: 4, first: 0, count: 7 });
  await rig.commit();
  rows = await rig.rows();
}

async function databaseOf(content: Rows): Promise<IndexDatabase> {
  const database = await memoryDatabase();
  for (const [key, value] of content) await database.put(fromHex(key), Buffer.from(value));
  return database;
}

/** Every version in every region, at once: as a commit and compaction ask. */
async function ownPointers(index: PointerIndex): Promise<PointerBlock[]> {
  const pinned = await index.pin();
  try {
    const places = [...rig.own.keys()].flatMap((label) =>
      REGIONS.map((region) => ({ label, region, tree: rig.versions.get(label)!.tree })),
    );
    const blocks = places.map(() => new PointerBlock());
    await pinned.ownPointers(places, blocks);
    return blocks;
  } finally {
    await pinned.close();
  }
}

/** Opens the index and loads every region of every version; answers what was noticed. Throws on a wrong pointer. */
async function look(content: Rows): Promise<{ onOpen: boolean; loads: number; noticed: number }> {
  const database = await databaseOf(content);
  const overlays = { active: new Overlay(), frozen: undefined };
  let index: PointerIndex;
  try {
    index = await PointerIndex.open(database, overlays, UUID, 1 << 20);
  } catch (error) {
    if (!hasCode(error, 'INDEX_DAMAGED')) throw error;
    return { onOpen: true, loads: 0, noticed: 0 };
  }
  let loads = 0;
  let noticed = 0;
  const count = async (work: () => Promise<void>): Promise<void> => {
    loads += 1;
    try {
      await work();
    } catch (error) {
      if (!hasCode(error, 'INDEX_DAMAGED')) throw error;
      noticed += 1;
    }
  };
  await count(async () => {
    const found = await ownPointers(index);
    if (own.length > 0) expect(found).toEqual(own);
    else own = found;
  });
  for (const label of rig.own.keys()) {
    const { tree } = rig.versions.get(label)!;
    const lineage = { tree, label, path: new Set(rig.versions.path(label)) };
    for (const region of [...REGIONS, 2, 141_000]) {
      await count(async () => {
        const page = await index.load(new PageTable(new PageCache(1 << 20)), lineage, region);
        const wrong = rig.wrong(page.block, label, region);
        if (wrong !== undefined) throw new Error(wrong);
      });
    }
    await count(async () => {
      for (let region = await index.nextRegion(tree, 0, REGIONS_END), at = 0; region >= 0; at++) {
        if (tree === 1 && region !== REGIONS[at]) throw new Error(`region ${region}, not ${REGIONS[at]}`);
        region = await index.nextRegion(tree, region + 1, REGIONS_END);
      }
    });
    await count(async () => {
      for (const window of index.extentWindows(label)) await index.readExtents(label, window);
    });
    for (const region of REGIONS) {
      await count(async () => {
        await new CanonicalForm(rig.versions).region({ index, overlay: undefined }, tree, region);
      });
    }
  }
  return { onOpen: false, loads, noticed };
}

beforeAll(makeHistory);

describe('a row of the index that is not as it was written', () => {
  it('none: nothing is noticed', async () => {
    expect(new Set([...rows.keys()].map(kindOf))).toEqual(new Set(['c', 'd', 'l', 'p', 'u', 'v', 'w']));
    expect(await look(rows)).toMatchObject({ onOpen: false, noticed: 0 });
  });

  it('each row missing is noticed', async () => {
    for (const key of rows.keys()) {
      const content = new Map(rows);
      content.delete(key);
      const seen = await look(content);
      expect(`${key} ${seen.onOpen || seen.noticed > 0}`).toBe(`${key} true`);
      // Where a load does not need the row it goes on.
      if (!seen.onOpen) expect(seen.noticed).toBeLessThan(seen.loads);
    }
  });

  it('each row as it was a commit before is noticed', async () => {
    const kinds = new Set<string>();
    for (const [key, value] of rows) {
      const before = predecessors.get(key);
      if (before === undefined || before.equals(value)) continue;
      kinds.add(kindOf(key) + key.slice(2, 4));
      const seen = await look(new Map(rows).set(key, before));
      expect(`${key} ${seen.onOpen || seen.noticed > 0}`).toBe(`${key} true`);
    }
    // Checkpoint, leaf, middle node, root, list, usage, extents, their windows.
    expect(
      [...kinds]
        .map((kind) => kind.slice(0, 1))
        .sort()
        .join(''),
    ).toMatch(/^cd+luv+w+$/);
  });

  it('each row that came with the last commit missing, and each that went with it back, is noticed or harmless', async () => {
    let back = 0;
    for (const [key, value] of predecessors) {
      if (rows.has(key)) continue;
      back += 1;
      // Nothing names it any more: the same pointers.
      expect(await look(new Map(rows).set(key, value))).toMatchObject({ onOpen: false, noticed: 0 });
    }
    expect(back).toBeGreaterThan(3);
    // All of the last commit, but one row of it: the others give it away.
    for (const key of rows.keys()) {
      if (rows.get(key)!.equals(predecessors.get(key) ?? Buffer.alloc(0))) continue;
      const content = new Map(rows);
      const before = predecessors.get(key);
      if (before === undefined) content.delete(key);
      else content.set(key, before);
      for (const [gone, value] of predecessors) if (!rows.has(gone)) content.set(gone, value);
      const seen = await look(content);
      expect(`${key} ${seen.onOpen || seen.noticed > 0}`).toBe(`${key} true`);
    }
  });

  it('all rows of a commit before, but one of now, is noticed, or reads as it was before', async () => {
    for (const [key, value] of rows) {
      const before = predecessors.get(key);
      if (before?.equals(value) ?? kindOf(key) === 'p') continue; // a pointer row that nothing names
      if (kindOf(key) === 'l' && before === undefined) continue;
      const overlays = { active: new Overlay(), frozen: undefined };
      const content = new Map(predecessors).set(key, value);
      let noticed = false;
      try {
        const index = await PointerIndex.open(await databaseOf(content), overlays, UUID, 1 << 20);
        for (const tree of index.directory.trees()) {
          for (const region of REGIONS) await index.regionBlocks(tree, region);
          for (const label of rig.own.keys())
            for (const window of index.extentWindows(label)) await index.readExtents(label, window);
        }
      } catch (error) {
        noticed = hasCode(error, 'INDEX_DAMAGED');
      }
      expect(`${key} ${noticed}`).toBe(`${key} true`);
    }
  });

  for (const seed of seeds(1)) {
    it(`a bit flipped in each row is noticed, and no wrong pointer read (SEED=${seed})`, async () => {
      const random = new Random(seed);
      for (const [key, value] of rows) {
        for (let round = 0; round < 4; round++) {
          const flipped = Buffer.from(value);
          const at = round === 0 ? random.below(4) : random.below(flipped.length);
          flipped[at]! ^= 1 << random.below(8);
          const seen = await look(new Map(rows).set(key, flipped));
          expect(`${key} ${seen.onOpen || seen.noticed > 0}`).toBe(`${key} true`);
        }
      }
    });

    it(`two rows of a kind that change places are noticed (SEED=${seed})`, async () => {
      const random = new Random(seed);
      const keys = [...rows.keys()];
      for (let round = 0; round < 60; round++) {
        const key = random.pick(keys);
        const other = random.pick(keys.filter((each) => kindOf(each) === kindOf(key)));
        if (other === key) continue;
        const seen = await look(new Map(rows).set(key, rows.get(other)!).set(other, rows.get(key)!));
        expect(`${key} ${seen.onOpen || seen.noticed > 0}`).toBe(`${key} true`);
      }
    });
  }
});
