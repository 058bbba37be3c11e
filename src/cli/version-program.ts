/** The commands about volumes and snapshots: their words and options. What they do is in files of their own. */

import type { Command } from 'commander';
import { StoreError } from '../base/errors.ts';
import { NO_SYNC, type Sync, withChange, withDoor } from './command-context.ts';
import { parseSize } from './size.ts';

export function addVersionCommands(program: Command): void {
  const commands = () => import('./version-commands.ts');
  const space = () => import('./space-commands.ts');

  program
    .command('create <volume>')
    .description('make an empty volume; it takes up no space')
    .requiredOption('--size <size>', 'size of the disk')
    .option(...NO_SYNC)
    .action(async (volume: string, options: { size: string } & Sync) => {
      const sizeBytes = parseSize(options.size, '--size');
      const { createVolume } = await commands();
      await withChange(program, options, (door, output) => createVolume(door, output, volume, sizeBytes));
    });

  program
    .command('snapshot <volume@name...>')
    .description('freeze one or several volumes under a name, at one moment')
    .option(...NO_SYNC)
    .action(async (names: string[], options: Sync) => {
      const { takeSnapshot } = await commands();
      await withChange(program, options, (door, output) => takeSnapshot(door, output, names));
    });

  program
    .command('clone <volume@name> <newvolume>')
    .description('make a volume that begins as a snapshot')
    .option(...NO_SYNC)
    .action(async (source: string, volume: string, options: Sync) => {
      const { cloneSnapshot } = await commands();
      await withChange(program, options, (door, output) => cloneSnapshot(door, output, source, volume));
    });

  program
    .command('list')
    .description('all volumes and snapshots, and what they take up')
    .action(async () => await withDoor(program, (await commands()).listVersions));

  program
    .command('tree')
    .description('volumes and snapshots as they descend from each other')
    .option('--ghosts', 'deleted versions too, as long as others inherit from them')
    .action(async (options: { ghosts?: boolean }) => {
      const { showTree } = await commands();
      await withDoor(program, (door, output) => showTree(door, output, options.ghosts === true));
    });

  program
    .command('show <volume[@name]>')
    .description('all about one volume or snapshot')
    .action(async (name: string) => {
      const { showVersion } = await commands();
      await withDoor(program, (door, output) => showVersion(door, output, name));
    });

  program
    .command('du <volume[@name]...>')
    .description('what versions take up, and what deleting all of them would give back')
    .action(async (names: string[]) => {
      const { printSpace } = await space();
      await withDoor(program, (door, output) => printSpace(door, output, names));
    });

  program
    .command('diff <from> <to>')
    .description('where one volume or snapshot differs from another; a line of JSON each with --json')
    .action(async (from: string, to: string) => {
      const { printDiff } = await space();
      await withDoor(program, (door, output) => printDiff(door, output, from, to));
    });
}

export function addRemovalCommands(program: Command): void {
  const commands = () => import('./removal-commands.ts');

  program
    .command('delete <volume[@name]...>')
    .description('delete volumes and snapshots, all or none; what others inherit from them stays')
    .option('--recursive', 'delete the snapshots of a volume with it')
    .option('--force', 'disconnect clients that use them')
    .option(...NO_SYNC)
    .action(async (names: string[], options: { recursive?: boolean; force?: boolean } & Sync) => {
      const { deleteVersions } = await commands();
      const { recursive = false, force = false } = options;
      await withChange(program, options, (door, output) =>
        deleteVersions(door, output, names, { recursive, force }),
      );
    });

  program
    .command('rollback <volume@name>')
    .description('make a volume what its snapshot is; what it was before stays as a snapshot')
    .option('--force', 'disconnect clients that use the volume')
    .option(...NO_SYNC)
    .action(async (name: string, options: { force?: boolean } & Sync) => {
      const { rollBack } = await commands();
      const { force = false } = options;
      await withChange(program, options, (door, output) => rollBack(door, output, name, { force }));
    });

  program
    .command('rename <volume[@name]> <newname>')
    .description('give a volume or snapshot another name')
    .option(...NO_SYNC)
    .action(async (name: string, to: string, options: Sync) => {
      const { rename } = await commands();
      await withChange(program, options, (door, output) => rename(door, output, name, to));
    });

  program
    .command('resize <volume> [size]')
    .description('change the size of a volume; clients see it when they reconnect')
    .option('--size <size>', 'the new size, if it is not the second word')
    .option('--shrink', 'allow a smaller size')
    .option('--force', 'lose what is stored behind the new end')
    .option(...NO_SYNC)
    .action(
      async (
        volume: string,
        word: string | undefined,
        options: { size?: string; shrink?: boolean; force?: boolean } & Sync,
      ) => {
        const text = word ?? options.size;
        if (text === undefined || (word !== undefined && options.size !== undefined))
          throw new StoreError('INVALID_ARGUMENT', 'give the new size once: coppice resize VOLUME SIZE');
        const sizeBytes = parseSize(text, 'the new size');
        const { resize } = await commands();
        const { shrink = false, force = false } = options;
        await withChange(program, options, (door, output) =>
          resize(door, output, volume, sizeBytes, { shrink, force }),
        );
      },
    );

  program
    .command('hold <volume@name>')
    .description('protect a snapshot from being deleted')
    .requiredOption('--owner <who>', 'who holds it')
    .option('--reason <text>', 'why')
    .option('--until <time>', 'until when: 2027-01-31, 2027-01-31T12:00:00Z, or a span such as 12h or 7d')
    .action(async (name: string, options: { owner: string; reason?: string; until?: string }) => {
      const { hold } = await commands();
      await withDoor(program, (door, output) => hold(door, output, name, options, Date.now()));
    });

  program
    .command('release <volume@name>')
    .description('end a hold')
    .requiredOption('--owner <who>', 'who holds it')
    .option(...NO_SYNC)
    .action(async (name: string, options: { owner: string } & Sync) => {
      const { release } = await commands();
      await withChange(program, options, (door, output) => release(door, output, name, options.owner));
    });

  program
    .command('priority <volume@name> <number>')
    .description('which snapshots go first when the store is full: -128 to 127, which never goes')
    .option(...NO_SYNC)
    .action(async (name: string, text: string, options: Sync) => {
      const { setPriority } = await commands();
      await withChange(program, options, (door, output) => setPriority(door, output, name, text));
    });
}
