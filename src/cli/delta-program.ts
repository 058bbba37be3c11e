/** The commands about streams: send, receive, and what is done with files of them. */

import type { Command } from 'commander';
import { StoreError } from '../base/errors.ts';
import { NO_SYNC, outputOf, sizeOption, type Sync, withChange, withDoor } from './command-context.ts';
import { interruptible } from './interruption.ts';
import { outputStream, refuseTerminal } from './standard-output.ts';

interface SendOptions {
  readonly from?: string;
  readonly resume?: string;
  readonly resync?: string;
  readonly compress?: boolean;
  readonly rate?: string;
}

interface ReceiveOptions {
  readonly status?: boolean;
  readonly abort?: string;
}

export function addDeltaCommands(program: Command): void {
  program
    .command('send [volume@name]')
    .description('write a snapshot as a stream to standard output, for `coppice receive`')
    .option('--from <base>', 'only what differs from this snapshot: VOLUME@NAME, or @NAME of the same volume')
    .option(
      '--resume <token>',
      'go on with a stream that was cut off; `coppice receive --status` shows the token',
    )
    .option(
      '--resync <file>',
      'only what differs from a snapshot of the other store, by its `coppice hashes`; - for standard input',
    )
    .option('--compress', 'compress what that makes shorter')
    .option('--rate <size>', 'send no more than this in a second')
    .action(async (name: string | undefined, options: SendOptions) => {
      const what = whatToSend(name, options);
      const bytesPerSecond = sizeOption(options.rate, '--rate');
      refuseTerminal('a stream');
      const { sendStream } = await import('./send-command.ts');
      const request = {
        what,
        resync: options.resync,
        isCompressed: options.compress === true,
        bytesPerSecond,
      };
      await interruptible((signal) =>
        withDoor(program, (door) => sendStream(door, request, outputStream(), signal)),
      );
    });

  program
    .command('receive [volume[@name]]')
    .description('make a snapshot from a stream on standard input; a stream of a whole one makes the volume')
    .option('--status', 'show what has not been received whole')
    .option('--abort <receive>', 'delete what has come of one')
    .action(async (name: string | undefined, options: ReceiveOptions) => {
      const { abortReceive, inputStream, receiveStream, showReceives } = await import('./receive-command.ts');
      const asked = [name, options.status, options.abort].filter((each) => each !== undefined);
      if (asked.length !== 1)
        throw new StoreError(
          'INVALID_ARGUMENT',
          'give one of these: VOLUME[@NAME], --status, --abort RECEIVE',
        );
      if (name === undefined) {
        const { abort } = options;
        await withDoor(program, (door, output) =>
          abort === undefined ? showReceives(door, output) : abortReceive(door, output, abort),
        );
        return;
      }
      if (process.stdin.isTTY)
        throw new StoreError(
          'INVALID_ARGUMENT',
          'a stream comes from a pipe or a file; redirect standard input',
        );
      await interruptible((signal) =>
        withDoor(program, (door, output) => receiveStream(door, output, name, inputStream(), signal)),
      );
    });

  program
    .command('hashes <volume@name>')
    .description(
      'write hashes of a snapshot to standard output, for `coppice send --resync` of another store',
    )
    .action(async (name: string) => {
      refuseTerminal('a list of hashes');
      const { writeHashes } = await import('./hashes-command.ts');
      await interruptible((signal) =>
        withDoor(program, (door) => writeHashes(door, name, outputStream(), signal)),
      );
    });

  const roles = () => import('./role-commands.ts');

  program
    .command('promote <replica>')
    .description('make a replica a volume that is written')
    .option(...NO_SYNC)
    .action(async (name: string, options: Sync) => {
      const { promote } = await roles();
      await withChange(program, options, (door, output) => promote(door, output, name));
    });

  program
    .command('demote <volume>')
    .description('make a volume a replica, which is only read; what no snapshot has stays as one')
    .option('--force', 'disconnect clients that use the volume')
    .option('--replica-of <uuid>', 'of this volume: for a copy of it that came by another way')
    .option(...NO_SYNC)
    .action(async (name: string, options: { force?: boolean; replicaOf?: string } & Sync) => {
      const { demote } = await roles();
      const { force = false, replicaOf } = options;
      await withChange(program, options, (door, output) => demote(door, output, name, { force, replicaOf }));
    });

  const commands = () => import('./stream-command.ts');
  const stream = program.command('stream').description('files of `coppice send`');

  stream
    .command('inspect <file>')
    .description('what a stream makes, of what, and how much there is in it')
    .action(async (file: string) => await (await commands()).inspectStream(outputOf(program), file));

  stream
    .command('verify <file>')
    .description('read all of a stream and check it')
    .action(async (file: string) => await (await commands()).verifyStream(outputOf(program), file));

  stream
    .command('compose <first> <second>')
    .description('one stream of two that follow each other, on standard output')
    .option('--compress', 'compress what that makes shorter')
    .action(async (first: string, second: string, options: { compress?: boolean }) => {
      refuseTerminal('a stream');
      await (await commands()).composeStreams([first, second], options.compress === true, outputStream());
    });
}

function whatToSend(
  name: string | undefined,
  { from, resume, resync }: SendOptions,
): { name: string; from: string | undefined } | { token: string } {
  if (from !== undefined && resync !== undefined)
    throw new StoreError('INVALID_ARGUMENT', '--from and --resync both name a base; give one of them');
  if (name !== undefined && resume === undefined) return { name, from };
  if (name === undefined && resume !== undefined && from === undefined) return { token: resume };
  throw new StoreError(
    'INVALID_ARGUMENT',
    'give VOLUME@NAME (and --from or --resync), or --resume TOKEN alone',
  );
}
