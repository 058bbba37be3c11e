/**
 * `coppice receive`: a version from a stream on standard input.
 *
 * Invariants: nothing of a stream is used before it is verified (delta/stream-reader.ts), and nothing is published before all
 * of it has come, to the end of the input. What has come of a stream that is cut off or damaged is kept up to the last frame
 * that was right, and the message says how to go on.
 */

import fs from 'node:fs';
import type { Readable } from 'node:stream';
import { hasCode, StoreError } from '../base/errors.ts';
import { StreamReader } from '../delta/stream-reader.ts';
import type { Door } from '../server/door.ts';
import { Reception } from '../volume/reception.ts';
import { Interrupted } from './exit-codes.ts';
import { bytesOf } from './input-file.ts';
import type { Output } from './output.ts';
import { Progress } from './progress.ts';
import { formatSize } from './size.ts';
import { drawTable } from './table.ts';

const READ_BYTES = 2 ** 20;

export async function receiveStream(
  door: Door,
  output: Output,
  name: string,
  input: Readable,
  signal: AbortSignal,
): Promise<void> {
  const progress = new Progress(`receive ${name}`, undefined);
  const reception = new Reception(door.receives, name);
  const stop = (): void => void input.destroy(signal.reason as Error);
  signal.addEventListener('abort', stop, { once: true });
  try {
    const reader = new StreamReader();
    for await (const piece of bytesOf(input, 'standard input'))
      for (const frame of reader.push(piece)) progress.add(await reception.take(frame));
    reader.close();
    const { name: received, isNew, dataBytes } = await reception.finish();
    output.print({ name: received, isNew, dataBytes }, () =>
      isNew
        ? `received ${received}: ${formatSize(dataBytes)} of data\n`
        : `${received} is there already: nothing was changed\n`,
    );
  } catch (error) {
    throw await keptOf(reception, signal.aborted ? signal.reason : error);
  } finally {
    signal.removeEventListener('abort', stop);
    progress.end();
  }
}

/** Standard input for many bytes: a file is read in long pieces. */
export function inputStream(): Readable {
  if (!fs.fstatSync(process.stdin.fd).isFile()) return process.stdin;
  return fs.createReadStream('', { fd: process.stdin.fd, autoClose: false, highWaterMark: READ_BYTES });
}

/** Keeps what has come, if that is possible, and says how to go on. */
async function keptOf(reception: Reception, error: unknown): Promise<unknown> {
  if (!reception.isUnderWay || !(error instanceof StoreError || error instanceof Interrupted)) return error;
  await reception.keepPosition().catch(() => undefined);
  const advice =
    `nothing was changed; what has come is kept, go on with: coppice send --resume ${reception.token}` +
    (hasCode(error, 'NO_SPACE') ? '; or have its room back: coppice receive --status, --abort' : '');
  if (error instanceof Interrupted) return new Interrupted(error.signalName, `${error.message}; ${advice}`);
  return new StoreError(error.code, `${error.message.replace(/; send it again$/, '')}; ${advice}`, error);
}

export async function showReceives(door: Door, output: Output): Promise<void> {
  const receives = await door.receives.list();
  output.print(receives, () => {
    if (receives.length === 0) return 'nothing is being received\n';
    const rows = receives.map(({ receive, name, size, position, began, token }) => {
      return [name, `${formatSize(position)} of ${formatSize(size)}`, began, receive, token];
    });
    return drawTable(['NAME', 'UP TO', 'BEGAN', 'RECEIVE', 'TOKEN'], rows);
  });
}

export async function abortReceive(door: Door, output: Output, receive: string): Promise<void> {
  await door.receives.abort(receive);
  output.print({ receive, aborted: true }, () => `ended receive ${receive}: what had come is deleted\n`);
}
