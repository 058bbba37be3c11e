/**
 * A raw image to be imported: a file, or standard input.
 *
 * Invariants: pieces come in order, without gaps, each but the last `PIECE_BYTES` long, so that each begins at a
 * chunk; a regular file gives exactly the bytes that it had when it was opened, or an error.
 */

import fs from 'node:fs';
import type { Readable } from 'node:stream';
import { BufferPool } from '../base/buffer-pool.ts';
import { fromSystemError, StoreError } from '../base/errors.ts';

/** Small enough for the processor's cache: it is read, verified and written one after the other. */
export const PIECE_BYTES = 2 ** 20;

/** Pieces of a file that nobody uses, and that wait for the next ones. */
const PIECES_KEPT_MAX = 16;

export interface Piece {
  readonly offset: number;
  readonly bytes: Buffer;
  /** Nobody uses the bytes any more: another piece may get them. */
  free(): void;
}

export interface ImageSource {
  /** For sentences: the file's name, or `standard input`. */
  readonly title: string;
  /** Undefined if only reading to the end tells. */
  readonly sizeBytes: number | undefined;
  pieces(): AsyncGenerator<Piece>;
  close(): Promise<void>;
}

/** Opens `file`, or `stdin` if it is `-`. @throws NOT_FOUND, INVALID_ARGUMENT, IO */
export async function openImage(file: string, stdin: Readable, signal: AbortSignal): Promise<ImageSource> {
  if (file === '-') return new StreamSource('standard input', stdin, signal);
  const handle = await fs.promises.open(file, 'r').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT')
      throw new StoreError('NOT_FOUND', `there is no file '${file}'; check its path`);
    throw fromSystemError(error, `opening the image '${file}'`);
  });
  try {
    const stats = await handle.stat();
    if (stats.isFile() && stats.size > 0) return new FileSource(file, handle, stats.size);
    if (stats.isFile()) throw new StoreError('INVALID_ARGUMENT', `the image '${file}' is empty`);
    if (stats.isDirectory())
      throw new StoreError('INVALID_ARGUMENT', `'${file}' is a directory, not an image`);
    // A pipe or a block device does not say its size.
    return new StreamSource(`'${file}'`, handle.createReadStream({ highWaterMark: 2 ** 20 }), signal);
  } catch (error) {
    await handle.close();
    throw error;
  }
}

class FileSource implements ImageSource {
  readonly title: string;
  readonly sizeBytes: number;
  readonly #handle: fs.promises.FileHandle;

  constructor(file: string, handle: fs.promises.FileHandle, sizeBytes: number) {
    this.title = `'${file}'`;
    this.#handle = handle;
    this.sizeBytes = sizeBytes;
  }

  async *pieces(): AsyncGenerator<Piece> {
    const pool = new BufferPool(PIECE_BYTES, PIECES_KEPT_MAX);
    for (let offset = 0; offset < this.sizeBytes; offset += PIECE_BYTES) {
      const buffer = pool.take();
      const bytes = buffer.subarray(0, Math.min(PIECE_BYTES, this.sizeBytes - offset));
      await this.#fill(bytes, offset);
      yield { offset, bytes, free: () => pool.give(buffer) };
    }
  }

  async #fill(target: Buffer, offset: number): Promise<void> {
    for (let done = 0; done < target.length; ) {
      const { bytesRead } = await this.#handle
        .read(target, done, target.length - done, offset + done)
        .catch((error: unknown) => {
          throw fromSystemError(error, `reading ${this.title}`);
        });
      if (bytesRead === 0) throw new StoreError('IO', `${this.title} became shorter while it was read`);
      done += bytesRead;
    }
  }

  close(): Promise<void> {
    return this.#handle.close();
  }
}

class StreamSource implements ImageSource {
  readonly title: string;
  readonly sizeBytes = undefined;
  readonly #stream: Readable;
  readonly #signal: AbortSignal;
  readonly #onAbort = (): void => void this.#stream.destroy();

  constructor(title: string, stream: Readable, signal: AbortSignal) {
    this.title = title;
    this.#stream = stream;
    this.#signal = signal;
    // Somebody else's pipe may never say another word.
    signal.addEventListener('abort', this.#onAbort);
  }

  async *pieces(): AsyncGenerator<Piece> {
    let offset = 0;
    let waiting: Buffer[] = [];
    let waitingBytes = 0;
    try {
      for await (const chunk of this.#stream) {
        waiting.push(chunk as Buffer);
        waitingBytes += (chunk as Buffer).length;
        while (waitingBytes >= PIECE_BYTES) {
          const joined = Buffer.concat(waiting);
          yield { offset, bytes: joined.subarray(0, PIECE_BYTES), free: () => undefined };
          offset += PIECE_BYTES;
          waiting = [joined.subarray(PIECE_BYTES)];
          waitingBytes -= PIECE_BYTES;
        }
      }
    } catch (error) {
      this.#signal.throwIfAborted();
      throw fromSystemError(error, `reading ${this.title}`);
    }
    this.#signal.throwIfAborted();
    if (waitingBytes > 0) yield { offset, bytes: Buffer.concat(waiting), free: () => undefined };
  }

  async close(): Promise<void> {
    this.#signal.removeEventListener('abort', this.#onAbort);
    this.#stream.destroy();
  }
}
