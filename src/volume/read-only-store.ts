/**
 * A store opened to be read only, whole or damaged: its volumes and snapshots as far as they are left. Nothing is written among
 * its files but its lock; what has to be written, an index, goes into a temporary directory that is removed again.
 *
 * Invariants: what cannot be read is an error, never other bytes; where something older may be read, because nobody can know
 * what is lost, the findings say so, and so does the log; every change is refused.
 */

import path from 'node:path';
import { systemClock } from '../base/clock.ts';
import { StoreError } from '../base/errors.ts';
import { NodeStorage } from '../base/node-storage.ts';
import { OwnerLock } from '../base/owner-lock.ts';
import { CHUNK_BYTES } from '../base/units.ts';
import { PageCache } from '../index/pages.ts';
import { ChunkLog } from '../log/chunk-log.ts';
import { Numbers } from '../log/numbers.ts';
import { SegmentFiles } from '../log/segment-files.ts';
import { SegmentSupply } from '../log/segment-supply.ts';
import { readSuperblock, type Superblock } from '../log/superblock.ts';
import { CatalogAppender } from './catalog-append.ts';
import { type CheckOptions, checkStore, checkSuperblock, type Scratch } from './check.ts';
import type { BlockDevice } from './device.ts';
import { diffVersions } from './diff.ts';
import { listFeeds } from './feed-changes.ts';
import { IndexKeeper } from './index-keeper.ts';
import { LOCK_PATH } from './init-store.ts';
import { formatUuid, listVersions, listWithGhosts, namesOf, summarize } from './listing.ts';
import { OpenDisks } from './open-disks.ts';
import { environmentOf, type OpenOptions, type StoreEnvironment, type StoreLock } from './open-options.ts';
import { readRemains, rebuildFromRemains, type Remains } from './read-only-recovery.ts';
import { listReceives } from './receives.ts';
import { listSchedules } from './schedules.ts';
import { type ScrubOptions, StoreScrub } from './scrub.ts';
import { requireStore } from './store-parts.ts';
import { ShelteredStorage } from './sheltered-storage.ts';
import { type SpaceOfVersions, spaceOf, withSpace } from './space.ts';
import type {
  DiffExtent,
  Finding,
  ScrubStep,
  StoreStatus,
  VersionSummary,
  VersionWithSpace,
} from './summary.ts';
import { WriteGate } from './write-gate.ts';

export class ReadOnlyStore {
  readonly directory: string;
  readonly #environment: StoreEnvironment;
  readonly #superblock: Superblock;
  readonly #remains: Remains;
  readonly #lock: StoreLock;
  readonly #scratch: Scratch;
  readonly #files: SegmentFiles;
  readonly #supply: SegmentSupply;
  readonly #keeper: IndexKeeper;
  readonly #cache: PageCache;
  readonly #disks: OpenDisks;
  readonly #scrub: StoreScrub;
  #closing: Promise<void> | undefined;

  private constructor(
    directory: string,
    environment: StoreEnvironment,
    superblock: Superblock,
    remains: Remains,
    lock: StoreLock,
    scratch: Scratch,
  ) {
    this.directory = directory;
    this.#superblock = superblock;
    this.#remains = remains;
    this.#lock = lock;
    this.#scratch = scratch;
    const { catalog, index, overlays, ledger, end } = remains;
    const { storage, clock, cacheBytes } = environment;
    this.#environment = { ...environment, rebuildFromRemains: () => this.#rebuild(environment) };
    const numbers = Numbers.asFound(storage, superblock);
    const files = new SegmentFiles(storage);
    const supply = new SegmentSupply(storage, numbers, remains.files.length);
    // Nothing is ever appended: all that it has is said to be on the disk, and no catalog waits to be written.
    const log = new ChunkLog({ files, numbers, supply, ledger, clock, end, durable: end?.append ?? 0 });
    const recovered = {
      numbers,
      log,
      files,
      supply,
      ledger,
      catalog,
      index,
      overlays,
      damage: [],
      cut: catalog.sequence,
      catalogSequence: catalog.sequence,
      isRebuilt: index.checkpoint.segment === 0,
      followed: new Set<number>(),
    };
    const keeper = new IndexKeeper({
      environment: this.#environment,
      recovered,
      appender: new CatalogAppender(log, catalog, ledger, async () => refuse()),
      onChanges: () => undefined,
      onEmptied: () => undefined,
    });
    [this.#files, this.#supply, this.#keeper] = [files, supply, keeper];
    this.#cache = new PageCache(cacheBytes);
    const gate = new WriteGate(keeper, undefined);
    this.#disks = new OpenDisks({ log, files, keeper, gate }, this.#cache, catalog, clock, true);
    this.#scrub = new StoreScrub({
      ...environment,
      numbers,
      ledger,
      catalog,
      keeper,
      position: () => log.position,
    });
  }

  /**
   * Opens what is left of a store, for this process alone.
   * @throws NOT_A_STORE, LOCKED, UNSUPPORTED_FORMAT, IO, NO_SPACE, CORRUPTION if nobody can say what there was
   */
  static async open(directory: string, options: OpenOptions = {}): Promise<ReadOnlyStore> {
    const clock = options.clock ?? systemClock;
    const store = options.storage ?? new NodeStorage(directory);
    if (options.storage === undefined) requireStore(directory);
    const acquireLock =
      options.acquireLock ?? ((file: string, since: number) => OwnerLock.acquire(file, since));
    const lock = acquireLock(path.join(directory, LOCK_PATH), clock.now());
    let scratch: Scratch | undefined;
    try {
      const superblock = await readSuperblock(store);
      scratch = environmentOf(store, superblock.uuid, options).makeScratch();
      const storage = await ShelteredStorage.over(store, scratch.storage);
      const environment = environmentOf(storage, superblock.uuid, { ...options, onRebuild: undefined });
      const remains = await readRemains(environment, superblock);
      for (const finding of remains.findings) {
        if (finding.severity === 'damage') environment.logger.error({ finding }, finding.message);
        else environment.logger.info({ finding }, finding.message);
      }
      return new ReadOnlyStore(path.resolve(directory), environment, superblock, remains, lock, scratch);
    } catch (error) {
      scratch?.remove();
      lock.release();
      throw error;
    }
  }

  /** Rows of the index turned out to be damaged: what is left of the log has to do. */
  async #rebuild(environment: StoreEnvironment): Promise<void> {
    const { findings } = this.#remains;
    const whole = await rebuildFromRemains(environment, this.#superblock.base, this.#remains);
    const note = (code: string, message: string): void => {
      if (findings.some((finding) => finding.message === message)) return;
      findings.push({ severity: 'damage', code, message });
      environment.logger.error({ code }, message);
    };
    note('INDEX_DAMAGED', 'the index turned out to be damaged, and was made anew of what is left of the log');
    for (const { code, message } of [...whole.damage, ...whole.tail.damage]) note(code, message);
  }

  #checkOpen(): void {
    if (this.#closing !== undefined) throw new StoreError('CLOSED', 'the store is closed');
  }

  get #now(): number {
    return this.#environment.clock.now();
  }

  list(): VersionSummary[] {
    return listVersions(this.#remains.catalog, this.#now);
  }

  /** Their names, which cost less. */
  names(): readonly string[] {
    return namesOf(this.#remains.catalog);
  }

  /** @throws NOT_FOUND */
  show(name: string): VersionSummary {
    const { catalog } = this.#remains;
    return summarize(catalog, catalog.find(name), this.#now);
  }

  async listWithSpace(options: { ghosts?: boolean | undefined } = {}): Promise<VersionWithSpace[]> {
    this.#checkOpen();
    const { catalog } = this.#remains;
    const list = options.ghosts === true ? listWithGhosts(catalog, this.#now) : this.list();
    return await withSpace(this.#keeper, catalog, list);
  }

  async space(names: readonly string[]): Promise<SpaceOfVersions> {
    this.#checkOpen();
    return await spaceOf(this.#keeper, this.#remains.catalog, names);
  }

  diff(from: string, to: string): AsyncGenerator<DiffExtent> {
    this.#checkOpen();
    const { catalog } = this.#remains;
    return diffVersions(this.#keeper, catalog, catalog.find(from), catalog.find(to));
  }

  /** Opens a version to read. @throws NOT_FOUND, CLOSED, CORRUPTION if nobody can know what it reads */
  device(name: string): BlockDevice {
    this.#checkOpen();
    const version = this.#remains.catalog.find(name);
    if (this.#remains.unknown.has(version.label)) {
      const what = `what ${name} reads cannot be known: it may have been deleted in a part of the log that is lost`;
      throw new StoreError('CORRUPTION', what);
    }
    return this.#disks.open(version);
  }

  async flush(): Promise<void> {}

  async status(): Promise<StoreStatus> {
    const { catalog, end, findings } = this.#remains;
    const { index } = this.#keeper;
    const { revision, uuid, segmentBytes, capacityBytes } = this.#superblock;
    const { usedCount } = this.#supply;
    const { generation, at } = index.checkpoint;
    return {
      uuid: formatUuid(uuid),
      formatRevision: revision,
      owner: this.#lock.owner,
      volumes: catalog.volumes().length,
      snapshots: catalog.snapshotCount,
      deleting: catalog.pending.size,
      segments: usedCount,
      segmentBytes,
      capacityBytes: capacityBytes || null,
      logBytes: Math.max(0, usedCount - 1) * segmentBytes + (end?.offset ?? 0),
      liveBytes: index.usage.liveChunks * CHUNK_BYTES,
      room: { state: 'enough', freeBytes: await this.#supply.roomBytes() },
      compaction: { state: 'paused', rounds: 0, movedBytes: 0, writtenBytes: 0, freedBytes: 0 },
      scrub: this.#scrub.state,
      schedules: this.schedules.list(),
      feeds: listFeeds(this.#remains.catalog, this.#now),
      lastCheckpoint: { generation, at: at === 0 ? null : new Date(at).toISOString() },
      cache: { usedBytes: this.#cache.usedBytes, boundBytes: this.#cache.boundBytes },
      state: 'read-only',
      damage: findings.filter(({ severity }) => severity === 'damage'),
    };
  }

  /** Checks the log. The index is a copy, of which nothing is to be said that was not said when it was opened. */
  async *check(options: CheckOptions = {}): AsyncGenerator<Finding> {
    this.#checkOpen();
    yield* checkSuperblock(this.#environment.storage);
    const superblock = this.#superblock;
    yield* checkStore(this.#environment, { superblock, base: superblock.base, checked: undefined }, options);
  }

  /** See StoreScrub.run. */
  scrub(options: ScrubOptions, signal?: AbortSignal): AsyncGenerator<ScrubStep> {
    this.#checkOpen();
    return this.#scrub.run(options, signal);
  }

  // --- what changes anything is refused ---

  readonly createVolume = refuse;
  readonly snapshot = refuse;
  readonly clone = refuse;
  readonly delete = refuse;
  readonly rollback = refuse;
  readonly rename = refuse;
  readonly resize = refuse;
  readonly hold = refuse;
  readonly release = refuse;
  readonly setPriority = refuse;
  readonly roles = { promote: refuse, demote: refuse };
  readonly receives = {
    begin: refuse,
    apply: refuse,
    advance: refuse,
    publish: refuse,
    abort: refuse,
    list: () => listReceives(this.#remains.catalog),
  };
  readonly schedules = {
    set: refuse,
    list: () => listSchedules(this.#remains.catalog, this.#environment.clock.now()),
    prune: refuse,
  };
  readonly feeds = {
    add: refuse,
    remove: refuse,
    pause: refuse,
    run: refuse,
    list: () => listFeeds(this.#remains.catalog, this.#now),
  };
  readonly estimateCompaction = refuse;
  readonly pauseCompaction = refuse;

  async *compact(): AsyncGenerator<never> {
    yield await refuse();
  }

  /** Closes everything, and removes what was made beside the store. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    this.#scrub.close();
    try {
      await this.#keeper.close(undefined);
    } finally {
      await this.#files.close();
      this.#scratch.remove();
      this.#lock.release();
    }
  }
}

async function refuse(): Promise<never> {
  throw new StoreError('READ_ONLY', 'the store is open read-only; serve it without --read-only to change it');
}
