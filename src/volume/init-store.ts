/**
 * Making a store: the superblock comes last, so that a crash in the middle leaves no store, and whoever makes one in the
 * same place again is not refused.
 */

import { randomUUID } from 'node:crypto';
import path from 'node:path';
import { systemClock } from '../base/clock.ts';
import { StoreError } from '../base/errors.ts';
import { NodeStorage } from '../base/node-storage.ts';
import { OwnerLock } from '../base/owner-lock.ts';
import { SEGMENT_BYTES_DEFAULT, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN } from '../log/format.ts';
import { createSuperblock, SUPERBLOCK_REVISION } from '../log/superblock.ts';

export const LOCK_PATH = 'store.lock';
/** Segments that a store is to have room for, if nothing is said. */
const SEGMENTS_WANTED = 128;
/** What only a store has. */
const STORE_PARTS = /^(superblock|index|\d{10}\.seg)$/;

export interface InitOptions {
  /** Bytes of a segment file: a power of two from 1 MiB to 1 GiB; default 64 MiB, less where there is little room. */
  segmentBytes?: number | undefined;
  /** Bytes that all segment files together may take; default unlimited. */
  capacityBytes?: number | undefined;
}

/**
 * Makes a store in `directory`, which is made if it is missing, and must hold nothing of a store.
 * @throws ALREADY_EXISTS, INVALID_ARGUMENT, IO, NO_SPACE
 */
export async function initStore(directory: string, options: InitOptions): Promise<void> {
  const { capacityBytes = 0 } = options;
  checkGeometry(options);
  const now = systemClock.now();
  const storage = new NodeStorage(directory);
  // What a crash in the middle of this leaves (a lock, an empty log) is no store yet.
  const present = [...(await storage.list('.')), ...(await storage.list('log'))];
  if (present.some((name) => STORE_PARTS.test(name))) {
    throw new StoreError('ALREADY_EXISTS', `${directory} holds a store already`);
  }
  await storage.makeDirectory('.');
  await new NodeStorage(path.dirname(path.resolve(directory))).syncDirectory('.');
  const roomBytes = capacityBytes === 0 ? await storage.freeBytes() : capacityBytes;
  const segmentBytes = options.segmentBytes ?? segmentBytesFor(roomBytes);
  const lock = OwnerLock.acquire(path.join(directory, LOCK_PATH), now);
  try {
    await storage.makeDirectory('log');
    const uuid = Buffer.from(randomUUID().replaceAll('-', ''), 'hex');
    const first = { sequences: 1, appends: 1, labels: 1, segments: 1 };
    await createSuperblock(storage, {
      ...first,
      revision: SUPERBLOCK_REVISION,
      generation: 1,
      uuid,
      segmentBytes,
      epoch: 0,
      capacityBytes,
      created: now,
      base: undefined,
    });
    await storage.syncDirectory('.');
  } finally {
    lock.release();
  }
}

/** What a store takes for its reserve, for rounds and for what is being written is counted in segments: many of them make that little. */
function segmentBytesFor(roomBytes: number): number {
  const wanted = 2 ** Math.floor(Math.log2(roomBytes / SEGMENTS_WANTED));
  return Math.min(Math.max(wanted, SEGMENT_BYTES_MIN), SEGMENT_BYTES_DEFAULT);
}

function checkGeometry({
  capacityBytes,
  segmentBytes = segmentBytesFor(capacityBytes ?? 0),
}: InitOptions): void {
  const isPowerOfTwo = Number.isSafeInteger(segmentBytes) && Number.isInteger(Math.log2(segmentBytes));
  if (!isPowerOfTwo || segmentBytes < SEGMENT_BYTES_MIN || segmentBytes > SEGMENT_BYTES_MAX) {
    throw new StoreError('INVALID_ARGUMENT', 'the segment size must be a power of two from 1 MiB to 1 GiB');
  }
  if (capacityBytes === undefined) return;
  if (!Number.isSafeInteger(capacityBytes) || capacityBytes < 4 * segmentBytes) {
    throw new StoreError(
      'INVALID_ARGUMENT',
      `the capacity must be at least four segments: ${4 * segmentBytes} bytes`,
    );
  }
}
