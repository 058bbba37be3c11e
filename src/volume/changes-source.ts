/**
 * What is sent of a version, as bodies of frames in their order: what differs from its base, or all that it has.
 *
 * Invariant: a bounded number of frames is read ahead of the one that is taken.
 */

import { BufferPool } from '../base/buffer-pool.ts';
import { inOrder } from '../base/in-flight.ts';
import { buildChanges, ChangesPlan, type Extent } from '../delta/changes.ts';
import { PAYLOAD_BYTES_MAX } from '../delta/format.ts';
import { packedBody, type PackedBody, rawBody } from '../delta/stream-writer.ts';
import type { AllocationRun, BlockDevice, Run } from './device.ts';
import type { DiffExtent } from './summary.ts';

const FRAMES_AHEAD_MAX = 4;
/** The most runs that one question about allocation is answered with. */
const ALLOCATION_RUNS_MAX = 4096;

/** What is sent, as a disk: a door's, or one of this process. */
export interface SentDisk {
  readonly sizeBytes: number;
  /** The bytes of several ranges, in order, one behind the other; they may lie in `into`, which is as long or longer. */
  readRuns(runs: readonly Run[], into?: Buffer): Promise<Buffer>;
  /** Runs from `offset` on; covers at least one byte, and may stop before `lengthBytes`. */
  allocation(offset: number, lengthBytes: number): Promise<AllocationRun[]>;
}

export function sentDisk(device: BlockDevice): SentDisk {
  return {
    sizeBytes: device.sizeBytes,
    readRuns: async (runs, into) => {
      let bytes = 0;
      for (const [, lengthBytes] of runs) bytes += lengthBytes;
      const target = into?.subarray(0, bytes) ?? Buffer.allocUnsafe(bytes);
      await device.readRuns(target, runs);
      return target;
    },
    allocation: (offset, lengthBytes) => device.allocation(offset, lengthBytes, ALLOCATION_RUNS_MAX),
  };
}

/** Who says where two versions differ. */
export interface DiffSource {
  diff(from: string, to: string): AsyncGenerator<DiffExtent>;
}

export interface Sent {
  /** Full names. */
  readonly target: string;
  readonly base: string | null;
  /** Bytes of the target. */
  readonly size: number;
  /** Where to begin. */
  readonly position: number;
}

/** What has to be sent, in order, from the position on. */
export function extentsOf(source: DiffSource, disk: SentDisk, sent: Sent): AsyncGenerator<Extent> {
  const { base, target, position } = sent;
  return fromPosition(
    base === null ? storedExtents(disk, position) : changedExtents(source, base, target),
    sent,
  );
}

/** Without what lies before the position: a sender may begin in the middle; or behind the end: a base may be longer. */
export async function* fromPosition(
  extents: AsyncIterable<Extent>,
  { position, size }: Pick<Sent, 'position' | 'size'>,
): AsyncGenerator<Extent> {
  for await (const { offset, length, zeros } of extents) {
    const start = Math.max(offset, position);
    const end = Math.min(offset + length, size);
    if (start < end) yield { offset: start, length: end - start, zeros };
  }
}

export async function* storedExtents(disk: SentDisk, position: number): AsyncGenerator<Extent> {
  for (let offset = position; offset < disk.sizeBytes; ) {
    for (const { lengthBytes: length, allocated } of await disk.allocation(offset, disk.sizeBytes - offset)) {
      if (allocated) yield { offset, length, zeros: false };
      offset += length;
    }
  }
}

async function* changedExtents(source: DiffSource, base: string, target: string): AsyncGenerator<Extent> {
  for await (const { offset, length, type } of source.diff(base, target))
    yield { offset, length, zeros: type === 'hole' };
}

/** A body to be sent; and how many bytes of extents it stands for, if zeros have left nothing of them. */
export interface Prepared {
  readonly extentBytes: number;
  readonly body: PackedBody | undefined;
  /** Nobody uses its bytes any more: the next one may be read over them. */
  readonly sent: () => void;
}

/** For bodies that are given back when they have been sent. */
export function bodyBuffers(): BufferPool {
  return new BufferPool(PAYLOAD_BYTES_MAX, FRAMES_AHEAD_MAX);
}

export function bodiesOf(
  extents: AsyncIterable<Extent>,
  disk: SentDisk,
  hasBase: boolean,
  isCompressed: boolean,
  buffers?: BufferPool,
): AsyncGenerator<Prepared> {
  const prepare = async (plan: ChangesPlan): Promise<Prepared> => {
    const runs: Run[] = [];
    let extentBytes = 0;
    for (const { offset, length, zeros } of plan.extents) {
      if (!zeros) runs.push([offset, length]);
      extentBytes += length;
    }
    const buffer = buffers?.take();
    const sent = (): void => {
      if (buffer !== undefined) buffers!.give(buffer);
    };
    const body = buildChanges(plan, await disk.readRuns(runs, buffer), hasBase);
    if (body === undefined) return { extentBytes, body, sent };
    return { extentBytes, body: isCompressed ? await packedBody(body) : rawBody(body), sent };
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
