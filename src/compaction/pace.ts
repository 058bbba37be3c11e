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
/**
 * Segments of free room below which a store is about to be full, and those at which writers wait. A large store begins
 * sooner: the less room there is, the less a round can copy at once, and the fuller its victims are.
 */
const FREE_SEGMENTS_LOW = 8;
const FREE_SEGMENTS_LOW_MAX = 16;
const FREE_SHARE_LOW = 1 / 64;
const FREE_SEGMENTS_MIN = 4;

/** Segments that data need to begin one more: it, and those that they leave (log/append.ts). */
const FREE_SEGMENTS_OF_DATA = 3;

/** `low`: compaction has everything done for room, and soon writers wait. `full`: they are refused. */
export type RoomState = 'enough' | 'low' | 'full';

export function roomStateOf({ freeBytes, segmentBytes }: LogRoom): RoomState {
  if (freeBytes < FREE_SEGMENTS_OF_DATA * segmentBytes) return 'full';
  return freeBytes < FREE_SEGMENTS_LOW * segmentBytes ? 'low' : 'enough';
}

/** Free room below which compaction does everything for more. */
function lowBytes({ usedBytes, freeBytes, segmentBytes }: LogRoom): number {
  const share = FREE_SHARE_LOW * (usedBytes + freeBytes);
  return Math.min(Math.max(FREE_SEGMENTS_LOW * segmentBytes, share), FREE_SEGMENTS_LOW_MAX * segmentBytes);
}

/** Segments that a round leaves: for what writers fill meanwhile, and for the log that says what it did. */
const ROUND_SEGMENTS_LEFT = 5;
const ROUND_SEGMENTS_MAX = 4;
const ROUND_BYTES_MAX = 256 * 2 ** 20;

export type Urgency = 'none' | 'idle' | 'busy' | 'full';

function exceeds({ usedBytes, liveBytes, segmentBytes }: LogRoom, { share, segments }: Bound): boolean {
  return usedBytes > share * liveBytes + segments * segmentBytes;
}

export function urgencyOf(room: LogRoom, isIdle: boolean): Urgency {
  if (room.freeBytes < lowBytes(room)) return 'full';
  if (exceeds(room, BUSY)) return 'busy';
  return isIdle && exceeds(room, IDLE) ? 'idle' : 'none';
}

/** True if writers are to wait for compaction, as long as it gains anything. */
export function mustWait(room: LogRoom): boolean {
  return room.freeBytes < FREE_SEGMENTS_MIN * room.segmentBytes || exceeds(room, LIMIT);
}

/** Share of a segment that must be dead for it to be emptied. */
export function deadShareMin(urgency: Urgency): number {
  return urgency === 'full' ? 0.01 : urgency === 'busy' ? 0.1 : 0.06;
}

/** Live bytes that a round copies at most: each has its costs, and what is copied needs room before anything goes. */
export function roundBytesMax({ freeBytes, segmentBytes }: LogRoom): number {
  // In a full store one victim at least, however much lives in it, if that is at all possible.
  const least = Math.min(0.9 * freeBytes, segmentBytes);
  const room = Math.max(least, freeBytes / 2, freeBytes - ROUND_SEGMENTS_LEFT * segmentBytes);
  return Math.min(ROUND_SEGMENTS_MAX * segmentBytes, ROUND_BYTES_MAX, room);
}
