/**
 * The one error of the house, and assertions.
 *
 * `StoreError.code` is stable; messages are sentences for people and may change. A programmer's mistake is an
 * `AssertionError`: it has no code, nobody catches it, and the process ends.
 */

/** Why something was refused or failed. The table in ARCHITECTURE.md says when each is given. */
export type ErrorCode =
  | 'NOT_FOUND'
  | 'ALREADY_EXISTS'
  | 'INVALID_ARGUMENT'
  | 'READ_ONLY'
  | 'IN_USE'
  | 'HAS_SNAPSHOTS'
  | 'HELD'
  | 'WOULD_LOSE_DATA'
  | 'WRONG_BASE'
  | 'LOCKED'
  | 'NOT_A_STORE'
  | 'UNSUPPORTED_FORMAT'
  | 'NO_SPACE'
  | 'IO'
  | 'CORRUPTION'
  | 'INDEX_DAMAGED'
  | 'POISONED'
  | 'CLOSED';

export class StoreError extends Error {
  readonly code: ErrorCode;
  /** The byte of the disk that could not be read, where that is known. */
  diskOffset: number | undefined;

  constructor(code: ErrorCode, message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = 'StoreError';
    this.code = code;
  }
}

const ENOENT = -2;
const EFBIG = -27;
const ENOSPC = -28;
const EDQUOT = -122;

/**
 * The error of a system call as a StoreError. Compares `errno`, not `code`: Node 20 has no name for EDQUOT.
 * A StoreError is returned as it is. @throws AssertionError, which is nobody's to pass on as something else
 */
export function fromSystemError(error: unknown, doing: string): StoreError {
  if (error instanceof AssertionError) throw error;
  if (error instanceof StoreError) return error;
  const errno = (error as NodeJS.ErrnoException)?.errno;
  const message = `${doing}: ${(error as Error)?.message ?? String(error)}`;
  if (errno === ENOSPC || errno === EDQUOT || errno === EFBIG)
    return new StoreError('NO_SPACE', message, error);
  if (errno === ENOENT) return new StoreError('NOT_FOUND', message, error);
  return new StoreError('IO', message, error);
}

/** True if `error` is a StoreError with this code. */
export function hasCode(error: unknown, code: ErrorCode): boolean {
  return error instanceof StoreError && error.code === code;
}

export class AssertionError extends Error {
  override readonly name = 'AssertionError';
}

/** Throws AssertionError unless `condition` holds. Stays on in production; never in a per-byte path. */
export function assert(condition: boolean, what: string): asserts condition {
  if (!condition) throw new AssertionError(`assertion failed: ${what}`);
}
