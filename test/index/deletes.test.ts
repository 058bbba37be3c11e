/**
 * Deleted versions in the index: ghosts, heirs and orphans as the algorithm has them, in every order of deletes, with
 * writes and commits between the batches. What is left is compared with a brute-force count of what is inherited.
 */

import fs from 'node:fs';
import { afterAll, describe, expect, it } from 'vitest';
import { nextRegionOf, treesOf } from '../../src/index/dump.ts';
import { ExtentRecount } from '../../src/index/extent-recount.ts';
import { byRegion, type LabelledRow } from '../../src/index/extents.ts';
import { HOLE, REGION_CHUNKS } from '../../src/index/pointers.ts';
import { SpaceCount } from '../../src/index/space-count.ts';
import { openLevel } from '../../src/volume/store.ts';
import { Random, seeds } from '../support/random.ts';
import { scratchDirectory } from '../support/stores.ts';
import { randomOperation } from './operations.ts';
import { IndexRig, REGIONS_END, type Operation, pointerAt } from './rig.ts';

const VERSIONS_MAX = 24;
const STEPS = Number(process.env.DELETE_STEPS ?? 300);
const scratch = scratchDirectory();
afterAll(() => fs.rmSync(scratch, { recursive: true }));

function randomDelete(random: Random, rig: IndexRig): Operation {
  const visible = rig.visible();
  const count = Math.min(random.pick([1, 1, 1, 2, 3, 8]), visible.length);
  const labels = new Set<number>();
  while (labels.size < count) labels.add(random.pick(visible));
  return { op: 'delete', labels: [...labels] };
}

function step(random: Random, rig: IndexRig): void {
  const isCrowded = rig.visible().length >= VERSIONS_MAX;
  if (rig.visible().length > 0 && random.chance(isCrowded ? 60 : 5)) rig.apply(randomDelete(random, rig));
  else rig.apply(randomOperation(random, rig, 10_000));
}

/** What the rows have, by label: chunk and pointer as text. */
async function pointersOf(rig: IndexRig): Promise<Map<number, Map<number, string>>> {
  const found = new Map<number, Map<number, string>>();
  const view = { index: rig.index, overlay: undefined };
  const extents = new ExtentRecount(rig.index.extents);
  for (const tree of treesOf(view)) {
    let region = await nextRegionOf(tree, 0, REGIONS_END, view);
    for (; region >= 0; region = await nextRegionOf(tree, region + 1, REGIONS_END, view)) {
      const blocks = await rig.index.regionBlocks(tree, region);
      await extents.add(tree, region, blocks);
      for (const [label, block] of blocks) {
        const pointers = found.get(label) ?? new Map<number, string>();
        for (let i = 0; i < REGION_CHUNKS; i++) {
          if (block.segment(i) === 0 || block.segment(i) === HOLE) continue;
          pointers.set(region * REGION_CHUNKS + i, JSON.stringify(pointerAt(block, i)));
        }
        found.set(label, pointers);
      }
    }
  }
  await extents.finish();
  return found;
}

function asText(pointers: ReadonlyMap<number, ReadonlyMap<number, string>>): string[] {
  return [...pointers]
    .flatMap(([label, own]) => [...own].map(([chunk, pointer]) => `${label} ${chunk} ${pointer}`))
    .sort();
}

/** T1 to T3 and P1 to P4: what holds when no delete is pending. */
async function checkInvariants(rig: IndexRig): Promise<void> {
  const visible = rig.visible();
  let trees = 0;
  for (const { label, parent, hidden } of rig.versions.nodes()) {
    if (hidden > 0) expect(rig.versions.children(label).size).toBeGreaterThanOrEqual(2);
    if (parent === 0) trees += 1;
  }
  expect(rig.versions.size).toBeLessThanOrEqual(Math.max(0, 2 * visible.length - trees));
  const rows = await pointersOf(rig);
  for (const label of rows.keys()) expect(rig.versions.get(label)).toBeDefined();
  const expected = new Map<number, Map<number, string>>();
  const usage = new Map<number, number>();
  for (const [label, pointers] of rig.inherited()) {
    const own = new Map<number, string>();
    for (const [chunk, pointer] of pointers) {
      if (pointer.segment === HOLE) continue;
      own.set(chunk, JSON.stringify(pointer));
      usage.set(pointer.segment, (usage.get(pointer.segment) ?? 0) + 1);
    }
    expected.set(label, own);
  }
  expect(asText(rows)).toEqual(asText(expected));
  expect(new Map(rig.index.usage.entries())).toEqual(usage);
}

/** What versions take up, counted by brute force: who reads each pointer. */
function countedSpace(
  rig: IndexRig,
  set: ReadonlySet<number>,
): { versions: Map<number, number[]>; set: number } {
  const readers = new Map<string, number[]>();
  const versions = new Map(rig.visible().map((label) => [label, [0, 0]]));
  const chunks = new Set([...rig.own.values()].flatMap((own) => [...own.keys()]));
  for (const label of rig.visible()) {
    for (const chunk of chunks) {
      const pointer = rig.expected(label, chunk);
      if (pointer === undefined) continue;
      const key = `${chunk} ${pointer.sequence}`;
      const others = readers.get(key) ?? [];
      others.push(label);
      readers.set(key, others);
      versions.get(label)![0]! += 1;
    }
  }
  let inSet = 0;
  for (const labels of readers.values()) {
    if (labels.length === 1) versions.get(labels[0]!)![1]! += 1;
    if (labels.every((label) => set.has(label))) inSet += 1;
  }
  return { versions, set: inSet };
}

/** Requires: all is in rows. */
async function checkSpace(rig: IndexRig, random: Random): Promise<void> {
  const set = new Set(rig.visible().filter(() => random.chance(40)));
  const count = new SpaceCount(rig.versions, set);
  const leaves = new Map<string, LabelledRow[]>();
  for await (const [label, row] of rig.index.extents.readAll()) {
    const node = rig.versions.get(label);
    if (node === undefined) continue;
    const key = `${node.tree} ${row.leaf}`;
    leaves.set(key, [...(leaves.get(key) ?? []), [label, row]]);
  }
  for (const rows of leaves.values()) for (const [, there] of byRegion(rows)) count.add(there);
  const counted = countedSpace(rig, set);
  const found = new Map(
    [...count.versions()].map(([label, { readChunks, ownChunks }]) => [label, [readChunks, ownChunks]]),
  );
  for (const [label, figures] of counted.versions)
    expect([label, found.get(label)]).toEqual([label, figures]);
  expect(count.setChunks).toBe(counted.set);
}

async function runHistory(rig: IndexRig, random: Random, steps: number): Promise<void> {
  for (let i = 0; i < steps; i++) {
    step(random, rig);
    if (random.chance(6)) await rig.commit();
    if (random.chance(1)) {
      await rig.commit();
      await rig.reopen();
    }
    if (!random.chance(4)) continue;
    rig.pruneRegions = random.pick([1, 2, 5, 100]);
    await rig.prune(async () => {
      // Meanwhile the store goes on: deletes that come now wait for the next run.
      while (random.chance(60)) step(random, rig);
      if (random.chance(20)) await rig.commit();
      if (random.chance(5)) await rig.readAll();
    });
    await rig.commit();
    await checkSpace(rig, random);
    if (rig.pending.size > 0) continue;
    await checkInvariants(rig);
    await rig.readAll();
  }
  await rig.prune();
  await checkInvariants(rig);
  await rig.readAll();
}

describe('versions that are deleted', () => {
  for (const seed of seeds(4)) {
    it(`leave what others inherit and nothing else (SEED=${seed}, ${STEPS} steps)`, {
      timeout: 600_000,
    }, async () => {
      const random = new Random(seed);
      const rig = await IndexRig.begin(
        undefined,
        random.pick([0, 30_000, 1 << 20]),
        random.pick([0, 1 << 20]),
      );
      await runHistory(rig, random, STEPS);
      // The same history without any pruning is the same in canonical form: deletes are finished there.
      const dump = await rig.dump();
      const other = await IndexRig.begin();
      for (const operation of rig.done) {
        other.apply(operation);
        if (random.chance(5)) await other.commit();
      }
      expect((await other.dump()) === dump).toBe(true);
      await other.prune();
      await checkInvariants(other);
      expect((await other.dump()) === dump).toBe(true);
    });
  }

  for (const seed of seeds(1)) {
    it(`do so over LevelDB (SEED=${seed})`, { timeout: 600_000 }, async () => {
      const random = new Random(seed);
      const rig = await IndexRig.begin(await openLevel(`${scratch}/${seed}`), 30_000);
      await runHistory(rig, random, STEPS);
      await rig.index.close();
    });
  }

  it('count as they were when the overlay froze: a delete that came later may still be lost', async () => {
    const rig = await IndexRig.begin();
    rig.apply({ op: 'create' });
    rig.apply({ op: 'write', label: 1, first: 0, count: 4 });
    await rig.commit();
    rig.apply({ op: 'snapshot', label: 1 });
    rig.apply({ op: 'write', label: 2, first: 0, count: 4 });
    rig.index.freeze();
    const { view } = rig;
    rig.apply({ op: 'delete', labels: [1] });
    await rig.index.commit(rig.position(), view);
    expect((await rig.index.regionBlocks(1, 0)).get(1)?.count()).toBe(4);
    await rig.prune();
    expect((await rig.index.regionBlocks(1, 0)).get(1)).toBeUndefined();
  });
});
