/** The commands about what the server replicates: their words and options. */

import type { Command } from 'commander';
import { sizeOption, withChange, withDoor } from './command-context.ts';
import { parseSpan } from './span.ts';

interface AddOptions {
  readonly as?: string;
  readonly every: string;
  readonly rate?: string;
  readonly name?: string;
  readonly snapshots: string;
}

const EVERY = ['--every <span>', 'how often: 30s, 5m, 1h, 1d'] as const;
const RATE = ['--rate <size>', 'send no more than this in a second'] as const;
const NAME = ['--name <id>', 'what to call it (default: the name of the volume, and a number)'] as const;
const SNAPSHOTS = [
  '--snapshots <which>',
  'made: the newest, made for it where the volume has changed; all: every snapshot that the volume has, and that one',
  'made',
] as const;
const SYNCED = { sync: true };

export function addFeedCommands(program: Command): void {
  const commands = () => import('./feed-commands.ts');

  const target = program
    .command('target')
    .description('replicas of volumes that this server keeps up to date elsewhere');
  target
    .command('add <volume> <address>')
    .description('send snapshots to another server, HOST:PORT or the path of its socket, again and again')
    .option('--as <name>', 'name of the volume there (default: the same)')
    .requiredOption(...EVERY)
    .option(...RATE)
    .option(...NAME)
    .option(...SNAPSHOTS)
    .action(async (volume: string, address: string, options: AddOptions) => {
      const request = { direction: 'push' as const, volume, address, ...termsOf(options, volume) };
      const { addFeed } = await commands();
      await withChange(program, SYNCED, (door, output) => addFeed(door, output, request));
    });
  addCommon(program, target, 'push');

  const source = program
    .command('source')
    .description('replicas here that this server fetches from elsewhere');
  source
    .command('add <name> <address> <volume>')
    .description('fetch snapshots of a volume of another server into a replica here, again and again')
    .requiredOption(...EVERY)
    .option(...RATE)
    .option('--name <id>', NAME[1])
    .option(...SNAPSHOTS)
    .action(async (name: string, address: string, volume: string, options: AddOptions) => {
      const terms = termsOf({ ...options, as: volume }, volume);
      const { addFeed } = await commands();
      await withChange(program, SYNCED, (door, output) =>
        addFeed(door, output, { direction: 'pull', volume: name, address, ...terms }),
      );
    });
  addCommon(program, source, 'pull');
}

function addCommon(program: Command, of: Command, direction: 'push' | 'pull'): void {
  const commands = () => import('./feed-commands.ts');

  of.command('list')
    .description('what there is, how it goes, and how far behind it is')
    .action(async () => {
      const { listFeeds } = await commands();
      await withDoor(program, (door, output) => listFeeds(door, output, direction, Date.now()));
    });

  of.command('remove <id>')
    .description('end it; what was replicated stays, and is no longer held here')
    .action(async (id: string) => {
      const { removeFeed } = await commands();
      await withChange(program, SYNCED, (door, output) => removeFeed(door, output, { id, direction }));
    });

  for (const [word, isPaused] of [
    ['pause', true],
    ['resume', false],
  ] as const)
    of.command(`${word} <id>`)
      .description(isPaused ? 'do nothing for it until it is resumed' : 'go on with it')
      .action(async (id: string) => {
        const { pauseFeed } = await commands();
        await withChange(program, SYNCED, (door, output) =>
          pauseFeed(door, output, { id, direction }, isPaused),
        );
      });

  of.command('run <id>')
    .description('begin now, whatever the time')
    .action(async (id: string) => {
      const { runFeed } = await commands();
      await withDoor(program, (door, output) => runFeed(door, output, { id, direction }));
    });
}

function termsOf({ as, every, rate, name, snapshots }: AddOptions, volume: string) {
  return {
    ...(name === undefined ? {} : { id: name }),
    peerVolume: as ?? volume,
    everyMs: parseSpan(every, '--every'),
    rate: sizeOption(rate, '--rate') ?? null,
    // Which words there are is for the store to say.
    snapshots: snapshots as 'made' | 'all',
  };
}
