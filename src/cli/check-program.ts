/** The words and options of `fsck`, as a command of `coppice` and as a program of its own. */

import { Command, CommanderError } from 'commander';
import { directoryOf, outputOf, STORE_DEFAULT } from './command-context.ts';
import { EXIT, type ExitCode } from './exit-codes.ts';
import { catchInterruption } from './interruption.ts';
import { answered, printText } from './standard-output.ts';

const HELP = `
A repair puts everything in order that is still there. What is lost reads as errors until it is written over or trimmed, never as zeros
or as what was there before. It works beside and switches at its end: killed at any moment it leaves the store as it was, or repaired.
What it replaces is kept in a directory of the store, replaced-N.

Exit codes: 0 clean, 1 damage was found and all of it mended, 4 damage, 8 cannot check or repair, 16 wrong usage, 32 stopped by Ctrl-C or
SIGTERM.`;

interface Options {
  readonly quick?: boolean;
  readonly readOnly?: boolean;
  readonly repair?: boolean;
  readonly acceptOldData?: boolean;
}

/** What cannot go together; undefined if all can. */
function misuse({ quick, readOnly, repair, acceptOldData }: Options): string | undefined {
  if (repair === true && quick === true) return 'a repair reads everything: leave out --quick';
  if (repair === true && readOnly === true) return 'a repair writes: leave out --read-only';
  if (acceptOldData === true && repair !== true) return '--accept-old-data is for --repair';
  return undefined;
}

/** `globals` has --store and --json. */
function describe(
  command: Command,
  globals: Command,
  finish: (code: ExitCode) => void,
  complain: (sentence: string) => void,
): Command {
  return command
    .description(
      'check the store, and say what is damaged, and whom that reaches; changes nothing without --repair',
    )
    .option('--quick', 'do not read what chunks hold')
    .option('--read-only', 'leave the lock alone: look at the files as they are, whoever has the store')
    .option('--repair', 'then mend what can be mended, name what is lost, and check again')
    .option(
      '--accept-old-data',
      'with --repair: where nobody knows what is lost, go on; disks may read as they were before',
    )
    .addHelpText('after', HELP)
    .action(async (options: Options) => {
      const { quick, readOnly, repair, acceptOldData } = options;
      const wrong = misuse(options);
      if (wrong !== undefined) {
        complain(wrong);
        finish(EXIT.usage);
        return;
      }
      const [{ checkStore }, { repairStore }] = await Promise.all([
        import('./check-command.ts'),
        import('./repair-command.ts'),
      ]);
      const interruption = catchInterruption();
      const { signal } = interruption;
      try {
        const locate = (): string => directoryOf(globals);
        const output = outputOf(globals);
        const wishes = { quick, readOnly, signal };
        const code =
          repair === true
            ? await repairStore(locate, output, complain, { acceptsOldData: acceptOldData, signal })
            : await checkStore(locate, output, complain, wishes);
        // Whoever did not read it all does not know that the store is clean.
        finish(await answered(code, complain, EXIT.cannotCheck));
      } finally {
        interruption.release();
      }
    });
}

/** `misused` is called where its options are wrong, before Commander's error is thrown. */
export function addCheckCommand(
  program: Command,
  finish: (code: ExitCode) => void,
  complain: (sentence: string) => void,
  misused: () => void,
): void {
  const command = program.command('fsck').exitOverride((error) => {
    if (error.exitCode !== 0) misused();
    throw error;
  });
  describe(command, program, finish, complain);
}

/** `fsck` alone. Complains on standard error. */
export async function runCheckProgram(args: readonly string[], version: string): Promise<ExitCode> {
  let code: ExitCode = EXIT.ok;
  const complain = (sentence: string): void => void process.stderr.write(`fsck: ${sentence}\n`);
  const program = new Command('fsck')
    .version(version)
    .option('--store <dir>', `directory of the store (default: $COPPICE_STORE, else ${STORE_DEFAULT})`)
    .option('--json', 'print JSON')
    .configureOutput({
      writeOut: printText,
      outputError: (text, write) => write(`fsck: ${text.replace(/^error: /, '').trim()}; try --help\n`),
    })
    .exitOverride();
  const finish = (result: ExitCode): void => {
    code = result;
  };
  describe(program, program, finish, complain);
  try {
    await program.parseAsync(args, { from: 'user' });
    return code;
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    return await answered(error.exitCode === 0 ? EXIT.ok : EXIT.usage, complain, EXIT.cannotCheck);
  }
}
