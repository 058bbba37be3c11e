/**
 * A store: a directory with one log, one index and one owner. The library's front door.
 *
 *     superblock   who the store is, what has been reserved (log/superblock.ts)
 *     store.lock   held by the owner (base/owner-lock.ts)
 *     log/         segment files (log/format.ts)
 *     index/       LevelDB, a cache of the log (index/rows.ts)
 *
 * Changes of volumes and snapshots are in version-changes.ts and version-removal.ts, how they get into the log is in
 * change-writer.ts.
 */

import path from 'node:path';
import { systemClock } from '../base/clock.ts';
import { StoreError } from '../base/errors.ts';
import { NodeStorage } from '../base/node-storage.ts';
import { OwnerLock } from '../base/owner-lock.ts';
import { CHUNK_BYTES, type SnapshotMaker } from '../base/units.ts';
import type { RoundResult } from '../compaction/compactor.ts';
import type { CompactionEstimate, CompactionProgress, ThoroughOptions } from '../compaction/thorough.ts';
import { finding } from '../check/finding.ts';
import { PageCache } from '../index/pages.ts';
import type { MovesByRegion } from '../index/move.ts';
import { readSuperblock, SUPERBLOCK_REVISION } from '../log/superblock.ts';
import { type CheckOptions, checkStore, checkSuperblock, noteUnfinished } from './check.ts';
import { checkOffline, type OfflineCheckOptions } from './check-offline.ts';
import type { Catalog } from './catalog.ts';
import { CatalogAppender } from './catalog-append.ts';
import type { Change, ResizeChange } from './change.ts';
import { ChangeWriter } from './change-writer.ts';
import { DeadCache } from './dead-cache.ts';
import type { BlockDevice } from './device.ts';
import { diffVersions } from './diff.ts';
import { FeedChanges } from './feed-changes.ts';
import { Fence } from './fence.ts';
import { IndexKeeper } from './index-keeper.ts';
import { makeMover, StoreCompaction } from './store-compaction.ts';
import { type InitOptions, initStore, LOCK_PATH } from './init-store.ts';
import { clearInterruptedRepair } from './interrupted-repair.ts';
import { openLevel } from './level-database.ts';
import { formatUuid, listVersions, listWithGhosts, namesOf, summarize } from './listing.ts';
import { OpenDisks } from './open-disks.ts';
import { environmentOf, type OpenOptions, type StoreEnvironment, type StoreLock } from './open-options.ts';
import { Receives } from './receives.ts';
import { type Recovered, recover } from './recovery.ts';
import { Schedules } from './schedules.ts';
import { Roles } from './roles.ts';
import { type ScrubOptions, StoreScrub } from './scrub.ts';
import { type SpaceOfVersions, spaceOf, withSpace } from './space.ts';
import type {
  DiffExtent,
  Finding,
  ScrubStep,
  StatusOptions,
  StoreStatus,
  VersionSummary,
  VersionWithSpace,
} from './summary.ts';
import { requireStore } from './store-parts.ts';
import { type HoldOptions, VersionChanges } from './version-changes.ts';
import { VersionPruner } from './version-pruner.ts';
import {
  type DeleteOptions,
  type ResizeOptions,
  type RollbackOptions,
  VersionRemoval,
} from './version-removal.ts';

export type { InitOptions } from './init-store.ts';
export { openLevel } from './level-database.ts';
export { CACHE_BYTES_DEFAULT, type OpenOptions, type StoreLock } from './open-options.ts';

/** Findings of a check that an index made anew does away with. */
const MENDED_FROM_LOG = new Set(['INDEX_DAMAGED', 'INDEX_DIFFERS', 'ORPHAN_POINTERS', 'USAGE_DIFFERS']);

export class Store {
  readonly directory: string;
  /** Versions on their way in. */
  readonly receives: Receives;
  readonly schedules: Schedules;
  readonly feeds: FeedChanges;
  readonly roles: Roles;
  readonly #lock: StoreLock;
  readonly #recovered: Recovered;
  readonly #keeper: IndexKeeper;
  readonly #cache: PageCache;
  readonly #deadCache: DeadCache;
  readonly #environment: StoreEnvironment;
  readonly #writer: ChangeWriter;
  readonly #disks: OpenDisks;
  readonly #changes: VersionChanges;
  readonly #removal: VersionRemoval;
  readonly #pruner: VersionPruner;
  readonly #compaction: StoreCompaction;
  readonly #scrub: StoreScrub;
  #closing: Promise<void> | undefined;

  private constructor(
    directory: string,
    lock: StoreLock,
    environment: StoreEnvironment,
    recovered: Recovered,
  ) {
    this.directory = directory;
    this.#lock = lock;
    this.#environment = environment;
    this.#recovered = recovered;
    const { clock, logger, cacheBytes } = environment;
    const { log, files, catalog, numbers, ledger } = recovered;
    this.#writer = new ChangeWriter(log, numbers, (change, sequence) => this.#apply(change, sequence));
    const between = <T>(step: () => Promise<T>): Promise<T> => this.#writer.between(step);
    this.#deadCache = new DeadCache(files, logger);
    const appender = new CatalogAppender(log, catalog, ledger, between);
    const keeper = new IndexKeeper({
      environment,
      recovered,
      appender,
      onChanges: () => this.#compaction.touch(),
      onEmptied: (segments) => {
        this.#deadCache.drop(segments);
        this.#compaction.consider();
      },
    });
    this.#keeper = keeper;
    this.#pruner = new VersionPruner(catalog, keeper, numbers, clock, logger, between);
    const onRelocated = (moves: MovesByRegion): void => this.#disks.relocated(moves);
    const parts = { environment, recovered, keeper, pruner: this.#pruner, appender, onRelocated };
    this.#compaction = new StoreCompaction(parts, makeMover(environment, directory), environment, () =>
      this.#deleteExpendable(),
    );
    const { gate } = this.#compaction;
    this.#writer.roomComing = () => this.#compaction.roomComing();
    this.#cache = new PageCache(cacheBytes);
    this.#disks = new OpenDisks({ log, files, keeper, gate }, this.#cache, catalog, clock);
    this.#changes = new VersionChanges(catalog, this.#writer, clock);
    const ofLog = { numbers, ledger, position: () => log.position };
    this.#scrub = new StoreScrub({ ...environment, ...ofLog, catalog, keeper });
    const [writer, disks, fence] = [this.#writer, this.#disks, new Fence(this.#writer, this.#disks)];
    this.#removal = new VersionRemoval(catalog, writer, fence, disks, keeper, clock);
    const ends = { flush: () => log.flush(), onHidden: () => this.#pruner.wake() };
    const needs = { catalog, writer, fence, disks, keeper, clock, ...ends };
    this.feeds = new FeedChanges({ ...needs, storeUuid: formatUuid(numbers.superblock.uuid) });
    this.roles = new Roles(needs);
    this.receives = new Receives(needs);
    this.schedules = new Schedules(needs);
  }

  /**
   * Makes a store in `directory`, which is made if it is missing, and must hold nothing of a store.
   * @throws ALREADY_EXISTS, INVALID_ARGUMENT, IO, NO_SPACE
   */
  static init(directory: string, options: InitOptions = {}): Promise<void> {
    return initStore(directory, options);
  }

  /**
   * Opens a store for this process alone, recovering it if need be.
   * @throws NOT_A_STORE, LOCKED (naming the owner), UNSUPPORTED_FORMAT, CORRUPTION, IO, NO_SPACE
   */
  static async open(directory: string, options: OpenOptions = {}): Promise<Store> {
    const clock = options.clock ?? systemClock;
    const storage = options.storage ?? new NodeStorage(directory);
    if (options.storage === undefined) requireStore(directory);
    const acquireLock =
      options.acquireLock ?? ((file: string, since: number) => OwnerLock.acquire(file, since));
    const lock = acquireLock(path.join(directory, LOCK_PATH), clock.now());
    try {
      const superblock = await readSuperblock(storage);
      await clearInterruptedRepair(storage, superblock.base);
      const environment = environmentOf(storage, superblock.uuid, options);
      const recovered = await recover(environment, superblock);
      const store = new Store(path.resolve(directory), lock, environment, recovered);
      if (recovered.isRebuilt) {
        await store.#keeper.checkpointIfRoom().catch(async (error: unknown) => {
          await store.close();
          throw error;
        });
      }
      store.#pruner.wake(); // what was deleted before, and not finished
      return store;
    } catch (error) {
      lock.release();
      throw error;
    }
  }

  get #catalog(): Catalog {
    return this.#recovered.catalog;
  }

  get #now(): number {
    return this.#environment.clock.now();
  }

  /** Sequence of the last entry that opening the store found: nothing behind it was recovered. */
  get cut(): number {
    return this.#recovered.cut;
  }

  /** In the step in which the log has a change. */
  #apply(change: Change, sequence: number): void {
    this.#catalog.apply(change, sequence);
    if (change.op === 'snapshot') {
      for (const cut of change.cuts) this.#disks.find(cut.volume)?.moveTo(cut.label);
    } else if (change.op === 'resize') {
      this.#applyResize(change, sequence);
    }
  }

  #applyResize({ volume, size, cut }: ResizeChange, sequence: number): void {
    if (cut !== null) {
      const { tree } = this.#catalog.tree.get(cut.label)!;
      this.#keeper.overlays.active.putZeros(tree, cut.label, cut.first, cut.count, sequence);
    }
    this.#disks.find(volume)?.resized(size, cut?.first ?? 0, cut?.count ?? 0, sequence);
  }

  /** Versions that there are, deleted ones that others inherit from among them. */
  get versionCount(): number {
    return this.#catalog.tree.size;
  }

  // --- volumes and snapshots: what is answered survives the process, and the disk has it after `flush` ---

  /** Makes an empty volume. @throws INVALID_ARGUMENT, ALREADY_EXISTS, NO_SPACE, IO, POISONED */
  async createVolume(name: string, sizeBytes: number): Promise<VersionSummary> {
    await this.#changes.create(name, sizeBytes);
    return this.show(name);
  }

  /**
   * Freezes volumes under names, `volume@name` each, in one record: writes answered before are in all of the
   * snapshots, writes that come after the answer in none. `by` is missing for a person. @throws as createVolume, NOT_FOUND
   */
  async snapshot(names: readonly string[], by?: SnapshotMaker): Promise<VersionSummary[]> {
    await this.#changes.snapshot(names, by);
    return names.map((name) => this.show(name));
  }

  /** Makes a volume that begins as the snapshot `source` is. @throws as createVolume, NOT_FOUND */
  async clone(source: string, name: string): Promise<VersionSummary> {
    await this.#changes.clone(source, name);
    return this.show(name);
  }

  /**
   * Deletes volumes and snapshots, all or none, in one record; answers their names. Their space comes back in the
   * background. What others inherit from them stays.
   * @throws NOT_FOUND, HELD, HAS_SNAPSHOTS (without `recursive`), IN_USE (without `force`), NO_SPACE, IO, POISONED
   */
  async delete(names: readonly string[], options: DeleteOptions = {}): Promise<string[]> {
    const gone = await this.#removal.delete(names, options);
    this.#pruner.wake();
    return gone;
  }

  /**
   * Makes a volume what its snapshot `name` is, in one record. What it was before stays as an automatic snapshot, whose
   * name is answered; null if it had not changed since a snapshot. @throws NOT_FOUND, IN_USE (without `force`)
   */
  async rollback(
    name: string,
    options: RollbackOptions = {},
  ): Promise<{ volume: VersionSummary; saved: string | null }> {
    const saved = await this.#removal.rollback(name, options);
    this.#pruner.wake();
    return { volume: this.show(name.split('@')[0]!), saved };
  }

  /** Gives a volume or snapshot another name. A snapshot stays with its volume. @throws NOT_FOUND, ALREADY_EXISTS */
  async rename(name: string, to: string): Promise<VersionSummary> {
    return this.show(await this.#changes.rename(name, to));
  }

  /**
   * Changes the size of a volume; clients learn of it when they connect again. What is cut off reads as zeros for ever.
   * @throws NOT_FOUND, INVALID_ARGUMENT (a smaller size without `shrink`), WOULD_LOSE_DATA (without `force`)
   */
  async resize(name: string, sizeBytes: number, options: ResizeOptions = {}): Promise<VersionSummary> {
    await this.#removal.resize(name, sizeBytes, options);
    return this.show(name);
  }

  /** Protects a snapshot from being deleted; on the disk when this resolves. @throws NOT_FOUND, INVALID_ARGUMENT */
  async hold(name: string, options: HoldOptions): Promise<VersionSummary> {
    await this.#changes.hold(name, options);
    await this.flush();
    return this.show(name);
  }

  /** Ends the hold of an owner. @throws NOT_FOUND */
  async release(name: string, owner: string): Promise<VersionSummary> {
    await this.#changes.release(name, owner);
    return this.show(name);
  }

  /** Which snapshots go first when the store is full: -128 to 127, which never goes. @throws INVALID_ARGUMENT */
  async setPriority(name: string, priority: number): Promise<VersionSummary> {
    await this.#changes.setPriority(name, priority);
    return this.show(name);
  }

  async #deleteExpendable(): Promise<string | undefined> {
    const name = await this.#removal.deleteExpendable();
    if (name === undefined) return undefined;
    this.#pruner.wake();
    await this.#pruner.idle();
    return name;
  }

  #checkOpen(): void {
    if (this.#closing !== undefined) throw new StoreError('CLOSED', 'the store is closed');
  }

  /** All volumes, each followed by its snapshots, oldest first. */
  list(): VersionSummary[] {
    return listVersions(this.#catalog, this.#now);
  }

  /** Their names, which cost less. */
  names(): readonly string[] {
    return namesOf(this.#catalog);
  }

  /** A volume or `volume@snapshot`. @throws NOT_FOUND */
  show(name: string): VersionSummary {
    return summarize(this.#catalog, this.#catalog.find(name), this.#now);
  }

  /** The list, with what each version takes up; with ghosts if wanted. Counts the whole index. @throws IO, CORRUPTION */
  async listWithSpace(options: { ghosts?: boolean | undefined } = {}): Promise<VersionWithSpace[]> {
    this.#checkOpen();
    const list = options.ghosts === true ? listWithGhosts(this.#catalog, this.#now) : this.list();
    return await withSpace(this.#keeper, this.#catalog, list);
  }

  /** What versions take up, and what would come back if all of them were deleted. @throws NOT_FOUND, IO, CORRUPTION */
  async space(names: readonly string[]): Promise<SpaceOfVersions> {
    this.#checkOpen();
    return await spaceOf(this.#keeper, this.#catalog, names);
  }

  /** Extents in which `to` differs from `from`, in order; any two versions. @throws NOT_FOUND, IO, CORRUPTION */
  diff(from: string, to: string): AsyncGenerator<DiffExtent> {
    this.#checkOpen();
    return diffVersions(this.#keeper, this.#catalog, this.#catalog.find(from), this.#catalog.find(to));
  }

  /** Opens a volume to read and write, or a snapshot to read; `release` it when done. @throws NOT_FOUND, CLOSED, IN_USE */
  device(name: string): BlockDevice {
    this.#checkOpen();
    return this.#disks.open(this.#catalog.find(name));
  }

  /** Resolves when all that was deleted has been taken out of the index, or that has failed. */
  pruned(): Promise<void> {
    return this.#pruner.idle();
  }

  /** All that was answered before this call is on the disk when it resolves. @throws IO, POISONED */
  flush(): Promise<void> {
    return this.#recovered.log.flush();
  }

  /**
   * Moves what lives out of some segments, and gives their room back; undefined if there is nothing to gain.
   * @throws IO, NO_SPACE, CORRUPTION, POISONED, CLOSED
   */
  compactOnce(): Promise<RoundResult | undefined> {
    this.#checkOpen();
    return this.#compaction.once();
  }

  /** What `compact` would do. @throws INVALID_ARGUMENT, IO, NO_SPACE */
  estimateCompaction(options: ThoroughOptions): Promise<CompactionEstimate> {
    this.#checkOpen();
    return this.#compaction.estimate(options);
  }

  /** Compacts the whole store, while it goes on working. @throws INVALID_ARGUMENT, IO, NO_SPACE, CORRUPTION, POISONED */
  compact(options: ThoroughOptions): AsyncGenerator<CompactionProgress> {
    this.#checkOpen();
    return this.#compaction.thoroughly(options);
  }

  /** Whether compaction begins by itself when it is due. Resolves when no round is under way. */
  async pauseCompaction(isPaused: boolean): Promise<void> {
    this.#checkOpen();
    if (isPaused) await this.#compaction.pause();
    else this.#compaction.resume();
  }

  /** Brings the index up to the log. @throws IO, POISONED */
  checkpoint(): Promise<void> {
    return this.#keeper.checkpoint();
  }

  /** Live bytes are those of the last checkpoint: one that this makes, if that is wanted and there is room for it. */
  async status({ atCheckpoint = false }: StatusOptions = {}): Promise<StoreStatus> {
    const { log, numbers, supply } = this.#recovered;
    if (!atCheckpoint && log.poison === undefined) await this.#keeper.checkpointIfRoom();
    await this.#compaction.measure(!atCheckpoint);
    const { superblock } = numbers;
    const { index } = this.#keeper;
    return {
      uuid: formatUuid(superblock.uuid),
      formatRevision: SUPERBLOCK_REVISION,
      owner: this.#lock.owner,
      volumes: this.#catalog.volumes().length,
      snapshots: this.#catalog.snapshotCount,
      deleting: this.#catalog.pending.size,
      segments: supply.usedCount,
      segmentBytes: superblock.segmentBytes,
      capacityBytes: superblock.capacityBytes || null,
      logBytes: Math.max(0, supply.logBytes - superblock.segmentBytes) + log.position.offset,
      liveBytes: index.usage.liveChunks * CHUNK_BYTES,
      lastCheckpoint: {
        generation: index.checkpoint.generation,
        at: index.checkpoint.at === 0 ? null : new Date(index.checkpoint.at).toISOString(),
      },
      cache: { usedBytes: this.#cache.usedBytes + index.usedBytes, boundBytes: this.#cache.boundBytes },
      room: await this.#compaction.room(),
      compaction: this.#compaction.state,
      scrub: this.#scrub.state,
      schedules: this.schedules.list(),
      feeds: this.feeds.list(),
      state: log.poison === undefined ? 'open' : 'poisoned',
      damage: this.#recovered.damage.map(({ code, message }) => finding(code, message)),
    };
  }

  /** Checks the whole store as of now, while it goes on working. */
  async *check(options: CheckOptions = {}): AsyncGenerator<Finding> {
    await this.flush();
    const { numbers } = this.#recovered;
    yield* checkSuperblock(this.#environment.storage, (read) => numbers.between(read));
    const findings: Finding[] = [];
    await this.#keeper.holding(async (index, isCurrent) => {
      const { indexedAppend } = this.#keeper;
      const isComparable = isCurrent && indexedAppend !== undefined;
      const checked = {
        view: { index, overlay: undefined },
        // What was synced is checked all the same.
        until: isComparable ? indexedAppend : this.#recovered.log.durableAppend,
        present: this.#recovered.ledger.copy(),
        unfit: isComparable ? undefined : 'it has no checkpoint, or there is no room for the next one',
        follow: () => undefined,
      };
      const subject = { superblock: numbers.superblock, base: numbers.superblock.base, checked };
      for await (const each of checkStore(this.#environment, subject, options)) findings.push(each);
    });
    // What is wrong with nothing but the index is mended from the log at once.
    const damage = findings.filter(({ severity }) => severity === 'damage');
    if (damage.length > 0 && damage.every(({ code }) => MENDED_FROM_LOG.has(code)))
      this.#keeper.mend(new StoreError('INDEX_DAMAGED', damage[0]!.message), true);
    yield* findings;
    yield* noteUnfinished(this.#catalog);
  }

  /** Reads all of the log at a pace, and verifies it, while the store goes on working. See StoreScrub.run. */
  scrub(options: ScrubOptions, signal?: AbortSignal): AsyncGenerator<ScrubStep> {
    this.#checkOpen();
    return this.#scrub.run(options, signal);
  }

  /** Checks a store that nobody has open. @throws NOT_A_STORE, LOCKED, UNSUPPORTED_FORMAT, CORRUPTION, IO */
  static check(directory: string, options: OfflineCheckOptions = {}): AsyncGenerator<Finding> {
    return checkOffline(directory, openLevel, options);
  }

  /**
   * Writes what waits, syncs it, closes everything. Devices are of no use afterwards.
   * @throws POISONED, IO: it is closed all the same, and what the last flush did not cover may be lost.
   */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    const { log, files, numbers } = this.#recovered;
    this.#scrub.close();
    try {
      await this.#deadCache.close();
      await this.#compaction.close();
      await this.#writer.close();
      await this.#pruner.close();
      await log.idle();
      await this.#keeper.close(log.poison);
      await log.close();
      if (log.poison === undefined) await numbers.giveBack();
    } finally {
      await files.close();
      this.#lock.release();
    }
    if (log.poison !== undefined) throw log.poison; // not all that was answered is known to be on the disk
  }
}
