/** The commands about schedules: their words and options. */

import type { Command } from 'commander';
import { StoreError } from '../base/errors.ts';
import { withChange, withDoor } from './command-context.ts';
import type { ScheduleWords } from './schedule-commands.ts';

export function addScheduleCommands(program: Command): void {
  const commands = () => import('./schedule-commands.ts');

  program
    .command('schedule [volume]')
    .description('snapshots that the server makes by itself, and how many are kept (default: show it)')
    .option('--hourly <count>', 'one an hour; keep those of the last so many hours that have any')
    .option('--daily <count>', 'one a day, at midnight')
    .option('--weekly <count>', 'one a week, on Monday at midnight')
    .option('--monthly <count>', 'one a month, on its first day at midnight')
    .option('--custom <pattern>', 'one at each moment of a cron pattern of five fields')
    .option('--keep <count>', 'how many of those to keep')
    .option('--time-zone <zone>', 'what days and hours are in, such as Europe/Berlin (default: UTC)')
    .option('--hook-before <command>', 'run by the server before each snapshot; if it fails, there is none')
    .option('--hook-after <command>', 'run after each snapshot, made or not')
    .option('--off', 'end the schedule; its snapshots stay')
    .option('--list', 'the schedules of all volumes')
    .action(async (volume: string | undefined, options: ScheduleWords & { off?: true; list?: true }) => {
      const { off, list, ...words } = options;
      const isSet = Object.keys(words).length > 0;
      const wanted = [isSet, off === true, list === true].filter(Boolean).length;
      if (wanted > 1)
        throw new StoreError('INVALID_ARGUMENT', 'set a schedule, end it with --off, or --list all');
      const { endSchedule, listSchedules, setSchedule, settingsOf, showSchedule } = await commands();
      if (volume === undefined) {
        if (isSet || off === true) throw new StoreError('INVALID_ARGUMENT', 'name the volume');
        await withDoor(program, listSchedules);
      } else if (list === true) {
        throw new StoreError('INVALID_ARGUMENT', '--list shows all volumes; leave the name out');
      } else if (off === true) {
        await withChange(program, { sync: true }, (door, output) => endSchedule(door, output, volume));
      } else if (isSet) {
        const settings = settingsOf(words);
        await withChange(program, { sync: true }, (door, output) =>
          setSchedule(door, output, volume, settings),
        );
      } else {
        await withDoor(program, (door, output) => showSchedule(door, output, volume));
      }
    });

  program
    .command('prune [volume]')
    .description('delete the snapshots that schedules do not keep, now; a line of JSON each with --json')
    .option('--dry-run', 'only say what would become of each snapshot, and why')
    .action(async (volume: string | undefined, options: { dryRun?: true }) => {
      const { prune } = await commands();
      const dryRun = options.dryRun === true;
      await withDoor(program, (door, output) => prune(door, output, { volume, dryRun }));
    });
}
