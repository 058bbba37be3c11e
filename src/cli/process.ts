/**
 * What every program of this room does to its process, and the version it tells.
 */

import fs from 'node:fs';
import v8 from 'node:v8';
import { EXIT } from './exit-codes.ts';
import { isOfSystem, watchOutput } from './standard-output.ts';

/**
 * Ends the process, with a stack, on whatever nobody caught. Output that cannot be written is none of that: what becomes of it
 * is for standard-output.ts to say, and of complaints nobody can be told.
 */
export function endOnMistake(): void {
  const end = (error: unknown): void => {
    const stack = error instanceof Error ? error.stack : String(error);
    try {
      fs.writeSync(2, `coppice: this is a mistake in Coppice, please report it\n${stack}\n`);
    } finally {
      process.exit(EXIT.mistake);
    }
  };
  process.on('uncaughtException', end);
  process.on('unhandledRejection', end);
  watchOutput(end);
  process.stderr.on('error', (error) => {
    if (!isOfSystem(error)) end(error);
  });
}

/**
 * Has the collector wait until the heap has grown fivefold, which is some tens of megabytes. Rows and payloads are buffers: small
 * objects of the heap, with kilobytes beside it that count as well; so a heap of twelve megabytes was collected, as a whole and on
 * the event loop, ten times a second.
 */
export function letHeapGrow(): void {
  v8.setFlagsFromString('--heap-growing-percent=400');
}

/** The version in package.json, which lies above the sources as above what is built from them. */
export function readVersion(): string {
  for (const above of ['../../package.json', '../../../package.json']) {
    const file = new URL(above, import.meta.url);
    if (!fs.existsSync(file)) continue;
    return (JSON.parse(fs.readFileSync(file, 'utf8')) as { version: string }).version;
  }
  return 'unknown';
}
