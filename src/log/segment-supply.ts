/**
 * Makes the next segment file ahead of need: file, space, directory entry, all on the disk before it is written. If it
 * will be synced often, and as long as nobody waits for it, it is filled with zeros: over blocks written before, syncs
 * are twice as fast.
 *
 * Invariants:
 * - At most one file is made ahead; its number is taken when it is made.
 * - Capacity is counted in whole segments. What guests write never exceeds it. Recovery may, so that a full store can be opened;
 *   and where recoveries have used up what writes leave, so may what makes room: catalogs, changes and compaction, by two
 *   segments. Or such a store were full for ever.
 */

import { StoreError } from '../base/errors.ts';
import type { Storage } from '../base/storage.ts';
import { RANK_OF_CATALOGS, RANK_OF_DATA, RANK_OF_ZEROS, SEGMENTS_LEFT } from './append.ts';
import { segmentPath } from './format.ts';
import type { Numbers } from './numbers.ts';
import { SegmentWriter } from './segment-writer.ts';

/** Room of the file system that the index gets for a checkpoint in a full store. */
const INDEX_ROOM_BYTES = 32 << 20;
/** What makes room may go beyond the capacity by so many segments. */
const OVERDRAFT_SEGMENTS = 2;
/** Compaction has so much to work with, if need be beyond the capacity. */
const COMPACTION_SEGMENTS_MIN = 1;

export class SegmentSupply {
  readonly #storage: Storage;
  readonly #numbers: Numbers;
  #ahead: Promise<SegmentWriter> | undefined;
  #filling: Promise<void> | undefined;
  /** Somebody waits for the segment: filling it stops. */
  #isWanted = false;
  /** The last one that was taken. */
  #taken: SegmentWriter | undefined;
  #isAheadMade = false;
  /** Segment files that exist, the one made ahead included. */
  segmentCount: number;
  /** What their files take up. */
  usedBytes: number;
  /** Set while recovery writes the tail again. */
  isRecovering = false;
  /** Told when room has been taken, and when there was none. */
  onTaken: () => void = () => undefined;
  /**
   * Resolves once the lengths of all files are known: until then each is taken to be as long as a segment may be, and nobody is
   * refused for that.
   */
  measured: () => Promise<void> = async () => undefined;
  /** True while somebody makes room: who finds none waits, and is told by `ChunkLog.roomChanged`. */
  isRoomComing: () => boolean = () => false;

  constructor(storage: Storage, numbers: Numbers, segmentCount: number) {
    this.#storage = storage;
    this.#numbers = numbers;
    this.segmentCount = segmentCount;
    this.usedBytes = segmentCount * numbers.superblock.segmentBytes;
  }

  /** Bytes that segments of compaction may still take: of the capacity and of the file system, whichever is less. */
  async roomBytes(): Promise<number> {
    const { capacityBytes, segmentBytes } = this.#numbers.superblock;
    const free = await this.#storage.freeBytes();
    if (capacityBytes === 0) return free;
    const left = capacityBytes - this.usedBytes;
    const least = Math.min(COMPACTION_SEGMENTS_MIN * segmentBytes, left + OVERDRAFT_SEGMENTS * segmentBytes);
    return Math.min(free, Math.max(0, left, least));
  }

  /** Compaction has made a segment. */
  added(bytes: number): void {
    this.segmentCount += 1;
    this.usedBytes += bytes;
  }

  /** Compaction has removed one. */
  removed(bytes: number): void {
    this.segmentCount -= 1;
    this.usedBytes -= bytes;
  }

  /** Segment files that are part of the log. */
  get usedCount(): number {
    return this.segmentCount - (this.#isAheadMade ? 1 : 0);
  }

  /** Bytes of those. */
  get logBytes(): number {
    return this.usedBytes - (this.#isAheadMade ? this.#numbers.superblock.segmentBytes : 0);
  }

  /** Of segments that are there, and of which nothing is used yet. */
  get aheadBytes(): number {
    const count = (this.#isAheadMade ? 1 : 0) + (this.#taken?.isBegun === false ? 1 : 0);
    return count * this.#numbers.superblock.segmentBytes;
  }

  /**
   * Starts making the next segment in the background, if none is there yet; `fill`ed as far as time allows. Without
   * anything else said, it leaves what data have to leave.
   */
  prepare(fill: boolean, rank = RANK_OF_DATA): void {
    if (this.#ahead !== undefined) return;
    this.#isWanted = false;
    const ahead = this.#make(rank);
    this.#ahead = ahead;
    this.#filling = fill ? ahead.then((segment) => this.#fill(segment)) : ahead.then(() => undefined);
    // Whoever waits for it gets the error; who comes later tries anew.
    this.#filling.catch(() => {
      if (this.#ahead === ahead) this.#ahead = undefined;
    });
  }

  async #fill(segment: SegmentWriter): Promise<void> {
    try {
      while (!this.#isWanted && !segment.isFilled) await segment.fillPiece();
      if (segment.isFilled) await segment.file.datasync();
    } catch (error) {
      await this.discard(segment);
      throw error;
    }
  }

  /**
   * Resolves when the next segment is there to be taken, and there is room for what entries of `rank` leave; if none is needed
   * (`isNeeded`), when they have. @throws NO_SPACE, IO
   */
  async ready(rank: number, isNeeded = true): Promise<void> {
    if (isNeeded) {
      this.prepare(false, rank);
      await this.#ahead;
    }
    // Deletes are not to fail for want of room: what goes into a segment that is there takes nothing.
    if (isNeeded || rank >= RANK_OF_ZEROS) await this.#requireRoom(0, rank);
  }

  /** For entries of a rank that take so much beside what they leave. @throws NO_SPACE */
  async #requireRoom(takenBytes: number, rank: number): Promise<void> {
    if (this.isRecovering) return;
    const { capacityBytes, segmentBytes } = this.#numbers.superblock;
    const isWrite = rank >= RANK_OF_ZEROS;
    const bytes = takenBytes + SEGMENTS_LEFT[rank]! * segmentBytes;
    const limitBytes = capacityBytes + (isWrite ? 0 : OVERDRAFT_SEGMENTS * segmentBytes);
    const isBeyond = (): boolean => capacityBytes > 0 && bytes > 0 && this.usedBytes + bytes > limitBytes;
    if (isBeyond()) await this.measured();
    if (isBeyond()) throw this.#refusal(`the store has reached its capacity of ${capacityBytes} bytes`);
    // What catalogs and the index need is for the file system itself to refuse.
    if (rank === RANK_OF_CATALOGS) return;
    if ((await this.#storage.freeBytes()) < (isWrite ? bytes : takenBytes) + INDEX_ROOM_BYTES)
      throw this.#refusal('the file system is full but for what compaction and deletes need');
  }

  #refusal(message: string): StoreError {
    this.onTaken();
    return new StoreError('NO_SPACE', message);
  }

  /** The next segment, empty. After an error the next call tries again. @throws NO_SPACE, IO */
  async take(): Promise<SegmentWriter> {
    this.prepare(false, RANK_OF_CATALOGS);
    this.#isWanted = true;
    try {
      await this.#filling;
      this.onTaken();
      this.#taken = await this.#ahead!;
      return this.#taken;
    } finally {
      this.#ahead = undefined;
      this.#isAheadMade = false;
    }
  }

  async #make(rank: number): Promise<SegmentWriter> {
    const { uuid, segmentBytes } = this.#numbers.superblock;
    await this.#requireRoom(segmentBytes, rank);
    await this.#numbers.reserve('segments', 1);
    const segment = this.#numbers.take('segments');
    const path = segmentPath(segment);
    const file = await this.#storage.open(path, 'create');
    try {
      await file.allocate(segmentBytes);
      await this.#storage.syncDirectory('log');
    } catch (error) {
      await file.close();
      await this.#storage.remove(path);
      throw error;
    }
    this.added(segmentBytes);
    this.#isAheadMade = true;
    return new SegmentWriter(segment, file, segmentBytes, uuid);
  }

  /** Removes a segment that was taken and could not be begun. */
  async discard(segment: SegmentWriter): Promise<void> {
    if (this.#taken === segment) this.#taken = undefined;
    this.removed(this.#numbers.superblock.segmentBytes);
    await segment.file.close();
    await this.#storage.remove(segmentPath(segment.segment));
  }

  /** Removes what was made ahead and is not needed. */
  async close(): Promise<void> {
    this.#isWanted = true;
    await this.#filling?.catch(() => undefined);
    const ahead = await this.#ahead?.catch(() => undefined);
    this.#ahead = undefined;
    this.#isAheadMade = false;
    if (ahead !== undefined) await this.discard(ahead);
  }
}
