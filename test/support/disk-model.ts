/**
 * What a disk may hold after a crash: every answered change, and of a change that was not answered any byte or none.
 * And what a snapshot may hold: all that was answered before it was asked for, nothing that was asked for after its
 * answer, and of what ran meanwhile any byte.
 */

/** Bytes [start, end). */
export interface Stretch {
  readonly start: number;
  readonly end: number;
}

/** They become `value`. */
export interface Change extends Stretch {
  readonly value: number;
}

/** A snapshot, from when it is asked for. */
export class SnapshotModel {
  readonly #base: Buffer;
  readonly #meanwhile: Change[];
  /** What was read of it first; it never changes after that. */
  #seen?: Buffer;

  constructor(base: Buffer, inFlight: Iterable<Change>) {
    this.#base = base;
    this.#meanwhile = [...inFlight];
  }

  add(change: Change): void {
    this.#meanwhile.push(change);
  }

  /** What is wrong with these contents of the snapshot, if anything. */
  wrong(actual: Buffer): string | undefined {
    if (this.#seen !== undefined) return difference(actual, this.#seen);
    const found = difference(actual, this.#base, this.#meanwhile);
    this.#seen = actual;
    return found;
  }
}

export class DiskModel {
  /** Everything answered. */
  readonly #answered: Buffer;
  readonly #inFlight = new Set<Change>();
  readonly #reads = new Set<Stretch>();
  readonly #asked = new Set<SnapshotModel>();

  constructor(sizeBytes: number) {
    this.#answered = Buffer.alloc(sizeBytes);
  }

  /** A change and what else is done to its bytes at the same time come in any order: nothing to test. */
  isFree(start: number, end: number): boolean {
    return [...this.#inFlight, ...this.#reads].every((other) => other.end <= start || end <= other.start);
  }

  /** Until endRead nothing may change these bytes. */
  beginRead(stretch: Stretch): void {
    this.#reads.add(stretch);
  }

  endRead(stretch: Stretch): void {
    if (!this.#reads.delete(stretch)) throw new Error('read twice');
  }

  begin(change: Change): void {
    this.#inFlight.add(change);
    for (const snapshot of this.#asked) snapshot.add(change);
  }

  answer(change: Change): void {
    if (!this.#inFlight.delete(change)) throw new Error('answered twice');
    this.#answered.fill(change.value, change.start, change.end);
  }

  beginSnapshot(): SnapshotModel {
    const snapshot = new SnapshotModel(Buffer.from(this.#answered), this.#inFlight);
    this.#asked.add(snapshot);
    return snapshot;
  }

  endSnapshot(snapshot: SnapshotModel): void {
    this.#asked.delete(snapshot);
  }

  /** The byte that must be there, for a client to check what it reads; undefined where changes are in flight. */
  uniform(start: number, end: number): number | undefined {
    const stretch = this.#answered.subarray(start, end);
    const isUniform = stretch.length < 2 || stretch.subarray(1).equals(stretch.subarray(0, -1));
    return isUniform && this.isFree(start, end) ? stretch[0] : undefined;
  }

  /** After a crash: what is wrong with these contents, if anything; from now on they are what must be there. */
  adopt(actual: Buffer): string | undefined {
    const found = difference(actual, this.#answered, [...this.#inFlight]);
    actual.copy(this.#answered);
    this.#inFlight.clear();
    this.#reads.clear();
    this.#asked.clear();
    return found;
  }
}

/** The first byte of `actual` that is neither that of `expected` nor the value of a change that covers it. */
function difference(actual: Buffer, expected: Buffer, changes: readonly Change[] = []): string | undefined {
  if (actual.length !== expected.length) return `${actual.length} bytes instead of ${expected.length}`;
  if (actual.equals(expected)) return undefined;
  const isExplained = new Uint8Array(actual.length);
  for (const { start, end, value } of changes) {
    for (let i = start; i < end; i++) if (actual[i] === value) isExplained[i] = 1;
  }
  let wrongBytes = 0;
  let first = '';
  for (let i = 0; i < actual.length; i++) {
    if (actual[i] === expected[i] || isExplained[i] === 1) continue;
    if (wrongBytes++ === 0) first = `byte ${i} is ${actual[i]} instead of ${expected[i]}`;
  }
  return wrongBytes === 0 ? undefined : `${first}; ${wrongBytes} bytes are wrong`;
}
