/**
 * What is sent of a version, as bodies of frames in their order: what differs from its base, or all that it has.
 *
 * Invariant: a bounded number of frames is read ahead of the one that is taken.
 */

import { buildChanges, ChangesPlan, type Extent } from '../delta/changes.ts';
import { packedBody, type PackedBody, rawBody } from '../delta/stream-writer.ts';
import type { Disk, Door, Run } from '../server/door.ts';
import type { HashFile } from './hash-file.ts';
import { differingExtents } from './hashed-blocks.ts';
import { inOrder } from './in-flight.ts';

const FRAMES_AHEAD_MAX = 4;

export interface Sent {
  /** Full name. */
  readonly target: string;
  /** What it is sent on top of: nothing, a version of this store by its full name, or what hashes tell of. */
  readonly base: string | HashFile | null;
  /** Bytes of the target. */
  readonly size: number;
  /** Where to begin. */
  readonly position: number;
}

/** What has to be sent, in order, from the position on. */
export async function* extentsOf(door: Door, disk: Disk, sent: Sent): AsyncGenerator<Extent> {
  const { base, target, position } = sent;
  const all =
    typeof base === 'string' ? changedExtents(door, base, target) : storedOrDiffering(disk, base, position);
  for await (const { offset, length, zeros } of all) {
    // A base may be longer, and a sender may begin in the middle.
    const start = Math.max(offset, sent.position);
    const end = Math.min(offset + length, sent.size);
    if (start < end) yield { offset: start, length: end - start, zeros };
  }
}

function storedOrDiffering(disk: Disk, base: HashFile | null, position: number): AsyncGenerator<Extent> {
  const stored = storedExtents(disk, position);
  if (base === null) return stored;
  return differingExtents(disk, stored, base.blocks, base.head.target.size, position);
}

export async function* storedExtents(disk: Disk, position: number): AsyncGenerator<Extent> {
  for (let offset = position; offset < disk.sizeBytes; ) {
    for (const { lengthBytes: length, allocated } of await disk.allocation(offset, disk.sizeBytes - offset)) {
      if (allocated) yield { offset, length, zeros: false };
      offset += length;
    }
  }
}

async function* changedExtents(door: Door, base: string, target: string): AsyncGenerator<Extent> {
  for await (const { offset, length, type } of door.diff(base, target))
    yield { offset, length, zeros: type === 'hole' };
}

/** A body to be sent; and how many bytes of extents it stands for, if zeros have left nothing of them. */
export interface Prepared {
  readonly extentBytes: number;
  readonly body: PackedBody | undefined;
}

export function bodiesOf(
  extents: AsyncIterable<Extent>,
  disk: Disk,
  hasBase: boolean,
  isCompressed: boolean,
): AsyncGenerator<Prepared> {
  const prepare = async (plan: ChangesPlan): Promise<Prepared> => {
    const runs: Run[] = [];
    let extentBytes = 0;
    for (const { offset, length, zeros } of plan.extents) {
      if (!zeros) runs.push([offset, length]);
      extentBytes += length;
    }
    const payload = await disk.readRuns(runs);
    const body = buildChanges(plan, payload, hasBase);
    if (body === undefined) return { extentBytes, body };
    return { extentBytes, body: isCompressed ? await packedBody(body) : rawBody(body) };
  };
  return inOrder(plansOf(extents), prepare, FRAMES_AHEAD_MAX);
}

async function* plansOf(extents: AsyncIterable<Extent>): AsyncGenerator<ChangesPlan> {
  let plan = new ChangesPlan();
  for await (const { offset, length, zeros } of extents) {
    for (let done = 0; done < length; ) {
      done += plan.take({ offset: offset + done, length: length - done, zeros });
      if (!plan.isFull) continue;
      yield plan;
      plan = new ChangesPlan();
    }
  }
  if (plan.extents.length > 0) yield plan;
}
