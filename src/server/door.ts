/**
 * A door to a store: what can be done with it from outside, whoever has it open. Types only.
 *
 * Two implementations that must not differ (one test suite runs over both): `StoreDoor`, in the process that has
 * the store open, and `ControlClient`, through that process's control socket.
 *
 * Invariants:
 * - what a change answered survives the process; it is on the disk when a `flush` that came later is answered (a hold
 *   is there at once);
 * - every failure of the store is a StoreError with the store's code;
 * - ranges are checked here: an offset or length outside the disk is INVALID_ARGUMENT, never a programmer's mistake.
 */

import type { CompactionEstimate, CompactionProgress, ThoroughOptions } from '../compaction/thorough.ts';
import type { StreamHead } from '../delta/head.ts';
import type { AllocationRun, Run } from '../volume/device.ts';
import type { FeedRequest } from '../volume/feed-changes.ts';
import type {
  DiffExtent,
  FeedSummary,
  Finding,
  PruneDecision,
  ReceiveSummary,
  ScheduleSummary,
  ScrubStep,
  SpaceUse,
  StatusOptions,
  StoreStatus,
  VersionSummary,
  VersionWithSpace,
} from '../volume/summary.ts';
import type { ScheduleSettings } from '../schedule/schedule.ts';
import type { ReceiveBegun } from '../volume/receives.ts';
import type { PruneOptions } from '../volume/schedules.ts';
import type { Demoted, DemoteOptions } from '../volume/roles.ts';
import type { ScrubOptions } from '../volume/scrub.ts';
import type { HoldOptions } from '../volume/version-changes.ts';
import type { DeleteOptions, ResizeOptions, RollbackOptions } from '../volume/version-removal.ts';

export type { Run } from '../volume/device.ts';

/** What versions take up, and what would come back if all of them were deleted. Bytes. */
export interface SpaceReport {
  versions: ({ name: string } & SpaceUse)[];
  reclaimable: number;
}

export interface RolledBack {
  volume: VersionSummary;
  /** The automatic snapshot of what it was before; null if that was nothing new. */
  saved: string | null;
}

export interface Door {
  create(name: string, sizeBytes: number): Promise<VersionSummary>;
  /** Snapshots of one or several volumes (`volume@name` each) at one moment. */
  snapshot(names: readonly string[]): Promise<VersionSummary[]>;
  clone(source: string, volume: string): Promise<VersionSummary>;
  /** Deletes all or none; answers the names of what is gone. @throws HELD, HAS_SNAPSHOTS, IN_USE */
  delete(names: readonly string[], options: DeleteOptions): Promise<string[]>;
  rollback(name: string, options: RollbackOptions): Promise<RolledBack>;
  /** A replica becomes a volume that is written. */
  promote(name: string): Promise<VersionSummary>;
  /** A volume becomes a replica. @throws IN_USE */
  demote(name: string, options: DemoteOptions): Promise<Demoted>;
  rename(name: string, to: string): Promise<VersionSummary>;
  /** @throws WOULD_LOSE_DATA */
  resize(name: string, sizeBytes: number, options: ResizeOptions): Promise<VersionSummary>;
  hold(name: string, options: HoldOptions): Promise<VersionSummary>;
  release(name: string, owner: string): Promise<VersionSummary>;
  setPriority(name: string, priority: number): Promise<VersionSummary>;
  list(): Promise<VersionSummary[]>;
  /** The list with what each version takes up, which has to be counted. */
  listWithSpace(options: { ghosts?: boolean | undefined }): Promise<VersionWithSpace[]>;
  space(names: readonly string[]): Promise<SpaceReport>;
  /** Extents in which `to` differs from `from`, in order. */
  diff(from: string, to: string): AsyncGenerator<DiffExtent>;
  /** All that was answered before is on the disk. */
  flush(): Promise<void>;
  /** @throws NOT_FOUND */
  show(name: string): Promise<VersionSummary>;
  status(options?: StatusOptions): Promise<StoreStatus>;
  /** `quick`: without what chunks hold. */
  check(options?: { quick?: boolean | undefined }): AsyncGenerator<Finding>;
  /** Reads all of the log at a pace, and verifies it; `signal` ends that with its reason. @throws IN_USE, IO */
  scrub(options: ScrubOptions, signal?: AbortSignal): AsyncGenerator<ScrubStep>;
  /** What `compact` would do. @throws INVALID_ARGUMENT, IO, NO_SPACE */
  estimateCompaction(options: ThoroughOptions): Promise<CompactionEstimate>;
  /** Compacts the whole store; tells again and again how far it is. */
  compact(options: ThoroughOptions): AsyncGenerator<CompactionProgress>;
  /** Whether compaction begins by itself when it is due; until the store is opened again. */
  pauseCompaction(isPaused: boolean): Promise<void>;
  readonly receives: ReceiveDoor;
  readonly schedules: ScheduleDoor;
  readonly feeds: FeedDoor;
  /** @throws NOT_FOUND. Call `release` on the answer when done. */
  disk(name: string): Promise<Disk>;
  close(): Promise<void>;
}

/** See volume/schedules.ts. Snapshots are made by a server only. */
export interface ScheduleDoor {
  /** Null ends the schedule of a volume. @throws NOT_FOUND, INVALID_ARGUMENT */
  set(volume: string, settings: ScheduleSettings | null): Promise<ScheduleSummary | null>;
  list(): Promise<ScheduleSummary[]>;
  /** Thins now; answers what was decided of each snapshot. @throws NOT_FOUND, INVALID_ARGUMENT */
  prune(options: PruneOptions): Promise<PruneDecision[]>;
}

/** Versions on their way in; see volume/receives.ts. */
export interface ReceiveDoor {
  /** `name` is VOLUME or VOLUME@NAME. @throws WRONG_BASE, ALREADY_EXISTS */
  begin(head: StreamHead, name: string): Promise<ReceiveBegun>;
  /** Takes the unpacked body of a frame of changes. @throws CORRUPTION, NO_SPACE */
  apply(session: string, body: Buffer): Promise<void>;
  /** Keeps that the stream is in up to `position`: bytes of the disk. On the disk when it resolves. */
  advance(session: string, position: number): Promise<void>;
  /** Gives it its name, which is answered; on the disk when it resolves. */
  publish(session: string): Promise<string>;
  abort(receive: string): Promise<void>;
  list(): Promise<ReceiveSummary[]>;
}

/** What is replicated; see volume/feed-changes.ts. */
export interface FeedDoor {
  list(): Promise<FeedSummary[]>;
  /** @throws INVALID_ARGUMENT, NOT_FOUND, ALREADY_EXISTS */
  add(request: FeedRequest): Promise<FeedSummary>;
  /** @throws NOT_FOUND, also where it is one of the other direction: so below */
  remove(id: string, direction: FeedSummary['direction']): Promise<void>;
  /** @throws NOT_FOUND */
  pause(id: string, isPaused: boolean, direction: FeedSummary['direction']): Promise<FeedSummary>;
  /** Begins a run now. @throws NOT_FOUND, INVALID_ARGUMENT where nobody serves the store */
  run(id: string, direction: FeedSummary['direction']): Promise<FeedSummary>;
}

/** The bytes of a volume (writable) or a snapshot. Offsets and lengths are bytes, any alignment. */
export interface Disk {
  readonly name: string;
  readonly sizeBytes: number;
  readonly readOnly: boolean;
  /** At most `PIECE_BYTES_MAX` at a time. The answer may lie in `into`, which is as long or longer; or elsewhere. */
  read(offset: number, lengthBytes: number, into?: Buffer): Promise<Buffer>;
  /**
   * The bytes of several ranges, in order, one behind the other: so many, and so many bytes as one answer may have. They may lie in
   * `into`, as `read` says.
   */
  readRuns(runs: readonly Run[], into?: Buffer): Promise<Buffer>;
  /** At most `PIECE_BYTES_MAX` at a time; the buffers must not change until it settles. @throws READ_ONLY, NO_SPACE */
  write(offset: number, slices: readonly Buffer[]): Promise<void>;
  /** Makes the range read as zeros, however long. @throws READ_ONLY */
  zero(offset: number, lengthBytes: number): Promise<void>;
  /** Runs from `offset` on; covers at least one byte, and may stop before `lengthBytes`. */
  allocation(offset: number, lengthBytes: number): Promise<AllocationRun[]>;
  flush(): Promise<void>;
  release(): void;
}

/** The most ranges that are read at once. */
export const RUNS_MAX = 4096;
/** The most bytes that travel at once: bounds the memory of a server, however many clients it has. */
export const PIECE_BYTES_MAX = 32 * 2 ** 20;
/** The most runs that one `allocation` answers. */
export const ALLOCATION_RUNS_MAX = 4096;
