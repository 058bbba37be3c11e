/**
 * A file that appears whole or not at all: written beside its name, synced, then renamed.
 *
 * Invariants: until `commit`, the file of that name is untouched; after `discard`, and after any end of the process
 * that runs its exit handlers, nothing is left beside it. Only kill -9 and a power cut leave `NAME.partial-PID`.
 */

import fs from 'node:fs';
import path from 'node:path';
import { fromSystemError, StoreError } from '../base/errors.ts';

const FILE_MODE = 0o600;
/** So much waits to be written to the disk at least before a sync begins beside the copying: the last one is short then. */
const UNSYNCED_BYTES_MAX = 64 << 20;

export class PartialFile {
  readonly #target: string;
  readonly #partial: string;
  readonly #handle: fs.promises.FileHandle;
  readonly #onExit = (): void => fs.rmSync(this.#partial, { force: true });
  #unsyncedBytes = 0;
  #syncing: Promise<void> | undefined;
  /** What a sync has thrown: the kernel tells it once. */
  #failure: { readonly error: unknown } | undefined;

  private constructor(target: string, partial: string, handle: fs.promises.FileHandle) {
    this.#target = target;
    this.#partial = partial;
    this.#handle = handle;
    process.on('exit', this.#onExit);
  }

  /** @throws INVALID_ARGUMENT (something that is no file has that name), NOT_FOUND, NO_SPACE, IO */
  static async create(file: string): Promise<PartialFile> {
    const target = await targetOf(file);
    const partial = `${target}.partial-${process.pid}`;
    if (!fs.existsSync(path.dirname(target))) {
      throw new StoreError('NOT_FOUND', `there is no directory '${path.dirname(target)}'; make it first`);
    }
    try {
      // What is there can only be of a process that had our number and was killed.
      await fs.promises.rm(partial, { force: true });
      return new PartialFile(target, partial, await fs.promises.open(partial, 'wx', FILE_MODE));
    } catch (error) {
      throw fromSystemError(error, `creating '${partial}'`);
    }
  }

  /** Where the file will be: a symbolic link keeps pointing to it. */
  get target(): string {
    return this.#target;
  }

  async write(bytes: Buffer, position: number): Promise<void> {
    for (let done = 0; done < bytes.length; ) {
      const { bytesWritten } = await this.#handle
        .write(bytes, done, bytes.length - done, position + done)
        .catch((error: unknown) => {
          throw fromSystemError(error, `writing '${this.#target}'`);
        });
      done += bytesWritten;
    }
    this.#unsyncedBytes += bytes.length;
    if (this.#unsyncedBytes > UNSYNCED_BYTES_MAX) this.#syncing ??= this.#sync();
  }

  async #sync(): Promise<void> {
    this.#unsyncedBytes = 0;
    await this.#handle.datasync().catch((error: unknown) => {
      this.#failure ??= { error };
    });
    this.#syncing = undefined;
  }

  /** Gives the file its size (what was not written is a hole) and its name; it is on the disk then. @throws IO */
  async commit(sizeBytes: number): Promise<void> {
    try {
      await this.#syncing;
      await this.#handle.truncate(sizeBytes);
      await this.#handle.sync();
      if (this.#failure !== undefined) throw this.#failure.error;
      await fs.promises.rename(this.#partial, this.#target);
      process.off('exit', this.#onExit);
      const directory = await fs.promises.open(path.dirname(this.#target), 'r');
      try {
        await directory.sync();
      } finally {
        await directory.close();
      }
    } catch (error) {
      throw fromSystemError(error, `finishing '${this.#target}'`);
    }
  }

  /** Closes the file; removes it unless it was committed. */
  async close(): Promise<void> {
    await this.#syncing;
    await this.#handle.close();
    await fs.promises.rm(this.#partial, { force: true });
    process.off('exit', this.#onExit);
  }
}

async function targetOf(file: string): Promise<string> {
  const stats = await fs.promises.stat(file).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined;
    throw fromSystemError(error, `looking at '${file}'`);
  });
  if (stats === undefined) return path.resolve(file);
  // A rename would put a file in the place of a device.
  if (!stats.isFile()) {
    throw new StoreError(
      'INVALID_ARGUMENT',
      `'${file}' exists and is no regular file; export to - and redirect it`,
    );
  }
  return await fs.promises.realpath(file);
}
