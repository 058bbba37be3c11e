/**
 * A door to a store: what can be done with it from outside, whoever has it open. Types only.
 *
 * Two implementations that must not differ (one test suite runs over both): `StoreDoor`, in the process that has
 * the store open, and `ControlClient`, through that process's control socket.
 *
 * Invariants:
 * - what `create`, `snapshot` and `clone` answered is on the disk;
 * - every failure of the store is a StoreError with the store's code;
 * - ranges are checked here: an offset or length outside the disk is INVALID_ARGUMENT, never a programmer's mistake.
 */

import type { AllocationRun } from '../volume/device.ts';
import type { Finding, StoreStatus, VersionSummary } from '../volume/summary.ts';

export interface Door {
  create(name: string, sizeBytes: number): Promise<VersionSummary>;
  /** Snapshots of one or several volumes (`volume@name` each) at one moment. */
  snapshot(names: readonly string[]): Promise<VersionSummary[]>;
  clone(source: string, volume: string): Promise<VersionSummary>;
  list(): Promise<VersionSummary[]>;
  /** @throws NOT_FOUND */
  show(name: string): Promise<VersionSummary>;
  status(): Promise<StoreStatus>;
  check(): AsyncGenerator<Finding>;
  /** @throws NOT_FOUND. Call `release` on the answer when done. */
  disk(name: string): Promise<Disk>;
  close(): Promise<void>;
}

/** The bytes of a volume (writable) or a snapshot. Offsets and lengths are bytes, any alignment. */
export interface Disk {
  readonly name: string;
  readonly sizeBytes: number;
  readonly readOnly: boolean;
  /** At most `PIECE_BYTES_MAX` at a time. */
  read(offset: number, lengthBytes: number): Promise<Buffer>;
  /** At most `PIECE_BYTES_MAX` at a time; the buffers must not change until it settles. @throws READ_ONLY, NO_SPACE */
  write(offset: number, slices: readonly Buffer[]): Promise<void>;
  /** Makes the range read as zeros, however long. @throws READ_ONLY */
  zero(offset: number, lengthBytes: number): Promise<void>;
  /** Runs from `offset` on; covers at least one byte, and may stop before `lengthBytes`. */
  allocation(offset: number, lengthBytes: number): Promise<AllocationRun[]>;
  flush(): Promise<void>;
  release(): void;
}

/** The most bytes that travel at once: bounds the memory of a server, however many clients it has. */
export const PIECE_BYTES_MAX = 32 * 2 ** 20;
/** The most runs that one `allocation` answers. */
export const ALLOCATION_RUNS_MAX = 4096;
