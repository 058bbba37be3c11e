/**
 * How a command ends: the one table of exit codes, and what an error says on its way out. README.md repeats the
 * table for users.
 *
 * Invariants: a StoreError never shows a stack; a programmer's mistake always does.
 */

import { type ErrorCode, StoreError } from '../base/errors.ts';

export const EXIT = {
  ok: 0,
  /** Refused, or failed. */
  failed: 1,
  /** Bad input: a wrong name, size, range, option or command. */
  badInput: 2,
  /** `fsck --repair` found damage, and has mended all of it. */
  mended: 1,
  /** `fsck` found damage, which is as it was, or of which something is left. */
  findings: 4,
  /** `fsck` could not look, or not repair. */
  cannotCheck: 8,
  /** `fsck`: a wrong option. Its codes are those of fsck(8). */
  usage: 16,
  /** `fsck` was stopped by the user. */
  cancelled: 32,
  /** A mistake in Coppice itself; please report it. */
  mistake: 70,
  /** SIGINT, SIGTERM: 128 and the number of the signal, as shells have it. */
  interrupted: 130,
  terminated: 143,
} as const;

export type ExitCode = (typeof EXIT)[keyof typeof EXIT];

/** A signal ended the command before its work was done. */
export class Interrupted extends Error {
  readonly signalName: 'SIGINT' | 'SIGTERM';

  constructor(signalName: 'SIGINT' | 'SIGTERM', message = `stopped by ${signalName}`) {
    super(message);
    this.signalName = signalName;
  }
}

/** What to do, for errors of the store that do not say it themselves; those of streams and of other stores do. */
const ADVICE: Partial<Record<ErrorCode, string>> = {
  NOT_FOUND: '`coppice list` shows what there is',
  ALREADY_EXISTS: 'choose another name or directory',
  IN_USE: 'stop what uses it, or choose another',
  NO_SPACE: 'make room, then try again',
  CORRUPTION: '`coppice fsck` tells how much is damaged, `coppice serve --read-only` gets out what is whole',
  POISONED: 'look at the disk, then start the server again: everything flushed is there',
};

/** What ends the command with a code and one sentence; undefined for a programmer's mistake. */
export function endOf(error: unknown): { code: ExitCode; sentence: string } | undefined {
  if (error instanceof StoreError) {
    const code = error.code === 'INVALID_ARGUMENT' ? EXIT.badInput : EXIT.failed;
    return { code, sentence: onOneLine(withAdvice(error)) };
  }
  if (error instanceof Interrupted) {
    const code = error.signalName === 'SIGINT' ? EXIT.interrupted : EXIT.terminated;
    return { code, sentence: error.message };
  }
  // A system call failed where nobody said what it was for.
  if (error instanceof Error && typeof (error as NodeJS.ErrnoException).errno === 'number') {
    return { code: EXIT.failed, sentence: onOneLine(error.message) };
  }
  return undefined;
}

function withAdvice({ code, message }: StoreError): string {
  const advice = ADVICE[code];
  return advice === undefined || message.includes(';') ? message : `${message}; ${advice}`;
}

function onOneLine(message: string): string {
  return message.replace(/\s*\n\s*/g, ' ').trim();
}
