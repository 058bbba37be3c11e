/**
 * A version as a disk: what the NBD server, the command line and tests read and write through. Types only.
 *
 * Offsets and lengths are bytes, any alignment, inside [0, sizeBytes): the caller checks the range. Buffers handed in
 * belong to the device until the request completes.
 */

import type { StoreError } from '../base/errors.ts';

/** A write on its way. `complete` is called exactly once, never from within `write`. */
export interface WriteRequest {
  readonly offset: number;
  readonly lengthBytes: number;
  /** The payload, in order; pieces of any size. */
  readonly slices: readonly Buffer[];
  /** Complete only when the write is on the disk. */
  readonly forceUnitAccess: boolean;
  complete(error: StoreError | undefined): void;
}

/** What a run of bytes is: stored, or without storage (reads as zeros). */
export interface AllocationRun {
  lengthBytes: number;
  allocated: boolean;
}

/** What a context of block status says of a run of bytes. */
export interface StatusRun {
  lengthBytes: number;
  status: number;
}

/** How deep what is stored lies: nowhere, in the version itself, or in one that it inherits from. */
export const DEPTH_NONE = 0;
export const DEPTH_OWN = 1;
export const DEPTH_INHERITED = 2;

/** What is different from another version: nothing, it differs, it differs and reads as zeros now. */
export const SAME = 0;
export const CHANGED = 1;
export const CHANGED_TO_ZEROS = 3;

/** Told which parts of a read are not stored; they were filled with zeros all the same. In any order, none twice. */
export interface HoleListener {
  /** `start` is a position in the buffer that is read into. */
  hole(start: number, lengthBytes: number): void;
}

/** A range of bytes of a disk. */
export type Run = readonly [offset: number, lengthBytes: number];

export interface BlockDevice {
  /** `volume` or `volume@snapshot`. */
  readonly name: string;
  readonly sizeBytes: number;
  readonly readOnly: boolean;

  /**
   * Reads if that is possible at once, from memory, checksums verified; false if it is not: then call `read`.
   * Fills target[start .. start + lengthBytes); on false its contents are undefined, and what `holes` was told.
   */
  tryRead(target: Buffer, start: number, offset: number, lengthBytes: number, holes?: HoleListener): boolean;

  /** @throws IO, CORRUPTION (a checksum did not match: never wrong bytes), CLOSED */
  read(
    target: Buffer,
    start: number,
    offset: number,
    lengthBytes: number,
    holes?: HoleListener,
  ): Promise<void>;

  /**
   * Reads several ranges, one behind the other, all of `target`: for who reads each but once, as it leaves nothing in memory
   * that others would have to make room for. @throws as `read`
   */
  readRuns(target: Buffer, runs: readonly Run[]): Promise<void>;

  /** Takes a write; `complete` gets NO_SPACE, IO, POISONED, CLOSED. Requires !readOnly. */
  write(request: WriteRequest): void;

  /** Makes the range read as zeros, odd edges too; however long, one entry of the log. Requires !readOnly. */
  zero(offset: number, lengthBytes: number, forceUnitAccess: boolean): Promise<void>;

  /** All writes that were answered before this call are on the disk when it resolves. @throws IO, POISONED */
  flush(): Promise<void>;

  /**
   * Runs of the range from `offset` on, merged, covering at least one byte and at most `lengthBytes`; it may stop
   * early after `runsMax` runs or a bounded amount of work.
   */
  allocation(offset: number, lengthBytes: number, runsMax: number): Promise<AllocationRun[]>;

  /** Like `allocation`: where what is stored comes from, as DEPTH_NONE, DEPTH_OWN or DEPTH_INHERITED. */
  depth(offset: number, lengthBytes: number, runsMax: number): Promise<StatusRun[]>;

  /** Like `allocation`: what differs from another version of the same store, as SAME, CHANGED or CHANGED_TO_ZEROS. */
  changes(since: BlockDevice, offset: number, lengthBytes: number, runsMax: number): Promise<StatusRun[]>;

  /**
   * From now on the version counts as attached, until `release`. `revoked` is called at most once: the store takes the
   * device back, because the version is being deleted, rolled back or demoted, and every request fails with CLOSED.
   */
  attach(revoked: () => void): void;

  /** Hands the device back; the last one of a version lets its pages go. */
  release(): void;
}
