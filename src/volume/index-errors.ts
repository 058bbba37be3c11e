/**
 * What an error of the index means: the index is damaged, or cannot be opened or written for now, or a programmer is
 * mistaken. LevelDB tells the errors of the system by their messages only.
 */

import { AssertionError, fromSystemError, hasCode, StoreError } from '../base/errors.ts';

type CodedError = Error & { code?: string };

const NO_ROOM = /No space left on device|Disk quota exceeded|File too large/;
const NO_DESCRIPTORS = /Too many open files|EMFILE|ENFILE/;

function says(error: unknown, what: RegExp): boolean {
  for (let at = error; at instanceof Error; at = at.cause) if (what.test(at.message)) return true;
  return false;
}

/** There was no room to write it. */
export function lacksRoom(error: unknown): boolean {
  return hasCode(error, 'NO_SPACE') || says(error, NO_ROOM);
}

/** The index may be whole: it could not be opened or written for now. */
export function isTemporary(error: unknown): boolean {
  for (let at = error as CodedError | undefined; at instanceof Error; at = at.cause as typeof at) {
    if (at.code === 'LEVEL_LOCKED') return true;
  }
  return lacksRoom(error) || says(error, NO_DESCRIPTORS);
}

/** An error of LevelDB itself. */
export function isOfDatabase(error: unknown): boolean {
  return (error as CodedError | undefined)?.code?.startsWith('LEVEL_') ?? false;
}

/**
 * What a caller gets for an error of the index; a programmer's mistake stays one. That rows are damaged or a file of
 * the index is missing is nobody's business outside: whoever gets that far has found no way to mend it.
 */
export function ofIndex(error: unknown, doing: string): unknown {
  if (hasCode(error, 'INDEX_DAMAGED') || hasCode(error, 'NOT_FOUND'))
    return new StoreError('IO', `${doing}: ${(error as Error).message}`, error);
  if (error instanceof AssertionError || error instanceof StoreError) return error;
  if (!isOfDatabase(error)) return fromSystemError(error, doing);
  const { message, cause } = error as Error;
  const reason = cause instanceof Error ? cause.message : message;
  return new StoreError(says(error, NO_ROOM) ? 'NO_SPACE' : 'IO', `${doing}: ${reason}`, error);
}

/** A read needs no room: if it fails for the lack of it, that is an error like any other. */
export function toReader(error: unknown): unknown {
  const told = ofIndex(error, 'reading the index');
  return hasCode(told, 'NO_SPACE') ? new StoreError('IO', (told as StoreError).message, told) : told;
}

/** True if the rows are not what they should be: opening the index again would not help. */
export function isDamage(error: unknown): boolean {
  return hasCode(error, 'INDEX_DAMAGED') || (error as CodedError | undefined)?.code === 'LEVEL_CORRUPTION';
}
