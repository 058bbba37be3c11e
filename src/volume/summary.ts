/** What the store tells about itself, as the doors print it. Types only. */

import type { SnapshotMaker } from '../base/units.ts';
import type { Finding } from '../check/finding.ts';
import type { Rule } from '../schedule/schedule.ts';

export type { AffectedVersion, Finding } from '../check/finding.ts';

/** A claim on a snapshot: as long as it lasts, nobody deletes it. */
export interface HoldSummary {
  owner: string;
  reason: string | null;
  /** ISO 8601; null: until it is released. */
  until: string | null;
  since: string;
}

export interface VersionSummary {
  /** `volume`, or `volume@snapshot` in full; a ghost's is `#` and its label. */
  name: string;
  /** A ghost is a version that was deleted and that others still inherit from: told only to who asks for ghosts. */
  kind: 'volume' | 'snapshot' | 'ghost';
  uuid: string;
  /** Bytes. */
  size: number;
  /** ISO 8601. */
  created: string;
  /** Full name of the nearest snapshot (or ghost, where they are told) that it descends from, or null. */
  parent: string | null;
  /** UUID that it has in the store that it was received from, or that one from; null if it was made here. */
  origin: string | null;
  /** A volume that changes only by what it receives, and is only read. */
  replica: boolean;
  /** A snapshot that a rollback or a demotion made of what the volume was before. */
  automatic: boolean;
  /** Who made a snapshot, here or where it was received from; null for one that a person made, or a rollback. */
  madeBy: SnapshotMaker | null;
  /** Of a snapshot, -128 to 127; 0 for others. */
  priority: number;
  /** Those that have not expired. */
  holds: HoldSummary[];
}

/** A version that is being received, or whose stream was cut off. */
export interface ReceiveSummary {
  receive: string;
  /** What it will be called, in full. */
  name: string;
  /** UUID of the version, and of its base; null without. */
  target: string;
  base: string | null;
  /** Bytes of its disk, and those up to which all has been received, and is on the disk. */
  size: number;
  position: number;
  /** ISO 8601. */
  began: string;
  /** For `coppice send --resume`. */
  token: string;
  /** The volume that it belongs to was deleted: it can only be ended. */
  volumeGone: boolean;
}

/** The schedule of a volume, and how it goes. Times are ISO 8601. */
export interface ScheduleSummary {
  volume: string;
  uuid: string;
  timeZone: string;
  rules: readonly Rule[];
  hookBefore: string | null;
  hookAfter: string | null;
  since: string;
  /** A replica makes no snapshots, and keeps those that it has received by the rules. */
  replica: boolean;
  /** The full name of the last snapshot that it made, or received; null if it has none any more. */
  last: string | null;
  /** Null if nothing is due, or nobody can say. */
  nextDue: string | null;
  /** Why the last attempt failed; null if it did not, or the server has been started since. */
  error: { at: string; message: string } | null;
}

/** What a schedule means for a snapshot. */
export interface PruneDecision {
  volume: string;
  /** Full name. */
  snapshot: string;
  /** ISO 8601. */
  created: string;
  /** `kept` by rules; `exempt`: whatever rules say. */
  verdict: 'kept' | 'exempt' | 'goes';
  why: string[];
}

/** How far the work on a feed is. Bytes are of the disk. */
export interface FeedProgress {
  /** `failing`: the last run failed, and the next one waits. */
  state: 'idle' | 'connecting' | 'sending' | 'receiving' | 'failing';
  doneBytes: number;
  /** Null where nobody knows yet. */
  totalBytes: number | null;
  /** Of the last run; null if it went well. */
  error: string | null;
  /** When a run began last behind which the other end had all that there was then; null if there was none since the start. */
  currentAt: number | null;
  /** Milliseconds since 1970. */
  nextAt: number | null;
}

/** What is to be replicated, and how that goes. */
export interface FeedSummary {
  id: string;
  direction: 'push' | 'pull';
  /** Names of the volume here, and at the other end. */
  volume: string;
  peerVolume: string;
  address: string;
  everyMs: number;
  /** Bytes a second; null: no bound. */
  rate: number | null;
  snapshots: 'made' | 'all';
  state: FeedProgress['state'] | 'paused';
  /** The newest snapshot that has arrived: UUID, name, when it was made; and when that was known. ISO 8601. */
  last: { at: string; snapshot: string; name: string; created: string; bytes: number } | null;
  /** How long ago the replica was known to have all: since that snapshot, or the last run that found nothing new. */
  lagMs: number | null;
  doneBytes: number;
  totalBytes: number | null;
  error: string | null;
  /** ISO 8601: when the next run begins, as long as nothing changes that. */
  next: string | null;
  /** Full name of the snapshot that is held here for it. */
  holding: string | null;
}

/** Bytes of chunks: read by a version; of those, read by no other; and by others too. */
export interface SpaceUse {
  referenced: number;
  exclusive: number;
  shared: number;
}

export type VersionWithSpace = VersionSummary & SpaceUse;

/** Where two versions differ. Bytes, whole chunks but at the end of a disk. */
export interface DiffExtent {
  offset: number;
  length: number;
  /** What the second version has there: data, or a hole, which reads as zeros. */
  type: 'data' | 'hole';
}

export interface StatusOptions {
  /** As of the last checkpoint: counts may lag behind, and nothing is written for them. */
  readonly atCheckpoint?: boolean | undefined;
}

export interface StoreStatus {
  uuid: string;
  formatRevision: number;
  /** Who has the store open. */
  owner: { pid: number; since: string };
  volumes: number;
  snapshots: number;
  /** Deleted versions whose space is still being given back in the background. */
  deleting: number;
  segments: number;
  segmentBytes: number;
  capacityBytes: number | null;
  /** Bytes of all segment files' used parts: headers, records, footers. */
  logBytes: number;
  /** Bytes of chunks that some version reads. */
  liveBytes: number;
  /** What the log may still take, and whether that is enough: beyond `full` writes get no space. */
  room: { state: 'enough' | 'low' | 'full'; freeBytes: number };
  /** What compaction does, and has done since the store was opened. Bytes. */
  compaction: {
    state: 'idle' | 'working' | 'paused' | 'failing';
    rounds: number;
    movedBytes: number;
    writtenBytes: number;
    freedBytes: number;
  };
  lastCheckpoint: { generation: number; at: string | null };
  cache: { usedBytes: number; boundBytes: number };
  scrub: ScrubState;
  schedules: ScheduleSummary[];
  /** What is replicated. */
  feeds: FeedSummary[];
  /** `open`; `poisoned` after a failed sync: reads only until it is reopened; `read-only`: opened so, and never written. */
  state: 'open' | 'poisoned' | 'read-only';
  /** What was found damaged when it was opened. */
  damage: Finding[];
}

/** How far a scrub is, and what it has found since the step before. Bytes. */
export interface ScrubStep {
  readBytes: number;
  totalBytes: number;
  findings: Finding[];
}

/** What scrubs of an open store do, and what the last one found: known until the store is closed. */
export interface ScrubState {
  state: 'idle' | 'running';
  /** Of the one that runs. */
  readBytes: number;
  totalBytes: number;
  /** The last one that ended. */
  last: {
    /** ISO 8601: when it ended. */
    at: string;
    readBytes: number;
    /** Findings that are damage. */
    damage: number;
    /** False: it was stopped on the way, and says nothing about the rest. */
    isWhole: boolean;
  } | null;
}
