/**
 * A directory of LevelDB, with its bad sides: batches are synced when LevelDB likes, so a power cut loses the last
 * ones; behind a batch that failed it goes on acknowledging, and loses that when it is opened again; rows may be gone
 * or be older ones, and nobody says so; it may not open at all.
 *
 * Invariant: what survives a power cut is all batches up to one of them, seldom with one missing in between.
 */

import type { IndexDatabase } from '../../src/index/directory.ts';
import type { Random } from '../support/random.ts';
import type { Faults } from './faults.ts';
import type { Marks } from './marks.ts';
import type { Scheduler } from './scheduler.ts';

/** Rows by key, the key's bytes as latin1: they sort the same. */
type Rows = Map<string, Buffer>;
type Batch = (readonly [key: string, value: Buffer | undefined])[];

/** As many batches are behind the synced ones at most. */
const BATCHES_MAX = 6;

export interface IndexLife {
  scheduler: Scheduler;
  faults: Faults;
  random: Random;
  marks: Marks;
}

const textOf = (key: Uint8Array): string =>
  Buffer.from(key.buffer, key.byteOffset, key.length).toString('latin1');

function levelError(code: string, message: string, cause?: Error): Error {
  return Object.assign(new Error(message, { cause }), { code });
}

/** One whose system call failed. */
function ioError(): Error {
  return levelError('LEVEL_IO_ERROR', 'IO error: it was made to fail');
}

export class IndexFolder {
  /** What is on the disk for certain, and the batches behind it. */
  #synced: Rows = new Map();
  #unsynced: Batch[] = [];
  /** The value that each row had before. */
  readonly #before: Rows = new Map();
  /** Set by what a crash made of the files. */
  isUnreadable = false;
  /** A batch was lost, and later ones were not: rows are missing that nobody may ever look for. */
  hasHole = false;
  /** As the process has it open. */
  #opened: OpenIndex | undefined;

  #fold(batches: number): void {
    for (const batch of this.#unsynced.splice(0, Math.max(0, batches))) {
      for (const [key, value] of batch) {
        const old = this.#synced.get(key);
        if (old !== undefined) this.#before.set(key, old);
        if (value === undefined) this.#synced.delete(key);
        else this.#synced.set(key, value);
      }
    }
  }

  /** The power goes: all batches up to one of them are left. */
  crash(random: Random, marks: Marks): void {
    if (this.#unsynced.length === 0) return;
    const kept = random.pick([0, this.#unsynced.length, random.between(0, this.#unsynced.length)]);
    // Without a sync a later batch may get to the disk before an earlier one.
    if (random.chance(20)) {
      const lost = random.below(this.#unsynced.length);
      this.#unsynced.splice(lost, 1);
      if (lost < kept) this.hasHole = true;
    }
    marks.hit(kept < this.#unsynced.length ? 'index: batches lost' : 'index: batches kept');
    this.#fold(kept);
    this.#unsynced = [];
  }

  /** Something is wrong with one row from now on. Answers whether there was any to spoil. */
  spoil(random: Random, marks: Marks): boolean {
    this.#fold(this.#unsynced.length);
    const rows = this.#synced;
    const aged = [...this.#before.keys()].filter((key) => {
      const now = rows.get(key);
      return now !== undefined && !now.equals(this.#before.get(key)!);
    });
    if (aged.length > 0 && random.chance(50)) {
      const key = random.pick(aged);
      rows.set(key, this.#before.get(key)!);
      this.#opened?.rows.set(key, this.#before.get(key)!);
      marks.hit('index: row aged');
      return true;
    }
    const keys = [...rows.keys()];
    if (keys.length === 0) return false;
    const key = random.pick(keys);
    rows.delete(key);
    this.#opened?.rows.delete(key);
    marks.hit('index: row lost');
    return true;
  }

  async open(life: IndexLife): Promise<IndexDatabase> {
    const { random, marks } = life;
    await life.scheduler.park('index open', '', () => {
      if (this.isUnreadable) {
        marks.hit('index: does not open');
        const cause = levelError('LEVEL_CORRUPTION', 'Corruption: CURRENT points to a non-existent file');
        throw levelError('LEVEL_DATABASE_NOT_OPEN', 'Database failed to open', cause);
      }
      if (life.faults.draw('index open') === undefined) return;
      if (random.chance(50)) {
        marks.hit('index: locked');
        const cause = levelError('LEVEL_LOCKED', 'IO error: lock: already held by process');
        throw levelError('LEVEL_DATABASE_NOT_OPEN', 'Database failed to open', cause);
      }
      marks.hit('index: does not open');
      throw levelError('LEVEL_DATABASE_NOT_OPEN', 'Database failed to open', ioError());
    });
    // Opening compacts what is in the log of LevelDB, at times.
    if (random.chance(20)) this.#fold(this.#unsynced.length);
    this.#opened = new OpenIndex(this, life, this.contents());
    return this.#opened as unknown as IndexDatabase;
  }

  /** All rows as a process sees them that opens it now. */
  contents(): Rows {
    const rows = new Map(this.#synced);
    for (const batch of this.#unsynced) apply(rows, batch);
    return rows;
  }

  /** The same rows for whoever only looks at them, and without chance. */
  still(): IndexDatabase {
    return new StillIndex(this.contents()) as unknown as IndexDatabase;
  }

  /** What was synced is safe, or so it is said: at times it is not. */
  append(batch: Batch, isSafe: boolean): void {
    this.#unsynced.push(batch);
    this.#fold(isSafe ? this.#unsynced.length : this.#unsynced.length - BATCHES_MAX);
  }
}

function apply(rows: Rows, batch: Batch): void {
  for (const [key, value] of batch) {
    if (value === undefined) rows.delete(key);
    else rows.set(key, value);
  }
}

interface KeyRange {
  gte: Buffer;
  lt: Buffer;
}

function inRange(rows: Rows, range: KeyRange): [Buffer, Buffer][] {
  const [from, to] = [textOf(range.gte), textOf(range.lt)];
  const keys = [...rows.keys()].filter((key) => key >= from && key < to).sort();
  return keys.map((key) => [Buffer.from(key, 'latin1'), rows.get(key)!]);
}

/** Rows in memory, at once. */
export class StillIndex {
  readonly rows: Rows;

  constructor(rows: Rows = new Map()) {
    this.rows = rows;
  }

  async get(key: Buffer): Promise<Buffer | undefined> {
    return this.rows.get(textOf(key));
  }

  async getMany(keys: readonly Buffer[]): Promise<(Buffer | undefined)[]> {
    return keys.map((key) => this.rows.get(textOf(key)));
  }

  async *iterator(range: KeyRange): AsyncGenerator<[Buffer, Buffer]> {
    yield* inRange(this.rows, range);
  }

  batch(): ChainedBatch {
    return new ChainedBatch(async (batch) => apply(this.rows, batch));
  }

  async close(): Promise<void> {
    // Nothing is held.
  }
}

class ChainedBatch {
  readonly #operations: (readonly [string, Buffer | undefined])[] = [];
  readonly #write: (batch: Batch, isSynced: boolean) => Promise<void>;

  constructor(write: (batch: Batch, isSynced: boolean) => Promise<void>) {
    this.#write = write;
  }

  put(key: Buffer, value: Buffer): this {
    this.#operations.push([textOf(key), Buffer.from(value)]);
    return this;
  }

  del(key: Buffer): this {
    this.#operations.push([textOf(key), undefined]);
    return this;
  }

  write(options?: { sync?: boolean }): Promise<void> {
    return this.#write(this.#operations, options?.sync === true);
  }
}

/** Rows of a moment. */
interface RowsOfThen {
  rows: Rows;
  close(): Promise<void>;
}

interface ReadOptions {
  snapshot?: RowsOfThen;
}

/** As one process has it open. */
class OpenIndex {
  readonly #folder: IndexFolder;
  readonly #life: IndexLife;
  readonly rows: Rows;
  /** A batch failed: what is acknowledged from now on is not there when it is opened again. */
  #isTorn = false;
  #isOpen = true;

  constructor(folder: IndexFolder, life: IndexLife, rows: Rows) {
    this.#folder = folder;
    this.#life = life;
    this.rows = rows;
  }

  #call<T>(kind: string, act: () => T): Promise<T> {
    return this.#life.scheduler.park(kind, '', () => {
      if (!this.#isOpen) throw levelError('LEVEL_DATABASE_NOT_OPEN', 'Database is not open');
      return act();
    });
  }

  #read<T>(act: () => T): Promise<T> {
    return this.#call('index read', () => {
      const { faults, marks, random } = this.#life;
      if (faults.draw('index read') === undefined) return act();
      marks.hit('index: read failed');
      throw random.chance(50)
        ? ioError()
        : levelError('LEVEL_CORRUPTION', 'Corruption: block checksum mismatch');
    });
  }

  get(key: Buffer, { snapshot }: ReadOptions = {}): Promise<Buffer | undefined> {
    return this.#read(() => (snapshot ?? this).rows.get(textOf(key)));
  }

  getMany(keys: readonly Buffer[], { snapshot }: ReadOptions = {}): Promise<(Buffer | undefined)[]> {
    return this.#read(() => keys.map((key) => (snapshot ?? this).rows.get(textOf(key))));
  }

  async *iterator(range: KeyRange & ReadOptions): AsyncGenerator<[Buffer, Buffer]> {
    yield* await this.#read(() => inRange((range.snapshot ?? this).rows, range));
  }

  snapshot(): RowsOfThen {
    return { rows: new Map(this.rows), close: async () => undefined };
  }

  batch(): ChainedBatch {
    return new ChainedBatch((batch, isSynced) =>
      this.#call('index write', () => this.#write(batch, isSynced)),
    );
  }

  #write(batch: Batch, isSynced: boolean): void {
    const { faults, marks, random } = this.#life;
    if (faults.draw('index write') !== undefined) {
      marks.hit('index: batch failed');
      // It may have been made all the same.
      if (!this.#isTorn && random.chance(30)) this.#folder.append(batch, false);
      this.#isTorn = true;
      throw levelError('LEVEL_IO_ERROR', 'IO error: No space left on device');
    }
    apply(this.rows, batch);
    if (!this.#isTorn) this.#folder.append(batch, isSynced && random.chance(60));
  }

  async close(): Promise<void> {
    if (!this.#isOpen) return;
    await this.#life.scheduler.park('index close', '', () => {
      this.#isOpen = false;
    });
  }
}
