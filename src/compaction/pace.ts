/**
 * When compaction has something to do, and when writers wait for it. Pure.
 *
 * Space is given for speed: the emptier segments are when they are cleaned, the less is copied. So nothing is done before a
 * share of the log is dead; what is dead in a quiet store is cleared away to a smaller share, while nobody waits for it.
 */

/** How much room the log takes, bytes. */
export interface LogRoom {
  /** Files of segments, without those that are about to go. */
  readonly usedBytes: number;
  readonly liveBytes: number;
  readonly segmentBytes: number;
  /** What the log may still take. */
  readonly freeBytes: number;
}

/** Share of what lives, and segments beside it. */
interface Bound {
  readonly share: number;
  readonly segments: number;
}

const BUSY: Bound = { share: 1.3, segments: 4 };
const IDLE: Bound = { share: 1.12, segments: 3 };
const LIMIT: Bound = { share: 1.42, segments: 6 };
/** Segments of free room below which a store is about to be full, and those at which writers wait. */
const FREE_SEGMENTS_LOW = 8;
const FREE_SEGMENTS_MIN = 4;

/** Segments that data need to begin one more: it, and those that they leave (log/append.ts). */
const FREE_SEGMENTS_OF_DATA = 3;

/** `low`: compaction has everything done for room, and soon writers wait. `full`: they are refused. */
export type RoomState = 'enough' | 'low' | 'full';

export function roomStateOf({ freeBytes, segmentBytes }: LogRoom): RoomState {
  if (freeBytes < FREE_SEGMENTS_OF_DATA * segmentBytes) return 'full';
  return freeBytes < FREE_SEGMENTS_LOW * segmentBytes ? 'low' : 'enough';
}

export type Urgency = 'none' | 'idle' | 'busy' | 'full';

function exceeds({ usedBytes, liveBytes, segmentBytes }: LogRoom, { share, segments }: Bound): boolean {
  return usedBytes > share * liveBytes + segments * segmentBytes;
}

export function urgencyOf(room: LogRoom, isIdle: boolean): Urgency {
  if (room.freeBytes < FREE_SEGMENTS_LOW * room.segmentBytes) return 'full';
  if (exceeds(room, BUSY)) return 'busy';
  return isIdle && exceeds(room, IDLE) ? 'idle' : 'none';
}

/** True if writers are to wait for compaction, as long as it gains anything. */
export function mustWait(room: LogRoom): boolean {
  return room.freeBytes < FREE_SEGMENTS_MIN * room.segmentBytes || exceeds(room, LIMIT);
}

/** Share of a segment that must be dead for it to be emptied. */
export function deadShareMin(urgency: Urgency): number {
  return urgency === 'full' ? 0.02 : urgency === 'busy' ? 0.1 : 0.06;
}
