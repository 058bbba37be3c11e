/**
 * What of a disk is stored, as few and long runs, and those cut into pieces for reading. No I/O but asking the disk.
 *
 * Invariants: the runs cover the disk, in order, without gaps; a hole too short to be worth a request of its own
 * counts as stored: it reads as zeros.
 */

import type { Disk } from '../server/door.ts';
import { PIECE_BYTES } from './image-source.ts';

const HOLE_BYTES_MIN = 256 * 2 ** 10;
/** A stored run is not joined further than this, so that reading begins before all of the disk is known. */
const STORED_BYTES_MAX = 16 * PIECE_BYTES;

export interface DiskRun {
  readonly offset: number;
  readonly lengthBytes: number;
  readonly allocated: boolean;
}

/** All of `disk`, neighbours of the same kind joined. */
export async function* diskRuns(disk: Pick<Disk, 'sizeBytes' | 'allocation'>): AsyncGenerator<DiskRun> {
  // Joined first: a long hole may be told in short parts.
  yield* join(withoutShortHoles(join(reportedRuns(disk))));
}

/** The same bytes, in runs of at most a piece. */
export async function* splitRuns(runs: AsyncIterable<DiskRun>): AsyncGenerator<DiskRun> {
  for await (const { offset, lengthBytes, allocated } of runs) {
    for (let done = 0; done < lengthBytes; done += PIECE_BYTES) {
      yield { offset: offset + done, lengthBytes: Math.min(PIECE_BYTES, lengthBytes - done), allocated };
    }
  }
}

/** As the disk tells them: it may stop early, and split what belongs together. */
async function* reportedRuns(disk: Pick<Disk, 'sizeBytes' | 'allocation'>): AsyncGenerator<DiskRun> {
  for (let offset = 0; offset < disk.sizeBytes; ) {
    for (const { lengthBytes, allocated } of await disk.allocation(offset, disk.sizeBytes - offset)) {
      yield { offset, lengthBytes, allocated };
      offset += lengthBytes;
    }
  }
}

async function* withoutShortHoles(runs: AsyncIterable<DiskRun>): AsyncGenerator<DiskRun> {
  for await (const run of runs)
    yield { ...run, allocated: run.allocated || run.lengthBytes < HOLE_BYTES_MIN };
}

async function* join(runs: AsyncIterable<DiskRun>): AsyncGenerator<DiskRun> {
  let open: DiskRun | undefined;
  for await (const run of runs) {
    const isFull = open?.allocated === true && open.lengthBytes >= STORED_BYTES_MAX;
    if (open?.allocated === run.allocated && !isFull) {
      open = { ...open, lengthBytes: open.lengthBytes + run.lengthBytes };
    } else {
      if (open !== undefined) yield open;
      open = run;
    }
  }
  if (open !== undefined) yield open;
}
