/**
 * `npm run torture`: what the store promises, held against a real kernel, real file systems and real faults, for as long
 * as one likes. Standard output gets one line of figures per rig, standard error its progress.
 *
 * Exit codes: 0 nothing was found; 1 something was, and the seed of it is told; 2 wrong usage; 3 nothing was found, and
 * a rig was left out because something is missing on this machine; 130 interrupted.
 */

import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { Command, InvalidArgumentError, Option } from 'commander';
import { Cleanup } from '../../test/support/programs.ts';
import { RIGS, runRig } from './rigs.ts';

interface Options {
  only: string[];
  rounds?: number;
  seed?: number;
  dir: string;
  quiet: boolean;
}

const NAMES = RIGS.map(({ name }) => name);

const program = new Command('torture')
  .description('strike a store down in every way that this machine knows, and look for what is lost')
  .addOption(
    new Option('--only <rigs>', `rigs separated by commas, of ${NAMES.join(', ')}`)
      .default([...NAMES], 'all')
      .argParser(rigNames),
  )
  .option('--rounds <count>', 'rounds of each rig (default: as many as make a long run)', wholeNumber)
  .option('--seed <number>', 'what chance begins with (default: a new one)', wholeNumber)
  .option('--dir <directory>', 'where scratch directories are made and removed', os.tmpdir())
  .option('--quiet', 'no progress', false)
  .exitOverride((error) => process.exit(error.exitCode === 0 ? 0 : 2));

function rigNames(text: string): string[] {
  const names = text.split(',').map((name) => name.trim());
  const unknown = names.find((name) => !NAMES.includes(name));
  if (unknown !== undefined) throw new InvalidArgumentError(`"${unknown}" is none of ${NAMES.join(', ')}.`);
  return names;
}

function wholeNumber(text: string): number {
  if (!/^\d{1,10}$/.test(text)) throw new InvalidArgumentError('A whole number is expected.');
  return Number(text);
}

/** Of the rig that runs. */
const cleanup = new Cleanup();

async function main({ only, rounds, seed, dir, quiet }: Options): Promise<number> {
  let code = 0;
  for (const rig of RIGS.filter(({ name }) => only.includes(name))) {
    const missing = [...rig.tools.filter((tool) => !isInstalled(tool)), ...rig.missing()];
    if (missing.length > 0) {
      process.stderr.write(`*** ${rig.name} IS LEFT OUT: missing ${missing.join(', ')} ***\n`);
      code ||= 3;
      continue;
    }
    const used = seed ?? Math.floor(Math.random() * 2 ** 31);
    const startedAt = performance.now();
    process.stderr.write(`${rig.name}, seed ${used}: ${rig.does}\n`);
    const say = (line: string): void => void (quiet || process.stderr.write(`${rig.name}: ${line}\n`));
    const report = { rig: rig.name, seed: used, rounds: rounds ?? rig.rounds };
    const seconds = (): number => Math.round((performance.now() - startedAt) / 100) / 10;
    try {
      const counts = await runRig(rig, { rounds: report.rounds, seed: used, directory: dir, cleanup, say });
      process.stdout.write(`${JSON.stringify({ ...report, ...counts, seconds: seconds(), wrong: 0 })}\n`);
    } catch (error) {
      const wrong = error instanceof Error ? (error.stack ?? error.message) : String(error);
      process.stdout.write(`${JSON.stringify({ ...report, seconds: seconds(), wrong })}\n`);
      process.stderr.write(`${rig.name}: ${wrong}\n--only ${rig.name} --seed ${used} begins the same way\n`);
      code = 1;
    }
  }
  return code;
}

function isInstalled(tool: string): boolean {
  const directories = (process.env['PATH'] ?? '').split(path.delimiter);
  return directories.some((directory) => fs.existsSync(path.join(directory, tool)));
}

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.on(signal, () => {
    // Mounts and loop devices outlive a process.
    void cleanup.run().finally(() => process.exit(130));
  });
}
process.exitCode = await main(program.parse().opts<Options>());
