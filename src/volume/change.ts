/**
 * Changes of volumes, snapshots and versions, as the log holds them: JSON, because they are rare, are read when something
 * is wrong, and get new kinds without a new layout. What a change needs (labels, UUIDs, times) is in it: applying it
 * decides nothing.
 */

import type { SnapshotMaker, VersionLabel } from '../base/units.ts';
import type { Schedule } from '../schedule/schedule.ts';
import type { FeedChange } from './feeds.ts';

interface CreateChange {
  op: 'create';
  at: number;
  volume: string;
  name: string;
  size: number;
  label: VersionLabel;
}

/**
 * The head of each volume freezes under the name, and the volume goes on in a child with the label. `by` is missing for what
 * a person made.
 */
interface SnapshotChange {
  op: 'snapshot';
  at: number;
  by?: SnapshotMaker;
  cuts: { volume: string; snapshot: string; name: string; label: VersionLabel }[];
}

interface CloneChange {
  op: 'clone';
  at: number;
  /** Label of the snapshot. */
  from: VersionLabel;
  volume: string;
  name: string;
  size: number;
  label: VersionLabel;
}

/** Names go at once; pointers go in the background. A volume goes with all its snapshots; others go by their labels. */
interface DeleteChange {
  op: 'delete';
  at: number;
  volumes: string[];
  snapshots: VersionLabel[];
}

/** The volume goes on in a child of `to`; its former head stays as a snapshot, or is deleted if it changed nothing. */
interface RollbackChange {
  op: 'rollback';
  at: number;
  volume: string;
  to: VersionLabel;
  size: number;
  label: VersionLabel;
  saved: { snapshot: string; name: string } | null;
}

/** `of` is the UUID of a volume or snapshot. */
interface RenameChange {
  op: 'rename';
  at: number;
  of: string;
  name: string;
}

/** What is cut off reads as zeros from here on, for ever: `cut` chunks of the version `label`. */
export interface ResizeChange {
  op: 'resize';
  at: number;
  volume: string;
  size: number;
  cut: { label: VersionLabel; first: number; count: number } | null;
}

/** A hold of the same owner is replaced. */
interface HoldChange {
  op: 'hold';
  at: number;
  snapshot: string;
  owner: string;
  reason: string | null;
  until: number | null;
}

interface ReleaseChange {
  op: 'release';
  at: number;
  snapshot: string;
  owner: string;
}

interface PriorityChange {
  op: 'priority';
  at: number;
  snapshot: string;
  priority: number;
}

/** The schedule of a volume, in the place of the one that it had; null: it has none any more. */
interface ScheduleChange {
  op: 'schedule';
  at: number;
  volume: string;
  schedule: Schedule | null;
}

/**
 * A version begins that is being received: hidden, below `from` (0: below nothing). It becomes the snapshot `name` of the
 * volume `volume`, or of a new one if that is null, which is called `volumeName`.
 */
export interface ReceiveChange {
  op: 'receive';
  at: number;
  receive: string;
  label: VersionLabel;
  from: VersionLabel;
  /** Of the version while it is received: the larger one of its base and itself. */
  size: number;
  volume: string | null;
  volumeName: string;
  name: string;
  source: ReceiveSource;
}

/** What a stream says that is received: UUIDs are those of the first store that had the version. */
export interface ReceiveSource {
  store: string;
  volume: string;
  target: { uuid: string; size: number; created: number; by?: SnapshotMaker };
  base: string | null;
}

/** All of the stream up to this byte of the disk is in. */
interface ReceivedChange {
  op: 'received';
  receive: string;
  position: number;
}

/** What was received gets its name, and the volume goes on in a child with the label; its former head goes. */
interface PublishChange {
  op: 'publish';
  at: number;
  receive: string;
  /** UUIDs of the volume, which may be a new one, and of the snapshot. */
  volume: string;
  snapshot: string;
  label: VersionLabel;
}

/** What was received goes. */
interface AbortChange {
  op: 'abort';
  at: number;
  receive: string;
}

/** A replica becomes a volume that is written. */
interface PromoteChange {
  op: 'promote';
  at: number;
  volume: string;
}

/**
 * A volume becomes a replica, of the volume with the UUID `origin` unless that is null. If its head has anything that no
 * snapshot has, it freezes as `saved`, and the volume goes on in a child of it with the label.
 */
interface DemoteChange {
  op: 'demote';
  at: number;
  volume: string;
  origin: string | null;
  saved: { snapshot: string; name: string; label: VersionLabel } | null;
}

export type Change =
  | CreateChange
  | SnapshotChange
  | CloneChange
  | DeleteChange
  | RollbackChange
  | RenameChange
  | ResizeChange
  | HoldChange
  | ReleaseChange
  | PriorityChange
  | ScheduleChange
  | ReceiveChange
  | ReceivedChange
  | PublishChange
  | AbortChange
  | FeedChange
  | PromoteChange
  | DemoteChange;

/** Labels that a change makes. */
export function labelsOf(change: Change): VersionLabel[] {
  if (change.op === 'snapshot') return change.cuts.map((cut) => cut.label);
  if (change.op === 'demote') return change.saved === null ? [] : [change.saved.label];
  return 'label' in change ? [change.label] : [];
}
