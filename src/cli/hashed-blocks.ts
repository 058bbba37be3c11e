/**
 * Hashes of what a disk has, and where it differs from another one of which only hashes are there (delta/hash-list.ts).
 *
 * Invariant: a bounded number of blocks is read ahead of the one that is taken.
 */

import type { Extent } from '../delta/changes.ts';
import { BLOCK_BYTES, blockBytes, type HashedBlock, hashOf } from '../delta/hash-list.ts';
import { inOrder } from '../base/in-flight.ts';
import type { Disk } from '../server/door.ts';
import type { Run } from '../volume/device.ts';

/** 1 MiB. */
const BATCH_BLOCKS = 16;
const BATCHES_AHEAD_MAX = 4;

/** A block to look at: stored, or listed, or both. */
interface Candidate {
  readonly block: number;
  readonly isStored: boolean;
  /** What the other disk has there; undefined for zeros. */
  readonly listed: Buffer | undefined;
}

interface Looked extends Candidate {
  /** Undefined for zeros. */
  readonly hash: Buffer | undefined;
}

/** Those of a disk, in order; of zeros there are none. `progress` is told of bytes. */
export async function* hashedBlocks(
  disk: Disk,
  stored: AsyncIterable<Extent>,
  progress: (bytes: number) => void,
): AsyncGenerator<HashedBlock> {
  for await (const { block, hash } of looked(disk, candidates(stored))) {
    progress(blockBytes(block, disk.sizeBytes));
    if (hash !== undefined) yield { block, hash };
  }
}

/** What differs from a disk of `size` bytes with the hashes `listed`: whole blocks, in order, from `position` on. */
export async function* differingExtents(
  disk: Disk,
  stored: AsyncIterable<Extent>,
  listed: AsyncGenerator<HashedBlock>,
  size: number,
  position: number,
): AsyncGenerator<Extent> {
  for await (const { block, hash, listed: theirs } of looked(
    disk,
    candidates(stored, from(listed, position)),
  )) {
    const length = blockBytes(block, disk.sizeBytes);
    // A hash of more bytes, or of fewer, says nothing about these.
    const isComparable = theirs === undefined || length === blockBytes(block, size);
    const isSame = hash === undefined ? theirs === undefined : theirs?.equals(hash) === true;
    if (!(isComparable && isSame) && length > 0)
      yield { offset: block * BLOCK_BYTES, length, zeros: hash === undefined };
  }
}

async function* looked(disk: Disk, all: AsyncIterable<Candidate>): AsyncGenerator<Looked> {
  const look = (batch: Candidate[]): Promise<Looked[]> => lookAt(disk, batch);
  for await (const batch of inOrder(batchesOf(all), look, BATCHES_AHEAD_MAX)) yield* batch;
}

async function lookAt(disk: Disk, batch: readonly Candidate[]): Promise<Looked[]> {
  const runs: Run[] = [];
  for (const { block, isStored } of batch)
    if (isStored) runs.push([block * BLOCK_BYTES, blockBytes(block, disk.sizeBytes)]);
  const bytes = runs.length === 0 ? undefined : await disk.readRuns(runs);
  let at = 0;
  return batch.map((candidate) => {
    if (!candidate.isStored) return { ...candidate, hash: undefined };
    const end = at + blockBytes(candidate.block, disk.sizeBytes);
    const hash = hashOf(bytes!.subarray(at, end));
    at = end;
    return { ...candidate, hash };
  });
}

async function* batchesOf(all: AsyncIterable<Candidate>): AsyncGenerator<Candidate[]> {
  let batch: Candidate[] = [];
  for await (const candidate of all) {
    if (batch.push(candidate) < BATCH_BLOCKS) continue;
    yield batch;
    batch = [];
  }
  if (batch.length > 0) yield batch;
}

/** Blocks that either has, in order. Both are read to their end. */
async function* candidates(
  extents: AsyncIterable<Extent>,
  listed?: AsyncGenerator<HashedBlock>,
): AsyncGenerator<Candidate> {
  const stored = blocksOf(extents);
  let [ours, theirs] = [await taken(stored), await taken(listed)];
  while (ours !== undefined || theirs !== undefined) {
    const block = Math.min(ours ?? Infinity, theirs?.block ?? Infinity);
    const [isStored, isListed] = [ours === block, theirs?.block === block];
    yield { block, isStored, listed: isListed ? theirs!.hash : undefined };
    if (isStored) ours = await taken(stored);
    if (isListed) theirs = await taken(listed);
  }
}

/** Each block that an extent touches, once. */
async function* blocksOf(extents: AsyncIterable<Extent>): AsyncGenerator<number> {
  let next = 0;
  for await (const { offset, length } of extents) {
    const end = Math.ceil((offset + length) / BLOCK_BYTES);
    for (next = Math.max(next, Math.floor(offset / BLOCK_BYTES)); next < end; next++) yield next;
  }
}

async function* from(listed: AsyncGenerator<HashedBlock>, position: number): AsyncGenerator<HashedBlock> {
  for await (const each of listed) if ((each.block + 1) * BLOCK_BYTES > position) yield each;
}

async function taken<T>(items: AsyncGenerator<T> | undefined): Promise<T | undefined> {
  const next = await items?.next();
  return next?.done === false ? next.value : undefined;
}
