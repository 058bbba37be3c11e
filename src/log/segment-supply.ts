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
import { segmentPath } from './format.ts';
import type { Numbers } from './numbers.ts';
import { SegmentWriter } from './segment-writer.ts';

export class SegmentSupply {
  readonly #storage: Storage;
  readonly #numbers: Numbers;
  #ahead: Promise<SegmentWriter> | undefined;
  #filling: Promise<void> | undefined;
  /** Somebody waits for the segment: filling it stops. */
  #isWanted = false;
  #isAheadMade = false;
  /** Segment files that exist, the one made ahead included. */
  segmentCount: number;
  /** What their files take up. */
  usedBytes: number;
  /** Set while recovery writes the tail again. */
  isRecovering = false;

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

  /** Starts making the next segment in the background, if none is there yet; `fill`ed as far as time allows. */
  prepare(fill: boolean): void {
    if (this.#ahead !== undefined) return;
    this.#isWanted = false;
    const ahead = this.#make();
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

  /** Resolves when the next segment is there to be taken. @throws NO_SPACE, IO */
  async ready(): Promise<void> {
    this.prepare(false);
    await this.#ahead;
  }

  /** The next segment, empty. After an error the next call tries again. @throws NO_SPACE, IO */
  async take(): Promise<SegmentWriter> {
    this.prepare(false);
    this.#isWanted = true;
    try {
      await this.#filling;
      return await this.#ahead!;
    } finally {
      this.#ahead = undefined;
      this.#isAheadMade = false;
    }
  }

  async #make(): Promise<SegmentWriter> {
    const { uuid, segmentBytes, capacityBytes } = this.#numbers.superblock;
    const isFull = capacityBytes > 0 && this.usedBytes + segmentBytes > capacityBytes;
    if (isFull && !this.isRecovering) {
      throw new StoreError('NO_SPACE', `the store has reached its capacity of ${capacityBytes} bytes`);
    }
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
