/** All rigs, and how one is run: in a scratch directory that is gone afterwards, like all that it started. */

import fs from 'node:fs';
import path from 'node:path';
import { Cleanup } from '../../test/support/programs.ts';
import { Random } from '../../test/support/random.ts';
import { fullCapacity } from './full-capacity.ts';
import { fullDisks } from './full-disk.ts';
import { indexDamage } from './index-damage.ts';
import { kill } from './kill.ts';
import { mediaErrors } from './media-errors.ts';
import { powerCuts } from './power-cut.ts';
import type { Counts, Rig } from './rig.ts';
import { systemCalls } from './system-calls.ts';

export const RIGS: readonly Rig[] = [
  ...powerCuts,
  kill,
  ...fullDisks,
  fullCapacity,
  mediaErrors,
  systemCalls,
  indexDamage,
];

export interface RunOptions {
  rounds: number;
  seed: number;
  /** Where the scratch directory is made. */
  directory: string;
  /** What is to be undone if the process must end before; it is done when this resolves. */
  cleanup?: Cleanup;
  say?: (line: string) => void;
}

/** @throws Error at the first thing that is wrong */
export async function runRig(rig: Rig, options: RunOptions): Promise<Counts> {
  const { rounds, seed, directory, cleanup = new Cleanup(), say = () => undefined } = options;
  const scratch = fs.mkdtempSync(path.join(directory, 'coppice-torture-'));
  cleanup.add(() => fs.rmSync(scratch, { recursive: true, force: true }));
  try {
    return await rig.run({ random: new Random(seed), rounds, scratch, cleanup, say });
  } finally {
    await cleanup.run();
  }
}
