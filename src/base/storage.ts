/**
 * The seam through which everything touches files. The store runs over `NodeStorage`; tests put a simulated disk
 * in its place, and sealed segments could one day live in an object store.
 *
 * Paths are relative to the store's directory, with `/` between parts.
 */

export interface StorageFile {
  /**
   * Writes all of `buffers`, in order, at byte `position`.
   * The buffers must not change until the promise settles: Node does not copy them.
   * @throws NO_SPACE, IO. What was written is then unknown, and the caller never appends behind it.
   */
  write(buffers: readonly Uint8Array[], position: number): Promise<void>;

  /**
   * Like `write`, done when it returns; false, with nothing written, if these bytes might have to wait for something.
   * @throws NO_SPACE, IO
   */
  writeCached(buffers: readonly Uint8Array[], position: number): boolean;

  /** Reads up to `length` bytes at `position` into `target` at `start`; fewer only at the end of the file. @throws IO */
  read(target: Buffer, start: number, length: number, position: number): Promise<number>;

  /** Like `read`, at once and from memory only: -1 if it would have to wait for the disk. */
  readCached(target: Buffer, start: number, length: number, position: number): number;

  /** What was written before this call is on the disk when it resolves (fdatasync). Never to be retried. @throws IO */
  datasync(): Promise<void>;

  /** Asks for `bytes` of space from the start, so that appends need no allocation. Best effort but for NO_SPACE. */
  allocate(bytes: number): Promise<void>;

  /**
   * Lets go of the memory that holds this file's synced content, or `length` bytes of it from `position` on: a hint, without
   * effect on what is read.
   */
  dropCached(position?: number, length?: number): Promise<void>;

  sizeBytes(): Promise<number>;
  close(): Promise<void>;
}

export type OpenMode = 'read' | 'write' | 'create';

export interface Storage {
  /** `read` and `write` need the file to exist, `create` needs it not to. @throws NOT_FOUND, NO_SPACE, IO */
  open(path: string, mode: OpenMode): Promise<StorageFile>;
  /** Names in a directory, sorted; empty if it does not exist. */
  list(path: string): Promise<string[]>;
  /** Makes a directory, with mode 0700; it may exist already. */
  makeDirectory(path: string): Promise<void>;
  /** Removes a file, or a directory with all that is in it; nothing there is no error. */
  remove(path: string): Promise<void>;
  rename(from: string, to: string): Promise<void>;
  /** Gives a file a second name, `to`, which must not be there. @throws IO, also where the file system knows no such names */
  link(from: string, to: string): Promise<void>;
  /** The names in `path` are on the disk when it resolves. */
  syncDirectory(path: string): Promise<void>;
  /** Bytes that may still be written to the file system. */
  freeBytes(): Promise<number>;
  /** A path that native code can open (LevelDB). */
  nativePath(path: string): string;
}

/** A file, and files, for who only reads them. */
export type ReadFile = Pick<StorageFile, 'read' | 'sizeBytes' | 'close'>;

export interface ReadStorage {
  open(path: string, mode: 'read'): Promise<ReadFile>;
}
