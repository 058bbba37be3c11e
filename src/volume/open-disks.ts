/**
 * The disks that are in use: one for each version that somebody has open, and who has it.
 *
 * Invariants: a disk goes with the last device of it, once its last write is in: until then its pages must follow. A
 * version that is about to change under its readers (`takeBack`) has no write under way, and nobody opens it.
 */

import type { Clock } from '../base/clock.ts';
import { StoreError } from '../base/errors.ts';
import { type PageCache, PageTable } from '../index/pages.ts';
import type { MovesByRegion } from '../index/move.ts';
import { type Catalog, fullName, type Snapshot, type Volume } from './catalog.ts';
import type { BlockDevice } from './device.ts';
import { Disk, type DiskEnvironment } from './disk.ts';
import { VersionDevice } from './version-device.ts';

interface OpenDisk {
  readonly disk: Disk;
  readonly devices: Set<VersionDevice>;
}

type Version = Volume | Snapshot;

export class OpenDisks {
  readonly #environment: DiskEnvironment;
  readonly #cache: PageCache;
  readonly #catalog: Catalog;
  readonly #clock: Clock;
  /** By UUID of volume or snapshot. */
  readonly #open = new Map<string, OpenDisk>();
  /** How often each version is taken back at the moment. */
  readonly #takenBack = new Map<string, number>();
  #releaseWaiters: (() => void)[] = [];

  /** Nothing is written, whatever it is. */
  readonly #isReadOnly: boolean;

  constructor(
    environment: DiskEnvironment,
    cache: PageCache,
    catalog: Catalog,
    clock: Clock,
    isReadOnly = false,
  ) {
    this.#isReadOnly = isReadOnly;
    this.#environment = environment;
    this.#cache = cache;
    this.#catalog = catalog;
    this.#clock = clock;
  }

  /** A device of the version. @throws IN_USE while it is being taken away */
  open(version: Version): BlockDevice {
    if (this.isTakenBack(version)) {
      throw new StoreError(
        'IN_USE',
        `${fullName(version)} is being taken away: deleted, rolled back or demoted; try again`,
      );
    }
    let open = this.#open.get(version.uuid);
    if (open === undefined) {
      open = { disk: this.#makeDisk(version), devices: new Set() };
      this.#open.set(version.uuid, open);
    }
    const opened = open;
    const isFrozen = this.#isReadOnly || 'volume' in version || version.isReplica;
    const device = new VersionDevice(open.disk, fullName(version), isFrozen, (released) => {
      opened.devices.delete(released);
      this.#letGo(version.uuid, opened);
      this.#tellReleased();
    });
    open.devices.add(device);
    return device;
  }

  #makeDisk(version: Version): Disk {
    const { tree } = this.#catalog;
    const path = tree.path(version.label);
    const table = new PageTable(this.#cache);
    return new Disk(this.#environment, table, version.sizeBytes, tree.get(version.label)!.tree, path);
  }

  /** True while the version is taken back: nothing may be written to it. */
  isTakenBack({ uuid }: Version): boolean {
    return this.#takenBack.has(uuid);
  }

  find(uuid: string): Disk | undefined {
    return this.#open.get(uuid)?.disk;
  }

  /** Chunks were moved. */
  relocated(moves: MovesByRegion): void {
    for (const { disk } of this.#open.values()) {
      const regions = moves.get(disk.tree);
      if (regions !== undefined) disk.relocated(regions);
    }
  }

  /** Clients that work on the version. */
  attachedTo({ uuid }: Version): number {
    let count = 0;
    for (const device of this.#open.get(uuid)?.devices ?? []) if (device.isAttached) count += 1;
    return count;
  }

  /** Resolves when no client works on any of the versions, or after a while: one that has hung up may take a moment. */
  async detached(versions: readonly Version[], msMax: number): Promise<void> {
    const deadline = this.#clock.now() + msMax;
    while (versions.some((version) => this.attachedTo(version) > 0)) {
      const left = deadline - this.#clock.now();
      if (left <= 0) return;
      await new Promise<void>((resolve) => {
        const cancel = this.#clock.after(left, resolve);
        this.#releaseWaiters.push(() => {
          cancel();
          resolve();
        });
      });
    }
  }

  #tellReleased(): void {
    const waiting = this.#releaseWaiters;
    this.#releaseWaiters = [];
    for (const resolve of waiting) resolve();
  }

  /**
   * Takes all devices of the versions back, and resolves when none of their writes is under way. Nobody opens the
   * versions until the answer is called.
   */
  async takeBack(versions: readonly Version[]): Promise<() => void> {
    for (const { uuid } of versions) {
      this.#takenBack.set(uuid, (this.#takenBack.get(uuid) ?? 0) + 1);
      const open = this.#open.get(uuid);
      if (open === undefined) continue;
      open.disk.isTakenBack = true;
      for (const device of open.devices) device.revoke();
    }
    for (const { uuid } of versions) {
      const disk = this.find(uuid);
      if (disk !== undefined) await new Promise<void>((resolve) => disk.whenIdle(resolve));
    }
    return () => {
      for (const { uuid } of versions) {
        const others = this.#takenBack.get(uuid)! - 1;
        if (others > 0) {
          this.#takenBack.set(uuid, others);
          continue;
        }
        this.#takenBack.delete(uuid);
        const disk = this.find(uuid);
        if (disk !== undefined) disk.isTakenBack = false;
      }
    };
  }

  /** The version is not what it was: whoever opens it from now on gets another disk. Requires: it was taken back. */
  forget(uuid: string): void {
    const open = this.#open.get(uuid);
    this.#open.delete(uuid);
    open?.disk.close();
  }

  #letGo(uuid: string, open: OpenDisk): void {
    const isOver = (): boolean => open.devices.size === 0 && this.#open.get(uuid) === open;
    if (!isOver()) return;
    open.disk.whenIdle(() => {
      if (isOver()) this.forget(uuid);
    });
  }
}
