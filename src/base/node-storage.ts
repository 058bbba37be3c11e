/**
 * `Storage` over node:fs, with two system calls that Node lacks through koffi (see libc.ts).
 *
 * Invariants: a write is whole or rejects; files are made 0600 and directories 0700 whatever the umask.
 */

import fs from 'node:fs';
import { promisify } from 'node:util';
import path from 'node:path';
import { systemClock } from './clock.ts';
import { fromSystemError, StoreError } from './errors.ts';
import { allocateSpace, dropCachedPages, readCached } from './libc.ts';
import type { OpenMode, Storage, StorageFile } from './storage.ts';
import { WritePace } from './write-pace.ts';

const FILE_MODE = 0o600;
const DIRECTORY_MODE = 0o700;
const OPEN_FLAGS: Record<OpenMode, string> = { read: 'r', write: 'r+', create: 'wx+' };

/** What is copied to the page cache at once: about 50 us. */
const CACHED_WRITE_BYTES_MAX = 256 << 10;

const fdatasync = promisify(fs.fdatasync);
const fstat = promisify(fs.fstat);
const closeDescriptor = promisify(fs.close);

class NodeFile implements StorageFile {
  readonly #descriptor: number;
  readonly #path: string;
  readonly #pace: WritePace;

  constructor(descriptor: number, name: string, pace: WritePace) {
    this.#descriptor = descriptor;
    this.#path = name;
    this.#pace = pace;
  }

  write(buffers: readonly Uint8Array[], position: number): Promise<void> {
    return new Promise((resolve, reject) => {
      const total = bytesOf(buffers);
      const step = (pending: readonly Uint8Array[], at: number, left: number): void => {
        fs.writev(this.#descriptor, pending as NodeJS.ArrayBufferView[], at, (error, written) => {
          if (error) reject(fromSystemError(error, `writing ${this.#path}`));
          else if (written === left) resolve();
          // libuv hides the error of a partial write; the next call reports it.
          else if (written === 0) reject(this.#nothingWritten());
          else step(behind(pending, written), at + written, left - written);
        });
      };
      step(buffers, position, total);
    });
  }

  writeCached(buffers: readonly Uint8Array[], position: number): boolean {
    const began = systemClock.now();
    const total = bytesOf(buffers);
    if (total > CACHED_WRITE_BYTES_MAX || !this.#pace.isPrompt(began)) return false;
    try {
      let done = fs.writevSync(this.#descriptor, buffers as NodeJS.ArrayBufferView[], position);
      while (done < total) {
        const rest = behind(buffers, done) as NodeJS.ArrayBufferView[];
        const written = fs.writevSync(this.#descriptor, rest, position + done);
        if (written === 0) throw this.#nothingWritten();
        done += written;
      }
    } catch (error) {
      throw fromSystemError(error, `writing ${this.#path}`);
    }
    this.#pace.note(began, systemClock.now());
    return true;
  }

  #nothingWritten(): StoreError {
    return new StoreError('IO', `writing ${this.#path}: nothing was written`);
  }

  read(target: Buffer, start: number, length: number, position: number): Promise<number> {
    return new Promise((resolve, reject) => {
      const step = (done: number): void => {
        fs.read(this.#descriptor, target, start + done, length - done, position + done, (error, bytes) => {
          if (error) reject(fromSystemError(error, `reading ${this.#path}`));
          else if (bytes === 0 || done + bytes === length) resolve(done + bytes);
          else step(done + bytes);
        });
      };
      step(0);
    });
  }

  readCached(target: Buffer, start: number, length: number, position: number): number {
    return readCached(this.#descriptor, target, start, length, position);
  }

  async datasync(): Promise<void> {
    await fdatasync(this.#descriptor).catch((error: unknown) => {
      throw fromSystemError(error, `syncing ${this.#path}`);
    });
  }

  async allocate(bytes: number): Promise<void> {
    const errno = await allocateSpace(this.#descriptor, bytes);
    if (errno !== 0)
      throw fromSystemError({ errno: -errno, message: 'no space' }, `allocating ${this.#path}`);
  }

  async dropCached(position = 0, length = 0): Promise<void> {
    await dropCachedPages(this.#descriptor, position, length);
  }

  async sizeBytes(): Promise<number> {
    return (await fstat(this.#descriptor)).size;
  }

  close(): Promise<void> {
    return closeDescriptor(this.#descriptor);
  }
}

function bytesOf(buffers: readonly Uint8Array[]): number {
  let total = 0;
  for (let i = 0; i < buffers.length; i++) total += buffers[i]!.length;
  return total;
}

/** What is left of `buffers` behind the first `bytes`. */
function behind(buffers: readonly Uint8Array[], bytes: number): Uint8Array[] {
  let index = 0;
  let rest = bytes;
  while (rest >= buffers[index]!.length) rest -= buffers[index++]!.length;
  return [buffers[index]!.subarray(rest), ...buffers.slice(index + 1)];
}

export class NodeStorage implements Storage {
  readonly #root: string;
  readonly #pace = new WritePace();

  constructor(root: string) {
    this.#root = path.resolve(root);
  }

  nativePath(name: string): string {
    return path.join(this.#root, name);
  }

  async #try<T>(doing: string, work: Promise<T>): Promise<T> {
    return await work.catch((error: unknown) => {
      throw fromSystemError(error, doing);
    });
  }

  async open(name: string, mode: OpenMode): Promise<StorageFile> {
    const open = promisify(fs.open) as (file: string, flags: string, mode: number) => Promise<number>;
    const descriptor = await this.#try(
      `opening ${name}`,
      open(this.nativePath(name), OPEN_FLAGS[mode], FILE_MODE),
    );
    if (mode === 'create') fs.fchmodSync(descriptor, FILE_MODE);
    return new NodeFile(descriptor, name, this.#pace);
  }

  async list(name: string): Promise<string[]> {
    try {
      return (await fs.promises.readdir(this.nativePath(name))).sort();
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
      throw fromSystemError(error, `listing ${name}`);
    }
  }

  async makeDirectory(name: string): Promise<void> {
    const full = this.nativePath(name);
    await this.#try(`making ${name}`, fs.promises.mkdir(full, { recursive: true, mode: DIRECTORY_MODE }));
    await this.#try(`making ${name}`, fs.promises.chmod(full, DIRECTORY_MODE));
  }

  async remove(name: string): Promise<void> {
    await this.#try(
      `removing ${name}`,
      fs.promises.rm(this.nativePath(name), { recursive: true, force: true }),
    );
  }

  async rename(from: string, to: string): Promise<void> {
    await this.#try(`renaming ${from}`, fs.promises.rename(this.nativePath(from), this.nativePath(to)));
  }

  async link(from: string, to: string): Promise<void> {
    await this.#try(`linking ${from}`, fs.promises.link(this.nativePath(from), this.nativePath(to)));
  }

  async syncDirectory(name: string): Promise<void> {
    const handle = await this.#try(`opening ${name}`, fs.promises.open(this.nativePath(name), 'r'));
    try {
      await this.#try(`syncing ${name}`, handle.sync());
    } finally {
      await handle.close();
    }
  }

  async freeBytes(): Promise<number> {
    const stats = await this.#try('measuring free space', fs.promises.statfs(this.#root));
    return stats.bavail * stats.bsize;
  }
}
