/**
 * Bytes of a file that a command reads from its beginning to its end, or of standard input.
 *
 * Invariant: what cannot be read is said in a sentence that names it.
 */

import fs from 'node:fs';
import type { Readable } from 'node:stream';
import { fromSystemError, StoreError } from '../base/errors.ts';
import { isOfSystem } from './standard-output.ts';

/** `-` is standard input. @throws NOT_FOUND, INVALID_ARGUMENT, IO */
export function fileBytes(file: string): AsyncGenerator<Buffer> {
  return file === '-'
    ? bytesOf(process.stdin, 'standard input')
    : bytesOf(fs.createReadStream(file), `'${file}'`);
}

/** What a stream gives; `name` is what it is of. @throws NOT_FOUND, INVALID_ARGUMENT, IO, and what it was destroyed with */
export async function* bytesOf(input: Readable, name: string): AsyncGenerator<Buffer> {
  try {
    yield* input as AsyncIterable<Buffer>;
  } catch (error) {
    if (!(error instanceof Error) || !isOfSystem(error)) throw error;
    if (error.code === 'ENOENT')
      throw new StoreError('NOT_FOUND', `there is no file ${name}; check its path`, error);
    if (error.code === 'EISDIR')
      throw new StoreError('INVALID_ARGUMENT', `${name} is a directory; give a file`, error);
    throw fromSystemError(error, `reading ${name}`);
  }
}
