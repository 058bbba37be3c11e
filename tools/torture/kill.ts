/** The server is killed as kill -9 does; the page cache lives: nothing that was answered may be lost. */

import { crashRounds } from './crash-rounds.ts';
import type { Rig } from './rig.ts';

export const kill: Rig = {
  name: 'kill',
  does: 'kill -9 of a server under load: whatever was answered is there',
  tools: [],
  missing: () => [],
  rounds: 300,
  run: (options) =>
    crashRounds(
      { keepsAll: true, mayLoseIndex: false, errors: [], strike: (store) => store.server.kill() },
      options.scratch,
      options,
    ),
};
