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

import type { AbstractChainedBatchWriteOptions } from 'abstract-level';
import { assert, hasCode, StoreError } from '../base/errors.ts';
import {
  Directory,
  DirectoryEdit,
  type IndexDatabase,
  othersFirst,
  type RowReference,
  type RowSink,
} from './directory.ts';
import { Overlay } from './overlay.ts';
import { Page, type PageTable } from './pages.ts';
import { PointerBlock } from './pointers.ts';
import { mergeRegion, type RegionRows } from './region-merge.ts';
import {
  CHECKPOINT_KEY,
  type CheckpointRow,
  decodeCheckpoint,
  decodeUsage,
  encodeCheckpoint,
  keyRange,
  mergePointerRow,
  openRow,
  openStatedRow,
  pointerKey,
  sealRow,
} from './rows.ts';
import { UsageTable } from './usage.ts';

/** Rows that a load reads at once behind the first, and regions that a commit merges at once. */
const LOAD_ROWS = 32;
const COMMIT_REGIONS = 64;

/** Where a version stands: which rows it reads. */
export interface Lineage {
  readonly tree: number;
  /** The version itself: the newest of its path. */
  readonly label: number;
  readonly path: ReadonlySet<number>;
}

/** Changes since the checkpoint; `frozen` is what a commit is writing. They outlive a rebuild of the index. */
export interface Overlays {
  active: Overlay;
  frozen: Overlay | undefined;
}

export interface CommitPosition {
  segment: number;
  offset: number;
  append: number;
  at: number;
}

export class PointerIndex {
  readonly #database: IndexDatabase;
  readonly #directory: Directory;
  readonly #overlays: Overlays;
  readonly #usage = new UsageTable();
  #checkpoint: CheckpointRow;
  #committing: Promise<void> | undefined;
  #commits = 0;

  private constructor(
    database: IndexDatabase,
    overlays: Overlays,
    checkpoint: CheckpointRow,
    cacheBytes: number,
  ) {
    this.#database = database;
    this.#overlays = overlays;
    this.#checkpoint = checkpoint;
    this.#directory = new Directory(database, cacheBytes);
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
    check(checkpoint !== undefined, 'the index is of another revision');
    check(checkpoint!.uuid.equals(uuid), 'the index belongs to another store');
    const index = new PointerIndex(database, overlays, checkpoint!, cacheBytes);
    const digest = await index.#directory.open();
    check(digest === checkpoint!.rootsDigest, 'the roots are not those of the checkpoint');
    for await (const [key, row] of database.iterator(keyRange('u'))) {
      const checksum = openRow(key, row);
      const { segment, liveChunks } = decodeUsage(key, row);
      index.#usage.load(segment, liveChunks, checksum);
    }
    check(index.#usage.digest === checkpoint!.usageDigest, 'the usage rows are not those of the checkpoint');
    return index;
  }

  get checkpoint(): Readonly<CheckpointRow> {
    return this.#checkpoint;
  }

  get usage(): UsageTable {
    return this.#usage;
  }

  get directory(): Directory {
    return this.#directory;
  }

  get usedBytes(): number {
    const { active, frozen } = this.#overlays;
    return this.#directory.usedBytes + active.usedBytes + (frozen?.usedBytes ?? 0);
  }

  /** Resolves a region for a version, and adds the page to its table. @throws INDEX_DAMAGED */
  async load(table: PageTable, lineage: Lineage, region: number): Promise<Page> {
    const read = async (): Promise<Page> => {
      const page = new Page(table, region);
      await this.#mergeRows(page.block, lineage, region);
      return page;
    };
    return await this.#overRows(read, (page, overlays) => {
      for (const overlay of overlays) overlay.mergeInto(page.block, lineage.tree, region, lineage.path);
      table.add(page);
      return page;
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
      let found: T;
      try {
        found = await read();
      } catch (error) {
        if (!hasCode(error, 'INDEX_DAMAGED')) throw error;
        if (commits === this.#commits && this.#committing === undefined) throw error;
        await this.#committing?.catch(() => undefined);
        continue;
      }
      if (this.#commits > commits + 1) continue;
      const overlays = new Set([...before, this.#overlays.frozen, this.#overlays.active]);
      return complete(
        found,
        [...overlays].filter((overlay) => overlay !== undefined),
      );
    }
  }

  /** Newest rows first, until every chunk has its pointer. */
  async #mergeRows(block: PointerBlock, lineage: Lineage, region: number): Promise<void> {
    const { tree, path } = lineage;
    const list = await this.#directory.rowList(tree, region);
    list.passNewer(lineage.label);
    // What a version wrote over as a whole hides all above it: its one row is often all there is to read.
    let rows = list.next(1, path);
    while (rows.length > 0) {
      const keys = rows.map((row) => pointerKey(tree, region, row.label, row.generation));
      const values = await this.#database.getMany(keys);
      for (let i = 0; i < rows.length; i++) {
        mergePointerRow(openStatedRow(keys[i]!, values[i], rows[i]!.checksum), block);
      }
      const following = list.next(LOAD_ROWS, path);
      if (following.length > 0 && block.isFull()) return;
      rows = following;
    }
  }

  /** Every version's own pointers in a region, as LevelDB has them. @throws INDEX_DAMAGED */
  async regionBlocks(tree: number, region: number): Promise<Map<number, PointerBlock>> {
    const blocks = new Map<number, PointerBlock>();
    for (const row of await this.#directory.rows(tree, region)) {
      const key = pointerKey(tree, region, row.label, row.generation);
      const value = openStatedRow(key, await this.#database.get(key), row.checksum);
      const block = blocks.get(row.label) ?? new PointerBlock();
      mergePointerRow(value, block);
      blocks.set(row.label, block);
    }
    return blocks;
  }

  /** The first region at or behind `from`, below `end`, in which anything may be stored; -1 if there is none. */
  async nextRegion(tree: number, from: number, end: number): Promise<number> {
    const read = (): Promise<number> => this.#directory.nextRegion(tree, from, end);
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

  /** Writes the frozen overlay. `isRoot` says whether a version has nothing above it. @throws IO */
  commit(position: CommitPosition, isRoot: (label: number) => boolean): Promise<void> {
    assert(this.#committing === undefined, 'one commit at a time');
    this.#committing = this.#commit(position, isRoot).finally(() => {
      this.#committing = undefined;
    });
    return this.#committing;
  }

  async #commit(position: CommitPosition, isRoot: (label: number) => boolean): Promise<void> {
    const overlay = this.#overlays.frozen!;
    const generation = this.#checkpoint.generation + 1;
    const batch = this.#database.batch();
    const sink: RowSink = {
      put: (key, value) => void batch.put(key, value),
      del: (key) => void batch.del(key),
    };
    const edit = new DirectoryEdit(this.#directory, sink, generation);
    const usage = new Map<number, number>();
    for (const tree of overlay.trees()) {
      const regions = await this.#changedRegions(overlay, tree);
      for (let from = 0; from < regions.length; from += COMMIT_REGIONS) {
        const some = await this.#readRegions(edit, overlay, tree, regions.slice(from, from + COMMIT_REGIONS));
        for (const region of some) {
          const rows = mergeRegion(region, overlay, isRoot, generation, usage, sink);
          await edit.set(tree, region.region, region.rows.length, rows);
        }
        await othersFirst();
      }
    }
    this.#usage.apply(usage, sink);
    const checkpoint: CheckpointRow = {
      uuid: this.#checkpoint.uuid,
      generation,
      segment: position.segment,
      offset: position.offset,
      append: position.append,
      rootsDigest: await edit.finish(),
      usageDigest: this.#usage.digest,
      at: position.at,
    };
    const row = encodeCheckpoint(checkpoint);
    sealRow(CHECKPOINT_KEY, row);
    sink.put(CHECKPOINT_KEY, row);
    // Without a sync a power cut leaves later batches without earlier ones: LevelDB's log has holes then.
    await batch.write({ sync: true } as AbstractChainedBatchWriteOptions);
    edit.install();
    this.#checkpoint = checkpoint;
    this.#overlays.frozen = undefined;
    this.#commits += 1;
  }

  /** Regions with pointers in the overlay, and those with rows where a version was zeroed. */
  async #changedRegions(overlay: Overlay, tree: number): Promise<number[]> {
    const regions = overlay.regions(tree);
    if (overlay.zeroed.isEmpty) return regions;
    const all = new Set(regions);
    for (const extent of overlay.zeroed.extents(tree)) {
      let region = await this.#directory.nextRegion(tree, extent.first, extent.end);
      while (region >= 0) {
        all.add(region);
        region = await this.#directory.nextRegion(tree, region + 1, extent.end);
      }
    }
    return [...all].sort((a, b) => a - b);
  }

  /** What the index has of the changed versions in these regions. */
  async #readRegions(
    edit: DirectoryEdit,
    overlay: Overlay,
    tree: number,
    regions: readonly number[],
  ): Promise<RegionRows[]> {
    const found: RegionRows[] = [];
    const keys: Buffer[] = [];
    const references: RowReference[] = [];
    for (const region of regions) {
      const rows = await edit.rows(tree, region);
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
    await this.#committing?.catch(() => undefined);
    await this.#database.close();
  }
}

function check(condition: boolean, what: string): void {
  if (!condition) throw new StoreError('INDEX_DAMAGED', what);
}
