/**
 * The real file system, but zeros are not written: a store over it has everything a store has, log, tables, checksums,
 * except that its payload, if it is zeros, takes no space. What is read is what would have been read.
 */

import { NodeStorage } from '../../src/base/node-storage.ts';
import type { OpenMode, StorageFile } from '../../src/base/storage.ts';
import { CHUNK_BYTES } from '../../src/base/units.ts';

const ZEROS = Buffer.alloc(1 << 20);

/** Only where nothing but zeros stood before may zeros be left out: a segment is written once, from front to back. */
class SparseFile implements StorageFile {
  readonly #file: StorageFile;

  constructor(file: StorageFile) {
    this.#file = file;
  }

  async write(buffers: readonly Uint8Array[], position: number): Promise<void> {
    let at = position;
    let together: Uint8Array[] = [];
    let from = position;
    for (const buffer of buffers) {
      if (isZero(buffer)) {
        if (together.length > 0) await this.#file.write(together, from);
        together = [];
        from = at + buffer.length;
      } else {
        together.push(buffer);
      }
      at += buffer.length;
    }
    if (together.length > 0) await this.#file.write(together, from);
  }

  writeCached(): boolean {
    return false;
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

  /** The file gets its length, and no space. */
  async allocate(bytes: number): Promise<void> {
    await this.#file.write([ZEROS.subarray(0, 1)], bytes - 1);
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

export class SparseStorage extends NodeStorage {
  override async open(path: string, mode: OpenMode): Promise<StorageFile> {
    return new SparseFile(await super.open(path, mode));
  }
}

function isZero(buffer: Uint8Array): boolean {
  if (buffer.length < CHUNK_BYTES || buffer[0] !== 0) return false;
  for (let at = 0; at < buffer.length; at += ZEROS.length) {
    const piece = buffer.subarray(at, at + ZEROS.length);
    if (Buffer.compare(piece, ZEROS.subarray(0, piece.length)) !== 0) return false;
  }
  return true;
}
