/**
 * The names of files around the switch to another log. What is replaced gets a second name first, so that it stays when its first
 * one is cleared away; new segments get the names by which the log knows them when all of them are on the disk.
 */

import { hasCode } from '../base/errors.ts';
import type { Storage } from '../base/storage.ts';
import { segmentPath } from '../log/format.ts';
import { type LogBase, type Superblock, SUPERBLOCK_PATH } from '../log/superblock.ts';
import { identifyStore } from '../volume/check-offline.ts';
import { clearInterruptedRepair, newSegmentPath, replacedPath } from '../volume/interrupted-repair.ts';

/**
 * Keeps segments, and the superblock, in a directory of their own, whose name it answers.
 * @throws IO, also where the file system knows no second names
 */
export async function keepReplaced(
  storage: Storage,
  firstNew: number,
  segments: readonly number[],
): Promise<string> {
  const directory = replacedPath(firstNew);
  await storage.remove(directory);
  await storage.makeDirectory(directory);
  for (const segment of segments)
    await storage.link(segmentPath(segment), segmentPath(segment).replace(/^log/, directory));
  await storage.link(SUPERBLOCK_PATH, `${directory}/${SUPERBLOCK_PATH}`).catch((error: unknown) => {
    if (!hasCode(error, 'NOT_FOUND')) throw error; // it is what was lost
  });
  await storage.syncDirectory(directory);
  await storage.syncDirectory('.');
  return directory;
}

/** Gives new segments their names in the log. @throws IO */
export async function nameMade(storage: Storage, made: Iterable<number>): Promise<void> {
  for (const segment of made) await storage.link(newSegmentPath(segment), segmentPath(segment));
  await storage.syncDirectory('log');
}

/**
 * Takes everything back that has not taken effect, as far as that is possible; the next repair or opening does what is left. False if
 * the superblock has the base that was to be switched to already, or cannot be read: then nothing is taken back.
 */
export async function withdraw(storage: Storage, next: LogBase | undefined): Promise<boolean> {
  let superblock: Superblock | undefined;
  try {
    ({ superblock } = await identifyStore(storage));
  } catch {
    return false; // it is told what failed first
  }
  if (next !== undefined && superblock?.base?.append === next.append) return false;
  await clearInterruptedRepair(storage, superblock?.base).catch(() => undefined);
  return true;
}
