/**
 * Requests that the device is working on: one small object each, which knows where the answer goes. No I/O.
 *
 * Invariant: each is finished exactly once, whatever became of its connection meanwhile.
 */

import { assert, StoreError } from '../base/errors.ts';
import type { StatusRun, WriteRequest } from '../volume/device.ts';
import type { HoleList } from './hole-list.ts';
import type { Slab } from './receive-slabs.ts';
import type { ReplyBuffer } from './reply-buffer.ts';
import type { Answered } from './reply-codec.ts';

const TWO_32 = 2 ** 32;

/** Where finished requests report; the transmission implements it. */
export interface RequestOwner {
  finishWrite(request: WriteCommand, error: StoreError | undefined): void;
  finishRead(request: ReadCommand, error: StoreError | undefined): void;
  finishOther(request: OtherCommand, error: StoreError | undefined): void;
  finishStatus(request: StatusCommand, error: StoreError | undefined): void;
}

/** What a command takes from the request that it is for: the parser has it until the next one. */
export interface Requested {
  readonly offset: number;
  readonly lengthBytes: number;
  readonly cookieHigh: number;
  readonly cookieLow: number;
}

/** What all have in common. */
export class Command implements Answered {
  readonly offset: number;
  readonly lengthBytes: number;
  readonly cookieHigh: number;
  readonly cookieLow: number;

  constructor(requested: Requested, lengthBytes: number) {
    this.offset = requested.offset;
    this.lengthBytes = lengthBytes;
    this.cookieHigh = requested.cookieHigh;
    this.cookieLow = requested.cookieLow;
  }

  get offsetHigh(): number {
    return Math.floor(this.offset / TWO_32);
  }

  get offsetLow(): number {
    return this.offset % TWO_32;
  }
}

/** A write. Created at 100,000 a second: plain fields, no closure, no promise. */
export class WriteCommand extends Command implements WriteRequest {
  readonly slices: readonly Buffer[];
  /** Where the slices lie; retained until it completes. */
  readonly slabs: readonly Slab[];
  readonly forceUnitAccess: boolean;
  private owner: RequestOwner | undefined;

  constructor(
    owner: RequestOwner,
    requested: Requested,
    slices: readonly Buffer[],
    slabs: readonly Slab[],
    forceUnitAccess: boolean,
  ) {
    super(requested, requested.lengthBytes);
    this.owner = owner;
    this.slices = slices;
    this.slabs = slabs;
    this.forceUnitAccess = forceUnitAccess;
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
export class ReadCommand extends Command {
  readonly buffer: ReplyBuffer;
  /** Undefined if the reply is to be of one piece. */
  readonly holes: HoleList | undefined;
  readonly #owner: RequestOwner;

  constructor(owner: RequestOwner, requested: Requested, buffer: ReplyBuffer, holes: HoleList | undefined) {
    super(requested, requested.lengthBytes);
    this.#owner = owner;
    this.buffer = buffer;
    this.holes = holes;
  }

  readonly succeed = (): void => this.#owner.finishRead(this, undefined);
  readonly fail = (error: unknown): void => this.#owner.finishRead(this, expected(error));
}

/** A flush or a zeroing: rare enough for a promise. */
export class OtherCommand extends Command {
  readonly type: number;
  readonly #owner: RequestOwner;

  constructor(owner: RequestOwner, requested: Requested, type: number) {
    super(requested, requested.lengthBytes);
    this.#owner = owner;
    this.type = type;
  }

  readonly succeed = (): void => this.#owner.finishOther(this, undefined);
  readonly fail = (error: unknown): void => this.#owner.finishOther(this, expected(error));
}

/** A question to some of the contexts, which are asked one after the other. */
export class StatusCommand extends Command {
  /** Answers so far, by the number of the context. */
  readonly answers: { readonly context: number; readonly runs: readonly StatusRun[] }[] = [];
  /** Bytes that are counted for it. */
  readonly budgetBytes: number;
  readonly #owner: RequestOwner;

  /** `lengthBytes` is what the question is about, which may have come behind the header. */
  constructor(owner: RequestOwner, requested: Requested, lengthBytes: number, budgetBytes: number) {
    super(requested, lengthBytes);
    this.#owner = owner;
    this.budgetBytes = budgetBytes;
  }

  readonly succeed = (): void => this.#owner.finishStatus(this, undefined);
  readonly fail = (error: unknown): void => this.#owner.finishStatus(this, expected(error));
}

/** Where in a request an error is, if it is known to be in there; or -1. */
export function offsetIn({ offset, lengthBytes }: Command, { diskOffset }: StoreError): number {
  if (diskOffset === undefined || diskOffset >= offset + lengthBytes) return -1;
  return Math.max(offset, diskOffset);
}

/** An error the client may be told of. Any other is a programmer's mistake: it is thrown on, and ends the process. */
function expected(error: unknown): StoreError {
  if (error instanceof StoreError) return error;
  throw error;
}
