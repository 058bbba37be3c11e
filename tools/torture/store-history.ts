/**
 * What a store may hold after a crash: its disks and snapshots, which of them must be there, and the floor below which
 * nothing may be lost (disk-history.ts). No I/O.
 */

import { DiskHistory, Moments, type SnapshotHistory } from './disk-history.ts';

/** A volume or a snapshot: from when it must be there, and of what it is a child. */
interface Named<T> {
  readonly history: T;
  /** It was answered, and what is answered is on the disk. */
  isPromised: boolean;
}

/** What was read of a store after a crash, by name: whole disks. */
export type Contents = ReadonlyMap<string, Buffer>;

export class StoreHistory {
  readonly moments = new Moments();
  readonly disks = new Map<string, Named<DiskHistory>>();
  readonly snapshots = new Map<string, Named<SnapshotHistory>>();
  readonly #mark: number;
  /** Everything answered by then must be there. */
  #floor = 0;
  /** What was answered later promises nothing. */
  #promisesEndAt = Number.POSITIVE_INFINITY;
  flushFailedAt = Number.POSITIVE_INFINITY;

  /** Contents of stores with different seeds are told apart. */
  constructor(seed: number) {
    this.#mark = Math.imul(seed, 0x01000193);
  }

  /** A flush was answered that was sent then. */
  flushedAt(sentAt: number): void {
    if (this.#promisesEndAt === Number.POSITIVE_INFINITY) this.#floor = Math.max(this.#floor, sentAt);
  }

  /**
   * From now until the store is opened again answers promise nothing: nobody whose power is off could give them. A second
   * blow, before that, makes no promise of what was answered behind the first.
   */
  endPromises(): void {
    this.#promisesEndAt = Math.min(this.#promisesEndAt, this.moments.next());
  }

  promise(named: Named<DiskHistory | SnapshotHistory>): void {
    if (this.#promisesEndAt === Number.POSITIVE_INFINITY) named.isPromised = true;
  }

  /** A flush was answered with an error. Until the store is opened again no other may succeed that is sent now. */
  failFlush(): void {
    this.flushFailedAt = Math.min(this.flushFailedAt, this.moments.next());
  }

  /** Nothing that was answered until now may be lost: the process died and the system lives, or all was closed. */
  keepAll(): void {
    this.flushedAt(this.moments.next());
  }

  /** A new volume, before it is asked for. */
  addDisk(name: string, base: Buffer): Named<DiskHistory> {
    const mark = this.#mark + this.disks.size;
    const added = { history: new DiskHistory(name, mark, this.moments, base), isPromised: false };
    this.disks.set(name, added);
    return added;
  }

  /** Snapshots of all promised disks, before they are asked for; by name. */
  addSnapshots(name: string): Map<string, Named<SnapshotHistory>> {
    const added = new Map<string, Named<SnapshotHistory>>();
    for (const [disk, { history, isPromised }] of this.disks) {
      if (isPromised) added.set(`${disk}@${name}`, { history: history.snapshot(), isPromised: false });
    }
    for (const [full, snapshot] of added) this.snapshots.set(full, snapshot);
    return added;
  }

  /** It is about to be deleted, and need not be there any more. */
  forget(snapshot: string): void {
    this.snapshots.delete(snapshot);
  }

  /** They were answered: they are on the disk, with all that was answered before they were asked for. */
  answerSnapshots(snapshots: ReadonlyMap<string, Named<SnapshotHistory>>): void {
    for (const snapshot of snapshots.values()) {
      snapshot.history.answer();
      this.promise(snapshot);
      this.flushedAt(snapshot.history.askedAt);
    }
  }

  /** After a crash: what is wrong with the names that there are. Those that need not be there and are not are forgotten. */
  settleNames(present: ReadonlySet<string>): string | undefined {
    for (const kind of [this.disks, this.snapshots]) {
      for (const [name, named] of kind) {
        if (present.has(name)) named.isPromised = true;
        else if (named.isPromised) return `${name} is lost`;
        else kind.delete(name);
      }
    }
    const unknown = [...present].find((name) => !this.disks.has(name) && !this.snapshots.has(name));
    return unknown === undefined ? undefined : `nobody ever made ${unknown}`;
  }

  /** After a crash: what is wrong with these contents of all disks. From now on they are what must be there. */
  settle(contents: Contents): string | undefined {
    const newest = [...this.disks].map(([name, { history }]) => history.newestIn(contents.get(name)!));
    const view = {
      from: Math.max(this.#floor, ...newest),
      until: Number.POSITIVE_INFINITY,
      forcedUntil: Math.min(this.#promisesEndAt, this.moments.next()),
    };
    const endedAt = this.#promisesEndAt;
    this.flushFailedAt = Number.POSITIVE_INFINITY;
    this.#promisesEndAt = Number.POSITIVE_INFINITY;
    for (const [name, { history }] of this.disks) {
      const wrong = history.wrong(contents.get(name)!, view);
      if (wrong !== undefined) return `${wrong}; answers promised something until ${endedAt}`;
    }
    for (const [name, { history }] of this.disks) history.settle(contents.get(name)!);
    return undefined;
  }

  /** What is wrong with the contents of these snapshots. */
  wrongSnapshots(contents: Contents): string | undefined {
    for (const [name, actual] of contents) {
      const wrong = this.snapshots.get(name)!.history.wrong(actual);
      if (wrong !== undefined) return `${name}: ${wrong}`;
    }
    return undefined;
  }
}
