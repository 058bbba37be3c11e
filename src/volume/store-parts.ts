/** What must be in a directory before anybody takes it for a store. */

import fs from 'node:fs';
import path from 'node:path';
import { StoreError } from '../base/errors.ts';
import { segmentOfName } from '../log/format.ts';
import { SUPERBLOCK_PATH } from '../log/superblock.ts';

const LOG_PATH = 'log';

/** A log that is not there is not taken for an empty one. @throws NOT_A_STORE */
export function requireStore(directory: string): void {
  if (!fs.existsSync(path.join(directory, SUPERBLOCK_PATH))) throw noStore(directory);
  requireLog(directory);
}

/** For who can do without a superblock: segments say which store they are of. @throws as requireStore */
export function requireRemains(directory: string): void {
  const hasSuperblock = fs.existsSync(path.join(directory, SUPERBLOCK_PATH));
  if (!hasSuperblock && !hasSegments(directory)) throw noStore(directory);
  requireLog(directory);
}

function hasSegments(directory: string): boolean {
  const log = path.join(directory, LOG_PATH);
  return fs.existsSync(log) && fs.readdirSync(log).some((name) => segmentOfName(name) !== undefined);
}

function requireLog(directory: string): void {
  if (fs.existsSync(path.join(directory, LOG_PATH))) return;
  throw new StoreError(
    'NOT_A_STORE',
    `${directory} has no log/, where all data are: mount the file system that has it, or bring it back from a backup`,
  );
}

function noStore(directory: string): StoreError {
  return new StoreError('NOT_A_STORE', `${directory} holds no store; make one with \`coppice init\``);
}
