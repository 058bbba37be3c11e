/** A place beside the store for an index that is only compared with. */

import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { NodeStorage } from '../base/node-storage.ts';
import type { Storage } from '../base/storage.ts';

export interface Scratch {
  storage: Storage;
  remove(): void;
}

/** In a directory of its own, on the disk: it may grow as large as the index. */
export function temporaryScratch(): Scratch {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'coppice-check-'));
  return {
    storage: new NodeStorage(directory),
    remove: () => fs.rmSync(directory, { recursive: true, force: true }),
  };
}
