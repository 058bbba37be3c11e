/** What must be in a directory before anybody takes it for a store. */

import fs from 'node:fs';
import path from 'node:path';
import { StoreError } from '../base/errors.ts';
import { SUPERBLOCK_PATH } from '../log/superblock.ts';

const LOG_PATH = 'log';

/** A log that is not there is not taken for an empty one. @throws NOT_A_STORE */
export function requireStore(directory: string): void {
  if (!fs.existsSync(path.join(directory, SUPERBLOCK_PATH))) throw noStore(directory);
  requireLog(directory);
}

/** @throws NOT_A_STORE */
export function requireLog(directory: string): void {
  if (fs.existsSync(path.join(directory, LOG_PATH))) return;
  throw new StoreError(
    'NOT_A_STORE',
    `${directory} has no log/, where all data are: mount the file system that has it, or bring it back from a backup`,
  );
}

export function noStore(directory: string): StoreError {
  return new StoreError('NOT_A_STORE', `${directory} holds no store; make one with \`coppice init\``);
}
