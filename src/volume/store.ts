/**
 * A store: a directory with one log, one index and one owner. The library's front door.
 *
 *     superblock   who the store is, what has been reserved (log/superblock.ts)
 *     store.lock   held by the owner (base/owner-lock.ts)
 *     log/         segment files (log/format.ts)
 *     index/       LevelDB, a cache of the log (index/rows.ts)
 *
 * Invariant: changes of the catalog are decided and appended one at a time, and take effect in the step in which the
 * log has them, before anything behind them is packed.
 */

import { randomUUID } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { Level } from 'level';
import { type Clock, systemClock } from '../base/clock.ts';
import { StoreError } from '../base/errors.ts';
import { type Logger, silentLogger } from '../base/logger.ts';
import { Mutex } from '../base/mutex.ts';
import { NodeStorage } from '../base/node-storage.ts';
import { type Owner, OwnerLock } from '../base/owner-lock.ts';
import type { Storage } from '../base/storage.ts';
import { CHUNK_BYTES } from '../base/units.ts';
import type { IndexDatabase } from '../index/directory.ts';
import { PageCache, PageTable } from '../index/pages.ts';
import { Append, AppendPromise } from '../log/append.ts';
import {
  FORMAT_REVISION,
  SEGMENT_BYTES_DEFAULT,
  SEGMENT_BYTES_MAX,
  SEGMENT_BYTES_MIN,
} from '../log/format.ts';
import { createSuperblock, readSuperblock, SUPERBLOCK_PATH } from '../log/superblock.ts';
import {
  type CheckEnvironment,
  checkStore,
  checkSuperblock,
  type Scratch,
  temporaryScratch,
} from './check.ts';
import { checkOffline } from './check-offline.ts';
import { type Catalog, type Change, fullName, type Snapshot, type Volume } from './catalog.ts';
import type { BlockDevice } from './device.ts';
import { Disk } from './disk.ts';
import type { OpenDatabase } from './index-builder.ts';
import { IndexKeeper } from './index-keeper.ts';
import { checkName, checkVolumeSize, splitSnapshotName } from './names.ts';
import { type Recovered, recover } from './recovery.ts';
import type { Finding, StoreStatus, VersionSummary } from './summary.ts';
import { VersionDevice } from './version-device.ts';

export const CACHE_BYTES_DEFAULT = 256 << 20;
const LOCK_PATH = 'store.lock';
/** What only a store has. */
const STORE_PARTS = /^(superblock|index|\d{10}\.seg)$/;

export interface InitOptions {
  /** Bytes of a segment file: a power of two from 1 MiB to 1 GiB; default 64 MiB. */
  segmentBytes?: number | undefined;
  /** Bytes that all segment files together may take; default unlimited. */
  capacityBytes?: number | undefined;
}

/** Held by whoever has the store open. */
export interface StoreLock {
  readonly owner: Owner;
  release(): void;
}

export interface OpenOptions {
  /** Bound of pages in memory, in bytes; default 256 MiB. */
  cacheBytes?: number | undefined;
  logger?: Logger | undefined;
  /** What a test puts in the place of the machine. */
  clock?: Clock | undefined;
  storage?: Storage | undefined;
  openDatabase?: OpenDatabase | undefined;
  acquireLock?: ((file: string, since: number) => StoreLock) | undefined;
  makeScratch?: (() => Scratch) | undefined;
}

/** LevelDB as the index uses it. Values are packed already, and checked by us. */
export async function openLevel(location: string): Promise<IndexDatabase> {
  const database = new Level<Buffer, Buffer>(location, {
    keyEncoding: 'buffer',
    valueEncoding: 'buffer',
    compression: false,
    cacheSize: 16 << 20,
    writeBufferSize: 8 << 20,
    maxFileSize: 8 << 20,
  } as object);
  await database.open();
  return database as unknown as IndexDatabase;
}

export class Store {
  readonly directory: string;
  readonly #lock: StoreLock;
  readonly #clock: Clock;
  readonly #recovered: Recovered;
  readonly #keeper: IndexKeeper;
  readonly #cache: PageCache;
  readonly #changes: Mutex;
  readonly #environment: CheckEnvironment;
  /** Disks in use, by UUID of volume or snapshot. */
  readonly #disks = new Map<string, Disk>();
  #closing: Promise<void> | undefined;

  private constructor(
    directory: string,
    lock: StoreLock,
    clock: Clock,
    recovered: Recovered,
    keeper: IndexKeeper,
    cache: PageCache,
    changes: Mutex,
    environment: CheckEnvironment,
  ) {
    this.directory = directory;
    this.#lock = lock;
    this.#clock = clock;
    this.#recovered = recovered;
    this.#keeper = keeper;
    this.#cache = cache;
    this.#changes = changes;
    this.#environment = environment;
  }

  /**
   * Makes a store in `directory`, which is made if it is missing, and must hold nothing of a store.
   * @throws ALREADY_EXISTS, INVALID_ARGUMENT, IO, NO_SPACE
   */
  static async init(directory: string, options: InitOptions = {}): Promise<void> {
    const segmentBytes = options.segmentBytes ?? SEGMENT_BYTES_DEFAULT;
    const capacityBytes = options.capacityBytes ?? 0;
    checkGeometry(segmentBytes, options.capacityBytes);
    const storage = new NodeStorage(directory);
    // What a crash in the middle of this leaves (a lock, an empty log) is no store yet.
    const present = [...(await storage.list('.')), ...(await storage.list('log'))];
    if (present.some((name) => STORE_PARTS.test(name))) {
      throw new StoreError('ALREADY_EXISTS', `${directory} holds a store already`);
    }
    await storage.makeDirectory('.');
    await new NodeStorage(path.dirname(path.resolve(directory))).syncDirectory('.');
    const lock = OwnerLock.acquire(path.join(directory, LOCK_PATH), Date.now());
    try {
      await storage.makeDirectory('log');
      const now = Date.now();
      const uuid = Buffer.from(randomUUID().replaceAll('-', ''), 'hex');
      const first = { sequences: 1, appends: 1, labels: 1, segments: 1 };
      await createSuperblock(storage, {
        ...first,
        generation: 1,
        uuid,
        segmentBytes,
        epoch: 0,
        capacityBytes,
        created: now,
      });
      await storage.syncDirectory('.');
    } finally {
      lock.release();
    }
  }

  /**
   * Opens a store for this process alone, recovering it if need be.
   * @throws NOT_A_STORE, LOCKED (naming the owner), UNSUPPORTED_FORMAT, CORRUPTION, IO, NO_SPACE
   */
  static async open(directory: string, options: OpenOptions = {}): Promise<Store> {
    const clock = options.clock ?? systemClock;
    const storage = options.storage ?? new NodeStorage(directory);
    if (options.storage === undefined && !fs.existsSync(path.join(directory, SUPERBLOCK_PATH))) {
      throw new StoreError('NOT_A_STORE', `${directory} holds no store; make one with \`coppice init\``);
    }
    const acquireLock =
      options.acquireLock ?? ((file: string, since: number) => OwnerLock.acquire(file, since));
    const lock = acquireLock(path.join(directory, LOCK_PATH), clock.now());
    try {
      const superblock = await readSuperblock(storage);
      const cacheBytes = options.cacheBytes ?? CACHE_BYTES_DEFAULT;
      const environment = {
        storage,
        uuid: superblock.uuid,
        cacheBytes,
        openDatabase: options.openDatabase ?? openLevel,
        logger: options.logger ?? silentLogger,
        clock,
        makeScratch: options.makeScratch ?? temporaryScratch,
      };
      const recovered = await recover(environment, superblock);
      const changes = new Mutex();
      const { index, overlays, log, catalog } = recovered;
      const between = <T>(step: () => Promise<T>): Promise<T> => changes.run(step);
      const emptied = (segments: readonly number[]): void => {
        for (const segment of segments) {
          recovered.files.dropCached(segment).catch((error: unknown) => {
            environment.logger.warn({ err: error, segment }, 'the cache of a dead segment was not dropped');
          });
        }
      };
      const { catalogSequence } = recovered;
      const keeper = new IndexKeeper(
        environment,
        index,
        overlays,
        log,
        catalog,
        catalogSequence,
        between,
        emptied,
      );
      const cache = new PageCache(cacheBytes);
      const store = new Store(
        path.resolve(directory),
        lock,
        clock,
        recovered,
        keeper,
        cache,
        changes,
        environment,
      );
      if (recovered.isRebuilt) {
        await keeper.checkpointIfRoom().catch(async (error: unknown) => {
          await store.close();
          throw error;
        });
      }
      return store;
    } catch (error) {
      lock.release();
      throw error;
    }
  }

  get #catalog(): Catalog {
    return this.#recovered.catalog;
  }

  /** Sequence of the last entry that opening the store found: nothing behind it was recovered. */
  get cut(): number {
    return this.#recovered.cut;
  }

  /** Makes an empty volume. @throws INVALID_ARGUMENT, ALREADY_EXISTS, NO_SPACE, IO, POISONED */
  async createVolume(name: string, sizeBytes: number): Promise<VersionSummary> {
    checkName(name, 'volume');
    checkVolumeSize(sizeBytes);
    await this.#change(1, () => {
      this.#checkNewVolume(name);
      const [volume, at, label] = [randomUUID(), this.#clock.now(), this.#takeLabel()];
      return { op: 'create', at, volume, name, size: sizeBytes, label };
    });
    return this.show(name);
  }

  /**
   * Freezes volumes under names, `volume@name` each, in one record: writes answered before are in all of the
   * snapshots, writes that come after the answer in none. @throws as createVolume, NOT_FOUND
   */
  async snapshot(names: readonly string[]): Promise<VersionSummary[]> {
    const wanted = names.map(splitSnapshotName);
    if (wanted.length === 0) throw new StoreError('INVALID_ARGUMENT', 'name at least one VOLUME@NAME');
    await this.#change(wanted.length, () => {
      const volumes = wanted.map(({ volume }) => this.#catalog.find(volume) as Volume);
      if (new Set(volumes).size < volumes.length) {
        throw new StoreError('INVALID_ARGUMENT', 'a volume can be named only once in a snapshot');
      }
      wanted.forEach(({ snapshot }, i) => {
        if (!volumes[i]!.snapshots.has(snapshot)) return;
        throw new StoreError('ALREADY_EXISTS', `there is a snapshot ${JSON.stringify(names[i])} already`);
      });
      const cuts = wanted.map(({ snapshot: name }, i) => {
        return { volume: volumes[i]!.uuid, snapshot: randomUUID(), name, label: this.#takeLabel() };
      });
      return { op: 'snapshot', at: this.#clock.now(), cuts };
    });
    return names.map((name) => this.show(name));
  }

  /** Makes a volume that begins as the snapshot `source` is. @throws as createVolume, NOT_FOUND */
  async clone(source: string, name: string): Promise<VersionSummary> {
    splitSnapshotName(source);
    checkName(name, 'volume');
    await this.#change(1, () => {
      const snapshot = this.#catalog.find(source) as Snapshot;
      this.#checkNewVolume(name);
      const { label: from, sizeBytes: size } = snapshot;
      const [volume, at, label] = [randomUUID(), this.#clock.now(), this.#takeLabel()];
      return { op: 'clone', at, from, volume, name, size, label };
    });
    return this.show(name);
  }

  #checkNewVolume(name: string): void {
    if (!this.#catalog.hasVolume(name)) return;
    throw new StoreError(
      'ALREADY_EXISTS',
      `there is a volume ${JSON.stringify(name)} already; choose another name`,
    );
  }

  #takeLabel(): number {
    return this.#recovered.numbers.take('labels');
  }

  /** Decides a change that makes `labels` versions, appends it, and applies it in the step in which the log has it. */
  async #change(labels: number, decide: () => Change): Promise<void> {
    await this.#changes.run(async () => {
      this.#checkOpen();
      const { numbers, log, catalog } = this.#recovered;
      await numbers.reserve('labels', labels);
      const change = decide();
      const owner = new AppendPromise((append) => {
        catalog.apply(change, append.sequence);
        if (change.op === 'snapshot') {
          for (const cut of change.cuts) this.#disks.get(cut.volume)?.moveTo(cut.label);
        }
      });
      log.submit(Append.change(owner, JSON.stringify(change)));
      await owner.promise;
    });
  }

  #checkOpen(): void {
    if (this.#closing !== undefined) throw new StoreError('CLOSED', 'the store is closed');
  }

  /** All volumes, each followed by its snapshots, oldest first. */
  list(): VersionSummary[] {
    const volumes = this.#catalog.volumes().sort((a, b) => (a.name < b.name ? -1 : 1));
    return volumes
      .flatMap((volume) => [volume, ...volume.snapshots.values()])
      .map((each) => this.#summary(each));
  }

  /** A volume or `volume@snapshot`. @throws NOT_FOUND */
  show(name: string): VersionSummary {
    return this.#summary(this.#catalog.find(name));
  }

  #summary(of: Volume | Snapshot): VersionSummary {
    const above = this.#catalog.snapshotAbove(of.label);
    return {
      name: fullName(of),
      kind: 'volume' in of ? 'snapshot' : 'volume',
      uuid: of.uuid,
      size: of.sizeBytes,
      created: new Date(of.created).toISOString(),
      parent: above === undefined ? null : fullName(above),
    };
  }

  /** Opens a volume to read and write, or a snapshot to read; `release` it when done. @throws NOT_FOUND, CLOSED */
  device(name: string): BlockDevice {
    this.#checkOpen();
    const found = this.#catalog.find(name);
    let disk = this.#disks.get(found.uuid);
    if (disk === undefined) {
      const { tree } = this.#catalog;
      const environment = { log: this.#recovered.log, files: this.#recovered.files, keeper: this.#keeper };
      const path = tree.path(found.label);
      disk = new Disk(
        environment,
        new PageTable(this.#cache),
        found.sizeBytes,
        tree.get(found.label)!.tree,
        path,
      );
      this.#disks.set(found.uuid, disk);
    }
    disk.users += 1;
    const opened = disk;
    return new VersionDevice(opened, fullName(found), 'volume' in found, () => {
      opened.users -= 1;
      this.#letGo(found.uuid, opened);
    });
  }

  /** Forgets a disk that nobody uses, once its last write is in: until then its pages must follow. */
  #letGo(uuid: string, disk: Disk): void {
    if (disk.users > 0 || this.#disks.get(uuid) !== disk) return;
    disk.whenIdle(() => {
      if (disk.users > 0 || this.#disks.get(uuid) !== disk) return;
      this.#disks.delete(uuid);
      disk.close();
    });
  }

  /** All that was answered before this call is on the disk when it resolves. @throws IO, POISONED */
  flush(): Promise<void> {
    return this.#recovered.log.flush();
  }

  /** Brings the index up to the log. @throws IO, POISONED */
  checkpoint(): Promise<void> {
    return this.#keeper.checkpoint();
  }

  /** Live bytes are those of the checkpoint that this makes, if anything has changed and there is room for it. */
  async status(): Promise<StoreStatus> {
    const { log, numbers, supply } = this.#recovered;
    if (log.poison === undefined) await this.#keeper.checkpointIfRoom();
    const { superblock } = numbers;
    const { index } = this.#keeper;
    return {
      uuid: formatUuid(superblock.uuid),
      formatRevision: FORMAT_REVISION,
      owner: this.#lock.owner,
      volumes: this.#catalog.volumes().length,
      snapshots: this.#catalog.snapshotCount,
      segments: supply.usedCount,
      segmentBytes: superblock.segmentBytes,
      capacityBytes: superblock.capacityBytes || null,
      logBytes: Math.max(0, supply.usedCount - 1) * superblock.segmentBytes + log.position.offset,
      liveBytes: index.usage.liveChunks * CHUNK_BYTES,
      lastCheckpoint: {
        generation: index.checkpoint.generation,
        at: index.checkpoint.at === 0 ? null : new Date(index.checkpoint.at).toISOString(),
      },
      cache: { usedBytes: this.#cache.usedBytes + index.usedBytes, boundBytes: this.#cache.boundBytes },
      state: log.poison === undefined ? 'open' : 'poisoned',
    };
  }

  /** Checks the whole store as of now, while it goes on working. */
  async *check(): AsyncGenerator<Finding> {
    await this.flush();
    yield* checkSuperblock(this.#environment.storage);
    const findings: Finding[] = [];
    await this.#keeper.holding(async (index) => {
      const until = index.checkpoint.append;
      const checked = { view: { index, overlay: undefined }, until, follow: () => undefined };
      for await (const finding of checkStore(this.#environment, checked)) findings.push(finding);
    });
    yield* findings;
  }

  /** Checks a store that nobody has open. @throws NOT_A_STORE, LOCKED, UNSUPPORTED_FORMAT, CORRUPTION */
  static check(directory: string): AsyncGenerator<Finding> {
    return checkOffline(directory, LOCK_PATH, openLevel);
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
    try {
      await this.#changes.run(async () => undefined);
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

function checkGeometry(segmentBytes: number, capacityBytes: number | undefined): void {
  const isPowerOfTwo = Number.isSafeInteger(segmentBytes) && Number.isInteger(Math.log2(segmentBytes));
  if (!isPowerOfTwo || segmentBytes < SEGMENT_BYTES_MIN || segmentBytes > SEGMENT_BYTES_MAX) {
    throw new StoreError('INVALID_ARGUMENT', 'the segment size must be a power of two from 1 MiB to 1 GiB');
  }
  if (capacityBytes === undefined) return;
  if (!Number.isSafeInteger(capacityBytes) || capacityBytes < 4 * segmentBytes) {
    throw new StoreError('INVALID_ARGUMENT', 'the capacity must be at least four segments');
  }
}

function formatUuid(uuid: Buffer): string {
  const hex = uuid.toString('hex');
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join('-');
}
