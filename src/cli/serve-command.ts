/**
 * `coppice serve`: serves a store until a signal, and ends within five seconds of it.
 *
 * Invariants: standard output gets the URIs and nothing else, when clients can connect; log lines go to standard
 * error, and nobody reading them is no reason to stop.
 */

import { type Logger, pino } from 'pino';
import { EXIT, type ExitCode } from './exit-codes.ts';
import { catchInterruption } from './interruption.ts';
import type { Output } from './output.ts';
import { type ServedVolume, Serving, type ServingOptions } from './serving.ts';
import { takeOutputFailure } from './standard-output.ts';

const STOP_MS_MAX = 4_800;

/** Log lines on standard error, written at once: the last lines before a crash are the ones that count. */
export function createLogger(): Logger {
  const destination = pino.destination({ dest: 2, sync: true });
  destination.on('error', () => undefined);
  return pino({ base: { pid: process.pid } }, destination);
}

/** Serves until SIGINT, SIGTERM or SIGHUP; `announce` prints what clients need when they can connect. */
export async function serveUntilSignal(
  options: ServingOptions,
  announce: (serving: Serving) => Promise<void> | void,
): Promise<ExitCode> {
  const { logger } = options;
  const interruption = catchInterruption();
  try {
    const stopped = whenAborted(interruption.signal);
    const serving = await Serving.start(options);
    try {
      logger.info({ store: options.directory, readOnly: options.readOnly }, 'serving');
      await announce(serving);
      // Disks that machines work on do not go away because of a file that URIs were to go to.
      const unprinted = await takeOutputFailure();
      if (unprinted !== undefined) logger.warn({ code: unprinted.code }, unprinted.message);
      await stopped;
      logger.info({ reason: (interruption.signal.reason as Error).message }, 'stopping');
    } finally {
      await stopInTime(serving, logger);
    }
    logger.info('stopped');
    return EXIT.ok;
  } finally {
    interruption.release();
  }
}

function whenAborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
}

async function stopInTime(serving: Serving, logger: Logger): Promise<void> {
  // What was answered survives an end like this one, and the next start sees to the rest.
  const timer = setTimeout(() => {
    logger.error('the store did not close in time; ending without it');
    process.exit(EXIT.failed);
  }, STOP_MS_MAX);
  try {
    await serving.stop();
  } finally {
    timer.unref(); // still ends a process that something keeps alive
  }
}

export function printUris(output: Output, volumes: readonly ServedVolume[], logger: Logger): void {
  if (volumes.length === 0) {
    logger.info('there is no volume yet to offer; what `coppice create` makes is served at once');
  }
  output.print(volumes, () => volumes.map(({ uri }) => `${uri}\n`).join(''));
}
