/**
 * The command line: which commands and options there are, and what each does with them.
 *
 * Invariant: nothing heavy is imported before a command needs it, so that `coppice --help` and a completion answer at
 * once. A command's own file does the work; here its words become values.
 */

import path from 'node:path';
import { Command, CommanderError } from 'commander';
import { addCheckCommand } from './check-program.ts';
import { addCompactionCommands } from './compaction-program.ts';
import {
  addressOption,
  directoryOf,
  outputOf,
  sizeOption,
  STORE_DEFAULT,
  withDoor,
} from './command-context.ts';
import { addDeltaCommands } from './delta-program.ts';
import { addDumpCommands, addRebuildCommand } from './dump-program.ts';
import { EXIT, type ExitCode, endOf } from './exit-codes.ts';
import { addFeedCommands } from './feed-program.ts';
import { interruptible } from './interruption.ts';
import { NBD_SOCKET_NAME, parseListenAddress } from './nbd-address.ts';
import { answered, outputStream, printText, refuseTerminal } from './standard-output.ts';
import { addScheduleCommands } from './schedule-program.ts';
import { addRemovalCommands, addVersionCommands } from './version-program.ts';

const EXIT_CODES_HELP = `
Exit codes: 0 done, 1 failed or refused, 2 bad input; scrub: 0 clean, 4 findings; fsck: see its help.
Sizes: 20G, 512MiB, 1.5T or a number of bytes; K, M, G, T are powers of 1024.`;

/** Runs the command that `args` name; answers how the process shall end. Complains on standard error. */
export async function runCommandLine(args: readonly string[], version: string): Promise<ExitCode> {
  let code: ExitCode = EXIT.ok;
  let misuse: ExitCode = EXIT.badInput;
  const finish = (result: ExitCode): void => {
    code = result;
  };
  const program = buildProgram(version, finish, () => {
    misuse = EXIT.usage;
  });
  try {
    await program.parseAsync(args, { from: 'user' });
    return await answered(code, complain);
  } catch (error) {
    // Commander has printed what it has to say.
    if (error instanceof CommanderError)
      return await answered(error.exitCode === 0 ? EXIT.ok : misuse, complain);
    const end = endOf(error);
    if (end === undefined) throw error;
    complain(end.sentence);
    return end.code;
  }
}

function complain(sentence: string): void {
  process.stderr.write(`coppice: ${sentence}\n`);
}

function buildProgram(version: string, finish: (code: ExitCode) => void, misusedCheck: () => void): Command {
  const program = new Command('coppice')
    .description('A log-structured store for virtual disks, served over NBD.')
    .version(version)
    .option('--store <dir>', `directory of the store (default: $COPPICE_STORE, else ${STORE_DEFAULT})`)
    .option('--json', 'print JSON')
    .configureHelp({ showGlobalOptions: true })
    .configureOutput({
      writeOut: printText,
      outputError: (text, write) => write(`coppice: ${text.replace(/^error: /, '').trim()}; try --help\n`),
    })
    .addHelpText('after', EXIT_CODES_HELP)
    .exitOverride();
  addStoreCommands(program, finish);
  addCheckCommand(program, finish, complain, misusedCheck);
  addVersionCommands(program);
  addRemovalCommands(program);
  addScheduleCommands(program);
  addImageCommands(program, finish);
  addDeltaCommands(program);
  addFeedCommands(program);
  addDumpCommands(program, complain);
  addRebuildCommand(program);
  addCompactionCommands(program);
  return program;
}

function addStoreCommands(program: Command, finish: (code: ExitCode) => void): void {
  program
    .command('init')
    .description('make an empty store')
    .option(
      '--segment-size <size>',
      'size of the files of the log: 1M to 1G, a power of two (default: 64M, less below 8G)',
    )
    .option('--capacity <size>', 'the most that the store may take up (default: the file system)')
    .action(async (options: { segmentSize?: string; capacity?: string }) => {
      const segmentBytes = sizeOption(options.segmentSize, '--segment-size');
      const capacityBytes = sizeOption(options.capacity, '--capacity');
      const directory = directoryOf(program);
      const { Store } = await import('../volume/store.ts');
      await Store.init(directory, {
        ...(segmentBytes === undefined ? {} : { segmentBytes }),
        ...(capacityBytes === undefined ? {} : { capacityBytes }),
      });
      outputOf(program).print({ store: directory }, () => `made an empty store in ${directory}\n`);
    });

  program
    .command('serve')
    .description('serve all volumes and snapshots over NBD, until SIGINT or SIGTERM')
    .option(
      '--socket <path>',
      'listen on this Unix socket (repeatable; default: nbd.sock in the store, or what systemd hands over)',
      collect,
    )
    .option(
      '--listen <host:port>',
      'listen on TCP, without any protection but --tls require (repeatable)',
      collect,
    )
    .option('--tls <mode>', 'off, on (clients may ask for TLS) or require (they must; default: off)')
    .option('--tls-certificates <dir>', 'server-cert.pem, server-key.pem, ca-cert.pem and ca-crl.pem')
    .option('--tls-psk <file>', 'keys shared with clients, NAME:HEXKEY a line, as psktool writes them')
    .option(
      '--replication-listen <address>',
      'let other stores push here and pull from here: HOST:PORT or the path of a socket (repeatable; TLS by --tls-psk or --tls-certificates)',
      collect,
    )
    .option('--replication-tls-psk <file>', 'keys by which this server proves itself to other stores')
    .option('--replication-tls-name <name>', 'which of them')
    .option(
      '--replication-tls-certificates <dir>',
      'client-cert.pem, client-key.pem and ca-cert.pem for that',
    )
    .option(
      '--replication-insecure',
      'replicate over TCP without TLS: anyone on the way can read and change it',
    )
    .option(
      '--metrics-listen <address>',
      'answer GET /metrics over HTTP, to whoever reaches it: HOST:PORT or the path of a socket (repeatable)',
      collect,
    )
    .option('--tls-verify-peer', 'clients must show a certificate that ca-cert.pem has signed')
    .option(
      '--read-only',
      'write nothing into the store, and open it even if it is damaged, as far as it is whole',
    )
    .option('--export <pattern>', 'offer only these names; * and ? stand for others (repeatable)', collect)
    .option('--access <file>', 'who is offered what: a list of rules in JSON (README.md)')
    .option('--limit <name=value>', 'what NBD clients may take (repeatable; README.md lists them)', collect)
    .option('--cache-size <size>', 'memory for the index (default: 256M)')
    .option(
      '--compaction-rate <size>',
      'compaction copies no more than this in a second, as long as there is room for writers (default: no bound)',
    )
    .action(
      async (options: {
        socket?: string[];
        listen?: string[];
        readOnly?: boolean;
        export?: string[];
        access?: string;
        cacheSize?: string;
        limit?: string[];
        compactionRate?: string;
        tls?: string;
        tlsCertificates?: string;
        tlsPsk?: string;
        tlsVerifyPeer?: boolean;
        replicationListen?: string[];
        replicationTlsPsk?: string;
        replicationTlsName?: string;
        replicationTlsCertificates?: string;
        replicationInsecure?: boolean;
        metricsListen?: string[];
      }) => {
        const directory = directoryOf(program);
        const addresses = (options.listen ?? []).map(parseListenAddress);
        const metrics = (options.metricsListen ?? []).map((text) => addressOption(text, '--metrics-listen'));
        const cacheBytes = sizeOption(options.cacheSize, '--cache-size');
        const { parseLimits } = await import('./nbd-limits.ts');
        const limits = parseLimits(options.limit ?? []);
        const compactionRate = sizeOption(options.compactionRate, '--compaction-rate');
        const { readAccess } = await import('./access-options.ts');
        const access = readAccess(options.export, options.access);
        const { takeInheritedFds } = await import('./activation.ts');
        const inherited = takeInheritedFds(process.env, process.pid);
        const { createLogger, printUris, serveUntilSignal } = await import('./serve-command.ts');
        const isDefault = options.socket === undefined && addresses.length === 0 && inherited.length === 0;
        const sockets = isDefault ? [path.join(directory, NBD_SOCKET_NAME)] : (options.socket ?? []);
        const readOnly = options.readOnly === true;
        const logger = createLogger();
        const { loadTls } = await import('./nbd-tls.ts');
        const tls = await loadTls(options, logger);
        const { loadReplication } = await import('./replication.ts');
        const replication = await loadReplication(options, logger);
        const output = outputOf(program);
        finish(
          await serveUntilSignal(
            {
              directory,
              sockets,
              addresses,
              inherited,
              access,
              otherPort: 'choose another with --listen',
              readOnly,
              cacheBytes,
              compactionRate,
              limits,
              tls,
              replication,
              metrics,
              logger,
            },
            (serving) => printUris(output, serving.volumes(), logger),
          ),
        );
      },
    );

  program
    .command('scrub')
    .description('read all of the log at a pace while the store works, and verify it: 0 clean, 4 findings')
    .option('--rate <size>', 'read no more than this in a second (default: 64M)')
    .action(async (options: { rate?: string }) => {
      const bytesPerSecond = sizeOption(options.rate, '--rate');
      const { scrubStore } = await import('./scrub-command.ts');
      await interruptible((signal) =>
        withDoor(program, async (door, output) => {
          finish(await scrubStore(door, output, { bytesPerSecond }, signal));
        }),
      );
    });

  program
    .command('status')
    .description('what the store holds and who has it open')
    .action(async () => {
      const { showStatus } = await import('./version-commands.ts');
      await withDoor(program, showStatus);
    });

  program
    .command('metrics')
    .description('what status says, in the text format of Prometheus')
    .action(async () => {
      const { printMetrics } = await import('./metrics-command.ts');
      await withDoor(program, printMetrics);
    });
}

function addImageCommands(program: Command, finish: (code: ExitCode) => void): void {
  program
    .command('import <volume> <file>')
    .description('fill a volume from a raw image, or from standard input (-)')
    .option('--size <size>', 'size of the new volume (default: the size of the file)')
    .option('--force', 'overwrite all of a volume that exists')
    .action(async (volume: string, file: string, options: { size?: string; force?: boolean }) => {
      const sizeBytes = sizeOption(options.size, '--size');
      const force = options.force === true;
      const { importImage } = await import('./import-command.ts');
      await interruptible((signal) =>
        withDoor(program, (door, output) =>
          importImage(door, output, { volume, file, sizeBytes, force }, signal),
        ),
      );
    });

  program
    .command('export <volume[@name]> <file>')
    .description('write a volume or snapshot to a raw image, or to standard output (-)')
    .option(
      '--damaged',
      'of a damaged store: what cannot be read is zeros, and told; the exit code is 4 then',
    )
    .action(async (name: string, file: string, options: { damaged?: boolean }) => {
      const damaged = options.damaged === true;
      const how = { readOnly: damaged };
      const { exportToFile, exportToStream } = await import('./export-command.ts');
      if (file === '-') {
        refuseTerminal('an image');
        // Signals keep their usual effect: there is nothing to clean up, and a write to a pipe may block for long.
        await withDoor(
          program,
          async (door) => finish(await exportToStream(door, name, outputStream(), damaged)),
          how,
        );
        return;
      }
      const storeDirectory = directoryOf(program);
      await interruptible((signal) =>
        withDoor(
          program,
          async (door, output) => {
            finish(await exportToFile(door, output, { name, damaged, file, storeDirectory }, signal));
          },
          how,
        ),
      );
    });
}

function collect(value: string, before: string[] | undefined): string[] {
  return [...(before ?? []), value];
}
