/**
 * A disk in memory behind the `Storage` seam, with the bad sides of a real one.
 *
 * Every file has what the page cache holds and what the disk holds, in sectors; every directory has names that are
 * there and names that are on the disk. `crash` keeps what is on the disk, and of the rest what it is told to keep;
 * `kill` loses nothing but the process. A failed datasync leaves the cache as it is, calls it clean, and puts nothing
 * on the disk: a second datasync succeeds and proves nothing.
 *
 * Directories under `index` hold no files but databases in memory, which `openDatabase` opens: they follow a rename.
 */

import { MemoryLevel } from 'memory-level';
import { StoreError } from '../../src/base/errors.ts';
import type { OpenMode, Storage, StorageFile } from '../../src/base/storage.ts';
import type { IndexDatabase } from '../../src/index/directory.ts';

const SECTOR_BYTES = 512;

export type Operation =
  | 'write'
  | 'datasync'
  | 'allocate'
  | 'create'
  | 'remove'
  | 'rename'
  | 'link'
  | 'syncDirectory'
  | 'read';

export interface TraceEntry {
  operation: Operation;
  path: string;
  position: number;
  lengthBytes: number;
}

interface Failure {
  operation: Operation;
  /** How many matching calls go well before. */
  after: number;
  error: StoreError;
  path: RegExp;
  /** Fails for ever, not once. */
  sticky: boolean;
  /** A write that fails has written its first half. */
  lands: boolean;
  /** Only a write at this place. */
  position: number | undefined;
}

export interface FailureOptions {
  after?: number;
  code?: 'IO' | 'NO_SPACE';
  path?: RegExp;
  sticky?: boolean;
  lands?: boolean;
  position?: number;
}

class Inode {
  cache: Buffer = Buffer.alloc(0);
  disk: Buffer = Buffer.alloc(0);
  readonly dirty = new Set<number>();

  resize(bytes: number): void {
    if (bytes <= this.cache.length) return;
    const grown = Buffer.alloc(bytes);
    this.cache.copy(grown);
    this.cache = grown;
  }

  /** Puts sectors on the disk, and the length that the file had. */
  sync(sectors: Iterable<number>, length: number): void {
    if (this.disk.length < length) {
      const grown = Buffer.alloc(length);
      this.disk.copy(grown);
      this.disk = grown;
    }
    for (const sector of sectors) {
      this.dirty.delete(sector);
      const start = sector * SECTOR_BYTES;
      if (start < this.disk.length)
        this.cache.copy(this.disk, start, start, Math.min(start + SECTOR_BYTES, this.disk.length));
    }
  }

  crash(keep: () => boolean): void {
    const length = keep() ? this.cache.length : this.disk.length;
    this.sync([...this.dirty].filter(keep), length);
    this.dirty.clear();
    this.cache = Buffer.from(this.disk);
  }
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
const folderOf = (path: string): string => path.slice(0, Math.max(0, path.lastIndexOf('/'))) || '.';
const nameOf = (path: string): string => path.slice(path.lastIndexOf('/') + 1);

class Folder {
  names = new Map<string, Inode>();
  onDisk = new Map<string, Inode>();
}

export class MemoryStorage implements Storage {
  readonly trace: TraceEntry[] = [];
  free = 2 ** 40;
  /** Files that are open now. */
  openFiles = 0;
  readBytes = 0;
  /** Whether small writes are taken at once (`writeCached`); else all go the long way, which `gate` can stop. */
  takesAtOnce: () => boolean = () => false;
  /** Called before each operation that changes something, with its number from 1. */
  beforeChange: ((entry: TraceEntry, changes: number) => void) | undefined;
  /** Resolves before the data of a write or a datasync gets anywhere: lets a test stop time there. */
  gate: ((entry: TraceEntry) => Promise<void>) | undefined;
  changes = 0;

  readonly #folders = new Map<string, Folder>([
    ['.', new Folder()],
    ['log', new Folder()],
  ]);
  readonly #databases = new Map<string, MemoryLevel<Buffer, Buffer>>();
  readonly #failures: Failure[] = [];
  /** A life of the process: handles of an earlier one are of no use. */
  #life = 0;
  #isOff = false;
  /** Whether the write that has just failed has written anything. */
  #landed = true;

  /** Makes an operation fail once, after `after` calls of it went well. A failing write writes its first half. */
  fail(operation: Operation, options: FailureOptions = {}): void {
    const { after = 0, code = 'IO', path = /^/, sticky = false, lands = true, position } = options;
    const error = new StoreError(code, `the ${operation} was made to fail`);
    this.#failures.push({ operation, after, error, path, sticky, lands, position });
  }

  clearFailures(): void {
    this.#failures.length = 0;
  }

  /** From the change with this number on (counted from now) the machine is off: nothing happens any more. */
  turnOffAt(change: number): void {
    const from = this.changes + change;
    this.beforeChange = (_, changes) => {
      if (changes >= from) this.#isOff = true;
    };
  }

  get isOff(): boolean {
    return this.#isOff;
  }

  /** The process ends; the kernel lives on. */
  kill(): void {
    this.#life += 1;
    this.#isOff = false;
    this.beforeChange = undefined;
    this.gate = undefined;
    this.#failures.length = 0;
    this.openFiles = 0;
  }

  /** The power goes. Every unsynced sector and name is lost, unless `keep` says otherwise; the index goes with it. */
  crash(keep: () => boolean = () => false, keepIndex = false): void {
    this.kill();
    if (!keepIndex) this.#databases.clear();
    const inodes = new Set<Inode>();
    for (const folder of this.#folders.values()) {
      for (const name of new Set([...folder.names.keys(), ...folder.onDisk.keys()])) {
        if (folder.names.get(name) !== folder.onDisk.get(name) && keep()) move(folder, name);
      }
      folder.names = new Map(folder.onDisk);
      for (const inode of folder.names.values()) inodes.add(inode);
    }
    for (const inode of inodes) inode.crash(keep);
  }

  /** The same disk, to be treated differently. Databases are not copied. */
  copy(): MemoryStorage {
    const copy = new MemoryStorage();
    const inodes = new Map<Inode, Inode>();
    const twin = (inode: Inode): Inode => {
      let other = inodes.get(inode);
      if (other === undefined) {
        other = new Inode();
        other.cache = Buffer.from(inode.cache);
        other.disk = Buffer.from(inode.disk);
        for (const sector of inode.dirty) other.dirty.add(sector);
        inodes.set(inode, other);
      }
      return other;
    };
    for (const [path, folder] of this.#folders) {
      const made = new Folder();
      for (const [name, inode] of folder.names) made.names.set(name, twin(inode));
      for (const [name, inode] of folder.onDisk) made.onDisk.set(name, twin(inode));
      copy.#folders.set(path, made);
    }
    return copy;
  }

  /** What a file holds, to be looked at or changed under the store's feet (both in memory and on the disk). */
  edit(path: string, change: (bytes: Buffer) => void): void {
    const inode = this.#find(path);
    change(inode.cache);
    if (inode.dirty.size === 0) {
      inode.cache.copy(inode.disk);
      return;
    }
    for (let at = 0; at < inode.disk.length; at += SECTOR_BYTES) {
      if (!inode.dirty.has(at / SECTOR_BYTES)) inode.cache.copy(inode.disk, at, at, at + SECTOR_BYTES);
    }
  }

  bytes(path: string): Buffer {
    return this.#find(path).cache;
  }

  has(path: string): boolean {
    return this.#folders.get(folderOf(path))?.names.has(nameOf(path)) ?? false;
  }

  #find(path: string): Inode {
    const inode = this.#folders.get(folderOf(path))?.names.get(nameOf(path));
    if (inode === undefined) throw new StoreError('NOT_FOUND', `${path} is not there`);
    return inode;
  }

  /** Passes an operation, or makes it fail. */
  async #pass(operation: Operation, path: string, position = 0, lengthBytes = 0): Promise<void> {
    const life = this.#life;
    if (operation !== 'read') {
      await turn();
      await this.gate?.({ operation, path, position, lengthBytes });
      if (life !== this.#life) throw new StoreError('IO', 'the machine is off');
    }
    this.#passAtOnce(operation, path, position, lengthBytes);
  }

  #passAtOnce(operation: Operation, path: string, position: number, lengthBytes: number): void {
    if (operation !== 'read') {
      const entry = { operation, path, position, lengthBytes };
      this.changes += 1;
      this.beforeChange?.(entry, this.changes);
      if (this.#isOff) throw new StoreError('IO', 'the machine is off');
      this.trace.push(entry);
    }
    const failure = this.#failureOf(operation, path, position);
    if (failure === undefined || failure.after-- > 0) return;
    if (!failure.sticky) this.#failures.splice(this.#failures.indexOf(failure), 1);
    this.#landed = failure.lands;
    throw failure.error;
  }

  #failureOf(operation: Operation, path: string, position: number | undefined): Failure | undefined {
    return this.#failures.find(
      (each) =>
        each.operation === operation && each.path.test(path) && (each.position ?? position) === position,
    );
  }

  async open(path: string, mode: OpenMode): Promise<StorageFile> {
    if (mode === 'create') {
      await this.#pass('create', path);
      if (this.has(path)) throw new StoreError('IO', `${path} is there already`);
      this.#folders.get(folderOf(path))!.names.set(nameOf(path), new Inode());
    }
    const inode = this.#find(path);
    this.openFiles += 1;
    const life = this.#life;
    let isOpen = true;
    const check = (): void => {
      if (life !== this.#life) throw new StoreError('IO', 'this process has ended');
      if (!isOpen) throw new StoreError('IO', 'the file is closed');
    };
    const read = (target: Buffer, start: number, length: number, position: number): number => {
      if (position >= inode.cache.length) return 0;
      return inode.cache.copy(target, start, position, Math.min(inode.cache.length, position + length));
    };
    return {
      write: async (buffers, position) => {
        check();
        const bytes = Buffer.concat(buffers);
        let written = Math.floor(bytes.length / 2 / SECTOR_BYTES) * SECTOR_BYTES;
        try {
          await this.#pass('write', path, position, bytes.length);
          written = bytes.length;
        } finally {
          if (!this.#landed) written = 0;
          this.#landed = true;
          if (life === this.#life) put(inode, bytes.subarray(0, written), position);
        }
        if (!Buffer.concat(buffers).equals(bytes))
          throw new Error('a buffer has changed while it was written');
      },
      writeCached: (buffers, position) => {
        check();
        if (this.gate !== undefined || !this.takesAtOnce()) return false;
        const bytes = Buffer.concat(buffers);
        let written = Math.floor(bytes.length / 2 / SECTOR_BYTES) * SECTOR_BYTES;
        try {
          this.#passAtOnce('write', path, position, bytes.length);
          written = bytes.length;
        } finally {
          if (!this.#landed) written = 0;
          this.#landed = true;
          put(inode, bytes.subarray(0, written), position);
        }
        return true;
      },
      read: async (target, start, length, position) => {
        check();
        await this.#pass('read', path, position, length);
        const bytes = read(target, start, length, position);
        this.readBytes += bytes;
        return bytes;
      },
      readCached: (target, start, length, position) => {
        check();
        // What the disk will not give is in no cache.
        if (this.#failureOf('read', path, position) !== undefined) return -1;
        return read(target, start, length, position);
      },
      datasync: async () => {
        check();
        const before = [...inode.dirty];
        const { length } = inode.cache;
        try {
          await this.#pass('datasync', path);
        } catch (error) {
          // The kernel calls them clean all the same.
          if (!this.#isOff) for (const sector of before) inode.dirty.delete(sector);
          throw error;
        }
        inode.sync(before, length);
      },
      allocate: async (bytes) => {
        check();
        await this.#pass('allocate', path, 0, bytes);
        inode.resize(bytes);
      },
      dropCached: async () => undefined,
      sizeBytes: async () => inode.cache.length,
      close: async () => {
        if (!isOpen) throw new StoreError('IO', 'a file is closed twice');
        isOpen = false;
        if (life === this.#life) this.openFiles -= 1;
      },
    };
  }

  get openDatabases(): number {
    return [...this.#databases.values()].filter(({ status }) => status === 'open').length;
  }

  names(path: string): string[] {
    return [...(this.#folders.get(path)?.names.keys() ?? [])].sort();
  }

  async list(path: string): Promise<string[]> {
    if (this.#databases.has(path)) return ['CURRENT'];
    const isOfFiles = (name: string): boolean => name !== '.' && !name.startsWith('index');
    const folders = path === '.' ? [...this.#folders.keys()].filter(isOfFiles) : [];
    return [...this.names(path), ...folders].sort();
  }

  async makeDirectory(path: string): Promise<void> {
    if (!this.#folders.has(path)) this.#folders.set(path, new Folder());
  }

  async remove(path: string): Promise<void> {
    if (path.startsWith('index')) {
      this.#databases.delete(path);
      return;
    }
    const folder = this.#folders.get(path);
    // A directory goes name by name, in an order that nobody knows: here those that were made last go first.
    for (const name of [...(folder?.names.keys() ?? [])].reverse()) {
      await this.#pass('remove', `${path}/${name}`);
      folder!.names.delete(name);
    }
    await this.#pass('remove', path);
    this.#folders.delete(path);
    this.#folders.get(folderOf(path))?.names.delete(nameOf(path));
  }

  async rename(from: string, to: string): Promise<void> {
    const database = this.#databases.get(from);
    if (database !== undefined) {
      this.#databases.delete(from);
      this.#databases.set(to, database);
      return;
    }
    await this.#pass('rename', from);
    const inode = this.#find(from);
    const { names } = this.#folders.get(folderOf(from))!;
    names.delete(nameOf(from));
    names.set(nameOf(to), inode);
  }

  async link(from: string, to: string): Promise<void> {
    await this.#pass('link', to);
    const inode = this.#find(from);
    if (this.has(to)) throw new StoreError('IO', `${to} is there already`);
    this.#folders.get(folderOf(to))!.names.set(nameOf(to), inode);
  }

  async syncDirectory(path: string): Promise<void> {
    await this.#pass('syncDirectory', path);
    const folder = this.#folders.get(path)!;
    folder.onDisk = new Map(folder.names);
  }

  async freeBytes(): Promise<number> {
    return this.free;
  }

  nativePath(path: string): string {
    return path;
  }

  /** What opens the index of a store on this disk. */
  readonly openDatabase = async (path: string): Promise<IndexDatabase> => {
    let database = this.#databases.get(path);
    if (database === undefined) {
      const options = { keyEncoding: 'buffer', valueEncoding: 'buffer', storeEncoding: 'buffer' };
      database = new MemoryLevel<Buffer, Buffer>(options as object);
      this.#databases.set(path, database);
    }
    await database.open();
    return database as unknown as IndexDatabase;
  };
}

function put(inode: Inode, bytes: Buffer, position: number): void {
  inode.resize(position + bytes.length);
  bytes.copy(inode.cache, position);
  const last = Math.floor((position + bytes.length - 1) / SECTOR_BYTES);
  for (let sector = Math.floor(position / SECTOR_BYTES); sector <= last; sector++) inode.dirty.add(sector);
}

function move(folder: Folder, name: string): void {
  const inode = folder.names.get(name);
  if (inode === undefined) folder.onDisk.delete(name);
  else folder.onDisk.set(name, inode);
}
