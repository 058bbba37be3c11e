/**
 * The real file system, with what the process writes to it counted at the seam: the log's records apart from the zeros
 * that segments are filled with ahead of need. What compaction's thread writes does not pass here, nor what LevelDB does.
 */

import { readFileSync } from 'node:fs';
import { NodeStorage } from '../../src/base/node-storage.ts';
import type { OpenMode, StorageFile } from '../../src/base/storage.ts';

export class CountedStorage extends NodeStorage {
  /** Headers, records, footers and trailers of segments. */
  logBytes = 0;
  /** Everything. */
  allBytes = 0;

  override async open(path: string, mode: OpenMode): Promise<StorageFile> {
    const file = await super.open(path, mode);
    if (mode === 'read') return file;
    return new CountedFile(file, path.endsWith('.seg'), this);
  }

  note(buffers: readonly Uint8Array[], isLog: boolean): void {
    let bytes = 0;
    for (let i = 0; i < buffers.length; i++) bytes += buffers[i]!.length;
    this.allBytes += bytes;
    // What a segment's parts begin with is no zero; a piece of filling does.
    if (isLog && buffers[0]![0] !== 0) this.logBytes += bytes;
  }
}

class CountedFile implements StorageFile {
  readonly #file: StorageFile;
  readonly #isLog: boolean;
  readonly #counts: CountedStorage;

  constructor(file: StorageFile, isLog: boolean, counts: CountedStorage) {
    this.#file = file;
    this.#isLog = isLog;
    this.#counts = counts;
  }

  async write(buffers: readonly Uint8Array[], position: number): Promise<void> {
    await this.#file.write(buffers, position);
    this.#counts.note(buffers, this.#isLog);
  }

  writeCached(buffers: readonly Uint8Array[], position: number): boolean {
    const isWritten = this.#file.writeCached(buffers, position);
    if (isWritten) this.#counts.note(buffers, this.#isLog);
    return isWritten;
  }

  read(target: Buffer, start: number, length: number, position: number): Promise<number> {
    return this.#file.read(target, start, length, position);
  }

  readCached(target: Buffer, start: number, length: number, position: number): number {
    return this.#file.readCached(target, start, length, position);
  }

  datasync(): Promise<void> {
    return this.#file.datasync();
  }

  allocate(bytes: number): Promise<void> {
    return this.#file.allocate(bytes);
  }

  dropCached(): Promise<void> {
    return this.#file.dropCached();
  }

  sizeBytes(): Promise<number> {
    return this.#file.sizeBytes();
  }

  close(): Promise<void> {
    return this.#file.close();
  }
}

/** What system calls of all threads of this process have been given to write. */
export function processBytes(): number {
  return Number(/^wchar: (\d+)$/m.exec(readFileSync('/proc/self/io', 'utf8'))![1]);
}
