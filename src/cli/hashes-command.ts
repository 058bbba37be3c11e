/** `coppice hashes`: what a snapshot is, as a list of hashes on standard output, for `coppice send --resync`. */

import type { Writable } from 'node:stream';
import { HashListWriter } from '../delta/hash-list.ts';
import type { Door } from '../server/door.ts';
import { storedExtents } from '../volume/changes-source.ts';
import { hashedBlocks } from './hashed-blocks.ts';
import { Progress } from './progress.ts';
import { headOf, snapshotOf } from './send-command.ts';
import { writeAll } from './standard-output.ts';

const CONSEQUENCE = 'the list is not complete';

export async function writeHashes(
  door: Door,
  name: string,
  stream: Writable,
  signal: AbortSignal,
): Promise<void> {
  const target = await snapshotOf(door, name);
  const list = new HashListWriter(target.size);
  const write = async (slices: Buffer[]): Promise<void> => {
    signal.throwIfAborted();
    if (slices.length > 0) await writeAll(stream, slices, CONSEQUENCE);
  };
  const disk = await door.disk(name);
  const progress = new Progress(`hashes of ${name}`, undefined);
  try {
    await write(list.begin(await headOf(door, { target, base: null, position: 0 })));
    const blocks = hashedBlocks(disk, storedExtents(disk, 0), (bytes) => progress.add(bytes));
    for await (const block of blocks) await write(list.add(block));
    await write(list.end());
  } finally {
    progress.end();
    disk.release();
  }
}
