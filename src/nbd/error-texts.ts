/**
 * What a client is told of an error beside its number. Says what the client can do, and names nothing: neither files
 * nor other exports. Pure.
 */

import type { ErrorCode } from '../base/errors.ts';
import * as nbd from './protocol.ts';

const NONE = Buffer.alloc(0);

const REFUSALS = new Map<number, Buffer>(
  Object.entries({
    [nbd.NBD_EPERM]: 'the export is read-only',
    [nbd.NBD_EINVAL]: 'the command or a flag is not known, was not agreed on, or the range leaves the export',
    [nbd.NBD_ENOSPC]: 'the range leaves the export',
    [nbd.NBD_EOVERFLOW]: 'the range is longer than what is sent at once',
    [nbd.NBD_ENOTSUP]: 'zeros over part of a block are not faster than a write',
    [nbd.NBD_ESHUTDOWN]: 'the server is stopping',
  }).map(([error, text]) => [Number(error), Buffer.from(text)]),
);

const FAILURES: Partial<Record<ErrorCode, Buffer>> = {
  NO_SPACE: Buffer.from('there is no room left, or the export has become smaller'),
  IO: Buffer.from('the disk of the server failed'),
  CORRUPTION: Buffer.from('what is stored here is damaged'),
  INDEX_DAMAGED: Buffer.from('what is stored here is damaged'),
  POISONED: Buffer.from('the disk of the server failed before; nothing is written any more'),
  CLOSED: Buffer.from('the export was closed'),
  NOT_FOUND: Buffer.from('the snapshot that changes are counted from was deleted'),
};

/** Why a request was not let through. */
export function refusalText(error: number): Buffer {
  return REFUSALS.get(error) ?? NONE;
}

/** Why the device could not do a request. */
export function failureText(code: ErrorCode): Buffer {
  return FAILURES[code] ?? NONE;
}
