/**
 * Makes the next segment file ahead of need: file, space, directory entry, all on the disk before it is written. If it
 * will be synced often, and as long as nobody waits for it, it is filled with zeros: over blocks written before, syncs
 * are twice as fast.
 *
 * Invariants: at most one file is made ahead; its number is taken when it is made; capacity is counted in whole
 * segments and never exceeded, but by recovery: a full store can be opened too.
 */

import { StoreError } from '../base/errors.ts';
import type { Storage } from '../base/storage.ts';
import { SPARE_OF_DATA } from './append.ts';
import { segmentPath } from './format.ts';
import type { Numbers } from './numbers.ts';
import { SegmentWriter } from './segment-writer.ts';

/** Room of the file system that the index gets for a checkpoint in a full store. */
const INDEX_ROOM_BYTES = 32 << 20;

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
  /** True while somebody makes room: who finds none waits, and is told by `ChunkLog.roomChanged`. */
  isRoomComing: () => boolean = () => false;

  constructor(storage: Storage, numbers: Numbers, segmentCount: number) {
    this.#storage = storage;
    this.#numbers = numbers;
    this.segmentCount = segmentCount;
    this.usedBytes = segmentCount * numbers.superblock.segmentBytes;
  }

  /** Bytes that segments may still take: of the capacity and of the file system, whichever is less. */
  async roomBytes(): Promise<number> {
    const { capacityBytes } = this.#numbers.superblock;
    const free = await this.#storage.freeBytes();
    return capacityBytes > 0 ? Math.min(free, Math.max(0, capacityBytes - this.usedBytes)) : free;
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

  /** Of segments that are there, and of which nothing is used yet. */
  get aheadBytes(): number {
    const count = (this.#isAheadMade ? 1 : 0) + (this.#taken?.isBegun === false ? 1 : 0);
    return count * this.#numbers.superblock.segmentBytes;
  }

  /**
   * Starts making the next segment in the background, if none is there yet; `fill`ed as far as time allows. Without
   * anything else said, it leaves what data have to leave.
   */
  prepare(fill: boolean, spare = SPARE_OF_DATA): void {
    if (this.#ahead !== undefined) return;
    this.#isWanted = false;
    const ahead = this.#make(spare);
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
   * Resolves when the next segment is there to be taken, and `spare` segments have room beside it; if none is needed
   * (`isNeeded`), when they have. @throws NO_SPACE, IO
   */
  async ready(spare: number, isNeeded = true): Promise<void> {
    if (isNeeded) {
      this.prepare(false, spare);
      await this.#ahead;
    }
    const bytes = spare * this.#numbers.superblock.segmentBytes;
    // What goes into a segment that is there takes nothing of the capacity: deletes are not to fail for want of room.
    await this.#requireRoom(bytes, spare, isNeeded || spare >= SPARE_OF_DATA ? bytes : 0);
  }

  /** @throws NO_SPACE */
  async #requireRoom(bytes: number, spare: number, ofCapacityBytes = bytes): Promise<void> {
    if (this.isRecovering) return;
    const { capacityBytes } = this.#numbers.superblock;
    if (capacityBytes > 0 && ofCapacityBytes > 0 && this.usedBytes + ofCapacityBytes > capacityBytes)
      throw this.#refusal(`the store has reached its capacity of ${capacityBytes} bytes`);
    // What catalogs and the index need is for the file system itself to refuse.
    if (spare > 0 && (await this.#storage.freeBytes()) < bytes + INDEX_ROOM_BYTES)
      throw this.#refusal('the file system is full but for what compaction and deletes need');
  }

  #refusal(message: string): StoreError {
    this.onTaken();
    return new StoreError('NO_SPACE', message);
  }

  /** The next segment, empty. After an error the next call tries again. @throws NO_SPACE, IO */
  async take(): Promise<SegmentWriter> {
    this.prepare(false, 0);
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

  async #make(spare: number): Promise<SegmentWriter> {
    const { uuid, segmentBytes } = this.#numbers.superblock;
    await this.#requireRoom((1 + spare) * segmentBytes, spare);
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
