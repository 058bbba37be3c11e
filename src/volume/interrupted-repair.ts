/**
 * Where a repair puts what it makes, and what is done with that when a repair was killed.
 *
 * New segments are made in `repair.new/`, and get a second name in `log/` when all of them are on the disk; those that
 * they replace get one in `replaced-N/`, N the number of the first new segment. Then the superblock is switched.
 *
 * Invariant: what `repair.new/` names is part of the log if the base of the log is in one of its segments, and else it is not.
 */

import { hasCode } from '../base/errors.ts';
import type { Storage } from '../base/storage.ts';
import { SEGMENT_HEADER_BYTES, segmentOfName, segmentPath } from '../log/format.ts';
import type { LogBase } from '../log/superblock.ts';

export const NEW_SEGMENTS_PATH = 'repair.new';

/** Where a segment is made. */
export function newSegmentPath(segment: number): string {
  return segmentPath(segment).replace(/^log/, NEW_SEGMENTS_PATH);
}

/** Where originals go that the repair replaces whose first new segment this is. */
export function replacedPath(firstSegment: number): string {
  return `replaced-${firstSegment}`;
}

/** 0 if it is another name. */
export function segmentOfReplaced(name: string): number {
  return Number(/^replaced-([1-9]\d*)$/.exec(name)?.[1] ?? 0);
}

/** Clears away what a repair left that was killed: all of it, or if it has taken effect, what nobody needs any more. @throws IO */
export async function clearInterruptedRepair(storage: Storage, base: LogBase | undefined): Promise<void> {
  const names = await storage.list(NEW_SEGMENTS_PATH);
  if (names.length === 0 && !(await storage.list('.')).includes(NEW_SEGMENTS_PATH)) return;
  const segments = names.map(segmentOfName).filter((segment) => segment !== undefined);
  const hasSwitched = base !== undefined && segments.includes(base.segment);
  if (segments.length > 0 && !hasSwitched) {
    for (const segment of segments)
      if (await isLinked(storage, segment)) await storage.remove(segmentPath(segment));
    await storage.syncDirectory('log');
    await storage.remove(replacedPath(Math.min(...segments)));
  }
  if (hasSwitched) {
    // A directory goes name by name. As long as it names anything of the log it must name the base.
    for (const segment of segments)
      if (segment !== base.segment) await storage.remove(newSegmentPath(segment));
    await storage.syncDirectory(NEW_SEGMENTS_PATH);
  }
  await storage.remove(NEW_SEGMENTS_PATH);
}

/** True if the log has the segment under the same number: a release that knows no repairs may have used the number since. */
async function isLinked(storage: Storage, segment: number): Promise<boolean> {
  const [made, there] = await Promise.all([
    headOf(storage, newSegmentPath(segment)),
    headOf(storage, segmentPath(segment)),
  ]);
  return there !== undefined && made?.equals(there) === true;
}

async function headOf(storage: Storage, path: string): Promise<Buffer | undefined> {
  const file = await storage.open(path, 'read').catch((error: unknown) => {
    if (hasCode(error, 'NOT_FOUND')) return undefined;
    throw error;
  });
  const head = Buffer.alloc(SEGMENT_HEADER_BYTES);
  try {
    await file?.read(head, 0, head.length, 0);
  } finally {
    await file?.close();
  }
  return file === undefined ? undefined : head;
}
