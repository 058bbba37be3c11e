/** What lies in the store's directory: leftovers of interrupted work, and what is no part of a store. */

import type { Storage } from '../base/storage.ts';
import { segmentOfName } from '../log/format.ts';
import { type Finding, finding } from './finding.ts';

/** What a repair has replaced is for whoever wants to look at it. The sockets are there while the store is served, and where a server was killed; a file system has its own. */
const KNOWN = /^(superblock|store\.lock|log|index|replaced-\d+|(nbd|control)\.sock|.*\.sock|lost\+found)$/;
/** What an interrupted step leaves: the next one that opens the store clears it away. */
const LEFT = /^(superblock|index|repair)\.new$/;
/** All that LevelDB makes. */
const OF_LEVELDB = /^(CURRENT|LOCK|LOG|LOG\.old|MANIFEST-\d+|\d+\.(ldb|sst|log|dbtmp))$/;

export async function* checkDirectory(storage: Storage): AsyncGenerator<Finding> {
  for (const name of await storage.list('.')) {
    if (KNOWN.test(name)) continue;
    if (LEFT.test(name))
      yield finding('LEFTOVER_FILE', `${name} is left over from something that was interrupted`, {
        mend: 'open',
      });
    else yield unknown(name);
  }
  for (const name of await storage.list('log'))
    if (segmentOfName(name) === undefined) yield unknown(`log/${name}`);
  for (const name of await storage.list('index')) if (!OF_LEVELDB.test(name)) yield unknown(`index/${name}`);
}

function unknown(path: string): Finding {
  return finding('UNKNOWN_FILE', `${JSON.stringify(path)} is no file of a store`);
}
