/**
 * The index over LevelDB: pages are loaded from it, checkpoints are written to it.
 *
 * Invariants:
 * - One commit at a time; it is one atomic batch, and says in the same batch up to which log position it reflects
 *   the log. The caller has synced the log up to there.
 * - What is not committed stands in an overlay, so that a load at any moment sees every change once or twice,
 *   which is the same, because the higher sequence counts.
 * - A row that is missing, damaged or outdated is reported as INDEX_DAMAGED, never read as zeros or old data. A load
 *   that a commit overtook looks the same, and is simply repeated.
 */

import { assert, hasCode, StoreError } from '../base/errors.ts';
import { othersFirst } from '../base/event-loop.ts';
import { Directory, type IndexDatabase } from './directory.ts';
import { ExtentTable } from './extent-table.ts';
import type { ExtentRow } from './extents.ts';
import { GatheredRows } from './gathered-rows.ts';
import type { Destinies } from './heirs.ts';
import { type CommitPosition, IndexBatch } from './index-batch.ts';
import { isOf, type MovesByRegion, MoveTable } from './move.ts';
import { Overlay } from './overlay.ts';
import { Page, type PageTable } from './pages.ts';
import { PinnedIndex } from './pinned-index.ts';
import { PointerBlock } from './pointers.ts';
import { mergeRegion, type RegionRows } from './region-merge.ts';
import {
  type Lineage,
  mergeRows,
  mergeWanted,
  readBlocks,
  readRegion,
  type WantedChunks,
} from './region-read.ts';
import { pruneRegion } from './region-prune.ts';
import type { RowReference } from './row-list.ts';
import {
  CHECKPOINT_KEY,
  type CheckpointRow,
  decodeCheckpoint,
  decodeUsage,
  keyRange,
  openRow,
  openStatedRow,
  pointerKey,
} from './rows.ts';
import { UsageTable } from './usage.ts';
import type { VersionView } from './version-tree.ts';

export type { CommitPosition } from './index-batch.ts';
export type { Lineage } from './region-read.ts';

/** Regions whose rows a commit reads at once. */
const COMMIT_REGIONS = 32;
/** Regions that a batch changes before requests have their turn: a quarter of a millisecond. */
const REGIONS_AT_ONCE = 4;
/** Pages that are put together at once are no more than that for long. */
const SPARE_BLOCKS_MAX = 32;
const NO_DESTINIES: Destinies = new Map();

/** Changes since the checkpoint; `frozen` is what a commit is writing. They outlive a rebuild of the index. */
export interface Overlays {
  active: Overlay;
  frozen: Overlay | undefined;
}

export class PointerIndex {
  readonly #database: IndexDatabase;
  readonly directory: Directory;
  readonly extents: ExtentTable;
  readonly usage = new UsageTable();
  readonly #rows: GatheredRows;
  readonly #overlays: Overlays;
  /** Pages are put together in these, where they become smaller: memory that is used again costs less than fresh one. */
  readonly #spareBlocks: PointerBlock[] = [];
  #checkpoint: CheckpointRow;
  /** The batch under way. */
  #writing: Promise<void> | undefined;
  /** Overlays that became rows. */
  #commits = 0;
  /** Batches written. */
  #batches = 0;
  /** Another one with each batch, and in each index. */
  #moment = Symbol('moment');

  private constructor(
    database: IndexDatabase,
    overlays: Overlays,
    checkpoint: CheckpointRow,
    cacheBytes: number,
  ) {
    this.#database = database;
    this.#rows = new GatheredRows(database);
    this.#overlays = overlays;
    this.#checkpoint = checkpoint;
    this.directory = new Directory(database, cacheBytes);
    this.extents = new ExtentTable(database);
  }

  /** An index without rows. */
  static empty(database: IndexDatabase, overlays: Overlays, uuid: Buffer, cacheBytes: number): PointerIndex {
    const none = {
      uuid,
      generation: 0,
      segment: 0,
      offset: 0,
      append: 0,
      rootsDigest: 0,
      usageDigest: 0,
      windowsDigest: 0,
      at: 0,
    };
    return new PointerIndex(database, overlays, none, cacheBytes);
  }

  /** @throws INDEX_DAMAGED if there is no checkpoint of this store, or the rows it vouches for are not those. */
  static async open(
    database: IndexDatabase,
    overlays: Overlays,
    uuid: Buffer,
    cacheBytes: number,
  ): Promise<PointerIndex> {
    const value = await database.get(CHECKPOINT_KEY);
    openRow(CHECKPOINT_KEY, value);
    const checkpoint = decodeCheckpoint(value!);
    if (checkpoint === undefined)
      throw new StoreError('UNSUPPORTED_FORMAT', 'the index is of another revision');
    check(checkpoint.uuid.equals(uuid), 'the index belongs to another store');
    const index = new PointerIndex(database, overlays, checkpoint, cacheBytes);
    const digest = await index.directory.open();
    check(digest === checkpoint.rootsDigest, 'the roots are not those of the checkpoint');
    for await (const [key, row] of database.iterator(keyRange('u'))) {
      const checksum = openRow(key, row);
      const { segment, liveChunks } = decodeUsage(key, row);
      index.usage.load(segment, liveChunks, checksum);
    }
    check(index.usage.digest === checkpoint.usageDigest, 'the usage rows are not those of the checkpoint');
    await index.extents.open();
    check(
      index.extents.digest === checkpoint.windowsDigest,
      'the window rows are not those of the checkpoint',
    );
    return index;
  }

  get checkpoint(): Readonly<CheckpointRow> {
    return this.#checkpoint;
  }

  get usedBytes(): number {
    const { active, frozen } = this.#overlays;
    return this.directory.usedBytes + active.usedBytes + (frozen?.usedBytes ?? 0);
  }

  /** Resolves a region for a version, and adds the page to its table. @throws INDEX_DAMAGED */
  async load(table: PageTable, lineage: Lineage, region: number): Promise<Page> {
    const block = this.#spareBlocks.pop() ?? new PointerBlock();
    return await this.#resolve(block, lineage, region, () => {
      const page = new Page(table, region, block.compacted());
      if (page.block !== block && this.#spareBlocks.length < SPARE_BLOCKS_MAX) this.#spareBlocks.push(block);
      table.add(page);
      return page;
    });
  }

  /** What a version reads in a region. @throws INDEX_DAMAGED */
  async resolve(lineage: Lineage, region: number): Promise<PointerBlock> {
    const block = new PointerBlock();
    return await this.#resolve(block, lineage, region, () => block);
  }

  /** What a version reads of chunks of several regions, a block for each; of other chunks anything. @throws INDEX_DAMAGED */
  async resolveWanted(lineage: Lineage, wanted: readonly WantedChunks[]): Promise<PointerBlock[]> {
    const blocks = wanted.map(() => new PointerBlock());
    const read = async (): Promise<void> => {
      for (const block of blocks) block.reset();
      await mergeWanted(this.#database, this.directory, blocks, lineage, wanted);
    };
    return await this.#overRows(read, (_, overlays) => {
      for (const overlay of overlays)
        wanted.forEach(({ region }, i) => overlay.mergeInto(blocks[i]!, lineage.tree, region, lineage.path));
      return blocks;
    });
  }

  /** `done` runs in the step in which the block is complete: what comes later is the caller's to add. */
  async #resolve<R>(block: PointerBlock, lineage: Lineage, region: number, done: () => R): Promise<R> {
    const read = async (): Promise<void> => {
      block.reset();
      await mergeRows(this.#rows, this.directory, block, lineage, region);
    };
    return await this.#overRows(read, (_, overlays) => {
      for (const overlay of overlays) overlay.mergeInto(block, lineage.tree, region, lineage.path);
      return done();
    });
  }

  /**
   * Puts overlays over what `read` finds in the rows: those before the rows were read, and those of now. What a commit
   * moved from one to the rows meanwhile is in the former, what came meanwhile in the latter. An overlay that came and
   * went meanwhile is in neither: where two commits overtook, the rows are read again.
   */
  async #overRows<T, R>(read: () => Promise<T>, complete: (found: T, overlays: Overlay[]) => R): Promise<R> {
    for (;;) {
      const commits = this.#commits;
      const before = [this.#overlays.frozen, this.#overlays.active];
      const found = await this.#undisturbed(read);
      if (this.#commits > commits + 1) continue;
      const overlays = new Set([...before, this.#overlays.frozen, this.#overlays.active]);
      return complete(
        found,
        [...overlays].filter((overlay) => overlay !== undefined),
      );
    }
  }

  /** Reads again where a batch took away rows that were about to be read: that looks like damage, and is none. */
  async #undisturbed<T>(read: () => Promise<T>): Promise<T> {
    for (;;) {
      const batches = this.#batches;
      try {
        return await read();
      } catch (error) {
        if (!hasCode(error, 'INDEX_DAMAGED')) throw error;
        if (batches === this.#batches && this.#writing === undefined) throw error;
        await this.#writing?.catch(() => undefined);
      }
    }
  }

  /** The index as it is between two batches. Close what this answers. */
  async pin(): Promise<PinnedIndex> {
    while (this.#writing !== undefined) await this.#writing.catch(() => undefined);
    const { frozen, active } = this.#overlays;
    const overlays = frozen === undefined ? [active] : [frozen, active];
    const usage = this.usage.copy();
    return new PinnedIndex(this.#database, this.directory, this.extents, this.#moment, usage, overlays);
  }

  /** What rows say is what they said at a moment, for as long as it is the same. */
  get moment(): symbol {
    return this.#moment;
  }

  extentWindows(label: number): number[] {
    return this.extents.windows(label);
  }

  /** Which chunks a version has pointers for in a window of the disk, as far as they are rows. @throws INDEX_DAMAGED */
  readExtents(label: number, window: number): Promise<ExtentRow[]> {
    return this.#undisturbed(() => this.extents.read(label, window));
  }

  /** Every version's own pointers in a region, as LevelDB has them. @throws INDEX_DAMAGED */
  async regionBlocks(tree: number, region: number): Promise<Map<number, PointerBlock>> {
    return await readRegion(this.#database, tree, region, await this.directory.rows(tree, region));
  }

  /** How many rows of these kinds LevelDB has, whether or not anything names them. */
  async countRows(kinds: readonly ('p' | 'l')[]): Promise<number[]> {
    const counts: number[] = [];
    for (const kind of kinds) {
      let count = 0;
      for await (const _ of this.#database.iterator(keyRange(kind))) count += 1;
      counts.push(count);
    }
    return counts;
  }

  /** The first region at or behind `from`, below `end`, in which anything may be stored; -1 if there is none. */
  async nextRegion(tree: number, from: number, end: number): Promise<number> {
    const read = (): Promise<number> => this.directory.nextRegion(tree, from, end);
    return await this.#overRows(read, (found, overlays) => {
      let first = found;
      for (const overlay of overlays) {
        const region = overlay.nextRegion(tree, from, end);
        if (region >= 0 && (first < 0 || region < first)) first = region;
      }
      return first;
    });
  }

  /** Puts what changes from now on into a new overlay; what came before is for `commit`. */
  freeze(): void {
    assert(this.#overlays.frozen === undefined, 'one overlay is committed at a time');
    this.#overlays.frozen = this.#overlays.active;
    this.#overlays.active = new Overlay();
  }

  /**
   * Writes the frozen overlay. `view` is the tree as of `position`. `isPart`: of a replay, and what comes behind it may be
   * older: then holes hide that, in versions too that have nothing above them. @throws IO
   */
  commit(position: CommitPosition, view: VersionView, isPart = false): Promise<void> {
    const isRoot = (label: number): boolean => !isPart && view.isRoot(label);
    return this.#write(position, async (batch) => {
      const overlay = this.#overlays.frozen!;
      let done = 0;
      for (const tree of overlay.trees()) {
        const regions = await this.#changedRegions(overlay, tree);
        for (let from = 0; from < regions.length; from += COMMIT_REGIONS) {
          const some = regions.slice(from, from + COMMIT_REGIONS);
          for (const region of await this.#readRegions(batch, overlay, tree, some)) {
            if (done++ % REGIONS_AT_ONCE === 0) await othersFirst();
            const merged = mergeRegion(region, overlay, isRoot, batch);
            const rows = await this.#dropOrphans(region, merged, overlay, view, batch);
            await batch.directory.set(tree, region.region, region.rows.length, rows);
          }
        }
      }
    }).then(() => {
      this.#overlays.frozen = undefined;
      this.#commits += 1;
    });
  }

  /**
   * Prunes pointers of hidden versions in some regions of a tree: `labels` has for each region those that have any
   * there. Requires: everything that these versions wrote is in rows, and `view` is not newer than the checkpoint.
   */
  prune(
    tree: number,
    labels: ReadonlyMap<number, readonly number[]>,
    destinies: Destinies,
    view: VersionView,
  ): Promise<void> {
    return this.#write(this.#checkpoint, async (batch) => {
      let done = 0;
      for (const [region, hidden] of labels) {
        if (done++ % REGIONS_AT_ONCE === 0) await othersFirst();
        const rows = await batch.directory.rows(tree, region);
        const own = new Set(rows.map((row) => row.label));
        const content = {
          tree,
          region,
          rows,
          has: (label: number) => own.has(label),
          read: (wanted: readonly number[]) => readBlocks(this.#database, tree, region, rows, wanted),
        };
        const left = await pruneRegion(content, hidden, destinies, view, batch);
        if (left !== rows) await batch.directory.set(tree, region, rows.length, left);
      }
    });
  }

  /**
   * Those moves whose chunks rows still have. Requires: the chunks were in rows when they were moved, and no batch is under
   * way. @throws INDEX_DAMAGED
   */
  async stillThere(moves: MovesByRegion): Promise<MovesByRegion> {
    const still = new MoveTable();
    for (const [tree, regions] of moves) {
      for (const [region, there] of regions) {
        const rows = await this.directory.rows(tree, region);
        const labels = [...new Set(there.map(({ label }) => label))];
        const blocks = await readBlocks(this.#database, tree, region, rows, labels);
        for (const move of there)
          if (isOf(blocks[labels.indexOf(move.label)]!, move)) still.add(tree, region, move);
      }
    }
    return still.trees;
  }

  /** Puts a batch together and writes it; one at a time. */
  #write(position: CommitPosition, fill: (batch: IndexBatch) => Promise<void>): Promise<void> {
    assert(this.#writing === undefined, 'one batch at a time');
    const write = async (): Promise<void> => {
      const batch = new IndexBatch(this.#database, this, this.#checkpoint.generation + 1);
      await fill(batch);
      this.#checkpoint = await batch.write(this.#checkpoint.uuid, position);
      this.#batches += 1;
      this.#moment = Symbol('moment');
    };
    this.#writing = write().finally(() => {
      this.#writing = undefined;
    });
    return this.#writing;
  }

  /** Where a version began to write what it inherited from ghosts, it may have been their last heir. */
  async #dropOrphans(
    region: RegionRows,
    merged: RowReference[],
    overlay: Overlay,
    view: VersionView,
    batch: IndexBatch,
  ): Promise<RowReference[]> {
    const ghosts = new Set(region.labels.flatMap((label) => view.ghostsAbove(label)));
    if (ghosts.size === 0) return merged;
    const now = new Set(merged.map((row) => row.label));
    const content = {
      tree: region.tree,
      region: region.region,
      rows: merged,
      has: (label: number) => now.has(label),
      // Rows of this batch cannot be read yet: what they say is what was there before, and the overlay.
      read: async (wanted: readonly number[]) => {
        const blocks = await readBlocks(this.#database, region.tree, region.region, region.rows, wanted);
        wanted.forEach((label, i) => overlay.mergeVersionInto(blocks[i]!, region.tree, region.region, label));
        return blocks;
      },
    };
    return await pruneRegion(content, [...ghosts], NO_DESTINIES, view, batch);
  }

  /** Regions with pointers in the overlay, and those with rows where a version was zeroed. */
  async #changedRegions(overlay: Overlay, tree: number): Promise<number[]> {
    const regions = overlay.regions(tree);
    if (overlay.zeroed.isEmpty) return regions;
    const all = new Set(regions);
    for (const extent of overlay.zeroed.extents(tree)) {
      let region = await this.directory.nextRegion(tree, extent.first, extent.end);
      while (region >= 0) {
        all.add(region);
        region = await this.directory.nextRegion(tree, region + 1, extent.end);
      }
    }
    return [...all].sort((a, b) => a - b);
  }

  /** What the index has of the changed versions in these regions. */
  async #readRegions(
    batch: IndexBatch,
    overlay: Overlay,
    tree: number,
    regions: readonly number[],
  ): Promise<RegionRows[]> {
    const found: RegionRows[] = [];
    const keys: Buffer[] = [];
    const references: RowReference[] = [];
    const rowsOf = await batch.directory.rowsOfAll(regions.map((region) => ({ tree, region })));
    for (const [i, region] of regions.entries()) {
      const rows = rowsOf[i]!;
      const labels = overlay.labels(tree, region);
      found.push({ tree, region, rows, labels, values: new Map() });
      for (const row of rows) {
        if (!labels.includes(row.label)) continue;
        keys.push(pointerKey(tree, region, row.label, row.generation));
        references.push(row);
      }
    }
    const values = keys.length > 0 ? await this.#database.getMany(keys) : [];
    let at = 0;
    for (const region of found) {
      for (const row of region.rows) {
        if (!region.labels.includes(row.label)) continue;
        region.values.set(row, openStatedRow(keys[at]!, values[at], references[at]!.checksum));
        at += 1;
      }
    }
    return found;
  }

  async close(): Promise<void> {
    await this.#writing?.catch(() => undefined);
    await this.#database.close();
  }
}

function check(condition: boolean, what: string): void {
  if (!condition) throw new StoreError('INDEX_DAMAGED', what);
}
