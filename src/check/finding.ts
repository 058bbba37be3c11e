/**
 * What a check says: findings, each with a code that never changes its meaning, and what becomes of it. No I/O.
 *
 * Invariants: a `note` is normal, or of no consequence, and leaves a store clean; `damage` does not. The severity goes
 * with the code. ARCHITECTURE.md has the table of codes, held to this one by a test.
 */

/** What mends it: the next opening of the store, `fsck --repair`, or nothing, because the bytes are gone. */
export type Mend = 'open' | 'repair' | 'none';

/** Bytes of a disk. */
export interface AffectedExtent {
  offsetBytes: number;
  lengthBytes: number;
}

/** A volume, or a snapshot of it, that reads what is damaged. */
export interface AffectedVersion {
  volume: string;
  snapshot?: string;
  /** In order; the first of them, where there are many. */
  extents: AffectedExtent[];
  /** How many more extents there are. */
  moreExtents?: number;
}

export interface Finding {
  severity: 'note' | 'damage';
  /** Stable: one of `FINDINGS`. */
  code: string;
  message: string;
  segment?: number;
  /** In the segment, bytes. */
  offset?: number;
  /** User data that it reaches; the first of them, where there are many. */
  affects?: AffectedVersion[];
  /** How many more versions read it. */
  moreVersions?: number;
  /** Missing where there is nothing to mend. */
  mend?: Mend;
}

/** Codes are stable. What each means stands in ARCHITECTURE.md. */
export const FINDINGS = {
  // The superblock.
  SUPERBLOCK_SLOT_DAMAGED: 'damage',
  SUPERBLOCK_SLOTS_DIFFER: 'damage',
  SUPERBLOCK_LOST: 'damage',
  BASE_LOST: 'damage',
  NUMBERS_BEHIND: 'damage',
  // Segments.
  SEGMENT_MISSING: 'damage',
  LOG_SEGMENT_LOST: 'damage',
  LOG_HEADER_LOST: 'damage',
  SEGMENT_HEADER_DAMAGED: 'damage',
  SEGMENT_HEADER_DIFFERS: 'damage',
  SEGMENT_LINK_DIFFERS: 'damage',
  FOOTER_DAMAGED: 'damage',
  FOOTER_DIFFERS: 'damage',
  FOOTER_TORN: 'note',
  NO_FOOTER: 'note',
  LEFTOVER_SEGMENT: 'note',
  // Records and chunks.
  LOG_RECORD_DAMAGED: 'damage',
  LOG_END_LOST: 'damage',
  LOG_END_UNSURE: 'note',
  RECORD_COPY_DAMAGED: 'damage',
  RECORD_UNREADABLE: 'damage',
  UNREADABLE: 'damage',
  PADDING_DAMAGED: 'note',
  CHUNK_DAMAGED: 'damage',
  DEAD_CHUNK_DAMAGED: 'note',
  UNKNOWN_VERSION: 'damage',
  CUT_OFF_RECORDS: 'note',
  TORN_TAIL: 'note',
  UNPROVEN_TORN: 'note',
  // Volumes, snapshots, versions.
  CHANGE_UNUSABLE: 'damage',
  CATALOG_UNREADABLE: 'damage',
  CATALOG_DIFFERS: 'damage',
  CATALOG_INCOMPLETE: 'damage',
  VERSION_LOST: 'damage',
  OLD_DATA_POSSIBLE: 'damage',
  TREE_DAMAGED: 'damage',
  VERSION_UNNAMED: 'damage',
  GHOST_IDLE: 'damage',
  NAME_DAMAGED: 'damage',
  HOLD_DAMAGED: 'damage',
  SCHEDULE_DAMAGED: 'damage',
  FEED_DAMAGED: 'damage',
  DELETE_DAMAGED: 'damage',
  MERGE_DAMAGED: 'damage',
  LEDGER_DAMAGED: 'damage',
  UNFINISHED_DELETE: 'note',
  UNFINISHED_RECEIVE: 'note',
  // The index.
  NO_INDEX: 'note',
  OTHER_INDEX: 'note',
  OLD_INDEX: 'note',
  INDEX_NOT_COMPARED: 'note',
  INDEX_DAMAGED: 'damage',
  INDEX_AHEAD: 'damage',
  INDEX_DIFFERS: 'damage',
  ORPHAN_POINTERS: 'damage',
  USAGE_DIFFERS: 'damage',
  INDEX_LEFTOVER_ROWS: 'note',
  // The directory.
  LEFTOVER_FILE: 'note',
  UNKNOWN_FILE: 'note',
  STORE_IN_USE: 'note',
} as const satisfies Record<string, Finding['severity']>;

export type FindingCode = keyof typeof FINDINGS;

/** Where it is, what it reaches, what mends it. */
export type FindingDetails = Omit<Finding, 'severity' | 'code' | 'message'>;

export function finding(code: FindingCode, message: string, details: FindingDetails = {}): Finding {
  return { severity: FINDINGS[code], code, message, ...details };
}
