/**
 * The index opened without touching it: LevelDB can only be opened to write, so it gets a directory of its own, in which
 * tables, which never change, are links to those of the store, and the few small files that say which tables count are copies.
 *
 * Requires that nobody has the store open: what is being written may not fit together.
 */

import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fromSystemError } from '../base/errors.ts';
import type { IndexDatabase } from '../index/directory.ts';
import type { OpenDatabase } from './index-builder.ts';

const TABLE = /\.(ldb|sst)$/;
/** LevelDB makes its own. */
const OWN = /^(LOCK|LOG|LOG\.old)$/;

export interface IndexCopy {
  readonly database: IndexDatabase;
  close(): Promise<void>;
}

/** @throws NOT_FOUND if there is no index at `location`, IO, and what LevelDB throws */
export async function openIndexCopy(location: string, openDatabase: OpenDatabase): Promise<IndexCopy> {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'coppice-index-'));
  const remove = (): void => fs.rmSync(directory, { recursive: true, force: true });
  try {
    await linkIndex(location, directory);
    const database = await openDatabase(directory);
    return {
      database,
      close: async () => {
        await database.close();
        remove();
      },
    };
  } catch (error) {
    remove();
    throw typeof (error as NodeJS.ErrnoException).errno === 'number'
      ? fromSystemError(error, 'reading the index')
      : error;
  }
}

/** Makes a LevelDB in `directory` of the one at `location`: what never changes by links, the rest by copies. */
export async function linkIndex(location: string, directory: string): Promise<void> {
  for (const name of await fs.promises.readdir(location)) {
    if (OWN.test(name)) continue;
    const [from, to] = [path.join(location, name), path.join(directory, name)];
    if (TABLE.test(name)) await fs.promises.symlink(from, to);
    else await fs.promises.copyFile(from, to);
  }
}
