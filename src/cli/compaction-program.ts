/** The commands about compaction: their words and options. */

import type { Command } from 'commander';
import { StoreError } from '../base/errors.ts';
import { sizeOption, withDoor } from './command-context.ts';

const TARGET_PERCENT_DEFAULT = '98';

interface CompactWords {
  readonly target: string;
  readonly purge?: boolean;
  readonly dryRun?: boolean;
  readonly rate?: string;
}

export function addCompactionCommands(program: Command): void {
  const commands = () => import('./compact-command.ts');

  program
    .command('compact')
    .description('give the room of dead chunks back now, and put what is left in order')
    .option('--target <percent>', 'how much of each segment is to be live, 50 to 100', TARGET_PERCENT_DEFAULT)
    .option('--purge', 'leave nothing that was deleted or written over in any file')
    .option('--rate <size>', 'copy no more than this in a second')
    .option('--dry-run', 'only say what would be done')
    .action(async (words: CompactWords) => {
      const options = {
        target: percentOption(words.target) / 100,
        purge: words.purge === true,
        bytesPerSecond: sizeOption(words.rate, '--rate'),
      };
      const { compactStore, estimateCompaction } = await commands();
      await withDoor(program, (door, output) =>
        words.dryRun === true
          ? estimateCompaction(door, output, options)
          : compactStore(door, output, options),
      );
    });

  const compaction = program
    .command('compaction')
    .description('whether a served store compacts itself when it is due');
  compaction
    .command('pause')
    .description('begin no more of it, until it is resumed or the store is opened again')
    .action(async () => {
      const { pauseCompaction } = await commands();
      await withDoor(program, (door, output) => pauseCompaction(door, output, true));
    });
  compaction
    .command('resume')
    .description('go on with it')
    .action(async () => {
      const { pauseCompaction } = await commands();
      await withDoor(program, (door, output) => pauseCompaction(door, output, false));
    });
}

/** @throws INVALID_ARGUMENT */
function percentOption(text: string): number {
  const percent = Number(text.replace(/%$/, ''));
  if (!/^\d+(\.\d+)?%?$/.test(text) || percent < 50 || percent > 100)
    throw new StoreError(
      'INVALID_ARGUMENT',
      `--target is ${JSON.stringify(text)}; give a percentage from 50 to 100`,
    );
  return percent;
}
