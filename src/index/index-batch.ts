/**
 * One atomic batch of the index: pointer rows, the directory over them, extents, usage, and the checkpoint row that
 * vouches for all of it. Put together in memory, written at once, and only then seen by who reads.
 */

import type { AbstractChainedBatchWriteOptions } from 'abstract-level';
import { type Directory, DirectoryEdit, type IndexDatabase, type RowSink } from './directory.ts';
import { ExtentEdit, type ExtentTable } from './extent-table.ts';
import { HOLE, type PointerBlock } from './pointers.ts';
import type { RowReference } from './row-list.ts';
import {
  CHECKPOINT_KEY,
  type CheckpointRow,
  encodeCheckpoint,
  encodePointers,
  pointerKey,
  sealRow,
} from './rows.ts';
import type { UsageTable } from './usage.ts';

/** What a checkpoint reflects the log up to. */
export interface CommitPosition {
  segment: number;
  offset: number;
  append: number;
  at: number;
}

/** What batches change. */
export interface IndexTables {
  readonly directory: Directory;
  readonly extents: ExtentTable;
  readonly usage: UsageTable;
}

export class IndexBatch {
  readonly generation: number;
  readonly sink: RowSink;
  readonly directory: DirectoryEdit;
  readonly extents: ExtentEdit;
  /** By segment, how many live chunks it wins or loses. */
  readonly usage = new Map<number, number>();
  readonly #usageTable: UsageTable;
  readonly #batch: ReturnType<IndexDatabase['batch']>;

  constructor(database: IndexDatabase, tables: IndexTables, generation: number) {
    const batch = database.batch();
    this.generation = generation;
    this.sink = {
      put: (key, value) => void batch.put(key, value),
      del: (key) => void batch.del(key),
    };
    this.#batch = batch;
    this.#usageTable = tables.usage;
    this.directory = new DirectoryEdit(tables.directory, this.sink, generation);
    this.extents = new ExtentEdit(tables.extents);
  }

  /** A row of this generation for a version's pointers; none if there are none. */
  putPointers(tree: number, region: number, label: number, block: PointerBlock): RowReference | undefined {
    if (block.count() === 0) return undefined;
    const key = pointerKey(tree, region, label, this.generation);
    const value = encodePointers(block);
    const checksum = sealRow(key, value);
    this.sink.put(key, value);
    return { label, generation: this.generation, checksum };
  }

  /** A chunk of the segment died. */
  dropped(segment: number): void {
    if (segment !== HOLE) this.usage.set(segment, (this.usage.get(segment) ?? 0) - 1);
  }

  /** Writes everything; what was read before is outdated from then on. @throws errors of LevelDB */
  async write(uuid: Buffer, position: CommitPosition): Promise<CheckpointRow> {
    const windowsDigest = await this.extents.finish(this.sink);
    const rootsDigest = await this.directory.finish();
    const usage = this.#usageTable.edit(this.usage, this.sink);
    const { segment, offset, append, at } = position;
    const { generation } = this;
    const usageDigest = usage.digest;
    const row = { uuid, generation, segment, offset, append, rootsDigest, usageDigest, windowsDigest, at };
    const value = encodeCheckpoint(row);
    sealRow(CHECKPOINT_KEY, value);
    this.sink.put(CHECKPOINT_KEY, value);
    // Without a sync a power cut leaves later batches without earlier ones: LevelDB's log has holes then.
    await this.#batch.write({ sync: true } as AbstractChainedBatchWriteOptions);
    usage.install();
    this.directory.install();
    this.extents.install();
    return row;
  }
}
