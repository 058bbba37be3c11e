/** Bytes on standard output: nothing for a terminal, and a reader that goes away early is an error. */

import fs from 'node:fs';
import type { Writable } from 'node:stream';
import { StoreError } from '../base/errors.ts';

/** @throws INVALID_ARGUMENT */
export function refuseTerminal(what: string): void {
  if (process.stdout.isTTY)
    throw new StoreError('INVALID_ARGUMENT', `${what} is nothing for a terminal; redirect standard output`);
}

/** Standard output for many bytes: writes to a file wait in a thread, and not in the way of all else. */
export function outputStream(): Writable {
  if (!fs.fstatSync(process.stdout.fd).isFile()) return process.stdout;
  return fs.createWriteStream('', { fd: process.stdout.fd, autoClose: false });
}

/** Resolves when the stream has taken all; `consequence` says what it means if it does not. @throws IO */
export function writeAll(stream: Writable, slices: readonly Buffer[], consequence: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const done = (error: Error | null | undefined): void => {
      if (!error) {
        resolve();
        return;
      }
      const reason =
        (error as NodeJS.ErrnoException).code === 'EPIPE' ? 'its reader went away' : error.message;
      reject(new StoreError('IO', `writing to standard output: ${reason}; ${consequence}`, error));
    };
    const last = slices.length - 1;
    slices.forEach((slice, i) => (i < last ? stream.write(slice) : stream.write(slice, done)));
  });
}
