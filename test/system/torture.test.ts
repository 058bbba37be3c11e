/** A few rounds of each rig of `npm run torture`. SEED replays a run as far as chance can be replayed. */

import os from 'node:os';
import { describe, expect, it } from 'vitest';
import { RIGS, runRig } from '../../tools/torture/rigs.ts';
import { requireHere } from '../support/programs.ts';
import { seeds } from '../support/random.ts';
import { requireTools } from '../support/tools.ts';

const ROUNDS: Record<string, number> = {
  'power-cut-ext4': 2,
  'power-cut-xfs': 2,
  kill: 2,
  'full-disk-ext4': 1,
  'full-disk-xfs': 1,
  'full-capacity': 1,
  'media-errors': 2,
  'system-calls': 5,
  'index-damage': 3,
};

describe.each(RIGS)('torture: $name', (rig) => {
  it.skipIf(!requireTools([...rig.tools]) || !requireHere(rig.missing())).each(seeds(1))(
    `${rig.does} (SEED=%i)`,
    async (seed) => {
      const counts = await runRig(rig, { rounds: ROUNDS[rig.name]!, seed, directory: os.tmpdir() });
      expect(Object.values(counts).some((count) => count > 0)).toBe(true);
    },
    120_000,
  );
});
