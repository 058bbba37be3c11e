/** What the store tells about itself, as the doors print it. Types only. */

export interface VersionSummary {
  /** `volume`, or `volume@snapshot` in full. */
  name: string;
  kind: 'volume' | 'snapshot';
  uuid: string;
  /** Bytes. */
  size: number;
  /** ISO 8601. */
  created: string;
  /** Full name of the nearest snapshot that it descends from, or null. */
  parent: string | null;
}

export interface StoreStatus {
  uuid: string;
  formatRevision: number;
  /** Who has the store open. */
  owner: { pid: number; since: string };
  volumes: number;
  snapshots: number;
  segments: number;
  segmentBytes: number;
  capacityBytes: number | null;
  /** Bytes of all segment files' used parts: headers, records, footers. */
  logBytes: number;
  /** Bytes of chunks that some version reads. */
  liveBytes: number;
  lastCheckpoint: { generation: number; at: string | null };
  cache: { usedBytes: number; boundBytes: number };
  /** `open`, or `poisoned` after a failed sync: reads only until it is reopened. */
  state: 'open' | 'poisoned';
}

/** What a check found. A `note` is normal (a torn tail, an unfinished delete) and does not make the store unclean. */
export interface Finding {
  severity: 'note' | 'damage';
  /** Stable. */
  code: string;
  message: string;
}
