/**
 * Who writes a volume: guests, or a source that it is a replica of. Two stores that have the volume change roles by a demotion
 * here and a promotion there; what each has keeps its identity, so only the difference goes the other way.
 *
 * Invariants: nothing is lost by a demotion, as what no snapshot has becomes one; whoever writes the volume is disconnected
 * first, and their writes are in. A promotion takes nothing from anybody: what was on its way into the replica is refused when
 * it is to be published (receives.ts).
 */

import { randomUUID } from 'node:crypto';
import type { Clock } from '../base/clock.ts';
import { StoreError } from '../base/errors.ts';
import { isUuid } from '../delta/head.ts';
import { type Catalog, originOf, type Volume } from './catalog.ts';
import type { ChangeWriter } from './change-writer.ts';
import type { Fence } from './fence.ts';
import type { IndexKeeper } from './index-keeper.ts';
import { summarize } from './listing.ts';
import type { OpenDisks } from './open-disks.ts';
import { isAsSnapshot, nameBefore } from './saved-head.ts';
import type { VersionSummary } from './summary.ts';

export interface DemoteOptions {
  /** Disconnects clients that work on the volume. */
  force?: boolean | undefined;
  /** UUID of the volume that it is a replica of from here on, as the first store has it. */
  replicaOf?: string | undefined;
}

export interface Demoted {
  volume: VersionSummary;
  /** The automatic snapshot of what no other one had; null if there was nothing. */
  saved: string | null;
}

export interface RolesNeeds {
  readonly catalog: Catalog;
  readonly writer: ChangeWriter;
  readonly fence: Fence;
  readonly disks: OpenDisks;
  readonly keeper: IndexKeeper;
  readonly clock: Clock;
}

export class Roles {
  readonly #needs: RolesNeeds;

  constructor(needs: RolesNeeds) {
    this.#needs = needs;
  }

  /** Makes a replica a volume that is written. @throws NOT_FOUND, INVALID_ARGUMENT, NO_SPACE, IO, POISONED */
  async promote(name: string): Promise<VersionSummary> {
    const { catalog, writer, clock } = this.#needs;
    return await writer.run(0, async () => {
      const volume = findVolume(catalog, name);
      if (!volume.isReplica)
        throw new StoreError('INVALID_ARGUMENT', `${name} is no replica: it can be written as it is`);
      await writer.append({ op: 'promote', at: clock.now(), volume: volume.uuid });
      return summarize(catalog, volume, clock.now());
    });
  }

  /**
   * Makes a volume a replica, which changes only by what it receives; or a replica one of another volume.
   * @throws NOT_FOUND, INVALID_ARGUMENT, IN_USE (without `force`), NO_SPACE, IO, POISONED
   */
  async demote(name: string, { force = false, replicaOf }: DemoteOptions): Promise<Demoted> {
    const { catalog, writer, fence, disks, keeper, clock } = this.#needs;
    if (replicaOf !== undefined && !isUuid(replicaOf))
      throw new StoreError(
        'INVALID_ARGUMENT',
        'that is no UUID of a volume; `coppice show VOLUME` of its store has it, as origin or else as uuid',
      );
    const find = (): Volume => findVolume(catalog, name);
    return await fence.run(
      () => [find()],
      force,
      async (isFenced) => {
        const volume = find();
        if (!isFenced(volume)) return undefined; // names have been changed
        const origin = replicaOf === undefined || replicaOf === originOf(volume) ? null : replicaOf;
        if (volume.isReplica && origin === null)
          throw new StoreError('INVALID_ARGUMENT', `${name} is a replica already`);
        const at = clock.now();
        const saved = isAsSnapshot(catalog, keeper, volume)
          ? null
          : { snapshot: randomUUID(), name: nameBefore(volume, 'demote', at), label: writer.takeLabel() };
        await writer.append({ op: 'demote', at, volume: volume.uuid, origin, saved });
        disks.forget(volume.uuid);
        const summary = summarize(catalog, volume, clock.now());
        return { volume: summary, saved: saved === null ? null : `${volume.name}@${saved.name}` };
      },
    );
  }
}

/** @throws NOT_FOUND, INVALID_ARGUMENT */
function findVolume(catalog: Catalog, name: string): Volume {
  const found = catalog.find(name);
  if (!('volume' in found)) return found;
  throw new StoreError('INVALID_ARGUMENT', `${name} is a snapshot; only volumes are written or received`);
}
