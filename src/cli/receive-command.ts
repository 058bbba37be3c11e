/**
 * `coppice receive`: a version from a stream on standard input.
 *
 * Invariants: nothing of a stream is used before it is verified (delta/stream-reader.ts), and nothing is published before all
 * of it has come, to the end of the input. What has come of a stream that is cut off or damaged is kept up to the last frame
 * that was right, and the message says how to go on.
 */

import fs from 'node:fs';
import type { Readable } from 'node:stream';
import { StoreError } from '../base/errors.ts';
import { encodeToken, type StreamHead } from '../delta/head.ts';
import { type Frame, StreamReader } from '../delta/stream-reader.ts';
import type { Door } from '../server/door.ts';
import { Interrupted } from './exit-codes.ts';
import { InFlight } from './in-flight.ts';
import type { Output } from './output.ts';
import { Progress } from './progress.ts';
import { formatSize } from './size.ts';
import { drawTable } from './table.ts';

const FRAMES_IN_FLIGHT_MAX = 8;
const READ_BYTES = 2 ** 20;
/** Bytes of data behind which the position is kept: that waits for the disk. */
const KEPT_BYTES = 64 * 2 ** 20;

export async function receiveStream(
  door: Door,
  output: Output,
  name: string,
  input: Readable,
  signal: AbortSignal,
): Promise<void> {
  const reception = new Reception(door, name);
  const stop = (): void => void input.destroy(signal.reason as Error);
  signal.addEventListener('abort', stop, { once: true });
  try {
    const reader = new StreamReader();
    for await (const piece of input as AsyncIterable<Buffer>)
      for (const frame of reader.push(piece)) await reception.take(frame);
    reader.close();
    const { name: received, isNew, dataBytes } = await reception.finish();
    output.print({ name: received, isNew, dataBytes }, () =>
      isNew
        ? `received ${received}: ${formatSize(dataBytes)} of data\n`
        : `${received} is there already: nothing was changed\n`,
    );
  } catch (error) {
    throw await reception.keep(signal.aborted ? signal.reason : error);
  } finally {
    signal.removeEventListener('abort', stop);
    reception.end();
  }
}

/** Standard input for many bytes: a file is read in long pieces. */
export function inputStream(): Readable {
  if (!fs.fstatSync(process.stdin.fd).isFile()) return process.stdin;
  return fs.createReadStream('', { fd: process.stdin.fd, autoClose: false, highWaterMark: READ_BYTES });
}

/** A stream on its way into a store. */
class Reception {
  readonly #door: Door;
  readonly #name: string;
  readonly #changes = new InFlight(FRAMES_IN_FLIGHT_MAX);
  #progress: Progress | undefined;
  #head: StreamHead | undefined;
  #session: string | undefined;
  /** The store has the version already, under this name. */
  #there: string | undefined;
  /** Up to where frames have been handed over, and up to where the store keeps that. */
  #position = 0;
  #keptPosition = 0;
  #dataBytes = 0;
  #unkeptBytes = 0;

  constructor(door: Door, name: string) {
    this.#door = door;
    this.#name = name;
  }

  async take(frame: Frame): Promise<void> {
    if (frame.kind === 'head') await this.#begin(frame.head);
    if (frame.kind !== 'changes' || this.#session === undefined) return;
    const { changes } = frame;
    const session = this.#session;
    await this.#changes.add(() => this.#door.receives.apply(session, changes.body));
    this.#position = Math.max(this.#position, changes.end);
    this.#dataBytes += changes.dataBytes;
    this.#unkeptBytes += changes.dataBytes;
    this.#progress?.add(changes.dataBytes);
    if (this.#unkeptBytes >= KEPT_BYTES) await this.#keepPosition(session);
  }

  async #begin(head: StreamHead): Promise<void> {
    this.#head = head;
    const begun = await this.#door.receives.begin(head, this.#name);
    if (begun.state === 'there') {
      this.#there = begun.name;
      return;
    }
    this.#session = begun.session;
    this.#keptPosition = begun.position;
    this.#position = begun.position;
    this.#progress = new Progress(`receive ${this.#name}`, undefined);
  }

  /** Requires: all frames have been taken. */
  async finish(): Promise<{ name: string; isNew: boolean; dataBytes: number }> {
    if (this.#session === undefined) return { name: this.#there!, isNew: false, dataBytes: 0 };
    await this.#changes.settle();
    const name = await this.#door.receives.publish(this.#session);
    return { name, isNew: true, dataBytes: this.#dataBytes };
  }

  async #keepPosition(session: string): Promise<void> {
    await this.#changes.settle();
    await this.#door.receives.advance(session, this.#position);
    this.#keptPosition = this.#position;
    this.#unkeptBytes = 0;
  }

  /** Keeps what has come, if that is possible, and says how to go on. */
  async keep(error: unknown): Promise<unknown> {
    if (this.#session === undefined || !(error instanceof StoreError || error instanceof Interrupted))
      return error;
    await this.#keepPosition(this.#session).catch(() => undefined);
    const { target, base } = this.#head!;
    const token = encodeToken(target.uuid, base?.uuid ?? null, this.#keptPosition);
    const advice = `nothing was changed; what has come is kept, go on with: coppice send --resume ${token}`;
    if (error instanceof Interrupted) return new Interrupted(error.signalName, `${error.message}; ${advice}`);
    return new StoreError(error.code, `${error.message.replace(/; send it again$/, '')}; ${advice}`, error);
  }

  end(): void {
    this.#progress?.end();
  }
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
