/**
 * The catalog: volumes, snapshots and the version tree, as a state that changes of the log are applied to. Pure.
 *
 * Invariants: every volume's head is a leaf of the version tree; a snapshot's version is never written again; a version
 * without a name is hidden in the tree, and either waits for its pointers to be taken out (`pending`), or is a ghost
 * with at least two children. A version that is being received is a volume apart: nobody can name it before it is whole.
 */

import { StoreError } from '../base/errors.ts';
import type { SegmentNumber, Sequence, SnapshotMaker, VersionLabel } from '../base/units.ts';
import { DEAD, type Destinies } from '../index/heirs.ts';
import { type VersionNode, VersionTree } from '../index/version-tree.ts';
import type { Schedule } from '../schedule/schedule.ts';
import type { Change, ReceiveChange, ReceiveSource } from './change.ts';
import { feedOwner, Feeds } from './feeds.ts';

/** A claim on a snapshot: it is not deleted as long as one lasts. */
export interface Hold {
  readonly owner: string;
  readonly reason: string | null;
  /** Milliseconds since 1970; null: until it is released. */
  readonly until: number | null;
  readonly at: number;
}

export interface Volume {
  readonly uuid: string;
  name: string;
  sizeBytes: number;
  /** Milliseconds since 1970. */
  readonly created: number;
  /** The head: what writes are labelled with. */
  label: VersionLabel;
  /** By name, oldest first. */
  readonly snapshots: Map<string, Snapshot>;
  /** UUID of the volume that this one was received from, as the first store has it; null for one that was made here. */
  origin: string | null;
  /** It changes only by what it receives, and is not written. */
  isReplica: boolean;
  /** When snapshots of it are made, and which are kept; of a replica, which are kept. */
  schedule: Schedule | null;
}

/** A version on its way into the store, as a volume that has no name. */
export interface Receive extends Volume {
  /** The volume that it will be a snapshot of; null for a new one. */
  readonly into: string | null;
  readonly volumeName: string;
  readonly snapshotName: string;
  readonly source: ReceiveSource;
  /** All of the stream up to this byte of the disk is in. */
  position: number;
}

export interface Snapshot {
  readonly uuid: string;
  readonly volume: Volume;
  name: string;
  readonly sizeBytes: number;
  readonly created: number;
  readonly label: VersionLabel;
  /** Made by a rollback or a demotion, of what the volume was before. */
  readonly isAutomatic: boolean;
  /** Null for one that a person made, a rollback or a demotion. */
  readonly madeBy: SnapshotMaker | null;
  /** -128 to 127: the lower go first when the store is full; 127 never. */
  priority: number;
  holds: readonly Hold[];
  /** UUID that it has in the first store that had it; null for one that was made here. */
  readonly origin: string | null;
}

export interface Merged {
  readonly heir: VersionLabel;
  /** No segment with a higher number has anything under the label. */
  readonly until: SegmentNumber;
}

export class Catalog {
  readonly tree = new VersionTree();
  /** Hidden versions whose pointers are still to be taken out. */
  readonly pending = new Set<VersionLabel>();
  /** Versions that are gone, and who took their pointers over: what the log has under their labels is theirs. */
  readonly merged = new Map<VersionLabel, Merged>();
  /** By UUID. */
  readonly receives = new Map<string, Receive>();
  readonly feeds = new Feeds();
  readonly #volumes = new Map<string, Volume>();
  readonly #byUuid = new Map<string, Volume | Snapshot>();
  readonly #byLabel = new Map<VersionLabel, Volume | Snapshot>();
  snapshotCount = 0;
  /** How often versions were taken out of the tree since the store was opened. */
  spliceCount = 0;
  /** Sequence of the last change. */
  sequence: Sequence = 0;

  volumes(): Volume[] {
    return [...this.#volumes.values()];
  }

  /** Volume or snapshot by its full name. @throws NOT_FOUND */
  find(name: string): Volume | Snapshot {
    const at = name.indexOf('@');
    const volume = this.#volumes.get(at < 0 ? name : name.slice(0, at));
    if (volume === undefined)
      throw new StoreError('NOT_FOUND', `there is no volume ${quoted(name.split('@')[0]!)}`);
    if (at < 0) return volume;
    const snapshot = volume.snapshots.get(name.slice(at + 1));
    if (snapshot === undefined) throw new StoreError('NOT_FOUND', `there is no snapshot ${quoted(name)}`);
    return snapshot;
  }

  hasVolume(name: string): boolean {
    return this.#volumes.has(name);
  }

  withUuid(uuid: string): Volume | Snapshot | undefined {
    return this.#byUuid.get(uuid);
  }

  /** The volume or snapshot that a version is, if it can be named. */
  at(label: VersionLabel): Volume | Snapshot | undefined {
    return this.#byLabel.get(label);
  }

  /** The version that has what the log holds under `label`: itself, or who took it over; undefined if it died. */
  holderOf(label: VersionLabel): VersionNode | undefined {
    let at = label;
    for (;;) {
      const node = this.tree.get(at);
      const merged = node === undefined ? this.merged.get(at) : undefined;
      if (merged === undefined) return node;
      at = merged.heir;
    }
  }

  /** Versions without a name, ghosts among them. */
  *hidden(): Generator<VersionLabel> {
    for (const { label, hidden } of this.tree.nodes()) if (hidden > 0) yield label;
  }

  /** Forgets who took over labels of which no segment from `lowest` on has anything. */
  forgetMerged(lowest: SegmentNumber): void {
    for (const [label, { until }] of this.merged) if (until < lowest) this.merged.delete(label);
  }

  /** The nearest snapshot above a version, or undefined. */
  snapshotAbove(label: VersionLabel): Snapshot | undefined {
    for (let at = this.tree.get(label)!.parent; at !== 0; at = this.tree.get(at)!.parent) {
      const found = this.#byLabel.get(at);
      if (found !== undefined && 'volume' in found) return found;
    }
    return undefined;
  }

  /** For messages: the full name of what a version is. */
  describe(label: VersionLabel): string {
    const found = this.#byLabel.get(label);
    return found === undefined ? `version ${label}` : fullName(found);
  }

  /** The names of what a version is; undefined if it has none. */
  nameOf(label: VersionLabel): { volume: string; snapshot?: string } | undefined {
    const found = this.#byLabel.get(label);
    if (found === undefined) return undefined;
    return 'volume' in found ? { volume: found.volume.name, snapshot: found.name } : { volume: found.name };
  }

  /** Applies a change that the log holds under `sequence`. */
  apply(change: Change, sequence: Sequence): void {
    if (sequence <= this.sequence) return; // read again on replay
    this.sequence = sequence;
    switch (change.op) {
      case 'create':
      case 'clone': {
        const { volume: uuid, name, size: sizeBytes, at: created, label } = change;
        this.tree.add(label, change.op === 'clone' ? change.from : 0, sequence);
        const made = {
          origin: null,
          isReplica: false,
          schedule: null,
          snapshots: new Map<string, Snapshot>(),
        };
        this.addVolume({ uuid, name, sizeBytes, created, label, ...made });
        return;
      }
      case 'snapshot':
        for (const cut of change.cuts) {
          const volume = this.#volume(cut.volume);
          this.#freeze(volume, cut.snapshot, cut.name, change.at, {
            isAutomatic: false,
            madeBy: change.by ?? null,
          });
          this.#moveHead(volume, volume.label, cut.label, sequence);
        }
        return;
      case 'delete':
        for (const label of change.snapshots) this.#removeSnapshot(this.#snapshotAt(label), sequence);
        for (const uuid of change.volumes) this.#removeVolume(this.#volume(uuid), sequence);
        return;
      case 'rollback': {
        const volume = this.#volume(change.volume);
        const { saved } = change;
        if (saved !== null)
          this.#freeze(volume, saved.snapshot, saved.name, change.at, { isAutomatic: true, madeBy: null });
        else this.#hide(volume.label, sequence);
        this.#moveHead(volume, change.to, change.label, sequence);
        volume.sizeBytes = change.size;
        return;
      }
      case 'rename':
        this.#rename(change.of, change.name);
        return;
      case 'resize':
        this.#volume(change.volume).sizeBytes = change.size;
        return;
      case 'hold': {
        const { owner, reason, until, at } = change;
        const snapshot = this.#snapshot(change.snapshot);
        snapshot.holds = [...without(snapshot.holds, owner), { owner, reason, until, at }];
        return;
      }
      case 'release': {
        const snapshot = this.#snapshot(change.snapshot);
        snapshot.holds = without(snapshot.holds, change.owner);
        return;
      }
      case 'priority':
        this.#snapshot(change.snapshot).priority = change.priority;
        return;
      case 'schedule':
        this.#volume(change.volume).schedule = change.schedule;
        return;
      case 'receive':
        this.tree.add(change.label, change.from, sequence);
        this.addReceive(receiveOf(change));
        return;
      case 'received':
        this.#receive(change.receive).position = change.position;
        return;
      case 'publish':
        this.#publish(this.#receive(change.receive), change, sequence);
        return;
      case 'abort': {
        const { uuid, label } = this.#receive(change.receive);
        this.receives.delete(uuid);
        this.#hide(label, sequence);
        return;
      }
      case 'feed':
      case 'feed-pause':
      case 'feed-success':
        this.feeds.apply(change);
        return;
      case 'feed-end':
        for (const { snapshots } of this.volumes())
          for (const each of snapshots.values()) each.holds = without(each.holds, feedOwner(change.id));
        this.feeds.apply(change);
        return;
      case 'promote':
        this.#volume(change.volume).isReplica = false;
        return;
      case 'demote': {
        const volume = this.#volume(change.volume);
        const { saved, origin } = change;
        if (saved !== null) {
          this.#freeze(volume, saved.snapshot, saved.name, change.at, { isAutomatic: true, madeBy: null });
          this.#moveHead(volume, volume.label, saved.label, sequence);
        }
        volume.isReplica = true;
        volume.origin = origin ?? volume.origin;
        return;
      }
      default:
        throw new StoreError('CORRUPTION', `the log holds an unknown change ${JSON.stringify(change)}`);
    }
  }

  /** @throws CORRUPTION: the log never names what there is not */
  #volume(uuid: string): Volume {
    const found = this.#byUuid.get(uuid);
    if (found !== undefined && !('volume' in found)) return found;
    throw new StoreError('CORRUPTION', `the log names a volume ${uuid} that there is not`);
  }

  #snapshot(uuid: string): Snapshot {
    const found = this.#byUuid.get(uuid);
    if (found !== undefined && 'volume' in found) return found;
    throw new StoreError('CORRUPTION', `the log names a snapshot ${uuid} that there is not`);
  }

  #receive(uuid: string): Receive {
    const found = this.receives.get(uuid);
    if (found !== undefined) return found;
    throw new StoreError('CORRUPTION', `the log names a receive ${uuid} that there is not`);
  }

  #snapshotAt(label: VersionLabel): Snapshot {
    const found = this.#byLabel.get(label);
    if (found !== undefined && 'volume' in found) return found;
    throw new StoreError('CORRUPTION', `the log names a snapshot with the label ${label} that there is not`);
  }

  addVolume(volume: Volume): void {
    this.#volumes.set(volume.name, volume);
    this.#byUuid.set(volume.uuid, volume);
    this.#byLabel.set(volume.label, volume);
  }

  addSnapshot(snapshot: Snapshot): void {
    snapshot.volume.snapshots.set(snapshot.name, snapshot);
    this.#byUuid.set(snapshot.uuid, snapshot);
    this.#byLabel.set(snapshot.label, snapshot);
    this.snapshotCount += 1;
  }

  addReceive(receive: Receive): void {
    this.receives.set(receive.uuid, receive);
    this.#byLabel.set(receive.label, receive);
  }

  #publish(
    receive: Receive,
    {
      volume: uuid,
      snapshot,
      label,
      at,
    }: { volume: string; snapshot: string; label: VersionLabel; at: number },
    sequence: Sequence,
  ): void {
    const { source, snapshotName: name, label: received } = receive;
    const { uuid: origin, size: sizeBytes, created, by = null } = source.target;
    this.receives.delete(receive.uuid);
    if (receive.into === null) {
      const replica = { origin: source.volume, isReplica: true, schedule: null, snapshots: new Map() };
      this.addVolume({ uuid, name: receive.volumeName, sizeBytes, created: at, label: received, ...replica });
    } else this.#hide(this.#volume(uuid).label, sequence);
    const volume = this.#volume(uuid);
    const fixed = { sizeBytes, created, label: received, origin, isAutomatic: false, madeBy: by };
    this.addSnapshot({ uuid: snapshot, volume, name, ...fixed, priority: 0, holds: [] });
    this.#moveHead(volume, received, label, sequence);
    volume.sizeBytes = sizeBytes;
  }

  #freeze(
    volume: Volume,
    uuid: string,
    name: string,
    created: number,
    made: Pick<Snapshot, 'isAutomatic' | 'madeBy'>,
  ): void {
    const { label, sizeBytes } = volume;
    const plain = { priority: 0, holds: [], origin: null };
    this.addSnapshot({ uuid, volume, name, sizeBytes, created, label, ...made, ...plain });
  }

  /** The volume goes on in a child of `parent`. */
  #moveHead(volume: Volume, parent: VersionLabel, label: VersionLabel, birth: Sequence): void {
    this.tree.add(label, parent, birth);
    volume.label = label;
    this.#byLabel.set(label, volume);
  }

  #removeSnapshot(snapshot: Snapshot, sequence: Sequence): void {
    snapshot.volume.snapshots.delete(snapshot.name);
    this.#byUuid.delete(snapshot.uuid);
    this.#hide(snapshot.label, sequence);
    this.snapshotCount -= 1;
  }

  #removeVolume(volume: Volume, sequence: Sequence): void {
    for (const snapshot of volume.snapshots.values()) this.#removeSnapshot(snapshot, sequence);
    this.#volumes.delete(volume.name);
    this.#byUuid.delete(volume.uuid);
    this.feeds.endOf(volume.uuid, volume.name);
    this.#hide(volume.label, sequence);
  }

  #hide(label: VersionLabel, sequence: Sequence): void {
    this.#byLabel.delete(label);
    this.tree.hide(label, sequence);
    this.pending.add(label);
  }

  #rename(uuid: string, name: string): void {
    const found = this.#byUuid.get(uuid);
    if (found === undefined)
      throw new StoreError('CORRUPTION', `the log names a version ${uuid} that there is not`);
    if (!('volume' in found)) {
      this.#volumes.delete(found.name);
      this.feeds.renamed(found.name, name);
      found.name = name;
      this.#volumes.set(name, found);
      return;
    }
    // In its place among the snapshots: they stand in the order of their making.
    const { snapshots } = found.volume;
    const all = [...snapshots.values()];
    found.name = name;
    snapshots.clear();
    for (const each of all) snapshots.set(each.name, each);
  }

  /**
   * Hidden versions have no pointers any more that their destinies do not let them keep: those that go are gone. Nothing is
   * in the log under their labels behind the segment `until`.
   */
  splice(hidden: Iterable<VersionLabel>, destinies: Destinies, until: SegmentNumber): void {
    // Children before their parents: their labels are larger.
    const labels = [...destinies.keys()].sort((a, b) => b - a);
    for (const label of labels) {
      const heir = destinies.get(label)!;
      if (heir === label) continue;
      this.tree.splice(label);
      if (heir !== DEAD) this.merged.set(label, { heir, until });
    }
    for (const label of hidden) this.pending.delete(label);
    this.spliceCount += 1;
  }
}

/** `#` is in no name that anybody can give. */
export function receiveOf(change: Omit<ReceiveChange, 'op' | 'from'> & { position?: number }): Receive {
  const { receive: uuid, label, size: sizeBytes, volumeName, name: snapshotName, source } = change;
  return {
    uuid,
    name: `${volumeName}@${snapshotName}#receiving`,
    sizeBytes,
    created: change.at,
    label,
    snapshots: new Map(),
    origin: source.volume,
    isReplica: false,
    schedule: null,
    into: change.volume,
    volumeName,
    snapshotName,
    source,
    position: change.position ?? 0,
  };
}

/** What a version is, whichever store has it: the UUID that it has in the first one. */
export function originOf({ origin, uuid }: Volume | Snapshot): string {
  return origin ?? uuid;
}

function without(holds: readonly Hold[], owner: string): Hold[] {
  return holds.filter((hold) => hold.owner !== owner);
}

export function fullName(of: Volume | Snapshot): string {
  return 'volume' in of ? `${of.volume.name}@${of.name}` : of.name;
}

/** @throws CORRUPTION */
export function parseJson<T>(text: string): T {
  try {
    return JSON.parse(text) as T;
  } catch (error) {
    throw new StoreError('CORRUPTION', 'a text of the log is no JSON', error);
  }
}

function quoted(name: string): string {
  return JSON.stringify(name.length > 200 ? `${name.slice(0, 200)}...` : name);
}
