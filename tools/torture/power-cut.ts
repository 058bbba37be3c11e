/**
 * The power is cut below a file system that a server writes to: of what was not synced, data, sizes and names may be
 * gone. Nothing that was flushed may be.
 */

import { NBD_EIO } from '../../src/nbd/protocol.ts';
import { type Blow, crashRounds } from './crash-rounds.ts';
import {
  FILE_SYSTEM_KINDS,
  type FileSystemKind,
  LOOP_TOOLS,
  LoopFileSystem,
  missingForLoops,
  SIZE_BYTES_MIN,
} from './loop-file-system.ts';
import type { Rig } from './rig.ts';

const SIZE_BYTES = 320 << 20;
/**
 * An fdatasync that is under way while ext4 is shut down may succeed and have written nothing: 4 times of 60 with a
 * program that does nothing else. Power that fails takes whoever would hear that answer with it.
 */
const ANSWERS_AMID_CUT_LIE: ReadonlySet<FileSystemKind> = new Set(['ext4']);

function powerCut(kind: FileSystemKind): Rig {
  return {
    name: `power-cut-${kind}`,
    does: `power cuts on ${kind} under load: whatever was flushed is there`,
    tools: LOOP_TOOLS,
    missing: missingForLoops,
    rounds: 100,
    run: async (options) => {
      const { cleanup, scratch, random } = options;
      const size = Math.max(SIZE_BYTES, SIZE_BYTES_MIN[kind]);
      const fileSystem = await LoopFileSystem.make(cleanup, scratch, kind, size);
      const blow: Blow = {
        keepsAll: false,
        mayLoseIndex: false,
        errors: [NBD_EIO],
        strike: async (store) => {
          if (ANSWERS_AMID_CUT_LIE.has(kind)) store.history.endPromises();
          await fileSystem.cutPower(random.chance(30));
          await store.server.kill();
          await fileSystem.remount();
        },
      };
      return await crashRounds(blow, fileSystem.directory, options);
    },
  };
}

export const powerCuts: readonly Rig[] = FILE_SYSTEM_KINDS.map(powerCut);
