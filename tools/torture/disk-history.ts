/**
 * What a disk may hold: every change with the moment it was sent and the moment it was answered, and from that, for each
 * sector, which of them a reader may see. No I/O.
 *
 * Of two changes of a sector the one that was sent after the other's answer is the later; if neither was, either may be.
 * A reader that begins when a change has been answered sees it or a later one; it sees nothing that was sent after it
 * had its answer. After a crash the same holds for a reader that began at the *floor*: everything answered by then
 * must be there. A flush that is answered lifts the floor to the moment it was sent, and so does whatever is found to
 * have survived: the store keeps a prefix of its log, so that which was answered before a survivor was sent survives.
 *
 * The content of a sector names disk, sector and change, over and over in 512 bytes, so that a reader can tell which
 * change it sees, and that it sees no half of one.
 */

import { SECTOR_BYTES } from '../../src/base/units.ts';

const MARK_BYTES = 16;
const NO_CHANGES: readonly Change[] = [];

/** Order of events; shared by all disks of a store. */
export class Moments {
  #now = 0;

  next(): number {
    return ++this.#now;
  }
}

export interface Change {
  readonly number: number;
  /** Sectors [first, end). */
  readonly first: number;
  readonly end: number;
  readonly isZero: boolean;
  /** Its answer says that it is on the disk. */
  readonly isForced: boolean;
  readonly sentAt: number;
  /** Infinity until the answer comes, and for ever if that is an error: then it may be there or not. */
  answeredAt: number;
}

/** When a reader looked. */
export interface View {
  /** What was answered by then must be seen, or what is later. */
  from: number;
  /** What was sent after that cannot be seen. */
  until: number;
  /** A forced change that was answered by then must be seen, too. */
  forcedUntil?: number;
}

/** What a disk held when it was last read as a whole, and what was changed since. */
class Era {
  readonly base: Buffer;
  readonly changes = new Map<number, Change>();
  readonly #bySector = new Map<number, Change[]>();

  constructor(base: Buffer) {
    this.base = base;
  }

  add(change: Change): void {
    this.changes.set(change.number, change);
    for (let sector = change.first; sector < change.end; sector++) {
      const before = this.#bySector.get(sector);
      if (before === undefined) this.#bySector.set(sector, [change]);
      else before.push(change);
    }
  }

  of(sector: number): readonly Change[] {
    return this.#bySector.get(sector) ?? NO_CHANGES;
  }
}

export class DiskHistory {
  readonly name: string;
  readonly sizeBytes: number;
  readonly #moments: Moments;
  /** In every sector's content; no two disks of a run share one. */
  readonly #mark: number;
  #era: Era;
  #changeCount = 0;

  constructor(name: string, mark: number, moments: Moments, base: Buffer) {
    this.name = name;
    this.sizeBytes = base.length;
    this.#mark = mark >>> 0;
    this.#moments = moments;
    this.#era = new Era(base);
  }

  /** Notes a change that is about to be sent. */
  send(first: number, count: number, kind: { isZero: boolean; isForced: boolean }): Change {
    const change: Change = {
      ...kind,
      number: ++this.#changeCount,
      first,
      end: first + count,
      sentAt: this.#moments.next(),
      answeredAt: Number.POSITIVE_INFINITY,
    };
    this.#era.add(change);
    return change;
  }

  answer(change: Change): void {
    change.answeredAt = this.#moments.next();
  }

  /** The bytes of a change that is not of zeros. */
  content(change: Change): Buffer {
    const bytes = Buffer.allocUnsafe((change.end - change.first) * SECTOR_BYTES);
    for (let sector = change.first; sector < change.end; sector++) {
      const at = (sector - change.first) * SECTOR_BYTES;
      bytes.fill(this.#markOf(change.number, sector), at, at + SECTOR_BYTES);
    }
    return bytes;
  }

  #markOf(number: number, sector: number): Buffer {
    const mark = Buffer.allocUnsafe(MARK_BYTES);
    mark.writeUInt32LE(number, 0);
    mark.writeUInt32LE(sector, 4);
    mark.writeUInt32LE(this.#mark, 8);
    mark.writeUInt32LE(
      (Math.imul(number, 0x9e3779b1) ^ Math.imul(sector + 1, 0x85ebca6b) ^ this.#mark) >>> 0,
      12,
    );
    return mark;
  }

  /** When the latest of the changes that can be told apart in `actual`, a whole disk, was sent. */
  newestIn(actual: Buffer): number {
    let newest = 0;
    for (let sector = 0; sector * SECTOR_BYTES < actual.length; sector++) {
      const seen = this.#era.changes.get(actual.readUInt32LE(sector * SECTOR_BYTES));
      if (seen === undefined || seen.sentAt <= newest || !this.#era.of(sector).includes(seen)) continue;
      if (this.#shows(actual.subarray(sector * SECTOR_BYTES, (sector + 1) * SECTOR_BYTES), sector, seen)) {
        newest = seen.sentAt;
      }
    }
    return newest;
  }

  /** What is wrong with these bytes, read from `first` on, if anything. */
  wrong(actual: Buffer, view: View, first = 0): string | undefined {
    return this.#wrong(this.#era, actual, view, first);
  }

  /** A snapshot that is asked for now. */
  snapshot(): SnapshotHistory {
    const era = this.#era;
    return new SnapshotHistory(this.#moments, (actual, view) => this.#wrong(era, actual, view, 0));
  }

  /** From now on these are the contents, whatever was possible before. */
  settle(actual: Buffer): void {
    this.#era = new Era(actual);
  }

  #wrong(era: Era, actual: Buffer, view: View, first: number): string | undefined {
    let wrongCount = 0;
    let told = '';
    for (let at = 0; at < actual.length; at += SECTOR_BYTES) {
      const sector = first + at / SECTOR_BYTES;
      const seen = actual.subarray(at, at + SECTOR_BYTES);
      if (this.#isPossible(era, seen, sector, view)) continue;
      if (wrongCount++ === 0) told = this.#tell(era, seen, sector, view);
    }
    return wrongCount === 0 ? undefined : `${this.name}: ${told}; ${wrongCount} sectors are wrong`;
  }

  #isPossible(era: Era, seen: Buffer, sector: number, view: View): boolean {
    const changes = era.of(sector);
    const isBase = seen.compare(era.base, sector * SECTOR_BYTES, (sector + 1) * SECTOR_BYTES) === 0;
    if (isBase && !isOverwritten(changes, 0, view)) return true;
    return changes.some(
      (change) =>
        change.sentAt <= view.until &&
        !isOverwritten(changes, change.answeredAt, view) &&
        this.#shows(seen, sector, change),
    );
  }

  #shows(seen: Buffer, sector: number, change: Change): boolean {
    if (change.isZero) return isZero(seen);
    const mark = this.#markOf(change.number, sector);
    if (mark.compare(seen, 0, MARK_BYTES) !== 0) return false;
    return seen.compare(seen, MARK_BYTES, SECTOR_BYTES, 0, SECTOR_BYTES - MARK_BYTES) === 0;
  }

  #tell(era: Era, seen: Buffer, sector: number, view: View): string {
    const changes = era.of(sector).map((change) => {
      const kind = `${change.isZero ? 'zeros' : 'data'}${change.isForced ? ' forced' : ''}`;
      return `#${change.number} ${kind} [${change.first}, ${change.end}) ${change.sentAt} to ${change.answeredAt}`;
    });
    const isBase = seen.compare(era.base, sector * SECTOR_BYTES, (sector + 1) * SECTOR_BYTES) === 0;
    const what = isBase
      ? 'what was there at first'
      : isZero(seen)
        ? 'zeros'
        : `#${seen.readUInt32LE(0)} of sector ${seen.readUInt32LE(4)} of disk ${seen.readUInt32LE(8)}`;
    return (
      `sector ${sector} holds ${what}, read from ${view.from} until ${view.until}; ` +
      `its changes: ${changes.slice(-8).join(', ')}`
    );
  }
}

/** True if one of the changes must be seen instead of one that was answered at `answeredAt`. */
function isOverwritten(changes: readonly Change[], answeredAt: number, view: View): boolean {
  return changes.some((later) => {
    if (later.sentAt < answeredAt) return false;
    const isForcedToo = later.isForced && later.answeredAt <= (view.forcedUntil ?? 0);
    return later.answeredAt <= view.from || isForcedToo;
  });
}

function isZero(bytes: Buffer): boolean {
  return bytes[0] === 0 && bytes.compare(bytes, 1, bytes.length, 0, bytes.length - 1) === 0;
}

/** A snapshot from when it was asked for. What was read of it first must be read for ever. */
export class SnapshotHistory {
  readonly askedAt: number;
  /** Infinity until the answer comes: until then it may be there or not. */
  answeredAt = Number.POSITIVE_INFINITY;
  /** What was read of it first. */
  seen: Buffer | undefined;
  readonly #moments: Moments;
  readonly #wrong: (actual: Buffer, view: View) => string | undefined;

  constructor(moments: Moments, wrong: (actual: Buffer, view: View) => string | undefined) {
    this.#moments = moments;
    this.askedAt = moments.next();
    this.#wrong = wrong;
  }

  answer(): void {
    this.answeredAt = this.#moments.next();
  }

  /** What is wrong with these contents of the snapshot, if anything. */
  wrong(actual: Buffer): string | undefined {
    if (this.seen !== undefined)
      return this.seen.equals(actual) ? undefined : 'it reads differently than before';
    const found = this.#wrong(actual, { from: this.askedAt, until: this.answeredAt });
    this.seen = actual;
    return found;
  }
}
