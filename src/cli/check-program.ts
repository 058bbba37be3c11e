/** The words and options of `fsck`, as a command of `coppice` and as a program of its own. */

import { Command, CommanderError } from 'commander';
import { directoryOf, outputOf, STORE_DEFAULT } from './command-context.ts';
import { EXIT, type ExitCode } from './exit-codes.ts';
import { catchInterruption } from './interruption.ts';

const HELP = `
Exit codes: 0 clean, 4 damage, 8 cannot check, 16 wrong usage, 32 stopped by Ctrl-C or SIGTERM.`;

interface Options {
  readonly quick?: boolean;
  readonly readOnly?: boolean;
}

/** `globals` has --store and --json. */
function describe(
  command: Command,
  globals: Command,
  finish: (code: ExitCode) => void,
  complain: (sentence: string) => void,
): Command {
  return command
    .description('check the store without changing it, and say what is damaged, and whom that reaches')
    .option('--quick', 'do not read what chunks hold')
    .option('--read-only', 'leave the lock alone: look at the files as they are, whoever has the store')
    .addHelpText('after', HELP)
    .action(async ({ quick, readOnly }: Options) => {
      const { checkStore } = await import('./check-command.ts');
      const interruption = catchInterruption();
      const { signal } = interruption;
      try {
        const wishes = { quick, readOnly, signal };
        finish(await checkStore(() => directoryOf(globals), outputOf(globals), complain, wishes));
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
    return error.exitCode === 0 ? EXIT.ok : EXIT.usage;
  }
}
