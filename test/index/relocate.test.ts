/**
 * Pointers that follow chunks to where compaction has moved them, in the overlay, by the sequence of the write; a commit
 * puts them into rows. What everybody reads is the oracle; usage and extents are counted anew each time.
 */

import { describe, expect, it } from 'vitest';
import { type Move, type MovesByRegion, MoveTable } from '../../src/index/move.ts';
import { nextRegionOf, treesOf } from '../../src/index/dump.ts';
import { ExtentRecount } from '../../src/index/extent-recount.ts';
import { PageCache, PageTable } from '../../src/index/pages.ts';
import { HOLE, type PointerBlock, REGION_CHUNKS } from '../../src/index/pointers.ts';
import { Random, seeds } from '../support/random.ts';
import { randomOperation } from './operations.ts';
import { IndexRig, memoryDatabase, type Operation, type Pointer, pointerAt, REGIONS_END } from './rig.ts';
import { slow, ticks, watched } from './slow-database.ts';

const STEPS = 120;
const ROWS_MAX = 8;

/** A pointer of a row, and where it stands. */
interface Held extends Pointer {
  tree: number;
  label: number;
  chunk: number;
}

type Moved = Move & { tree: number; region: number };

const nameOf = ({ label, chunk }: { label: number; chunk: number }): string => `${label} ${chunk}`;

/** How many there are, whether or not the directory names them. */
async function pointerRows(database: IndexRig['database']): Promise<number> {
  let count = 0;
  for await (const [key] of database.iterator()) if (key.toString('latin1', 0, 1) === 'p') count += 1;
  return count;
}

/** What rows have, holes included; extents are held against it, and no row is left over. */
async function pointersOf({ index, database }: IndexRig): Promise<Map<string, Held>> {
  const found = new Map<string, Held>();
  const view = { index, overlay: undefined };
  const extents = new ExtentRecount(index.extents);
  let rows = 0;
  for (const tree of treesOf(view)) {
    let region = await nextRegionOf(tree, 0, REGIONS_END, view);
    for (; region >= 0; region = await nextRegionOf(tree, region + 1, REGIONS_END, view)) {
      const blocks = await index.regionBlocks(tree, region);
      await extents.add(tree, region, blocks);
      rows += (await index.directory.rows(tree, region)).length;
      for (const [label, block] of blocks) {
        for (let i = 0; i < REGION_CHUNKS; i++) {
          const held = { tree, label, chunk: region * REGION_CHUNKS + i, ...pointerAt(block, i) };
          if (held.segment !== 0) found.set(nameOf(held), held);
        }
      }
    }
  }
  await extents.finish();
  expect(await pointerRows(database)).toBe(rows);
  return found;
}

function usageOf(pointers: Iterable<Held>): Map<number, number> {
  const usage = new Map<number, number>();
  for (const { segment } of pointers) if (segment !== HOLE) usage.set(segment, (usage.get(segment) ?? 0) + 1);
  return usage;
}

const byNumber = (usage: Iterable<[number, number]>): [number, number][] =>
  [...usage].sort((a, b) => a[0] - b[0]);

function grouped(moves: readonly Moved[]): MovesByRegion {
  const table = new MoveTable();
  for (const move of moves) table.add(move.tree, move.region, move);
  return table.trees;
}

function countOf(moves: MovesByRegion): number {
  let count = 0;
  for (const regions of moves.values()) for (const there of regions.values()) count += there.length;
  return count;
}

/** An index whose chunks are moved; the specification follows. */
class Relocator {
  readonly rig: IndexRig;
  #segment = 100;

  constructor(rig: IndexRig) {
    this.rig = rig;
  }

  /** A move of what stands at a place, to one where nothing ever was. */
  moveOf({ tree, label, chunk, segment, offset, checksum, sequence }: Held): Moved {
    const toSegment = this.#segment + (chunk % 3);
    const toOffset = 4096 * (1 + (chunk % 1000));
    const region = Math.floor(chunk / REGION_CHUNKS);
    const index = chunk % REGION_CHUNKS;
    return { tree, region, label, index, segment, offset, toSegment, toOffset, checksum, sequence };
  }

  nextSegments(): void {
    this.#segment += 3;
  }

  /** A pointer is known by chunk and sequence, whoever has inherited it. */
  #follow({
    region,
    index,
    sequence,
    toSegment: segment,
    toOffset: offset,
  }: Move & { region: number }): void {
    const chunk = region * REGION_CHUNKS + index;
    for (const own of this.rig.own.values()) {
      const pointer = own.get(chunk);
      if (pointer?.sequence === sequence && pointer.segment !== HOLE)
        own.set(chunk, { ...pointer, segment, offset });
    }
  }

  /** Leads pointers to the new places, in the overlay only; answers how many rows still had the chunks. */
  async lead(moves: readonly Moved[]): Promise<number> {
    const still = await this.rig.index.stillThere(grouped(moves));
    this.rig.overlays.active.putMoves(still);
    for (const regions of still.values())
      for (const [region, there] of regions) for (const move of there) this.#follow({ ...move, region });
    this.nextSegments();
    return countOf(still);
  }

  async relocate(moves: readonly Moved[]): Promise<number> {
    const { rig } = this;
    const led = await this.lead(moves);
    await rig.readAll();
    await rig.commit();
    await rig.readAll();
    await this.checkUsage(await pointersOf(rig));
    return led;
  }

  async checkUsage(pointers: ReadonlyMap<string, Held>): Promise<void> {
    const usage = usageOf(pointers.values());
    expect(byNumber(this.rig.index.usage.entries())).toEqual(byNumber(usage));
    expect(this.rig.index.usage.liveChunks).toBe([...usage.values()].reduce((sum, each) => sum + each, 0));
  }

  async reopen(): Promise<void> {
    const before = await pointersOf(this.rig);
    await this.rig.reopen();
    expect(await pointersOf(this.rig)).toEqual(before);
    await this.checkUsage(before);
  }
}

function step(random: Random, rig: IndexRig): void {
  if (rig.visible().length > 3 && random.chance(6))
    rig.apply({ op: 'delete', labels: [random.pick(rig.visible())] });
  else rig.apply(randomOperation(random, rig, 10_000));
}

async function relocateSome(random: Random, to: Relocator): Promise<number> {
  const { rig } = to;
  const data = [...(await pointersOf(rig)).values()].filter(({ segment }) => segment !== HOLE);
  const share = random.pick([2, 30, 100]);
  const chosen = data.filter(() => random.chance(share));
  const moves = chosen.map((held) => to.moveOf(held));
  // Meanwhile the store goes on.
  const busy = random.below(4);
  for (let i = 0; i < 6 * busy; i++) step(random, rig);
  if (random.chance(50)) await rig.commit();
  if (busy === 3) await rig.prune();
  // And some that never were.
  for (const held of chosen.slice(0, 3)) {
    moves.push(to.moveOf({ ...held, sequence: held.sequence + 0.5 }));
    moves.push(to.moveOf({ ...held, label: held.label + 1000 }));
    moves.push(to.moveOf({ ...held, tree: held.tree + 1000 }));
    moves.push(
      to.moveOf({ ...held, chunk: (held.chunk + 7 * REGION_CHUNKS) % (REGIONS_END * REGION_CHUNKS) }),
    );
  }
  return await to.relocate(moves);
}

describe('pointers to chunks that were moved', () => {
  for (const seed of seeds(3)) {
    it(`follow where they still lead to the old place, and only there (SEED=${seed}, ${STEPS} steps)`, async () => {
      const random = new Random(seed);
      const rig = await IndexRig.begin(undefined, random.pick([0, 1 << 20]), random.pick([0, 1 << 20]));
      const to = new Relocator(rig);
      await rig.commit();
      let swapped = 0;
      for (let i = 0; i < STEPS; i++) {
        step(random, rig);
        if (random.chance(8)) await rig.commit();
        if (random.chance(8)) swapped += await relocateSome(random, to);
        if (random.chance(2)) await to.reopen();
        if (random.chance(3)) await rig.readAll();
      }
      await rig.prune();
      swapped += await relocateSome(random, to);
      await to.reopen();
      await rig.readAll();
      expect(swapped).toBeGreaterThan(20);
      // The same history without any moves reads the same, but for where things are.
      const contents = (dump: string): string => dump.replaceAll(/"segment":\d+,"offset":\d+,/g, '');
      const other = await IndexRig.begin();
      for (const operation of rig.done) other.apply(operation);
      await other.commit();
      expect(contents(await other.dump()) === contents(await rig.dump())).toBe(true);
    });
  }

  /** A volume with a snapshot under it, both with pointers of their own in two regions. */
  async function forked(): Promise<Relocator> {
    const rig = await IndexRig.begin();
    rig.apply({ op: 'create' });
    rig.apply({ op: 'write', label: 1, first: 0, count: 300 });
    rig.apply({ op: 'snapshot', label: 1 });
    rig.apply({ op: 'write', label: 2, first: 100, count: 200 });
    await rig.commit();
    return new Relocator(rig);
  }

  const moveAll = async (to: Relocator): Promise<Moved[]> =>
    [...(await pointersOf(to.rig)).values()].map((held) => to.moveOf(held));

  it('of several versions and regions follow in one batch', async () => {
    const to = await forked();
    expect(await to.relocate(await moveAll(to))).toBe(500);
    expect(byNumber(to.rig.index.usage.entries()).map(([segment]) => segment)).toEqual([100, 101, 102]);
    await to.rig.readAll();
    await to.reopen();
    await to.rig.readAll();
  });

  const newer: [what: string, operations: Operation[], swapped: number][] = [
    ['a write that a checkpoint has', [{ op: 'write', label: 2, first: 100, count: 150 }], 350],
    ['a trim', [{ op: 'zero', label: 2, first: 0, count: 300 }], 300],
    ['zeros over a few chunks', [{ op: 'zero', label: 2, first: 150, count: 7 }], 493],
    ['a delete of the snapshot, whose pointers went to its heir', [{ op: 'delete', labels: [1] }], 200],
    ['a delete of all', [{ op: 'delete', labels: [1, 2] }], 0],
  ];
  for (const [what, operations, swapped] of newer) {
    it(`stay where ${what} came first`, async () => {
      const to = await forked();
      const moves = await moveAll(to);
      for (const operation of operations) to.rig.apply(operation);
      await to.rig.prune();
      expect(await to.relocate(moves)).toBe(swapped);
      await to.reopen();
      await to.rig.readAll();
      await to.rig.commit();
      await to.rig.readAll();
    });
  }

  it('lose to a write that no checkpoint has yet, frozen or not', async () => {
    const to = await forked();
    const { rig } = to;
    const moves = await moveAll(to);
    rig.apply({ op: 'write', label: 2, first: 100, count: 50 });
    rig.index.freeze();
    rig.apply({ op: 'write', label: 2, first: 120, count: 50 });
    rig.apply({ op: 'zero', label: 2, first: 250, count: 50 });
    expect(await to.lead(moves)).toBe(500);
    await rig.readAll();
    await rig.index.commit(rig.position(), rig.view);
    await rig.readAll();
    await rig.commit();
    await rig.readAll();
    await to.checkUsage(await pointersOf(rig));
  });

  it('keep their sequences: what is older does not come back over them, and what is newer does', async () => {
    const to = await forked();
    const before = [...(await pointersOf(to.rig)).values()];
    await to.relocate(before.map((held) => to.moveOf(held)));
    const after = await pointersOf(to.rig);
    expect(after.size).toBe(before.length);
    for (const held of before) {
      const now = after.get(nameOf(held))!;
      expect([now.sequence, now.checksum]).toEqual([held.sequence, held.checksum]);
      expect([now.segment, now.offset]).not.toEqual([held.segment, held.offset]);
    }
  });

  it('change nothing where none follows, not even a row', async () => {
    const to = await forked();
    const moves = (await moveAll(to)).map((move) => ({ ...move, sequence: move.sequence - 0.5 }));
    expect(await to.lead(moves)).toBe(0);
    expect(to.rig.overlays.active.isEmpty).toBe(true);
  });

  it('stay in a bounded number of rows, however often a few of them move', async () => {
    const to = await forked();
    const { rig } = to;
    const counts = new Set<number>();
    for (let i = 0; i < 30; i++) {
      const pointers = [...(await pointersOf(rig)).values()].filter(({ label }) => label === 1);
      expect(await to.relocate(pointers.slice(i, i + 2).map((held) => to.moveOf(held)))).toBe(2);
      const rows = await rig.index.directory.rows(1, 0);
      counts.add(rows.filter(({ label }) => label === 1).length);
    }
    expect(Math.max(...counts)).toBe(ROWS_MAX);
    expect(counts.has(1)).toBe(true);
    await rig.readAll();
    await to.reopen();
  });
});

describe('loads that a relocation overtakes', () => {
  async function heldUp(hold: 'get' | 'getMany'): Promise<void> {
    let held: (() => void) | undefined;
    let isArmed = false;
    const database = watched(await memoryDatabase(), {
      after: async (call) => {
        if (!isArmed || call !== hold) return;
        isArmed = false;
        await new Promise<void>((resolve) => {
          held = resolve;
        });
      },
    });
    // Nothing of the directory stays in memory.
    const rig = await IndexRig.begin(database, 0, 0);
    const to = new Relocator(rig);
    rig.apply({ op: 'create' });
    rig.apply({ op: 'write', label: 1, first: 0, count: 256 });
    await rig.commit();
    rig.apply({ op: 'write', label: 1, first: 3, count: 2 });
    await rig.commit();
    for (const share of [1, 256]) {
      const moves = [...(await pointersOf(rig)).values()].slice(0, share).map((each) => to.moveOf(each));
      isArmed = true;
      const loading = rig.loadCold(1, 0);
      while (held === undefined) await ticks(1);
      await to.relocate(moves);
      held();
      held = undefined;
      expect(rig.wrong(await loading, 1, 0)).toBeUndefined();
    }
  }

  it('answer the new place though they read the old row before', async () => {
    await heldUp('getMany');
  });

  it('answer the new place though they looked into the directory before', async () => {
    await heldUp('get');
  });

  for (const seed of seeds(3)) {
    it(`answer the new place once a relocation is over, and never anything else (SEED=${seed})`, async () => {
      const random = new Random(seed);
      const rig = await IndexRig.begin(slow(await memoryDatabase(), random), 0, random.pick([0, 1 << 20]));
      rig.apply({ op: 'create' });
      for (let i = 0; i < 4; i++) {
        rig.apply({ op: 'write', label: rig.heads[0]!, first: 64 * i, count: 300 });
        await rig.commit();
        if (i % 2 === 0) rig.apply({ op: 'snapshot', label: rig.heads[0]! });
      }
      const to = new Relocator(rig);
      const labels = rig.visible();
      /** While a relocation is under way: what everybody read before it. */
      let before: Map<string, string[]> | undefined;
      let relocations = 0;
      let overtaken = 0;
      const relocateSome = async (): Promise<void> => {
        const data = [...(await pointersOf(rig)).values()].filter(() => random.chance(50));
        const moves = data.map((held) => to.moveOf(held));
        before = new Map();
        for (const label of labels)
          for (const region of [0, 1]) before.set(`${label} ${region}`, placesOf(rig, label, region));
        await to.lead(moves);
        if (random.chance(50)) await rig.commit();
        before = undefined;
        relocations += 1;
      };
      const readOne = async (): Promise<void> => {
        const [label, region, from] = [random.pick(labels), random.below(2), relocations];
        const { block } = await rig.index.load(
          new PageTable(new PageCache(1 << 20)),
          { tree: 1, label, path: rig.reader(label).path },
          region,
        );
        if (relocations > from) overtaken += 1;
        const now = placesOf(rig, label, region);
        const old = before?.get(`${label} ${region}`) ?? now;
        const found = placesIn(block);
        const wrong = found.findIndex((place, i) => place !== now[i] && place !== old[i]);
        if (wrong >= 0)
          throw new Error(`chunk ${wrong}: ${found[wrong]}, not ${now[wrong]} or ${old[wrong]}`);
        await ticks(random.below(3));
      };
      let isOver = false;
      const relocating = async (): Promise<void> => {
        for (let i = 0; i < 10; i++) await relocateSome();
        isOver = true;
      };
      const reading = async (): Promise<void> => {
        while (!isOver) await readOne();
      };
      await Promise.all([relocating(), reading(), reading(), reading()]);
      expect(overtaken).toBeGreaterThan(3);
      await rig.readAll();
    });
  }
});

const placeOf = (pointer: Pointer | undefined): string => JSON.stringify(pointer ?? null);

function placesIn(block: PointerBlock): string[] {
  return Array.from({ length: REGION_CHUNKS }, (_, i) => {
    const pointer = pointerAt(block, i);
    return placeOf(pointer.segment === 0 || pointer.segment === HOLE ? undefined : pointer);
  });
}

function placesOf(rig: IndexRig, label: number, region: number): string[] {
  return Array.from({ length: REGION_CHUNKS }, (_, i) =>
    placeOf(rig.expected(label, region * REGION_CHUNKS + i)),
  );
}
