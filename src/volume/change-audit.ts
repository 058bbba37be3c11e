/**
 * Whether a change of the log can be applied to a catalog. Where the log is whole, it always can; where a change before it
 * is lost, what builds on that one cannot. Pure.
 */

import type { Catalog, Snapshot, Volume } from './catalog.ts';
import type { Change } from './change.ts';

/** Why not, as the end of a sentence; undefined if it can. */
export function changeProblem(catalog: Catalog, change: Change): string | undefined {
  if (typeof change !== 'object' || change === null) return 'it is no change';
  switch (change.op) {
    case 'create':
      return newVolume(catalog, change.name, change.volume) ?? newLabel(catalog, change.label, 0);
    case 'clone':
      return newVolume(catalog, change.name, change.volume) ?? newLabel(catalog, change.label, change.from);
    case 'snapshot':
      return first(change.cuts, (cut) => {
        const volume = volumeOf(catalog, cut.volume);
        if (volume === undefined) return noVolume(cut.volume);
        if (volume.snapshots.has(cut.name)) return `there is a snapshot ${volume.name}@${cut.name} already`;
        return newLabel(catalog, cut.label, volume.label);
      });
    case 'delete':
      return (
        first(change.snapshots, (label) => {
          const found = catalog.at(label);
          return found !== undefined && 'volume' in found ? undefined : `there is no snapshot ${label}`;
        }) ??
        first(change.volumes, (uuid) => (volumeOf(catalog, uuid) === undefined ? noVolume(uuid) : undefined))
      );
    case 'rollback':
      if (volumeOf(catalog, change.volume) === undefined) return noVolume(change.volume);
      return newLabel(catalog, change.label, change.to);
    case 'promote':
    case 'resize':
    case 'schedule':
      return volumeOf(catalog, change.volume) === undefined ? noVolume(change.volume) : undefined;
    case 'rename':
      return catalog.withUuid(change.of) === undefined ? `there is nothing ${change.of}` : undefined;
    case 'hold':
    case 'release':
    case 'priority': {
      const found: Volume | Snapshot | undefined = catalog.withUuid(change.snapshot);
      return found !== undefined && 'volume' in found ? undefined : `there is no snapshot ${change.snapshot}`;
    }
    case 'receive': {
      const { receive, label, from, volume } = change;
      if (catalog.receives.has(receive)) return `there is a receive ${receive} already`;
      if (volume !== null && volumeOf(catalog, volume) === undefined) return noVolume(volume);
      return newLabel(catalog, label, from);
    }
    case 'received':
    case 'abort':
      return catalog.receives.has(change.receive) ? undefined : noReceive(change.receive);
    case 'publish':
      return publishProblem(catalog, change);
    case 'feed': {
      const { direction, volume } = change.feed;
      return direction === 'push' && volumeOf(catalog, volume) === undefined ? noVolume(volume) : undefined;
    }
    case 'feed-end':
    case 'feed-pause':
    case 'feed-success':
      return catalog.feeds.get(change.id) === undefined ? `there is no feed ${change.id}` : undefined;
    case 'demote': {
      const { saved } = change;
      const volume = volumeOf(catalog, change.volume);
      if (volume === undefined) return noVolume(change.volume);
      if (saved === null) return undefined;
      if (volume.snapshots.has(saved.name)) return `there is a snapshot ${volume.name}@${saved.name} already`;
      return newLabel(catalog, saved.label, volume.label);
    }
    default:
      return `it is of an unknown kind: ${JSON.stringify(change).slice(0, 200)}`;
  }
}

function publishProblem(
  catalog: Catalog,
  {
    receive: uuid,
    volume,
    snapshot,
    label,
  }: { receive: string; volume: string; snapshot: string; label: number },
): string | undefined {
  const receive = catalog.receives.get(uuid);
  if (receive === undefined) return noReceive(uuid);
  const { into, volumeName, snapshotName } = receive;
  if (catalog.withUuid(snapshot) !== undefined) return `there is a snapshot ${snapshot} already`;
  if (into === null) {
    const problem = newVolume(catalog, volumeName, volume);
    if (problem !== undefined) return problem;
  } else {
    const found = volumeOf(catalog, volume);
    if (found === undefined) return noVolume(volume);
    if (found.snapshots.has(snapshotName)) return `there is a snapshot ${found.name}@${snapshotName} already`;
  }
  return newLabel(catalog, label, receive.label);
}

/** Applies a change that has not been applied yet; answers why that is not possible. */
export function applyIfPossible(catalog: Catalog, change: Change, sequence: number): string | undefined {
  if (sequence <= catalog.sequence) return undefined;
  const problem = changeProblem(catalog, change);
  if (problem === undefined) catalog.apply(change, sequence);
  return problem;
}

function first<T>(
  items: readonly T[] | undefined,
  problem: (item: T) => string | undefined,
): string | undefined {
  for (const item of items ?? []) {
    const found = problem(item);
    if (found !== undefined) return found;
  }
  return undefined;
}

function volumeOf(catalog: Catalog, uuid: string): Volume | undefined {
  const found = catalog.withUuid(uuid);
  return found !== undefined && !('volume' in found) ? found : undefined;
}

const noReceive = (uuid: string): string => `there is no receive ${uuid}`;
const noVolume = (uuid: string): string => `there is no volume ${uuid}`;

function newVolume(catalog: Catalog, name: string, uuid: string): string | undefined {
  if (catalog.hasVolume(name)) return `there is a volume ${name} already`;
  return catalog.withUuid(uuid) === undefined ? undefined : `there is a volume ${uuid} already`;
}

/** Requires of a new label: that it is new, below a version that there is, and larger. */
function newLabel(catalog: Catalog, label: number, parent: number): string | undefined {
  if (catalog.tree.get(label) !== undefined) return `there is a version ${label} already`;
  if (parent !== 0 && catalog.tree.get(parent) === undefined) return `there is no version ${parent}`;
  return label > parent ? undefined : `version ${label} would stand below ${parent}, which is younger`;
}
