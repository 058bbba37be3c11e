/** The index against a map for each version: random histories, commits at random moments, reopened in between. */

import fs from 'node:fs';
import { afterAll, describe, expect, it } from 'vitest';
import { hasCode } from '../../src/base/errors.ts';
import { Overlay } from '../../src/index/overlay.ts';
import { PageCache, PageTable } from '../../src/index/pages.ts';
import { type Overlays, PointerIndex } from '../../src/index/pointer-index.ts';
import { openLevel } from '../../src/volume/store.ts';
import { Random, seeds } from '../support/random.ts';
import { scratchDirectory } from '../support/stores.ts';
import { randomOperation } from './operations.ts';
import { IndexRig, memoryDatabase, REGIONS_END, UUID } from './rig.ts';
import { slow, ticks, watched } from './slow-database.ts';

const VERSIONS_MAX = 30;
const scratch = scratchDirectory();
afterAll(() => fs.rmSync(scratch, { recursive: true }));

function sortedUsage(entries: Iterable<[number, number]>): [number, number][] {
  return [...entries].sort((a, b) => a[0] - b[0]);
}

async function checkUsage(rig: IndexRig): Promise<void> {
  expect(sortedUsage(rig.index.usage.entries())).toEqual(sortedUsage(rig.countedUsage()));
}

async function checkSome(rig: IndexRig, random: Random): Promise<void> {
  const labels = [...rig.own.keys()];
  if (labels.length === 0) return;
  for (let i = 0; i < 4; i++) {
    const label = random.pick(labels);
    const region = random.pick(rig.regions().concat(3));
    const page = await rig.load(label, region);
    const wrong = rig.wrong(page.block, label, region);
    if (wrong !== undefined) throw new Error(wrong);
  }
}

async function runHistory(rig: IndexRig, random: Random, steps: number): Promise<void> {
  for (let step = 0; step < steps; step++) {
    rig.apply(randomOperation(random, rig, VERSIONS_MAX));
    if (random.chance(10)) await checkSome(rig, random);
    if (random.chance(6)) {
      await rig.commit();
      await checkUsage(rig);
    }
    if (random.chance(1)) {
      await rig.commit();
      await rig.reopen();
      await checkUsage(rig);
    }
  }
  await rig.readAll();
  await rig.commit();
  await checkUsage(rig);
  await rig.reopen();
  await rig.readAll();
}

/** The same history with commits at other moments. */
async function again(rig: IndexRig, random: Random, percent: number): Promise<IndexRig> {
  const other = await IndexRig.begin();
  for (const operation of rig.done) {
    other.apply(operation);
    if (random.chance(percent)) await other.commit();
  }
  await other.commit();
  return other;
}

describe('the index under random histories', () => {
  for (const seed of seeds(3)) {
    it(`reads in every version what was put there, and is the same in any rhythm of commits (SEED=${seed})`, async () => {
      const random = new Random(seed);
      const rig = await IndexRig.begin(
        undefined,
        random.pick([0, 30_000, 1 << 20]),
        random.pick([0, 1 << 20]),
      );
      await runHistory(rig, random, 400);
      const dump = await rig.dump();
      expect(dump.length).toBeGreaterThan(1000);
      for (const percent of [0, 3, 50]) {
        const other = await again(rig, random, percent);
        expect((await other.dump()) === dump).toBe(true);
        await checkUsage(other);
      }
      const uncommitted = await IndexRig.begin();
      for (const operation of rig.done) uncommitted.apply(operation);
      expect((await uncommitted.dump()) === dump).toBe(true);
    });
  }

  for (const seed of seeds(1)) {
    it(`does so over LevelDB (SEED=${seed})`, async () => {
      const random = new Random(seed);
      const database = await openLevel(`${scratch}/${seed}`);
      const rig = await IndexRig.begin(database, 30_000);
      await runHistory(rig, random, 400);
      expect((await (await again(rig, random, 5)).dump()) === (await rig.dump())).toBe(true);
      await rig.index.close();
      rig.database = await openLevel(`${scratch}/${seed}`);
      await rig.reopen();
      await rig.readAll();
      await rig.index.close();
    });
  }

  it('a store of many leaves keeps few of them in memory, and reads all', async () => {
    const rig = await IndexRig.begin();
    rig.apply({ op: 'create' });
    for (let leaf = 0; leaf < 800; leaf++) {
      rig.apply({ op: 'write', label: 1, first: leaf * 256 * 256 + leaf, count: 1 });
      if (leaf % 200 === 199) await rig.commit();
    }
    expect(rig.index.directory.usedBytes).toBeLessThan(1.1 * 2 ** 20);
    await rig.readAll();
    expect(rig.index.directory.usedBytes).toBeLessThan(1.1 * 2 ** 20);
    await rig.reopen();
    await rig.readAll();
  });

  it('zeros over everything leave a root without rows, and a child with holes only where it hides something', async () => {
    const rig = await IndexRig.begin();
    rig.apply({ op: 'create' });
    for (const region of [0, 300, 200_000])
      rig.apply({ op: 'write', label: 1, first: region * 256, count: 10 });
    await rig.commit();
    rig.apply({ op: 'snapshot', label: 1 });
    rig.apply({ op: 'zero', label: 2, first: 0, count: 2 ** 34 });
    rig.apply({ op: 'create' });
    rig.apply({ op: 'write', label: 3, first: 0, count: 600 });
    await rig.commit();
    rig.apply({ op: 'zero', label: 3, first: 0, count: 2 ** 34 });
    await rig.commit();
    await rig.readAll();
    await checkUsage(rig);
    expect(rig.index.directory.trees()).toEqual([1]);
    const pointerRows = [...(await rig.rows()).keys()].filter((key) => key.startsWith('70'));
    expect(pointerRows.length).toBe(6);
  });

  it("a root's hole in a row of changes hides its own older row", async () => {
    const rig = await IndexRig.begin();
    rig.apply({ op: 'create' });
    rig.apply({ op: 'write', label: 1, first: 0, count: 256 });
    await rig.commit();
    rig.apply({ op: 'write', label: 1, first: 7, count: 1 });
    await rig.commit();
    rig.apply({ op: 'zero', label: 1, first: 7, count: 1 });
    await rig.commit();
    await rig.readAll();
    rig.apply({ op: 'zero', label: 1, first: 200, count: 3 });
    rig.apply({ op: 'write', label: 1, first: 201, count: 1 });
    await rig.commit();
    await rig.readAll();
    await checkUsage(rig);
  });
});

describe('loads and commits at the same time', () => {
  for (const seed of seeds(5)) {
    it(`never give a false alarm nor an old page (SEED=${seed})`, async () => {
      const random = new Random(seed);
      const database = slow(await memoryDatabase(), new Random(seed + 1));
      const rig = await IndexRig.begin(database, random.pick([0, 30_000]), random.pick([0, 0, 1 << 20]));
      for (let i = 0; i < 60; i++) rig.apply(randomOperation(random, rig, 10));
      let ended = false;
      const failures: unknown[] = [];
      const running = (async () => {
        const loader = async (): Promise<void> => {
          while (!ended) {
            const label = random.pick([...rig.own.keys()]);
            const region = random.pick(rig.regions());
            await rig.load(label, region);
            const page = rig.reader(label).table.find(region);
            const wrong = page && rig.wrong(page.block, label, region);
            if (wrong !== undefined) throw new Error(wrong);
            await ticks(1);
          }
        };
        const walker = async (): Promise<void> => {
          while (!ended) {
            const label = random.pick([...rig.own.keys()]);
            const { tree } = rig.versions.get(label)!;
            const wanted = storedRegions(rig, tree);
            const found: number[] = [];
            for (let region = await rig.index.nextRegion(tree, 0, REGIONS_END); region >= 0; ) {
              found.push(region);
              region = await rig.index.nextRegion(tree, region + 1, REGIONS_END);
            }
            for (const region of wanted) {
              // Zeroed meanwhile: then it need not be found.
              if (!found.includes(region) && storedRegions(rig, tree).includes(region))
                throw new Error(`region ${region} of tree ${tree} is not found`);
            }
            await ticks(1);
          }
        };
        const committer = async (): Promise<void> => {
          while (!ended) {
            await rig.commit();
            await ticks(random.pick([0, 1, 20]));
          }
        };
        await Promise.all([loader(), loader(), loader(), walker(), committer()]);
      })().catch((error: unknown) => failures.push(error));
      for (let i = 0; i < 250 && failures.length === 0; i++) {
        rig.apply(randomOperation(random, rig, 12));
        await ticks(random.pick([0, 1, 3]));
      }
      ended = true;
      await running;
      expect(failures).toEqual([]);
      await rig.commit();
      await rig.readAll();
      await checkUsage(rig);
    });
  }
});

/** A rig over a database whose next read waits until it is let go. */
async function withHeldRead(directoryBytes: number): Promise<{
  rig: IndexRig;
  holdNext: (when?: 'before' | 'after') => { started: Promise<void>; letGo: () => void };
}> {
  let held: { when: string; start: () => void; gate: Promise<void> } | undefined;
  const hold = async (call: string, when: string): Promise<void> => {
    if (call === 'write' || held?.when !== when) return;
    const { start, gate } = held;
    held = undefined;
    start();
    await gate;
  };
  const database = watched(await memoryDatabase(), {
    before: (call) => hold(call, 'before'),
    after: (call) => hold(call, 'after'),
  });
  const rig = await IndexRig.begin(database, 1 << 20, directoryBytes);
  rig.apply({ op: 'create' });
  const holdNext = (when = 'after'): { started: Promise<void>; letGo(): void } => {
    let letGo: () => void = () => undefined;
    const gate = new Promise<void>((resolve) => {
      letGo = resolve;
    });
    const started = new Promise<void>((start) => {
      held = { when, start, gate };
    });
    return { started, letGo };
  };
  return { rig, holdNext };
}

describe('a commit', () => {
  it('is synced: of commits that are not, a power cut may leave a later one without an earlier one', async () => {
    const writes: unknown[] = [];
    const database = watched(await memoryDatabase(), {
      before: (call, args) => void (call === 'write' && writes.push(args[0])),
    });
    const rig = await IndexRig.begin(database);
    rig.apply({ op: 'create' });
    for (const first of [0, 5]) {
      rig.apply({ op: 'write', label: 1, first, count: 1 });
      await rig.commit();
    }
    expect(writes).toEqual([{ sync: true }, { sync: true }]);
  });
});

describe('what commits do to a read that they overtake', () => {
  it('a load that two commits overtake has what came and went meanwhile', async () => {
    const { rig, holdNext } = await withHeldRead(1 << 20);
    rig.apply({ op: 'write', label: 1, first: 0, count: 200 });
    await rig.commit();
    const hold = holdNext();
    const loading = rig.loadCold(1, 0);
    await hold.started;
    await rig.commit();
    rig.apply({ op: 'write', label: 1, first: 5, count: 1 });
    await rig.commit();
    hold.letGo();
    expect(rig.wrong(await loading, 1, 0)).toBeUndefined();
  });

  it('a load that a commit overtakes has what the commit merged into a new row', async () => {
    const { rig, holdNext } = await withHeldRead(1 << 20);
    for (let i = 0; i < 8; i++) {
      rig.apply({ op: 'write', label: 1, first: i === 0 ? 0 : 10 * i, count: i === 0 ? 256 : 1 });
      await rig.commit();
    }
    rig.apply({ op: 'write', label: 1, first: 100, count: 1 });
    const hold = holdNext();
    const loading = rig.loadCold(1, 0);
    await hold.started;
    await rig.commit();
    hold.letGo();
    expect(rig.wrong(await loading, 1, 0)).toBeUndefined();
  });

  it('the next region is found though a commit moves it into the rows while they are read', async () => {
    const { rig, holdNext } = await withHeldRead(0);
    rig.apply({ op: 'write', label: 1, first: 90 * 256, count: 1 });
    await rig.commit();
    rig.apply({ op: 'write', label: 1, first: 10 * 256, count: 1 });
    const hold = holdNext();
    const asking = rig.index.nextRegion(1, 0, 200);
    await hold.started;
    await rig.commit();
    hold.letGo();
    expect(await asking).toBe(10);
  });

  it('the next region is no false alarm when a commit changes the directory while it is read', async () => {
    const { rig, holdNext } = await withHeldRead(0);
    rig.apply({ op: 'write', label: 1, first: 90 * 256, count: 1 });
    rig.apply({ op: 'write', label: 1, first: 70_000 * 256, count: 1 });
    await rig.commit();
    rig.apply({ op: 'write', label: 1, first: 10 * 256, count: 1 });
    const hold = holdNext('before');
    const asking = rig.index.nextRegion(1, 0, 200);
    await hold.started; // the middle node says which leaf there is, and that one is not read yet
    await rig.commit();
    hold.letGo();
    expect(await asking).toBe(10);
  });

  it('a commit of many regions stops for others again and again', async () => {
    const rig = await IndexRig.begin();
    rig.apply({ op: 'create' });
    for (let i = 0; i < 6400; i++) {
      rig.overlays.active.putChunks(1, 1, i * 70 * 256, 1, 1, 4096, Uint32Array.of(1), i + 1);
    }
    let turns = 0;
    let ended = false;
    const others = (async () => {
      while (!ended) {
        await ticks(1);
        turns += 1;
      }
    })();
    await rig.commit();
    ended = true;
    await others;
    expect(turns).toBeGreaterThan(100);
  });

  it('a node of the directory that was read before a commit does not take the place of the one after it', async () => {
    const { rig, holdNext } = await withHeldRead(0);
    rig.apply({ op: 'write', label: 1, first: 90 * 256, count: 1 });
    await rig.commit();
    await rig.reopen(); // no node in memory but the root
    rig.apply({ op: 'write', label: 1, first: 70_000 * 256, count: 1 });
    const hold = holdNext();
    const loading = rig.loadCold(1, 90);
    await hold.started; // the middle node
    await rig.commit(); // another leaf under it
    hold.letGo();
    expect(rig.wrong(await loading, 1, 90)).toBeUndefined();
    expect(rig.wrong(await rig.loadCold(1, 70_000), 1, 70_000)).toBeUndefined();
    expect(rig.wrong(await rig.loadCold(1, 90), 1, 90)).toBeUndefined();
  });

  it('damage is reported though commits go on', async () => {
    const { rig } = await withHeldRead(0);
    rig.apply({ op: 'write', label: 1, first: 0, count: 3 });
    await rig.commit();
    await rig.database.del(
      [...(await rig.rows()).keys()].filter((key) => key.startsWith('70')).map(fromHex)[0]!,
    );
    rig.apply({ op: 'write', label: 1, first: 900, count: 3 });
    const commit = rig.commit();
    await expect(rig.loadCold(1, 0)).rejects.toSatisfy((error) => hasCode(error, 'INDEX_DAMAGED'));
    await commit;
    await expect(rig.loadCold(1, 0)).rejects.toSatisfy((error) => hasCode(error, 'INDEX_DAMAGED'));
    expect(rig.wrong(await rig.loadCold(1, 3), 1, 3)).toBeUndefined();
  });
});

const fromHex = (text: string): Buffer => Buffer.from(text, 'hex');

function storedRegions(rig: IndexRig, tree: number): number[] {
  const regions = new Set<number>();
  for (const [label, pointers] of rig.own) {
    if (rig.versions.get(label)!.tree !== tree) continue;
    for (const [chunk, { segment }] of pointers)
      if (segment !== 0xffffffff) regions.add(Math.floor(chunk / 256));
  }
  return [...regions];
}

describe('opening the index', () => {
  const open = (rig: IndexRig, uuid: Buffer): Promise<PointerIndex> => {
    const overlays: Overlays = { active: new Overlay(), frozen: undefined };
    return PointerIndex.open(rig.database, overlays, uuid, 1 << 20);
  };

  it('refuses what is empty, of another store, or of another revision', async () => {
    const rig = await IndexRig.begin();
    await expect(open(rig, UUID)).rejects.toSatisfy((error) => hasCode(error, 'INDEX_DAMAGED'));
    rig.apply({ op: 'create' });
    rig.apply({ op: 'write', label: 1, first: 0, count: 1 });
    await rig.commit();
    await open(rig, UUID);
    await expect(open(rig, Buffer.alloc(16, 1))).rejects.toThrow(/another store/);
  });

  it('gives back the position, the generation and the usage of the last commit', async () => {
    const rig = await IndexRig.begin();
    rig.apply({ op: 'create' });
    rig.apply({ op: 'write', label: 1, first: 0, count: 5 });
    await rig.commit();
    await rig.commit();
    const { checkpoint } = await open(rig, UUID);
    expect(checkpoint).toMatchObject({ generation: 2, segment: 1, offset: 8192, append: 2, at: 1_000_000 });
    expect(rig.index.usage.liveChunks).toBe(5);
  });

  it('a page of a version that has nothing is empty', async () => {
    const rig = await IndexRig.begin();
    const table = new PageTable(new PageCache(1 << 20));
    const page = await rig.index.load(table, { tree: 9, label: 9, path: new Set([9]) }, 4);
    expect(page.block.count()).toBe(0);
    expect(table.find(4) === page).toBe(true);
  });
});

describe('a chunk that moves and keeps its sequence', () => {
  it('is read where it was put last, from rows of changes as from rows made anew', async () => {
    const rig = await IndexRig.begin();
    rig.apply({ op: 'create' });
    rig.apply({ op: 'write', label: 1, first: 0, count: 100 });
    await rig.commit();
    for (let i = 0; i < 20; i++) {
      rig.move(1, 3 * i, 2, 50 + i);
      rig.move(1, 10, 1, 100 + i);
      await rig.commit();
      await rig.readAll();
      await checkUsage(rig);
    }
  });
});
