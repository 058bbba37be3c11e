/**
 * Keeps the index: writes checkpoints in the background, and makes it anew from the log when it is in doubt, with
 * requests waiting, not failing.
 *
 * Invariants:
 * - The index is never ahead of the log: a commit starts when the log is synced up to its position.
 * - A checkpoint's position is the record that begins a catalog; the overlay freezes in the very step in which that
 *   record is known to be written. So what replay finds from there on, the catalog first, is what the index lacks.
 * - After a failed commit the database is closed before anything else is written to it: LevelDB goes on
 *   acknowledging behind a torn record of its own, and loses that (measured; see ARCHITECTURE.md, Decisions).
 * - Overlays give up nothing before the index has it, so an index that is lost is made anew up to its last commit.
 */

import { hasCode, StoreError } from '../base/errors.ts';
import { othersFirst } from '../base/event-loop.ts';
import { CHUNK_BYTES } from '../base/units.ts';
import type { ExtentRow } from '../index/extents.ts';
import type { Destinies } from '../index/heirs.ts';
import type { Page, PageTable } from '../index/pages.ts';
import type { PinnedIndex } from '../index/pinned-index.ts';
import type { CommitPosition, Lineage, Overlays, PointerIndex } from '../index/pointer-index.ts';
import type { PointerBlock } from '../index/pointers.ts';
import type { ExtentSource, PruneBatch } from '../index/prune-batches.ts';
import { type MovesByRegion, partsOf } from '../index/move.ts';
import type { WantedChunks } from '../index/region-read.ts';
import type { VersionView } from '../index/version-tree.ts';
import type { ChunkLog } from '../log/chunk-log.ts';
import type { Numbers } from '../log/numbers.ts';
import type { Catalog } from './catalog.ts';
import type { CatalogAppender } from './catalog-append.ts';
import { hasRoom, isCheckpointDue } from './checkpoint-policy.ts';
import { type IndexEnvironment, viewOf } from './index-builder.ts';
import { isDamage, isOfDatabase, isTemporary, ofIndex, toReader } from './index-errors.ts';
import { IndexRepair } from './index-repair.ts';
import type { Recovered } from './recovery.ts';

const RETRY_MS = 1000; // nothing that failed is tried again before
/** Share of a segment that has to live for its memory to be of more use there than elsewhere. */
const LIVE_SHARE_CACHED = 1 / 16;
/** Pointers that are led to another place before requests have their turn. */
const MOVES_AT_ONCE = 256;
/** Changes that are worth a checkpoint when the store is closed: a few hundred milliseconds. */
const CLOSING_POINTERS_MAX = 200_000;

export interface KeeperParts {
  readonly environment: IndexEnvironment;
  readonly recovered: Recovered;
  readonly appender: CatalogAppender;
  /** Told of every change. */
  readonly onChanges: () => void;
  /** Told, after each batch, of segments in which hardly anything lives any more. */
  readonly onEmptied: (segments: readonly number[]) => void;
}

/** The version tree when an overlay froze, and the last change in it. */
interface Frozen {
  /** The record in whose step it froze. */
  readonly append: number;
  readonly view: VersionView;
  readonly sequence: number;
  /** How often versions had been spliced out. */
  readonly splices: number;
}

export class IndexKeeper implements ExtentSource {
  readonly overlays: Overlays;
  readonly #environment: IndexEnvironment;
  readonly #log: ChunkLog;
  readonly #catalog: Catalog;
  readonly #numbers: Numbers;
  readonly #onChanges: () => void;
  readonly #onEmptied: (segments: readonly number[]) => void;
  readonly #appender: CatalogAppender;
  #index: PointerIndex;
  /** What froze with the overlay that is being committed; its position is not known before its catalog is in the log. */
  #frozen: Frozen;
  #frozenAt: CommitPosition | undefined;
  #checkpointing: Promise<void> | undefined;
  readonly #repair: IndexRepair;
  /** Nothing that failed is tried again before this moment. */
  #retryAt = 0;
  #closed = false;
  /** Records up to this append number are in the index; what is behind them is in the overlays, and may be in both. */
  #indexedAppend: number;
  #hasCommitted = false;
  /** How often an overlay froze, and up to which of them all is in rows. */
  #freezes = 0;
  #committed = 0;
  /** Log bytes at the last checkpoint. */
  #appendedBytesAt = 0;
  /** The last change of the catalog that a checkpoint has, and the splices. */
  #catalogSequenceAt: number;
  #splicesAt = 0;
  /** Moves may be stated by the log that no pointer follows: rows stay as they are until a later catalog is on the disk. */
  #mayStateMoves = false;

  constructor({ environment, recovered, appender, onChanges, onEmptied }: KeeperParts) {
    const { index, overlays, log, catalog, catalogSequence, numbers, ledger } = recovered;
    [this.#onChanges, this.#onEmptied] = [onChanges, onEmptied];
    this.#appender = appender;
    this.#numbers = numbers;
    this.#catalogSequenceAt = catalogSequence;
    this.#frozen = { append: 0, view: viewOf(catalog), sequence: catalogSequence, splices: 0 };
    this.#environment = environment;
    this.#index = index;
    this.overlays = overlays;
    this.#log = log;
    this.#catalog = catalog;
    // An index that was made anew and has no checkpoint yet may have anything of what was recovered.
    this.#indexedAppend = index.checkpoint.segment === 0 ? log.writtenAppend : index.checkpoint.append;
    this.#repair = new IndexRepair({
      environment,
      overlays,
      catalog,
      current: () => this.#index,
      replaceBy: (other) => {
        this.#index = other;
      },
      isClosed: () => this.#closed,
      logNow: () => ({
        base: numbers.superblock.base,
        present: ledger.copy(),
        indexedAppend: this.#indexedAppend,
      }),
    });
  }

  get index(): PointerIndex {
    return this.#index;
  }

  /**
   * The record that rows go up to: that of the checkpoint, or a later one, whose catalog did not get into a full log
   * whole. None of an index that was made anew, before its first: rows have any part of the log, overlays the rest.
   */
  get indexedAppend(): number | undefined {
    const { segment, append } = this.#index.checkpoint;
    // A commit that was reported as failed may have been made.
    return segment === 0 && !this.#hasCommitted ? undefined : Math.max(this.#indexedAppend, append);
  }

  /** Resolves a region. Waits for a repair, or starts one, where the index is in doubt. @throws IO, CORRUPTION */
  async load(table: PageTable, lineage: Lineage, region: number): Promise<Page> {
    return await this.#trusting((index) => index.load(table, lineage, region));
  }

  /** Resolves some chunks of regions, for who does not keep them. @throws IO, CORRUPTION */
  async resolveWanted(lineage: Lineage, wanted: readonly WantedChunks[]): Promise<PointerBlock[]> {
    return await this.#trusting((index) => index.resolveWanted(lineage, wanted));
  }

  async nextRegion(tree: number, from: number, end: number): Promise<number> {
    return await this.#trusting((index) => index.nextRegion(tree, from, end));
  }

  extentWindows(label: number): number[] {
    return this.#index.extents.windows(label);
  }

  /** See PointerIndex.readExtents. @throws IO, CORRUPTION */
  async readExtents(label: number, window: number): Promise<ExtentRow[]> {
    return await this.#trusting((index) => index.readExtents(label, window));
  }

  /** True if a version has pointers of its own that are not in the index yet. */
  isBehind(label: number): boolean {
    const { active, frozen } = this.overlays;
    return active.hasVersion(label) || frozen?.hasVersion(label) === true;
  }

  /** True if a version has any pointers of its own, in the index or on the way there. */
  hasPointers(label: number): boolean {
    return this.isBehind(label) || this.extentWindows(label).length > 0;
  }

  async #trusting<T>(use: (index: PointerIndex) => Promise<T>): Promise<T> {
    for (let attempt = 0; ; attempt++) {
      while (this.isInRepair) {
        await this.#repair.end().catch((error: unknown) => {
          throw toReader(error);
        });
      }
      if (this.#closed) throw new StoreError('CLOSED', 'the store is closed');
      const index = this.#index;
      try {
        return await use(index);
      } catch (error) {
        this.#failedToRead(error, index, attempt);
      }
    }
  }

  /** Returns if reading may be tried again, from an index that a repair has mended. @throws IO, CORRUPTION */
  #failedToRead(error: unknown, index: PointerIndex, attempt: number): void {
    const overtaken = index !== this.#index || this.isInRepair;
    const inDoubt = isDamage(error) || (isOfDatabase(error) && !isTemporary(error));
    if ((!overtaken && !inDoubt) || attempt === 3) throw toReader(error);
    if (!overtaken) this.mend(error, attempt > 0 || isDamage(error));
  }

  /**
   * Gives out what `read` gives out of the index of one moment; where the index has to be mended, `read` is begun again
   * with that of another moment, and has to know how far it came. @throws IO, CORRUPTION
   */
  async *reading<T>(read: (index: PinnedIndex) => AsyncGenerator<T>): AsyncGenerator<T> {
    for (let attempt = 0; ; attempt++) {
      let index = this.#index;
      const pinned = await this.#trusting((each) => {
        index = each;
        return each.pin();
      });
      try {
        yield* read(pinned);
        return;
      } catch (error) {
        if (hasCode(error, 'NOT_FOUND')) throw error; // the reader's own: what it reads for is gone
        this.#failedToRead(error, index, attempt);
      } finally {
        await pinned.close();
      }
    }
  }

  get isInRepair(): boolean {
    return this.#repair.isNeeded;
  }

  /** Called when changes have been put into the overlay: begins a checkpoint when enough have come together. */
  noteChanges(): void {
    this.#onChanges();
    if (this.#checkpointing !== undefined || this.#repair.underWay !== undefined) return;
    if (!isCheckpointDue(this.overlays.active, this.bytesBehindCheckpoint)) return;
    if (this.#environment.clock.now() < this.#retryAt) return;
    this.checkpoint().catch((error: unknown) => {
      this.#retryAt = this.#environment.clock.now() + RETRY_MS;
      this.#environment.logger.error({ err: error }, 'a checkpoint failed');
    });
  }

  get bytesBehindCheckpoint(): number {
    return this.#log.appendedBytes - this.#appendedBytesAt;
  }

  /** Whether writes may go on: what is behind the checkpoint is bounded. */
  get hasRoom(): boolean {
    const { active, frozen } = this.overlays;
    return hasRoom(active, frozen !== undefined);
  }

  /** Resolves when writes may go on; also when nothing is under way that would make room: a failure ends nothing. */
  async room(): Promise<void> {
    while (!this.hasRoom) {
      this.noteChanges();
      const making = this.#checkpointing ?? this.#repair.underWay;
      if (making === undefined) return;
      await making.catch(() => undefined);
    }
  }

  /**
   * The index reflects everything that was appended before this call when it resolves. `isMoved`: and its position is behind it,
   * even where that has changed nothing. @throws IO, POISONED
   */
  async checkpoint(isMoved = false): Promise<void> {
    while (this.#checkpointing !== undefined || this.isInRepair) await this.#alone();
    const hasChanges = this.overlays.frozen !== undefined || !this.overlays.active.isEmpty;
    if (!hasChanges && !this.catalogChanged() && !this.#mayStateMoves && !isMoved) return;
    this.#checkpointing = this.#checkpoint().finally(() => {
      this.#checkpointing = undefined;
    });
    await this.#checkpointing;
  }

  /** Like `checkpoint`; a full store does without one, and replays more when it is opened. @throws IO, POISONED */
  async checkpointIfRoom(): Promise<void> {
    await this.checkpoint().catch((error: unknown) => {
      if (!hasCode(error, 'NO_SPACE')) throw error;
      this.#environment.logger.warn({ err: error }, 'the store is full: no room for a checkpoint');
    });
  }

  /** One step towards a moment in which no checkpoint and no repair is under way. */
  async #alone(): Promise<void> {
    if (this.#checkpointing !== undefined) await this.#checkpointing.catch(() => undefined);
    else await this.#repair.end();
  }

  /** True if the catalog is not what the last checkpoint has. */
  catalogChanged(): boolean {
    const { sequence, spliceCount } = this.#catalog;
    return sequence > this.#catalogSequenceAt || spliceCount > this.#splicesAt;
  }

  /** What is put into the overlay now is in rows once `committed` is higher than this. */
  get freezes(): number {
    return this.#freezes;
  }

  get committed(): number {
    return this.#committed;
  }

  async #checkpoint(): Promise<void> {
    if (this.overlays.frozen !== undefined) await this.#commitFrozen(); // left over from one that failed
    const { appendedBytes } = this.#log;
    this.#frozenAt = undefined;
    const appended = await this.#appender.append((append) => {
      this.#index.freeze();
      this.#freezes += 1;
      const { sequence, spliceCount: splices } = this.#catalog;
      this.#frozen = { append: append.record, view: viewOf(this.#catalog), sequence, splices };
    });
    const { segment, offset, append } = appended;
    this.#frozenAt = { segment, offset, append, at: this.#environment.clock.now() };
    await this.#commitFrozen();
    this.#appendedBytesAt = appendedBytes;
    this.#catalogSequenceAt = this.#frozen.sequence;
    this.#splicesAt = this.#frozen.splices;
    this.#mayStateMoves = false;
  }

  /** Commits; where that fails, once more after a repair. */
  async #commitFrozen(): Promise<void> {
    const started = this.#environment.clock.now();
    await this.#log.flush();
    for (let attempt = 0; ; attempt++) {
      let index = this.#index;
      try {
        await this.#repair.requireRoom();
        index = this.#index;
        // Without a position of its own (its catalog did not get into the log whole) the one before still holds.
        await index.commit(this.#frozenAt ?? index.checkpoint, this.#frozen.view);
        break;
      } catch (error) {
        // Nothing was asked of LevelDB then, and it is as good as it was.
        if (hasCode(error, 'NO_SPACE')) throw error;
        if (index === this.#index) this.mend(error, isDamage(error));
        await this.#repair.underWay;
        if (attempt === 2) throw ofIndex(error, 'writing the index');
      }
    }
    this.#indexedAppend = this.#frozen.append;
    this.#hasCommitted = true;
    this.#committed = this.#freezes;
    const ms = this.#environment.clock.now() - started;
    this.#environment.logger.debug({ generation: this.#index.checkpoint.generation, ms }, 'checkpoint');
    this.#tellEmptied();
  }

  #tellEmptied(): void {
    const { usage } = this.#index;
    const chunks = (LIVE_SHARE_CACHED * this.#numbers.superblock.segmentBytes) / CHUNK_BYTES;
    this.#onEmptied(usage.diminished.filter((segment) => usage.of(segment) <= chunks));
  }

  mend(cause: unknown, anew: boolean): void {
    this.#repair.begin(cause, anew);
  }

  /**
   * Runs `work` right after a checkpoint, with no other before it ends. If the store is too full for one, `isCurrent` is
   * false: rows may lead to what compaction has taken away.
   */
  async holding<T>(work: (index: PointerIndex, isCurrent: boolean) => Promise<T>): Promise<T> {
    let isCurrent = true;
    await this.checkpoint().catch((error: unknown) => {
      if (!hasCode(error, 'NO_SPACE')) throw error;
      isCurrent = false;
    });
    return await this.#inTurn((index) => work(index, isCurrent));
  }

  /** Like `holding`, for who reads rows: if they are damaged, the index is made anew first. @throws IO, CORRUPTION */
  async holdingWhole<T>(work: (index: PointerIndex) => Promise<T>): Promise<T> {
    for (let attempt = 0; ; attempt++) {
      let used: PointerIndex | undefined;
      try {
        return await this.holding((index) => {
          used = index;
          return work(index);
        });
      } catch (error) {
        if (used === undefined) throw toReader(error);
        this.#failedToRead(error, used, attempt);
      }
    }
  }

  /** Runs `work` while no checkpoint and no repair is under way, and none begins. */
  async #inTurn<T>(work: (index: PointerIndex) => Promise<T>): Promise<T> {
    while (this.#checkpointing !== undefined || this.isInRepair) await this.#alone();
    if (this.#closed) throw new StoreError('CLOSED', 'the store is closed');
    const held = work(this.#index);
    this.#checkpointing = held.then(
      () => undefined,
      () => undefined,
    );
    try {
      return await held;
    } finally {
      this.#checkpointing = undefined;
    }
  }

  /** The last change of the catalog that the index's checkpoint has. */
  get catalogSequence(): number {
    return this.#catalogSequenceAt;
  }

  /** Takes pointers out of the index, in its turn. @throws IO, NO_SPACE: nothing has changed then */
  async prune({ tree, regions }: PruneBatch, destinies: Destinies, view: VersionView): Promise<void> {
    await this.#inTurn(async () => {
      await this.#repair.requireRoom();
      const index = this.#index;
      try {
        await index.prune(tree, regions, destinies, view);
      } catch (error) {
        if (index === this.#index) this.mend(error, isDamage(error));
        throw ofIndex(error, 'taking deleted versions out of the index');
      }
    });
    this.#tellEmptied();
  }

  /**
   * Leads pointers to where compaction has moved their chunks, once `announce` is done; `onLed` is told of some at a time, in
   * the step in which they are led. No checkpoint begins in between: its catalog would state segments of moves that its
   * rows do not lead to. `moment`: when rows had all of them. @throws IO, CORRUPTION, and what `announce` throws: nothing
   * has changed then
   */
  async relocate(
    moves: MovesByRegion,
    moment: symbol,
    announce: () => Promise<void>,
    onLed: (moves: MovesByRegion) => void,
  ): Promise<void> {
    await this.#inTurn(async (index) => {
      let still = moves;
      if (index.moment !== moment) {
        still = await index.stillThere(moves).catch((error: unknown) => {
          if (index === this.#index) this.mend(error, isDamage(error));
          throw ofIndex(error, 'looking up what was moved');
        });
      }
      await announce().catch((error: unknown) => {
        // Recovery would look for what was moved where rows had it.
        if (!hasCode(error, 'NO_SPACE')) this.#mayStateMoves = true;
        throw error;
      });
      // What a checkpoint that failed has left is committed first, and takes rows away: what it trims must not come back.
      const { active, frozen } = this.overlays;
      if (frozen !== undefined) still = frozen.withoutNewer(still);
      // Chunks are found where they were, or where they are now: both are there as long as this is not over.
      for (const part of partsOf(still, MOVES_AT_ONCE)) {
        active.putMoves(part);
        onLed(part);
        await othersFirst();
      }
    });
    this.noteChanges();
  }

  /** Runs `work` while no batch of the index is under way. A repair may begin meanwhile: see `repaired`. */
  exclusively<T>(work: (index: PointerIndex) => Promise<T>): Promise<T> {
    return this.#inTurn(work);
  }

  /** Resolves when no repair is under way. */
  async repaired(): Promise<void> {
    await this.#repair.underWay?.catch(() => undefined);
  }

  /** A last checkpoint, if it is a small one, and the end. */
  async close(poison: StoreError | undefined): Promise<void> {
    await this.#checkpointing?.catch(() => undefined);
    await this.#repair.underWay?.catch(() => undefined);
    const { active, frozen } = this.overlays;
    if (!poison && active.pointerCount + (frozen?.pointerCount ?? 0) <= CLOSING_POINTERS_MAX) {
      await this.checkpoint().catch((error: unknown) => {
        this.#environment.logger.error({ err: error }, 'the last checkpoint failed; the log has everything');
      });
    }
    this.#closed = true;
    await this.#repair.underWay?.catch(() => undefined);
    await this.#index.close();
  }
}
