/**
 * Standard output: for bytes nothing for a terminal, and whether it took what was printed.
 *
 * Invariants: what it does not take is told, once, with what to do, and is no mistake of the program's: a full disk is the
 * user's to see to. A reader that goes away early is an error for bytes, and none for text (`coppice list | head`).
 */

import fs from 'node:fs';
import type { Writable } from 'node:stream';
import { fromSystemError, hasCode, StoreError } from '../base/errors.ts';
import { othersFirst } from '../base/event-loop.ts';
import { endOf, EXIT, type ExitCode } from './exit-codes.ts';

const NOT_ALL_PRINTED = 'what was done stays done, but the answer is not complete';

/** There is one standard output, and this is what has become of it. */
let isFile = false;
let isTaken = true;
let failure: StoreError | undefined;

/** Notes from now on what standard output does not take. Whatever else it fails with is a `mistake`. */
export function watchOutput(mistake: (error: Error) => void): void {
  isFile = fs.fstatSync(process.stdout.fd).isFile();
  process.stdout.on('error', (error) => (isOfSystem(error) ? note(error) : mistake(error)));
}

/** A system call failed: so it is not the program's own doing. */
export function isOfSystem(error: Error): error is NodeJS.ErrnoException {
  return typeof (error as NodeJS.ErrnoException).errno === 'number';
}

/** Prints what people or programs read. Does not fail: `answered` tells whether all of it was taken. */
export function printText(text: string): void {
  if (!isFile) {
    process.stdout.write(text);
    return;
  }
  // Node's own stream for a file takes a write of which a full disk took only a part for whole.
  const bytes = Buffer.from(text);
  try {
    for (let done = 0; isTaken && done < bytes.length; ) done += fs.writeSync(process.stdout.fd, bytes, done);
  } catch (error) {
    note(error as NodeJS.ErrnoException);
  }
}

/** False if nobody takes any more of what is printed. */
export function isOutputTaken(): boolean {
  return isTaken;
}

/** What printed text was not taken for; undefined if it was, or its reader went away. Told once. */
export async function takeOutputFailure(): Promise<StoreError | undefined> {
  await othersFirst(); // a stream tells of its failure a little later
  const told = failure;
  failure = undefined;
  return told;
}

/** How a command ends that has printed its answer and would end with `code`: if not all was taken, it complains, and has failed. */
export async function answered(
  code: ExitCode,
  complain: (sentence: string) => void,
  failed: ExitCode = EXIT.failed,
): Promise<ExitCode> {
  const untaken = await takeOutputFailure();
  if (untaken === undefined) return code;
  complain(endOf(untaken)!.sentence);
  return code === EXIT.ok ? failed : code;
}

/** @throws INVALID_ARGUMENT */
export function refuseTerminal(what: string): void {
  if (process.stdout.isTTY)
    throw new StoreError('INVALID_ARGUMENT', `${what} is nothing for a terminal; redirect standard output`);
}

/** Standard output for many bytes: writes to a file wait in a thread, and not in the way of all else. */
export function outputStream(): Writable {
  if (!fs.fstatSync(process.stdout.fd).isFile()) return process.stdout;
  const stream = fs.createWriteStream('', { fd: process.stdout.fd, autoClose: false });
  // Each writer is told of its own failure; an event that nobody listens to would end the process as a mistake.
  return stream.on('error', () => undefined);
}

/**
 * Resolves when the stream has taken all; `consequence` says what it means if it does not.
 * @throws NO_SPACE; IO, also where the reader went away
 */
export function writeAll(stream: Writable, slices: readonly Buffer[], consequence: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const last = slices.length - 1;
    slices.forEach((slice, i) =>
      stream.write(slice, (error) => {
        if (error) reject(notWritten(error, consequence));
        else if (i === last) resolve();
      }),
    );
  });
}

function note(error: NodeJS.ErrnoException): void {
  isTaken = false;
  if (error.code !== 'EPIPE') failure ??= notWritten(error, NOT_ALL_PRINTED);
}

function notWritten(error: Error, consequence: string): StoreError {
  const doing = 'writing to standard output';
  if ((error as NodeJS.ErrnoException).code === 'EPIPE')
    return new StoreError('IO', `${doing}: its reader went away; ${consequence}`, error);
  const known = fromSystemError(error, doing);
  const advice = hasCode(known, 'NO_SPACE') ? 'make room' : 'look at where it goes';
  return new StoreError(known.code, `${known.message}; ${consequence}: ${advice}, then try again`, error);
}
