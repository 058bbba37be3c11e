/**
 * What waits to be appended: one entry of the log on its way. No I/O.
 *
 * Invariant: label and sequence are taken when the record is packed, not when the request arrived: a write that
 * waits behind a snapshot belongs to the new version.
 */

import { crc32c } from '../base/crc.ts';
import { assert, type StoreError } from '../base/errors.ts';
import { CHUNK_BYTES } from '../base/units.ts';
import { ENTRY_CATALOG, ENTRY_CHANGE, ENTRY_CHUNKS, ENTRY_ZEROS } from './entries.ts';

/** Where a data entry takes its label from when it is packed: a head, or a fixed label on replay. */
export interface LabelSource {
  readonly label: number;
}

/**
 * Kinds of entries, by who has to leave room to whom: those that come without end to what makes room, that to catalogs. Zeros
 * leave as much as changes, but those may go on in the segment that is there, whoever has taken the rest.
 */
export const RANK_OF_DATA = 3;
export const RANK_OF_ZEROS = 2;
export const RANK_OF_CHANGES = 1;
export const RANK_OF_CATALOGS = 0;
/** Segments of room that are left, by rank. */
export const SEGMENTS_LEFT: readonly number[] = [0, 1, 1, 2];

const NO_LABEL: LabelSource = { label: 0 };
const NO_SLICES: readonly Buffer[] = [];
const NO_BODY = Buffer.alloc(0);
const NO_CHECKSUMS = new Uint32Array(0);

export class Append {
  readonly kind: number;
  readonly target: LabelSource;
  readonly first: number;
  readonly count: number;
  /** The chunks' bytes in order, in pieces of any size; count x 4096 in all. */
  readonly slices: readonly Buffer[];
  readonly flags: number;
  readonly body: Buffer;
  /** A CRC-32C for each chunk, computed on arrival: while the record before is being written, there is time. */
  readonly checksums: Uint32Array;
  /** Told exactly once, when the record is written or has failed. */
  readonly owner: AppendOwner;
  /** A sequence to keep (an entry that is appended again), or 0. */
  readonly keptSequence: number;

  /** Set when submitted: how many were before it, and itself. */
  turn = 0;
  /** Set when packed. */
  label = 0;
  sequence = 0;
  segment = 0;
  /** Offset in the segment of the first chunk; of the record, for an entry without chunks. */
  offset = 0;
  /** Append number of the record. */
  record = 0;

  private constructor(
    kind: number,
    owner: AppendOwner,
    target: LabelSource,
    first: number,
    count: number,
    slices: readonly Buffer[],
    checksums: Uint32Array,
    flags: number,
    body: Buffer,
    keptSequence: number,
  ) {
    this.checksums = checksums;
    this.kind = kind;
    this.owner = owner;
    this.target = target;
    this.first = first;
    this.count = count;
    this.slices = slices;
    this.flags = flags;
    this.body = body;
    this.keptSequence = keptSequence;
  }

  /** It is in a record that was handed to the kernel: it may be in the log, whatever its owner was told. */
  get isPacked(): boolean {
    return this.record > 0;
  }

  static chunks(
    owner: AppendOwner,
    target: LabelSource,
    first: number,
    count: number,
    slices: readonly Buffer[],
    keptSequence = 0,
  ): Append {
    const checksums = checksumChunks(slices, count);
    return new Append(ENTRY_CHUNKS, owner, target, first, count, slices, checksums, 0, NO_BODY, keptSequence);
  }

  static zeros(
    owner: AppendOwner,
    target: LabelSource,
    first: number,
    count: number,
    keptSequence = 0,
  ): Append {
    return new Append(
      ENTRY_ZEROS,
      owner,
      target,
      first,
      count,
      NO_SLICES,
      NO_CHECKSUMS,
      0,
      NO_BODY,
      keptSequence,
    );
  }

  static change(owner: AppendOwner, text: string, keptSequence = 0): Append {
    return new Append(
      ENTRY_CHANGE,
      owner,
      NO_LABEL,
      0,
      0,
      NO_SLICES,
      NO_CHECKSUMS,
      0,
      Buffer.from(text, 'utf8'),
      keptSequence,
    );
  }

  static catalog(owner: AppendOwner, text: string, flags: number, keptSequence = 0): Append {
    return new Append(
      ENTRY_CATALOG,
      owner,
      NO_LABEL,
      0,
      0,
      NO_SLICES,
      NO_CHECKSUMS,
      flags,
      Buffer.from(text, 'utf8'),
      keptSequence,
    );
  }
}

/** True if what is behind this entry depends on it: on labels that it makes, on the checkpoint that it begins. */
export function takesEffect({ kind }: Append): boolean {
  return kind === ENTRY_CHANGE || kind === ENTRY_CATALOG;
}

/**
 * Segments that must be left when an entry takes room from the file system: a full store goes on deleting and trimming, and
 * compaction has room to copy into, and to say so.
 */
export function rankOf({ kind }: Append): number {
  switch (kind) {
    case ENTRY_CHUNKS:
      return RANK_OF_DATA;
    case ENTRY_ZEROS:
      return RANK_OF_ZEROS;
    case ENTRY_CATALOG:
      return RANK_OF_CATALOGS;
    default:
      return RANK_OF_CHANGES;
  }
}

/** True for what a guest writes, trims included. */
export function isWrite(append: Append): boolean {
  return rankOf(append) >= RANK_OF_ZEROS;
}

/** A record on its way to the kernel; segment and log know of it when `written` resolves. */
export interface IssuedRecord {
  readonly appends: readonly Append[];
  readonly written: Promise<void>;
}

export interface AppendOwner {
  /** The entry is in the kernel's hands, or failed. Called in the order of the log; must not throw. */
  appended(append: Append, error: StoreError | undefined): void;
}

/** An owner that settles a promise, for all that is not a hot path. */
export class AppendPromise implements AppendOwner {
  readonly promise: Promise<Append>;
  #resolve!: (append: Append) => void;
  #reject!: (error: StoreError) => void;
  readonly #apply: ((append: Append) => void) | undefined;

  /** `apply` runs first, synchronously, before anything behind this entry is packed. */
  constructor(apply?: (append: Append) => void) {
    this.#apply = apply;
    this.promise = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
  }

  appended(append: Append, error: StoreError | undefined): void {
    if (error) {
      this.#reject(error);
      return;
    }
    this.#apply?.(append);
    this.#resolve(append);
  }
}

/** A CRC-32C for each of `count` chunks; a chunk may lie across slices. */
function checksumChunks(slices: readonly Buffer[], count: number): Uint32Array {
  const checksums = new Uint32Array(count);
  let chunk = 0;
  let filled = 0;
  let seed = 0;
  for (let i = 0; i < slices.length; i++) {
    const slice = slices[i]!;
    let from = 0;
    while (from < slice.length) {
      const bytes = Math.min(CHUNK_BYTES - filled, slice.length - from);
      const whole = from === 0 && bytes === slice.length;
      seed = crc32c(whole ? slice : slice.subarray(from, from + bytes), seed);
      from += bytes;
      filled += bytes;
      if (filled === CHUNK_BYTES) {
        checksums[chunk++] = seed;
        filled = 0;
        seed = 0;
      }
    }
  }
  assert(filled === 0 && chunk === count, 'the slices of an entry hold its chunks');
  return checksums;
}
