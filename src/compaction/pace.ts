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
  /** What of the rest comes back soon: a round under way has taken it, or emptied it. */
  readonly comingBytes: number;
  /** What the chain may take before it begins another segment. */
  readonly chainBytes: number;
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
const FREE_SHARE_LOW = 1 / 32;
/** Segments that can still be written below which writers wait: those of the chain included that have room. */
const WRITABLE_SEGMENTS_MIN = 5.5;
/** The same where writers are slow: with what comes back, they have left so much. */
const WRITABLE_SEGMENTS_CALM = 7;
const WRITABLE_SEGMENTS_MIN_CALM = 4;

/** Segments that data need to begin one more: it, and those that they leave (log/append.ts). */
const FREE_SEGMENTS_OF_DATA = 3;

/** `low`: compaction has everything done for room, and soon writers wait. `full`: they are refused. */
export type RoomState = 'enough' | 'low' | 'full';

export function roomStateOf({
  freeBytes,
  segmentBytes,
}: Pick<LogRoom, 'freeBytes' | 'segmentBytes'>): RoomState {
  if (freeBytes < FREE_SEGMENTS_OF_DATA * segmentBytes) return 'full';
  return freeBytes < FREE_SEGMENTS_LOW * segmentBytes ? 'low' : 'enough';
}

/** Free room below which compaction does everything for more. */
function lowBytes({ usedBytes, freeBytes, segmentBytes }: LogRoom): number {
  const share = FREE_SHARE_LOW * (usedBytes + freeBytes);
  return Math.min(Math.max(FREE_SEGMENTS_LOW * segmentBytes, share), FREE_SEGMENTS_LOW_MAX * segmentBytes);
}

/** Free segments with which there is room for what is written during a checkpoint. */
const CHECKPOINT_SEGMENTS = 12;
/** Log behind the checkpoint, in segments and in shares of what lives, that is worth one before victims are chosen. */
const BEHIND_SEGMENTS = 4;
const BEHIND_SHARE = 1 / 8;
const BEHIND_SHARE_TIGHT = 1 / 24;

/** Segments that a round leaves, for what writers fill meanwhile, and for the log that says what it did; a round of one, fewer. */
const ROUND_SEGMENTS_LEFT = 7;
const ROUND_SEGMENTS_LEFT_MIN = 5;
const ROUND_BYTES_MAX = 256 * 2 ** 20;
/** Of a segment, what a catalog takes of it at most, but where there are very many snapshots. */
const CATALOG_SHARE = 1 / 8;

export type Urgency = 'none' | 'idle' | 'busy' | 'full';

function exceeds({ usedBytes, liveBytes, segmentBytes }: LogRoom, { share, segments }: Bound): boolean {
  return usedBytes > share * liveBytes + segments * segmentBytes;
}

export function urgencyOf(room: LogRoom, isIdle: boolean): Urgency {
  if (room.freeBytes < lowBytes(room)) return 'full';
  if (exceeds(room, BUSY)) return 'busy';
  return isIdle && exceeds(room, IDLE) ? 'idle' : 'none';
}

/**
 * True if writers are to wait for compaction, as long as it gains anything. Who writes no faster than it gains does not wait for
 * what a round has taken, while there is enough to begin a segment: or a round would keep everybody waiting.
 */
export function mustWait(room: LogRoom): boolean {
  const { freeBytes, chainBytes, comingBytes, segmentBytes } = room;
  const writableBytes = freeBytes + chainBytes;
  const isCalm = writableBytes + comingBytes >= WRITABLE_SEGMENTS_CALM * segmentBytes;
  const segmentsMin = isCalm ? WRITABLE_SEGMENTS_MIN_CALM : WRITABLE_SEGMENTS_MIN;
  return writableBytes < segmentsMin * segmentBytes || exceeds(room, LIMIT);
}

/** Share of a segment that must be dead for it to be emptied. */
export function deadShareMin(urgency: Urgency): number {
  return urgency === 'full' ? 0.01 : urgency === 'busy' ? 0.1 : 0.06;
}

/** Segments that a round copies at most. Beside writers who still have room it is short, so that they do not run out of it. */
const ROUND_SEGMENTS_MAX: Record<Urgency, number> = { none: 4, idle: 4, busy: 2, full: 4 };

/** Live bytes that a round copies at most: each has its costs, and what is copied needs room before anything goes. */
export function roundBytesMax({ freeBytes, chainBytes, segmentBytes }: LogRoom, urgency: Urgency): number {
  const isOneFree = freeBytes >= (ROUND_SEGMENTS_LEFT_MIN + 1) * segmentBytes;
  const left = Math.max(freeBytes - ROUND_SEGMENTS_LEFT * segmentBytes, isOneFree ? segmentBytes : 0);
  // Where writers wait already: one victim at least, however much lives in it, if that is at all possible, with its tables. The
  // catalog that states what was moved may begin a segment. Deletes and trims wait until the round is over.
  const hasCatalogRoom = chainBytes >= CATALOG_SHARE * segmentBytes || freeBytes < segmentBytes;
  const ofRest = 0.95 * (hasCatalogRoom ? freeBytes : freeBytes - segmentBytes);
  const least = Math.min(ofRest, Math.max(segmentBytes, freeBytes / 2));
  return Math.min(
    ROUND_SEGMENTS_MAX[urgency] * segmentBytes,
    ROUND_BYTES_MAX,
    left >= segmentBytes ? left : least,
  );
}

export interface Step {
  readonly urgency: Urgency;
  /** Rows are brought up to date first, so that it is known what is dead. */
  readonly checkpoint: boolean;
}

/**
 * What is to be done next. Rows cost, and no round ends while they are written: where writers live on what rounds give, there
 * is a checkpoint only when there is room enough for what comes meanwhile, unless they have waited since the last one all the
 * same, or too much is behind it.
 */
export function nextStep(room: LogRoom, isIdle: boolean, behindBytes: number, haveWaited: boolean): Step {
  const { freeBytes, liveBytes, segmentBytes } = room;
  const low = lowBytes(room);
  const isTight = freeBytes < 2 * low;
  const bound = Math.max(
    BEHIND_SEGMENTS * segmentBytes,
    (isTight ? BEHIND_SHARE_TIGHT : BEHIND_SHARE) * liveBytes,
  );
  const isBehind = behindBytes >= bound;
  const hasRoom = freeBytes >= Math.max(low, CHECKPOINT_SEGMENTS * segmentBytes);
  if (isTight && isBehind && !hasRoom && !haveWaited && behindBytes < 2 * bound)
    return { urgency: 'full', checkpoint: false };
  const urgency = urgencyOf(room, isIdle);
  return { urgency, checkpoint: isBehind && (isTight || urgency !== 'none') };
}
