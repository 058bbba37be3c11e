/**
 * The changes that take something away from somebody: delete, rollback, resize.
 *
 * Invariants: what is refused has changed nothing; who works on a version that is deleted or rolled back is disconnected
 * first, and their writes are in; nothing that a hold protects goes.
 */

import { randomUUID } from 'node:crypto';
import type { Clock } from '../base/clock.ts';
import { hasCode, StoreError } from '../base/errors.ts';
import { Mutex } from '../base/mutex.ts';
import { CHUNK_BYTES, chunksFor } from '../base/units.ts';
import { type Catalog, fullName, type Snapshot, type Volume } from './catalog.ts';
import type { ChangeWriter } from './change-writer.ts';
import type { Disk } from './disk.ts';
import { type Fence, listed, NAMES_SHOWN } from './fence.ts';
import type { IndexKeeper } from './index-keeper.ts';
import { checkVolumeSize, splitSnapshotName } from './names.ts';
import type { OpenDisks } from './open-disks.ts';
import { isAsSnapshot, nameBefore } from './saved-head.ts';
import { activeHolds } from './version-changes.ts';

const RUNS_MAX = 64;

export interface DeleteOptions {
  /** Disconnects clients that work on what is deleted. */
  force?: boolean | undefined;
  /** Deletes a volume's snapshots with it. */
  recursive?: boolean | undefined;
}

export interface RollbackOptions {
  /** Disconnects clients that work on the volume. */
  force?: boolean | undefined;
}

export interface ResizeOptions {
  /** Allows a smaller size. */
  shrink?: boolean | undefined;
  /** Allows to lose what is stored behind the new end. */
  force?: boolean | undefined;
}

export class VersionRemoval {
  readonly #catalog: Catalog;
  readonly #writer: ChangeWriter;
  readonly #fence: Fence;
  readonly #disks: OpenDisks;
  readonly #keeper: IndexKeeper;
  readonly #clock: Clock;
  /** One at a time: a disk is paused once. */
  readonly #resizes = new Mutex();

  constructor(
    catalog: Catalog,
    writer: ChangeWriter,
    fence: Fence,
    disks: OpenDisks,
    keeper: IndexKeeper,
    clock: Clock,
  ) {
    this.#catalog = catalog;
    this.#writer = writer;
    this.#fence = fence;
    this.#disks = disks;
    this.#keeper = keeper;
    this.#clock = clock;
  }

  /** Answers the full names of all that is gone. */
  async delete(names: readonly string[], options: DeleteOptions): Promise<string[]> {
    if (names.length === 0)
      throw new StoreError('INVALID_ARGUMENT', 'name at least one VOLUME or VOLUME@NAME');
    const find = (): Doomed =>
      findDoomed(this.#catalog, names, options.recursive === true, this.#clock.now());
    return await this.#fence.run(
      () => find().all,
      options.force === true,
      async (isFenced) => {
        const { volumes, snapshots, all } = find();
        if (!all.every(isFenced)) return undefined; // there is another snapshot by now
        const gone = all.map(fullName);
        await this.#writer.append({
          op: 'delete',
          at: this.#clock.now(),
          volumes: volumes.map(({ uuid }) => uuid),
          snapshots: snapshots.map(({ label }) => label),
        });
        for (const { uuid } of all) this.#disks.forget(uuid);
        return gone;
      },
    );
  }

  /**
   * Deletes one of the snapshots that their owners have marked for it: by a priority below 0, the lowest first, then the
   * oldest; none that somebody holds or works on. Answers its name, or undefined if there is none.
   */
  async deleteExpendable(): Promise<string | undefined> {
    const now = this.#clock.now();
    const marked = this.#catalog
      .volumes()
      .flatMap(({ snapshots }) => [...snapshots.values()])
      .filter((each) => each.priority < 0 && activeHolds(each, now).length === 0)
      .filter((each) => this.#disks.attachedTo(each) === 0)
      .sort((a, b) => a.priority - b.priority || a.created - b.created || a.label - b.label);
    for (const snapshot of marked) {
      try {
        return (await this.delete([fullName(snapshot)], {}))[0];
      } catch (error) {
        // Somebody was faster.
        if (!hasCode(error, 'IN_USE') && !hasCode(error, 'HELD') && !hasCode(error, 'NOT_FOUND')) throw error;
      }
    }
    return undefined;
  }

  /** Answers the full name of the snapshot that has what the volume was before; null if it had changed nothing. */
  async rollback(name: string, options: RollbackOptions): Promise<string | null> {
    splitSnapshotName(name);
    const find = (): Snapshot => this.#catalog.find(name) as Snapshot;
    return await this.#fence.run(
      () => [find().volume],
      options.force === true,
      async (isFenced) => {
        const { volume, label: to, sizeBytes: size } = find();
        if (!isFenced(volume)) return undefined; // names have been changed
        checkNoReplica(volume);
        const isUnchanged = isAsSnapshot(this.#catalog, this.#keeper, volume);
        const at = this.#clock.now();
        const saved = isUnchanged
          ? null
          : { snapshot: randomUUID(), name: nameBefore(volume, 'rollback', at) };
        const label = this.#writer.takeLabel();
        await this.#writer.append({ op: 'rollback', at, volume: volume.uuid, to, size, label, saved });
        this.#disks.forget(volume.uuid);
        return saved === null ? null : `${volume.name}@${saved.name}`;
      },
    );
  }

  async resize(name: string, sizeBytes: number, options: ResizeOptions): Promise<void> {
    checkVolumeSize(sizeBytes);
    await this.#resizes.run(async () => {
      const volume = this.#catalog.find(name);
      if ('volume' in volume)
        throw new StoreError('INVALID_ARGUMENT', `${name} is a snapshot; only volumes change their size`);
      checkNoReplica(volume);
      const before = volume.sizeBytes;
      if (sizeBytes < before && options.shrink !== true) {
        throw new StoreError(
          'INVALID_ARGUMENT',
          `${name} has ${before} bytes, which is more than ${sizeBytes}; to cut it off, use --shrink`,
        );
      }
      if (sizeBytes === before) return;
      const device = this.#disks.open(volume); // keeps the disk
      const disk = this.#disks.find(volume.uuid)!;
      try {
        if (sizeBytes < before) await this.#shrink(volume, disk, sizeBytes, options.force === true);
        else await this.#grow(volume, disk, sizeBytes);
      } finally {
        device.release();
      }
    });
  }

  /** What a shorter disk has left in its last chunk goes first: nobody sees it before the new size is in the log. */
  async #grow(volume: Volume, disk: Disk, sizeBytes: number): Promise<void> {
    if (this.#disks.isTakenBack(volume)) throw overtaken(volume);
    disk.writeBegun(); // whoever takes the volume back from here on waits for it
    try {
      await disk.clearBehindEnd();
    } finally {
      disk.writeEnded();
    }
    await this.#writeSize(volume, disk, sizeBytes);
  }

  async #shrink(volume: Volume, disk: Disk, sizeBytes: number, force: boolean): Promise<void> {
    const goOn = await disk.pause();
    try {
      if (!force) await this.#checkUnused(volume, disk, sizeBytes);
      await this.#writeSize(volume, disk, sizeBytes);
    } finally {
      goOn();
    }
  }

  async #writeSize(volume: Volume, disk: Disk, size: number): Promise<void> {
    await this.#writer.run(0, async () => {
      // A rollback or delete came first: it has a disk of its own by now, or none.
      if (this.#disks.find(volume.uuid) !== disk) throw overtaken(volume);
      const first = chunksFor(size);
      const count = chunksFor(volume.sizeBytes) - first;
      const cut = count > 0 ? { label: volume.label, first, count } : null;
      await this.#writer.append({ op: 'resize', at: this.#clock.now(), volume: volume.uuid, size, cut });
    });
  }

  /** @throws WOULD_LOSE_DATA */
  async #checkUnused(volume: Volume, disk: Disk, sizeBytes: number): Promise<void> {
    let isUsed = await disk.hasBytesBehind(sizeBytes);
    let at = Math.min(chunksFor(sizeBytes) * CHUNK_BYTES, volume.sizeBytes);
    while (!isUsed && at < volume.sizeBytes) {
      const runs = await disk.allocation(at, volume.sizeBytes - at, RUNS_MAX);
      isUsed = runs.some((run) => run.allocated);
      for (const { lengthBytes } of runs) at += lengthBytes;
    }
    if (!isUsed) return;
    throw new StoreError(
      'WOULD_LOSE_DATA',
      `${volume.name} has data behind ${sizeBytes} bytes; choose a larger size, or lose it with --force`,
    );
  }
}

/** What a delete takes away: volumes with their snapshots, and snapshots of volumes that stay. */
interface Doomed {
  volumes: Volume[];
  snapshots: Snapshot[];
  all: (Volume | Snapshot)[];
}

/** @throws NOT_FOUND, HAS_SNAPSHOTS, HELD */
function findDoomed(catalog: Catalog, names: readonly string[], recursive: boolean, now: number): Doomed {
  const named = new Set(names.map((name) => catalog.find(name)));
  const volumes = [...named].filter((version): version is Volume => !('volume' in version));
  const whole = new Set(volumes);
  const snapshots = [...named]
    .filter((version): version is Snapshot => 'volume' in version)
    .filter(({ volume }) => !whole.has(volume));
  for (const volume of volumes) {
    const kept = [...volume.snapshots.values()].filter((snapshot) => !named.has(snapshot));
    if (kept.length === 0 || recursive) continue;
    throw new StoreError(
      'HAS_SNAPSHOTS',
      `${volume.name} has snapshots: ${listed(kept)}; delete them too with --recursive`,
    );
  }
  const all = [...volumes.flatMap((volume) => [volume, ...volume.snapshots.values()]), ...snapshots];
  const held = all.filter((each): each is Snapshot => 'volume' in each && activeHolds(each, now).length > 0);
  if (held.length > 0) {
    const who = held
      .slice(0, NAMES_SHOWN)
      .map((snapshot) => `${fullName(snapshot)} by ${holders(snapshot, now)}`);
    const more = held.length > NAMES_SHOWN ? ` and ${held.length - NAMES_SHOWN} more` : '';
    throw new StoreError('HELD', `held: ${who.join(', ')}${more}; nothing was deleted, release them first`);
  }
  return { volumes, snapshots, all };
}

/** @throws READ_ONLY */
function checkNoReplica({ name, isReplica }: Volume): void {
  if (!isReplica) return;
  throw new StoreError(
    'READ_ONLY',
    `${name} is a replica, and changes only by what it receives; promote it, or clone a snapshot of it, to work on`,
  );
}

function overtaken({ name }: Volume): StoreError {
  return new StoreError('IN_USE', `${name} was rolled back or deleted meanwhile; try again`);
}

function holders(snapshot: Snapshot, now: number): string {
  return activeHolds(snapshot, now)
    .map(({ owner, reason }) => (reason === null ? owner : `${owner} (${reason})`))
    .join(' and ');
}
