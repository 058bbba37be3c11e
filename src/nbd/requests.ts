/**
 * Requests that the device is working on: one small object each, which knows where the answer goes. No I/O.
 *
 * Invariant: each is finished exactly once, whatever became of its connection meanwhile.
 */

import { assert, StoreError } from '../base/errors.ts';
import type { AllocationRun, WriteRequest } from '../volume/device.ts';
import type { Slab } from './receive-slabs.ts';
import type { ReplyBuffer } from './reply-buffer.ts';

/** Where finished requests report; the transmission implements it. */
export interface RequestOwner {
  finishWrite(request: WriteCommand, error: StoreError | undefined): void;
  finishRead(request: ReadCommand, error: StoreError | undefined): void;
  finishOther(request: OtherCommand, error: StoreError | undefined): void;
  finishBlockStatus(request: OtherCommand, runs: readonly AllocationRun[]): void;
}

/** A write. Created at 100,000 a second: plain fields, no closure, no promise. */
export class WriteCommand implements WriteRequest {
  readonly offset: number;
  readonly lengthBytes: number;
  readonly slices: readonly Buffer[];
  /** Where the slices lie; retained until it completes. */
  readonly slabs: readonly Slab[];
  readonly forceUnitAccess: boolean;
  readonly cookieHigh: number;
  readonly cookieLow: number;
  private owner: RequestOwner | undefined;

  constructor(
    owner: RequestOwner,
    offset: number,
    lengthBytes: number,
    slices: readonly Buffer[],
    slabs: readonly Slab[],
    forceUnitAccess: boolean,
    cookieHigh: number,
    cookieLow: number,
  ) {
    this.owner = owner;
    this.offset = offset;
    this.lengthBytes = lengthBytes;
    this.slices = slices;
    this.slabs = slabs;
    this.forceUnitAccess = forceUnitAccess;
    this.cookieHigh = cookieHigh;
    this.cookieLow = cookieLow;
  }

  complete(error: StoreError | undefined): void {
    const { owner } = this;
    assert(owner !== undefined, 'a write completes once');
    this.owner = undefined;
    for (let i = 0; i < this.slabs.length; i++) this.slabs[i]!.release();
    owner.finishWrite(this, error);
  }
}

/** A read that could not be served at once. It holds a buffer until the device is done with it. */
export class ReadCommand {
  readonly offset: number;
  readonly lengthBytes: number;
  readonly cookieHigh: number;
  readonly cookieLow: number;
  readonly buffer: ReplyBuffer;
  readonly #owner: RequestOwner;

  constructor(
    owner: RequestOwner,
    offset: number,
    lengthBytes: number,
    cookieHigh: number,
    cookieLow: number,
    buffer: ReplyBuffer,
  ) {
    this.#owner = owner;
    this.offset = offset;
    this.lengthBytes = lengthBytes;
    this.cookieHigh = cookieHigh;
    this.cookieLow = cookieLow;
    this.buffer = buffer;
  }

  readonly succeed = (): void => this.#owner.finishRead(this, undefined);
  readonly fail = (error: unknown): void => this.#owner.finishRead(this, expected(error));
}

/** A flush, a zeroing or a question: rare enough for a promise. */
export class OtherCommand {
  readonly type: number;
  readonly flags: number;
  readonly offset: number;
  readonly lengthBytes: number;
  readonly cookieHigh: number;
  readonly cookieLow: number;
  readonly #owner: RequestOwner;

  constructor(
    owner: RequestOwner,
    type: number,
    flags: number,
    offset: number,
    lengthBytes: number,
    cookieHigh: number,
    cookieLow: number,
  ) {
    this.#owner = owner;
    this.type = type;
    this.flags = flags;
    this.offset = offset;
    this.lengthBytes = lengthBytes;
    this.cookieHigh = cookieHigh;
    this.cookieLow = cookieLow;
  }

  readonly succeed = (): void => this.#owner.finishOther(this, undefined);
  readonly describe = (runs: readonly AllocationRun[]): void => this.#owner.finishBlockStatus(this, runs);
  readonly fail = (error: unknown): void => this.#owner.finishOther(this, expected(error));
}

/** An error the client may be told of. Any other is a programmer's mistake: it is thrown on, and ends the process. */
function expected(error: unknown): StoreError {
  if (error instanceof StoreError) return error;
  throw error;
}
