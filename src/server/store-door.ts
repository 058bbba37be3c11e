/**
 * The door of a store that this process has open. See door.ts for what it promises.
 */

import { StoreError } from '../base/errors.ts';
import type { CompactionEstimate, CompactionProgress, ThoroughOptions } from '../compaction/thorough.ts';
import type { AllocationRun, BlockDevice } from '../volume/device.ts';
import type { FeedRequest } from '../volume/feed-changes.ts';
import type {
  DiffExtent,
  FeedSummary,
  Finding,
  PruneDecision,
  ReceiveSummary,
  ScheduleSummary,
  ScrubStep,
  StatusOptions,
  StoreStatus,
  VersionSummary,
  VersionWithSpace,
} from '../volume/summary.ts';
import type { StreamHead } from '../delta/head.ts';
import type { ScheduleSettings } from '../schedule/schedule.ts';
import type { ReceiveBegun } from '../volume/receives.ts';
import type { PruneOptions } from '../volume/schedules.ts';
import type { Demoted, DemoteOptions } from '../volume/roles.ts';
import type { ScrubOptions } from '../volume/scrub.ts';
import type { HoldOptions } from '../volume/version-changes.ts';
import type { DeleteOptions, ResizeOptions, RollbackOptions } from '../volume/version-removal.ts';
import {
  ALLOCATION_RUNS_MAX,
  type Disk,
  type Door,
  type FeedDoor,
  PIECE_BYTES_MAX,
  type ReceiveDoor,
  type RolledBack,
  type ScheduleDoor,
  type Run,
  RUNS_MAX,
  type SpaceReport,
} from './door.ts';
import type { Scheduler } from './scheduler.ts';

/** What a door needs of the store: `Store` has it, and so has the one in memory that tests use. */
export interface OpenStore {
  createVolume(name: string, sizeBytes: number): Promise<VersionSummary>;
  snapshot(names: readonly string[]): Promise<VersionSummary[]>;
  clone(source: string, volume: string): Promise<VersionSummary>;
  delete(names: readonly string[], options: DeleteOptions): Promise<string[]>;
  rollback(name: string, options: RollbackOptions): Promise<RolledBack>;
  rename(name: string, to: string): Promise<VersionSummary>;
  resize(name: string, sizeBytes: number, options: ResizeOptions): Promise<VersionSummary>;
  hold(name: string, options: HoldOptions): Promise<VersionSummary>;
  release(name: string, owner: string): Promise<VersionSummary>;
  setPriority(name: string, priority: number): Promise<VersionSummary>;
  list(): VersionSummary[];
  names(): readonly string[];
  listWithSpace(options: { ghosts?: boolean | undefined }): Promise<VersionWithSpace[]>;
  space(names: readonly string[]): Promise<SpaceReport>;
  diff(from: string, to: string): AsyncGenerator<DiffExtent>;
  show(name: string): VersionSummary;
  status(options?: StatusOptions): Promise<StoreStatus>;
  device(name: string): BlockDevice;
  readonly roles: {
    promote(name: string): Promise<VersionSummary>;
    demote(name: string, options: DemoteOptions): Promise<Demoted>;
  };
  readonly receives: {
    begin(head: StreamHead, name: string): Promise<ReceiveBegun>;
    apply(session: string, body: Buffer): Promise<void>;
    advance(session: string, position: number): Promise<void>;
    publish(session: string): Promise<string>;
    abort(receive: string): Promise<void>;
    list(): ReceiveSummary[];
  };
  readonly schedules: {
    set(volume: string, settings: ScheduleSettings | null): Promise<ScheduleSummary | null>;
    list(): ScheduleSummary[];
    prune(options: PruneOptions): Promise<PruneDecision[]>;
  };
  readonly feeds: {
    list(): FeedSummary[];
    add(request: FeedRequest): Promise<FeedSummary>;
    remove(id: string, direction: FeedSummary['direction']): Promise<void>;
    pause(id: string, isPaused: boolean, direction: FeedSummary['direction']): Promise<FeedSummary>;
    run(id: string, direction: FeedSummary['direction']): FeedSummary | Promise<FeedSummary>;
  };
  flush(): Promise<void>;
  check(options?: { quick?: boolean | undefined }): AsyncGenerator<Finding>;
  scrub(options: ScrubOptions, signal?: AbortSignal): AsyncGenerator<ScrubStep>;
  estimateCompaction(options: ThoroughOptions): Promise<CompactionEstimate>;
  compact(options: ThoroughOptions): AsyncGenerator<CompactionProgress>;
  pauseCompaction(isPaused: boolean): Promise<void>;
  close(): Promise<void>;
}

export class StoreDoor implements Door {
  readonly #store: OpenStore;
  readonly #scheduler: Pick<Scheduler, 'wake' | 'withProgress'> | undefined;

  /** `scheduler`: who makes the snapshots that schedules want, where somebody does. */
  constructor(store: OpenStore, scheduler?: Pick<Scheduler, 'wake' | 'withProgress'>) {
    this.#store = store;
    this.#scheduler = scheduler;
  }

  create(name: string, sizeBytes: number): Promise<VersionSummary> {
    return this.#store.createVolume(name, sizeBytes);
  }

  snapshot(names: readonly string[]): Promise<VersionSummary[]> {
    return this.#store.snapshot(names);
  }

  clone(source: string, volume: string): Promise<VersionSummary> {
    return this.#store.clone(source, volume);
  }

  delete(names: readonly string[], options: DeleteOptions): Promise<string[]> {
    return this.#store.delete(names, options);
  }

  rollback(name: string, options: RollbackOptions): Promise<RolledBack> {
    return this.#store.rollback(name, options);
  }

  promote(name: string): Promise<VersionSummary> {
    return this.#store.roles.promote(name);
  }

  demote(name: string, options: DemoteOptions): Promise<Demoted> {
    return this.#store.roles.demote(name, options);
  }

  rename(name: string, to: string): Promise<VersionSummary> {
    return this.#store.rename(name, to);
  }

  resize(name: string, sizeBytes: number, options: ResizeOptions): Promise<VersionSummary> {
    return this.#store.resize(name, sizeBytes, options);
  }

  hold(name: string, options: HoldOptions): Promise<VersionSummary> {
    return this.#store.hold(name, options);
  }

  release(name: string, owner: string): Promise<VersionSummary> {
    return this.#store.release(name, owner);
  }

  setPriority(name: string, priority: number): Promise<VersionSummary> {
    return this.#store.setPriority(name, priority);
  }

  listWithSpace(options: { ghosts?: boolean | undefined }): Promise<VersionWithSpace[]> {
    return this.#store.listWithSpace(options);
  }

  space(names: readonly string[]): Promise<SpaceReport> {
    return this.#store.space(names);
  }

  diff(from: string, to: string): AsyncGenerator<DiffExtent> {
    return this.#store.diff(from, to);
  }

  flush(): Promise<void> {
    return this.#store.flush();
  }

  async list(): Promise<VersionSummary[]> {
    return this.#store.list();
  }

  async show(name: string): Promise<VersionSummary> {
    return this.#store.show(name);
  }

  async status(options?: StatusOptions): Promise<StoreStatus> {
    const status = await this.#store.status(options);
    return { ...status, schedules: status.schedules.map((each) => this.#withProgress(each)) };
  }

  check(options: { quick?: boolean | undefined } = {}): AsyncGenerator<Finding> {
    return this.#store.check(options);
  }

  scrub(options: ScrubOptions, signal?: AbortSignal): AsyncGenerator<ScrubStep> {
    return this.#store.scrub(options, signal);
  }

  estimateCompaction(options: ThoroughOptions): Promise<CompactionEstimate> {
    return this.#store.estimateCompaction(options);
  }

  compact(options: ThoroughOptions): AsyncGenerator<CompactionProgress> {
    return this.#store.compact(options);
  }

  pauseCompaction(isPaused: boolean): Promise<void> {
    return this.#store.pauseCompaction(isPaused);
  }

  get receives(): ReceiveDoor {
    const { receives } = this.#store;
    return {
      begin: (head, name) => receives.begin(head, name),
      apply: (session, body) => receives.apply(session, body),
      advance: (session, position) => receives.advance(session, position),
      publish: (session) => receives.publish(session),
      abort: (receive) => receives.abort(receive),
      list: async () => receives.list(),
    };
  }

  get schedules(): ScheduleDoor {
    const { schedules } = this.#store;
    return {
      set: async (volume, settings) => {
        const summary = await schedules.set(volume, settings);
        this.#scheduler?.wake();
        return summary === null ? null : this.#withProgress(summary);
      },
      list: async () => schedules.list().map((each) => this.#withProgress(each)),
      prune: (options) => schedules.prune(options),
    };
  }

  #withProgress(summary: ScheduleSummary): ScheduleSummary {
    return this.#scheduler?.withProgress(summary) ?? summary;
  }

  get feeds(): FeedDoor {
    const { feeds } = this.#store;
    return {
      list: async () => feeds.list(),
      add: (request) => feeds.add(request),
      remove: (id, direction) => feeds.remove(id, direction),
      pause: (id, isPaused, direction) => feeds.pause(id, isPaused, direction),
      run: async (id, direction) => await feeds.run(id, direction),
    };
  }

  async disk(name: string): Promise<Disk> {
    return new DeviceDisk(this.#store.device(name));
  }

  /** Closes the store. */
  close(): Promise<void> {
    return this.#store.close();
  }
}

/** A block device behind promises, with its ranges checked. */
class DeviceDisk implements Disk {
  readonly #device: BlockDevice;

  constructor(device: BlockDevice) {
    this.#device = device;
    device.attach(() => undefined); // every request finds out by itself
  }

  get name(): string {
    return this.#device.name;
  }

  get sizeBytes(): number {
    return this.#device.sizeBytes;
  }

  get readOnly(): boolean {
    return this.#device.readOnly;
  }

  async read(offset: number, lengthBytes: number, into?: Buffer): Promise<Buffer> {
    this.#checkRange(offset, lengthBytes);
    checkPiece(lengthBytes);
    const target = into?.subarray(0, lengthBytes) ?? Buffer.allocUnsafe(lengthBytes);
    if (lengthBytes > 0) await this.#device.read(target, 0, offset, lengthBytes);
    return target;
  }

  async readRuns(runs: readonly Run[], into?: Buffer): Promise<Buffer> {
    if (runs.length > RUNS_MAX)
      throw new StoreError(
        'INVALID_ARGUMENT',
        `${runs.length} ranges at once are too many: ${RUNS_MAX} is the limit`,
      );
    let bytes = 0;
    for (const [offset, lengthBytes] of runs) {
      this.#checkRange(offset, lengthBytes);
      bytes += lengthBytes;
    }
    checkPiece(bytes);
    const target = into?.subarray(0, bytes) ?? Buffer.allocUnsafe(bytes);
    await this.#device.readRuns(target, runs);
    return target;
  }

  async write(offset: number, slices: readonly Buffer[]): Promise<void> {
    let lengthBytes = 0;
    for (const slice of slices) lengthBytes += slice.length;
    this.#checkWritable();
    this.#checkRange(offset, lengthBytes);
    checkPiece(lengthBytes);
    if (lengthBytes === 0) return;
    await new Promise<void>((resolve, reject) => {
      this.#device.write({
        offset,
        lengthBytes,
        slices,
        forceUnitAccess: false,
        complete: (error) => (error === undefined ? resolve() : reject(error)),
      });
    });
  }

  async zero(offset: number, lengthBytes: number): Promise<void> {
    this.#checkWritable();
    this.#checkRange(offset, lengthBytes);
    if (lengthBytes > 0) await this.#device.zero(offset, lengthBytes, false);
  }

  async allocation(offset: number, lengthBytes: number): Promise<AllocationRun[]> {
    this.#checkRange(offset, lengthBytes);
    return lengthBytes === 0 ? [] : await this.#device.allocation(offset, lengthBytes, ALLOCATION_RUNS_MAX);
  }

  flush(): Promise<void> {
    return this.#device.flush();
  }

  release(): void {
    this.#device.release();
  }

  #checkRange(offset: number, lengthBytes: number): void {
    if (isPosition(offset) && isPosition(lengthBytes) && offset + lengthBytes <= this.sizeBytes) return;
    throw new StoreError(
      'INVALID_ARGUMENT',
      `${lengthBytes} bytes at ${offset} are not inside '${this.name}', which has ${this.sizeBytes} bytes`,
    );
  }

  #checkWritable(): void {
    if (this.readOnly)
      throw new StoreError(
        'READ_ONLY',
        `'${this.name}' cannot be written: it is a snapshot or a replica, or the store is open read-only`,
      );
  }
}

function isPosition(value: number): boolean {
  return Number.isSafeInteger(value) && value >= 0;
}

function checkPiece(lengthBytes: number): void {
  if (lengthBytes <= PIECE_BYTES_MAX) return;
  throw new StoreError(
    'INVALID_ARGUMENT',
    `${lengthBytes} bytes at once are too many: the limit is ${PIECE_BYTES_MAX}`,
  );
}
