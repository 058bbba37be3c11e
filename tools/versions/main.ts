/**
 * What versions cost: `npm run versions -- [load] [clones] [snapshots] [diff] [space] [--gib N] [--seconds N]`. Builds stores
 * in a scratch directory, measures, removes them. `load` needs fio.
 */

import { mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { Command } from 'commander';
import { measureDiff, measureSnapshots, measureSpace } from './crowded.ts';
import { measureClones, measureUnderLoad } from './under-load.ts';

const program = new Command('versions')
  .argument('[measures...]', 'load, clones, snapshots, diff, space; default: all')
  .option('--gib <number>', 'size of the volume under load', '10')
  .option('--seconds <number>', 'length of each run under load', '10')
  .option('--snapshots <number>', 'how many snapshots', '10000');
program.parse();
const options = program.opts<{ gib: string; seconds: string; snapshots: string }>();

const measures: Record<string, (directory: string) => Promise<void>> = {
  load: (directory) => measureUnderLoad(directory, Number(options.gib), Number(options.seconds)),
  clones: (directory) => measureClones(directory, 1000),
  snapshots: (directory) => measureSnapshots(directory, Number(options.snapshots)),
  diff: (directory) => measureDiff(directory, 100, 10_000),
  space: (directory) => measureSpace(directory, 1_000_000),
};

for (const name of program.args.length > 0 ? program.args : Object.keys(measures)) {
  const measure = measures[name];
  if (measure === undefined) program.error(`there is no measure ${name}`);
  const directory = mkdtempSync(path.join(os.tmpdir(), 'coppice-versions-'));
  try {
    await measure!(directory);
  } finally {
    rmSync(directory, { recursive: true });
  }
}
