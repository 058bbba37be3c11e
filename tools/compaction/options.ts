/** The command line of the benchmark of compaction. */

import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { Command, InvalidArgumentError } from 'commander';
import type { StoreShape } from './churned-store.ts';
import { LOAD_NAMES, type LoadName } from './loads.ts';

const MIB = 2 ** 20;

export interface Options {
  loads?: LoadName[];
  levels: number[];
  gib: number;
  segmentMib: number;
  overwrites?: number;
  seed: number;
  directory: string;
  latency: boolean;
  seconds: number;
  pairs: number;
  endless: boolean;
  aged: boolean;
  idle: number;
  json: boolean;
}

/** Parses the command line; wrong usage ends the process. */
export function parseOptions(): Options {
  return new Command('bench:compaction')
    .description('what compaction costs a store that is written over and over')
    .addHelpText(
      'after',
      '\nWithout --latency, --endless or --aged: what is written and kept, for each load and level.',
    )
    .option('--loads <names>', `of ${LOAD_NAMES.join(', ')} (default: all; endless, aged: uniform)`, loads)
    .option('--levels <percents>', 'live bytes in the capacity', levels, [70, 80, 90])
    .option('--gib <number>', 'capacity; with --endless and --aged the size of the volume', number, 2)
    .option('--segment-mib <number>', 'size of a segment', number, 4)
    .option('--overwrites <number>', 'how many times the volume is written over (2; endless: 20)', number)
    .option('--seed <number>', 'of the requests', number, 1)
    .option('--directory <directory>', 'where scratch stores are made and removed', os.tmpdir())
    .option('--latency', 'how long writes take at half the highest rate, with and without compaction', false)
    .option('--seconds <number>', 'latency: length of each run', number, 15)
    .option('--pairs <number>', 'latency: runs with and without', number, 3)
    .option('--endless', 'what the log takes without a capacity, under load and idle', false)
    .option('--aged', 'how fast an aged volume is read in order, and a fresh one', false)
    .option('--idle <seconds>', 'endless, aged: how long the store idles at most', number, 60)
    .option('--json', 'print JSON in place of tables', false)
    .parse()
    .opts<Options>();
}

function number(text: string): number {
  const value = Number(text);
  if (!(value > 0)) throw new InvalidArgumentError('A positive number is expected.');
  return value;
}

function loads(text: string): LoadName[] {
  return text.split(',').map((part) => {
    const name = LOAD_NAMES.find((candidate) => candidate === part.trim());
    if (name === undefined) throw new InvalidArgumentError(`There is no load "${part}".`);
    return name;
  });
}

function levels(text: string): number[] {
  return text.split(',').map((part) => {
    const percent = Number(part);
    if (percent >= 1 && percent <= 100) return percent;
    throw new InvalidArgumentError(`"${part}" is no percentage.`);
  });
}

/** A store whose volume takes `level` percent of its capacity. */
export function leveled(options: Options, level: number): StoreShape & { capacityBytes: number } {
  const segmentBytes = options.segmentMib * MIB;
  const capacityBytes = Math.floor((options.gib * 2 ** 30) / segmentBytes) * segmentBytes;
  const volumeBytes = Math.floor((capacityBytes * level) / 100 / MIB) * MIB;
  return { segmentBytes, capacityBytes, volumeBytes };
}

/** A store without a capacity. */
export function unlimited(options: Options, volumeBytes = roundedVolume(options)): StoreShape {
  return { segmentBytes: options.segmentMib * MIB, capacityBytes: undefined, volumeBytes };
}

function roundedVolume({ gib }: Options): number {
  return Math.max(1, Math.floor(gib * 1024)) * MIB;
}

/** Runs `work` with a directory that is there for it alone. */
export async function inScratch<T>(options: Options, work: (directory: string) => Promise<T>): Promise<T> {
  mkdirSync(options.directory, { recursive: true });
  const directory = mkdtempSync(path.join(options.directory, 'coppice-compaction-'));
  try {
    return await work(directory);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}
