// The command line of the benchmark.

import { Command, InvalidArgumentError, Option } from 'commander';
import { LOAD_NAMES, LOADS, type LoadName } from './loads.ts';
import { PEER_NAMES, type PeerName } from './peer.ts';
import { QUICK_PEERS, type Sizes } from './stages.ts';

const UNIT_BYTES: Record<string, number> = { '': 1, K: 2 ** 10, M: 2 ** 20, G: 2 ** 30, T: 2 ** 40 };
const SIZE_BYTES_MIN = 16 * 2 ** 20;
const QUICK_VOLUME_BYTES = 512 * 2 ** 20;

export interface Options {
  readonly rounds: number;
  readonly seconds: number;
  readonly pacedSeconds: number;
  readonly sizes: Sizes;
  readonly loads: readonly LoadName[];
  readonly peers: readonly PeerName[];
  readonly dir: string;
  readonly json: string;
  readonly compare: string | undefined;
  readonly plot: string | undefined;
  readonly check: boolean;
  readonly list: boolean;
  readonly tls: boolean;
}

interface Given {
  rounds?: number;
  seconds?: number;
  pacedSeconds: number;
  size?: number;
  wideSize: number;
  imageSize: number;
  quick: boolean;
  loads?: LoadName[];
  peers?: PeerName[];
  dir: string;
  json: string;
  compare?: string;
  plot?: string;
  check: boolean;
  list: boolean;
  tls: boolean;
}

const sizeOption = (flags: string, what: string, bytes?: [number, string]): Option => {
  const option = new Option(flags, what).argParser(size);
  return bytes === undefined ? option : option.default(...bytes);
};

const program = new Command('bench')
  .description('measure Coppice, what a user could have in its place, and what bounds them all')
  .option(
    '--loads <names>',
    'of those that --list names, separated by commas (default: all)',
    someOf(LOAD_NAMES),
  )
  .option('--peers <names>', 'likewise (default: all)', someOf(PEER_NAMES))
  .option('--rounds <count>', 'rounds (default: 3)', positiveInteger)
  .option('--seconds <seconds>', 'length of each run (default: 3)', positiveInteger)
  .option('--paced-seconds <seconds>', 'of one at half the rate', positiveInteger, 60)
  .addOption(sizeOption('--size <size>', 'size of a volume, as in 512M (default: 1G)'))
  .addOption(sizeOption('--wide-size <size>', 'of one whose pointers no cache holds', [64 * 2 ** 30, '64G']))
  .addOption(sizeOption('--image-size <size>', 'of the image that goes in and out', [4 * 2 ** 30, '4G']))
  .option('--quick', 'the core of the table, in a round of a second a run', false)
  .option('--list', 'say what can be measured, and what is promised of it', false)
  .option('--dir <directory>', 'where the scratch directory is made and removed', 'bench-results')
  .option('--json <file>', 'where the results are written', 'bench-results/latest.json')
  .option('--compare <file>', 'print what has changed since these results by more than the spread')
  .option('--plot <file>', 'draw the results, as SVG')
  .option('--check', 'fail when a floor is not held', false)
  .option('--no-tls', 'leave out what TLS costs')
  .exitOverride((error) => process.exit(error.exitCode === 0 ? 0 : 2));

/** Parses the command line; wrong usage ends the process with exit code 2. */
export function parseOptions(): Options {
  const given = program.parse().opts<Given>();
  const { quick, size: volumeBytes = quick ? QUICK_VOLUME_BYTES : 2 ** 30, wideSize, imageSize } = given;
  const core = LOADS.filter((load) => load.core === true).map(({ name }) => name);
  return {
    rounds: given.rounds ?? (quick ? 1 : 3),
    seconds: given.seconds ?? (quick ? 1 : 3),
    pacedSeconds: given.pacedSeconds,
    sizes: { volumeBytes, wideBytes: wideSize, imageBytes: imageSize },
    loads: given.loads ?? (quick ? core : LOAD_NAMES),
    peers: given.peers ?? (quick ? QUICK_PEERS : PEER_NAMES),
    dir: given.dir,
    json: given.json,
    compare: given.compare,
    plot: given.plot,
    check: given.check,
    list: given.list,
    // Who asks for some loads does not ask for this.
    tls: given.tls && !quick && given.loads === undefined,
  };
}

function positiveInteger(text: string): number {
  if (!/^[1-9]\d{0,5}$/.test(text)) throw new InvalidArgumentError('A positive integer is expected.');
  return Number(text);
}

function size(text: string): number {
  const [, number, unit] = /^([1-9]\d{0,9})([KMGT]?)(?:iB|B)?$/i.exec(text) ?? [];
  const bytes = Number(number) * (UNIT_BYTES[unit?.toUpperCase() ?? ''] ?? Number.NaN);
  // Four mebibytes, so that every load fits a whole number of blocks into a quarter of it, too.
  if (bytes % 2 ** 22 !== 0 || bytes < SIZE_BYTES_MIN)
    throw new InvalidArgumentError('A multiple of 4M is expected, 16M or more.');
  return bytes;
}

/** Takes some of `names`, separated by commas. */
function someOf<Name extends string>(names: readonly Name[]): (text: string) => Name[] {
  return (text) =>
    text.split(',').map((part) => {
      const name = names.find((candidate) => candidate === part.trim());
      if (name === undefined) throw new InvalidArgumentError(`"${part}" is none of ${names.join(', ')}.`);
      return name;
    });
}
