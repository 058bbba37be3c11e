// The command line of the benchmark.

import { Command, InvalidArgumentError, Option } from 'commander';
import { LOAD_NAMES, type LoadName } from './loads.ts';
import { PEER_NAMES, type PeerName } from './peers.ts';

const UNIT_BYTES: Record<string, number> = { '': 1, K: 2 ** 10, M: 2 ** 20, G: 2 ** 30, T: 2 ** 40 };

export interface Options {
  rounds: number;
  seconds: number;
  size: number;
  quick: boolean;
  only: LoadName[];
  peers: PeerName[];
  dir: string;
  output: string;
  json: boolean;
  check: boolean;
  tls: boolean;
}

const program = new Command('bench')
  .description('measure Coppice against qemu-nbd and nbdkit with fio')
  .option('--rounds <count>', 'rounds (default: 3)', positiveInteger)
  .option('--seconds <seconds>', 'length of each run (default: 3)', positiveInteger)
  .addOption(
    new Option('--size <size>', 'size of the volume, as in 512M').default(2 ** 30, '1G').argParser(size),
  )
  .option('--quick', 'one round of one second a run', false)
  .addOption(someOf('--only <loads>', 'loads', LOAD_NAMES))
  .addOption(someOf('--peers <peers>', 'peers', PEER_NAMES))
  .option('--dir <directory>', 'where the scratch directory is made and removed', 'bench-results')
  .option('--output <file>', 'where the JSON is written', 'bench-results/latest.json')
  .option('--json', 'print the JSON instead of the tables', false)
  .option('--check', 'fail when a floor is not held', false)
  .option('--no-tls', 'leave out what TLS costs')
  .exitOverride((error) => process.exit(error.exitCode === 0 ? 0 : 2));

/** Parses the command line; wrong usage ends the process with exit code 2. */
export function parseOptions(): Options {
  const given = program.parse().opts<Omit<Options, 'rounds' | 'seconds'> & Partial<Options>>();
  const { rounds = given.quick ? 1 : 3, seconds = given.quick ? 1 : 3 } = given;
  return { ...given, rounds, seconds };
}

function positiveInteger(text: string): number {
  if (!/^[1-9]\d{0,5}$/.test(text)) throw new InvalidArgumentError('A positive integer is expected.');
  return Number(text);
}

function size(text: string): number {
  const [, number, unit] = /^([1-9]\d{0,9})([KMGT]?)(?:iB|B)?$/i.exec(text) ?? [];
  const bytes = Number(number) * (UNIT_BYTES[unit?.toUpperCase() ?? ''] ?? Number.NaN);
  // One mebibyte, so that every load fits a whole number of blocks.
  if (bytes % 2 ** 20 !== 0 || bytes < 16 * 2 ** 20) {
    throw new InvalidArgumentError('A whole number of MiB is expected, 16M or more.');
  }
  return bytes;
}

/** An option that takes some of `names`, separated by commas, and stands for all of them. */
function someOf<Name extends string>(flags: string, what: string, names: readonly Name[]): Option {
  const parse = (text: string): Name[] =>
    text.split(',').map((part) => {
      const name = names.find((candidate) => candidate === part.trim());
      if (name === undefined) throw new InvalidArgumentError(`"${part}" is none of the ${what}.`);
      return name;
    });
  return new Option(flags, `${what} separated by commas, of ${names.join(', ')}`)
    .default([...names], 'all')
    .argParser(parse);
}
