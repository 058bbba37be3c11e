/**
 * Makes the next segment file ahead of need: file, space, directory entry, all on the disk before it is written.
 *
 * Invariants: at most one file is made ahead; its number is taken when it is made; capacity is counted in whole
 * segments and never exceeded.
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
  #isAheadMade = false;
  /** Segment files that exist, the one made ahead included. */
  segmentCount: number;

  constructor(storage: Storage, numbers: Numbers, segmentCount: number) {
    this.#storage = storage;
    this.#numbers = numbers;
    this.segmentCount = segmentCount;
  }

  /** Segment files that are part of the log. */
  get usedCount(): number {
    return this.segmentCount - (this.#isAheadMade ? 1 : 0);
  }

  /** Starts making the next segment in the background, if none is there yet. */
  prepare(): void {
    if (this.#ahead !== undefined) return;
    this.#ahead = this.#make();
    // Whoever takes it gets the error.
    this.#ahead.catch(() => undefined);
  }

  /** The next segment, empty. After an error the next call tries again. @throws NO_SPACE, IO */
  async take(): Promise<SegmentWriter> {
    this.prepare();
    const ahead = this.#ahead!;
    try {
      return await ahead;
    } finally {
      this.#ahead = undefined;
      this.#isAheadMade = false;
    }
  }

  async #make(): Promise<SegmentWriter> {
    const { uuid, segmentBytes, capacityBytes } = this.#numbers.superblock;
    if (capacityBytes > 0 && (this.segmentCount + 1) * segmentBytes > capacityBytes) {
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
    this.segmentCount += 1;
    this.#isAheadMade = true;
    return new SegmentWriter(segment, file, segmentBytes, uuid);
  }

  /** Removes what was made ahead and is not needed. */
  async close(): Promise<void> {
    const ahead = await this.#ahead?.catch(() => undefined);
    this.#ahead = undefined;
    if (ahead === undefined) return;
    await ahead.file.close();
    await this.#storage.remove(segmentPath(ahead.segment));
    this.segmentCount -= 1;
    this.#isAheadMade = false;
  }
}
