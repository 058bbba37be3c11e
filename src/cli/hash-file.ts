/** A file that `coppice hashes` has made, read as far as it is wanted, and verified as far as it is read. */

import { hasCode, StoreError } from '../base/errors.ts';
import type { StreamHead } from '../delta/head.ts';
import { type HashedBlock, type HashListPart, HashListReader } from '../delta/hash-list.ts';
import { fileBytes } from './input-file.ts';

export interface HashFile {
  /** Its target is what was hashed. */
  readonly head: StreamHead;
  /** To the end, which is verified when it has come. @throws CORRUPTION, IO */
  readonly blocks: AsyncGenerator<HashedBlock>;
}

/** `-` is standard input. @throws NOT_FOUND, INVALID_ARGUMENT, CORRUPTION, UNSUPPORTED_FORMAT, IO */
export async function openHashFile(file: string): Promise<HashFile> {
  const parts = partsOf(file);
  const first = await parts.next();
  if (first.done !== true && first.value.kind === 'head')
    return { head: first.value.head, blocks: blocksOf(parts) };
  throw new StoreError('CORRUPTION', `'${file}' has no head; make it again with \`coppice hashes\``);
}

async function* blocksOf(parts: AsyncGenerator<HashListPart>): AsyncGenerator<HashedBlock> {
  for await (const part of parts) if (part.kind === 'hashes') yield* part.blocks;
}

async function* partsOf(file: string): AsyncGenerator<HashListPart> {
  const reader = new HashListReader();
  try {
    for await (const piece of fileBytes(file)) yield* reader.push(piece);
    reader.close();
  } catch (error) {
    if (!hasCode(error, 'CORRUPTION')) throw error;
    const what = (error as Error).message.replace(/; [^;]*$/, '');
    throw new StoreError(
      'CORRUPTION',
      `hashes of '${file}': ${what}; make them again with \`coppice hashes\``,
      error,
    );
  }
}
