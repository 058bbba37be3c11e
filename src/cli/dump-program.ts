/** The commands for when something is wrong with a store: their words and options. */

import type { Command } from 'commander';
import { StoreError } from '../base/errors.ts';
import { directoryOf, outputOf } from './command-context.ts';
import type { Complain, DumpPlace } from './dump-place.ts';
import type { Output } from './output.ts';

const SUBJECTS = 'superblock, segments, records, entries, versions, feeds or pointers';
/** Chunks of the largest disk. */
const CHUNKS_MAX = 2 ** 34;
const SEGMENTS_MAX = 2 ** 32;

export function addDumpCommands(program: Command, complain: Complain): void {
  const log = () => import('./dump-log.ts');
  const versions = () => import('./dump-versions.ts');
  const withPlace = async (work: (output: Output, place: DumpPlace) => Promise<void>): Promise<void> => {
    const { openPlace } = await import('./dump-place.ts');
    await work(outputOf(program), await openPlace(directoryOf(program), complain));
  };
  const found = async (place: DumpPlace) => (await import('./dump-place.ts')).findLog(place, complain);
  const segments = (): Promise<void> =>
    withPlace(async (output, place) => (await log()).dumpSegments(output, await found(place), complain));

  const dump = program
    .command('dump')
    .description('what the files of a store say, damaged or not, without opening it (default: its segments)')
    .argument('[what]', SUBJECTS)
    .action(async (what: string | undefined) => {
      if (what !== undefined)
        throw new StoreError(
          'INVALID_ARGUMENT',
          `there is no dump of ${JSON.stringify(what)}; ask for ${SUBJECTS}`,
        );
      await segments();
    });

  dump
    .command('superblock')
    .description('both copies of the superblock, and which of them counts')
    .action(() => withPlace(async (output, place) => (await log()).dumpSuperblock(output, place)));

  dump
    .command('segments')
    .description('the files of the log, and whether its newest catalog states them')
    .action(segments);

  dump
    .command('records')
    .description('the records of a segment, and whether they are whole')
    .requiredOption('--segment <number>', 'which segment')
    .action(async (options: { segment: string }) => {
      const segment = numberOption(options.segment, '--segment', 1, SEGMENTS_MAX);
      await withPlace(async (output, place) =>
        (await log()).dumpRecords(output, await found(place), segment),
      );
    });

  dump
    .command('entries')
    .description('what the records of a segment hold')
    .requiredOption('--segment <number>', 'which segment')
    .option('--offset <bytes>', 'only the record that begins there')
    .action(async (options: { segment: string; offset?: string }) => {
      const segment = numberOption(options.segment, '--segment', 1, SEGMENTS_MAX);
      const { offset: text } = options;
      const offset = text === undefined ? undefined : numberOption(text, '--offset', 0, SEGMENTS_MAX);
      await withPlace(async (output, place) =>
        (await log()).dumpEntries(output, await found(place), segment, offset),
      );
    });

  dump
    .command('versions')
    .description('volumes, snapshots and deleted versions as of the end of the log')
    .action(() =>
      withPlace(async (output, place) =>
        (await versions()).dumpVersions(output, await found(place), complain),
      ),
    );

  dump
    .command('feeds')
    .description('what is to be replicated, as of the end of the log')
    .action(() =>
      withPlace(async (output, place) => (await versions()).dumpFeeds(output, await found(place), complain)),
    );

  dump
    .command('pointers <volume[@name]>')
    .description('where the index says that chunks live, and whether the log has them there')
    .requiredOption('--chunk <number>', 'the first chunk: a position in the disk, in units of 4 KiB')
    .option('--count <number>', 'how many', '1')
    .action(async (name: string, options: { chunk: string; count: string }) => {
      const first = numberOption(options.chunk, '--chunk', 0, CHUNKS_MAX);
      const count = numberOption(options.count, '--count', 1, CHUNKS_MAX);
      await withPlace(async (output, place) =>
        (await versions()).dumpPointers(output, await found(place), { name, first, count }, complain),
      );
    });
}

export function addRebuildCommand(program: Command): void {
  program
    .command('rebuild-index')
    .description('make the index anew from the log; for a store that nobody has open')
    .action(async () => {
      const directory = directoryOf(program);
      const { rebuildIndex } = await import('./rebuild-command.ts');
      await rebuildIndex(directory, outputOf(program));
    });
}

/** @throws INVALID_ARGUMENT unless it is a number from `least` on, below `end` */
function numberOption(text: string, option: string, least: number, end: number): number {
  const number = /^\d{1,16}$/.test(text) ? Number(text) : -1;
  if (number >= least && number < end) return number;
  throw new StoreError(
    'INVALID_ARGUMENT',
    `${option} is ${JSON.stringify(text)}; give a number from ${least} to ${end - 1}`,
  );
}
