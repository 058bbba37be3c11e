/**
 * One life of a process on the simulated disk: `Storage` as the store sees it, its calls completed by the scheduler,
 * its faults drawn, its end planned.
 *
 * Invariants: after the end nothing that this life began has any effect, and none of its promises settles. A write
 * lands when it is issued or when it completes; one that is under way at the end lands in part, or not, or whole.
 */

import { StoreError } from '../../src/base/errors.ts';
import type { OpenMode, Storage, StorageFile } from '../../src/base/storage.ts';
import type { IndexDatabase } from '../../src/index/directory.ts';
import type { Random } from '../support/random.ts';
import { folderOf, isScratch, nameOf, type SimulatedDisk } from './disk.ts';
import type { Faults, Operation } from './faults.ts';
import { IndexFolder, StillIndex } from './index-folder.ts';
import { Inode, SECTOR_BYTES } from './inode.ts';
import type { Marks } from './marks.ts';
import type { Scheduler } from './scheduler.ts';

/** Who watches what is handed to the disk. */
export interface Witness {
  /** Called when a write is issued; the answer is called when it has ended. */
  writing(path: string, position: number, bytes: Buffer): (ok: boolean) => void;
  creating(path: string): void;
}

const LARGE_BYTES = 16 << 10;

interface WriteUnderWay {
  inode: Inode;
  bytes: Buffer;
  position: number;
  hasLanded: boolean;
}

export type End = 'kill' | 'power cut';

export class Machine implements Storage {
  readonly disk: SimulatedDisk;
  readonly scheduler: Scheduler;
  readonly faults: Faults;
  readonly marks: Marks;
  readonly random: Random;
  readonly #witness: Witness;
  readonly #underWay = new Set<WriteUnderWay>();
  /** Percent of reads from memory that find nothing there. */
  readonly #coldPercent: number;
  calls = 0;
  #endAt = Number.POSITIVE_INFINITY;
  /** Resolves at the planned end. */
  readonly ended: Promise<void>;
  #end: () => void = () => undefined;
  hasEnded = false;
  /** The store has been recovered. */
  isServing = false;
  #lastOpened = '';

  constructor(
    disk: SimulatedDisk,
    scheduler: Scheduler,
    faults: Faults,
    marks: Marks,
    random: Random,
    witness: Witness,
    coldPercent: number,
  ) {
    this.disk = disk;
    this.scheduler = scheduler;
    this.faults = faults;
    this.marks = marks;
    this.random = random;
    this.#witness = witness;
    this.#coldPercent = coldPercent;
    this.ended = new Promise((resolve) => {
      this.#end = resolve;
    });
  }

  /** The life ends with this call, counted from now. */
  endAfter(calls: number): void {
    this.#endAt = this.calls + calls;
  }

  /** It ends now: whatever is under way stops where it is. */
  end(how: End): void {
    this.#stop();
    for (const write of this.#underWay) this.#cutShort(write);
    this.#underWay.clear();
    this.disk.abandonSyncs();
    if (how === 'power cut') this.disk.powerCut(this.random, this.marks);
  }

  #stop(): void {
    this.hasEnded = true;
    this.scheduler.halt();
    this.#end();
  }

  #cutShort({ inode, bytes, position, hasLanded }: WriteUnderWay): void {
    if (hasLanded) return;
    const fate = this.random.below(3);
    this.marks.hit(`write under way: ${(['lost', 'part', 'whole'] as const)[fate]!}`);
    if (fate === 1) this.#landSome(inode, bytes, position);
    if (fate === 2) inode.write(bytes, position);
  }

  /** Some of the sectors: the first ones, or any. */
  #landSome(inode: Inode, bytes: Buffer, position: number): void {
    if (this.random.chance(50)) {
      inode.write(bytes, position, 0, this.random.below(bytes.length));
      return;
    }
    for (let at = 0; at < bytes.length; at += SECTOR_BYTES) {
      if (this.random.chance(50)) inode.write(bytes, position, at, Math.min(at + SECTOR_BYTES, bytes.length));
    }
  }

  /** Every call goes through here; `act` gets what fails it, if anything. */
  #call<T>(kind: Operation | 'close' | 'other', detail: string, act: () => T): Promise<T> {
    if (this.hasEnded) return new Promise(() => undefined);
    this.calls += 1;
    if (this.calls >= this.#endAt) {
      this.#stop();
      return new Promise(() => undefined);
    }
    return this.scheduler.park(kind, detail, act);
  }

  #failing(operation: Operation, path: string): void {
    const code = this.faults.draw(operation);
    if (code === undefined) return;
    const mark = `fault: ${operation} ${code}`;
    if (operation !== 'index open' && operation !== 'index read' && operation !== 'index write')
      this.marks.hit(mark as Parameters<Marks['hit']>[0]);
    throw new StoreError(code, `${operation} of ${path} was made to fail`);
  }

  async open(path: string, mode: OpenMode): Promise<StorageFile> {
    if (mode === 'create' && !this.hasEnded) this.#witness.creating(path);
    return await this.#call(mode === 'create' ? 'create' : 'open', path, () => {
      this.#failing(mode === 'create' ? 'create' : 'open', path);
      if (mode === 'create') {
        if (this.disk.find(path) !== undefined) throw new StoreError('IO', `${path} is there already`);
        this.disk.folders.get(folderOf(path))!.names.set(nameOf(path), new Inode());
      }
      return this.#file(path, this.disk.inode(path));
    });
  }

  #file(path: string, inode: Inode): StorageFile {
    let isOpen = true;
    const check = (): void => {
      if (!isOpen) throw new Error(`${path} is used after it was closed`);
    };
    return {
      write: (buffers, position) => {
        check();
        return this.#write(path, inode, buffers, position);
      },
      writeCached: (buffers, position) => {
        check();
        return this.random.chance(50) && this.#writeAtOnce(path, inode, buffers, position);
      },
      read: (target, start, length, position) => {
        check();
        return this.#call('read', `${path} ${position}+${length}`, () => {
          this.#failing('read', path);
          return inode.read(target, start, length, position);
        });
      },
      readCached: (target, start, length, position) => {
        check();
        if (this.hasEnded || this.random.chance(this.#coldPercent)) return -1;
        return inode.read(target, start, length, position);
      },
      datasync: () => {
        check();
        const image = inode.beginSync();
        return this.#call('datasync', `${path} ${image.sectors.length}`, () =>
          this.#sync(path, inode, image),
        );
      },
      allocate: (bytes) =>
        this.#call('allocate', path, () => {
          this.#failing('allocate', path);
          inode.resize(bytes);
        }),
      dropCached: () => this.#call('other', path, () => undefined),
      sizeBytes: () => this.#call('other', path, () => inode.sizeBytes),
      close: () =>
        this.#call('close', path, () => {
          check();
          isOpen = false;
        }),
    };
  }

  /** False once the process has ended: what then goes the long way never comes back. */
  #writeAtOnce(path: string, inode: Inode, buffers: readonly Uint8Array[], position: number): boolean {
    if (this.hasEnded) return false;
    this.calls += 1;
    if (this.calls >= this.#endAt) {
      this.#stop();
      return false;
    }
    const bytes = Buffer.concat(buffers);
    const told = this.#witness.writing(path, position, bytes);
    const code = this.faults.draw('write');
    if (code === undefined) inode.write(bytes, position);
    else this.#landBadly(inode, bytes, position, code);
    told(code === undefined);
    if (code !== undefined) throw new StoreError(code, `write of ${path} was made to fail`);
    return true;
  }

  #write(path: string, inode: Inode, buffers: readonly Uint8Array[], position: number): Promise<void> {
    if (this.hasEnded) return new Promise(() => undefined);
    const bytes = copyOf(buffers);
    const told = this.#witness.writing(path, position, bytes);
    const code = this.faults.draw('write');
    const write: WriteUnderWay = { inode, bytes, position, hasLanded: false };
    this.#underWay.add(write);
    if (code === undefined && this.random.chance(50)) {
      inode.write(bytes, position);
      write.hasLanded = true;
    }
    return this.#call('write', `${path} ${position}+${bytes.length}`, () => {
      this.#underWay.delete(write);
      if (!isStill(bytes, buffers)) throw new Error(`${path}: a buffer changed while it was written`);
      if (code === undefined) {
        if (!write.hasLanded) inode.write(bytes, position);
        told(true);
        return;
      }
      this.#landBadly(inode, bytes, position, code);
      told(false);
      throw new StoreError(code, `write of ${path} was made to fail`);
    });
  }

  #landBadly(inode: Inode, bytes: Buffer, position: number, code: 'IO' | 'NO_SPACE'): void {
    this.marks.hit(code === 'IO' ? 'fault: write IO' : 'fault: write NO_SPACE');
    const fate = this.random.below(4);
    if (fate === 0) inode.write(bytes, position);
    if (fate === 1) {
      this.marks.hit('fault: write short');
      this.#landSome(inode, bytes, position);
    }
  }

  #sync(path: string, inode: Inode, image: ReturnType<Inode['beginSync']>): void {
    try {
      this.#failing('datasync', path);
    } catch (error) {
      const percent = this.random.pick([0, 0, 50]);
      inode.endSync(image, () => this.random.chance(percent));
      inode.hasLied = true;
      throw error;
    }
    if (inode.hasLied) this.marks.hit('fault: sync after a failed one says ok');
    inode.endSync(image, () => true);
  }

  list(path: string): Promise<string[]> {
    return this.#call('list', path, () => {
      this.#failing('list', path);
      return this.disk.names(path);
    });
  }

  makeDirectory(path: string): Promise<void> {
    return this.#call('other', path, () => {
      if (path.startsWith('index')) this.disk.folders.get('.')!.names.set(path, new IndexFolder());
    });
  }

  remove(path: string): Promise<void> {
    return this.#call('remove', path, () => {
      const { names } = this.disk.folders.get(folderOf(path))!;
      if (!names.has(nameOf(path))) return;
      this.#failing('remove', path);
      if (path.startsWith('log/') && !this.isServing) this.marks.hit('opened: leftovers removed');
      names.delete(nameOf(path));
    });
  }

  rename(from: string, to: string): Promise<void> {
    return this.#call('rename', `${from} ${to}`, () => {
      this.#failing('rename', from);
      const { names } = this.disk.folders.get('.')!;
      const entry = names.get(from);
      if (entry === undefined) throw new StoreError('NOT_FOUND', `${from} is not there`);
      names.delete(from);
      names.set(to, entry);
    });
  }

  link(from: string, to: string): Promise<void> {
    return this.#call('rename', `${from} ${to}`, () => {
      this.#failing('rename', from);
      this.disk.folders.get(folderOf(to))!.names.set(nameOf(to), this.disk.inode(from));
    });
  }

  syncDirectory(path: string): Promise<void> {
    const folder = this.disk.folders.get(path)!;
    // What was there when the call was made.
    const names = new Map(folder.names);
    const issued = ++folder.syncs;
    return this.#call('syncDirectory', path, () => {
      this.#failing('syncDirectory', path);
      if (issued < folder.synced) return;
      folder.synced = issued;
      folder.onDisk = names;
    });
  }

  async freeBytes(): Promise<number> {
    return 2 ** 40;
  }

  nativePath(path: string): string {
    return path;
  }

  readonly openDatabase = async (path: string): Promise<IndexDatabase> => {
    if (this.hasEnded) return new Promise(() => undefined);
    if (isScratch(path)) return new StillIndex() as unknown as IndexDatabase;
    if (this.isServing && path === 'index' && this.#lastOpened === 'index')
      this.marks.hit('index opened again while in use');
    this.#lastOpened = path;
    const found = this.disk.find(path);
    if (found instanceof IndexFolder) return await found.open(this);
    const made = new IndexFolder();
    this.disk.folders.get('.')!.names.set(path, made);
    return await made.open(this);
  };
}

/** What is written, as it is now; large pieces of one buffer are zeros, which stay zeros. */
function copyOf(buffers: readonly Uint8Array[]): Buffer {
  const [first] = buffers;
  if (buffers.length > 1 || first!.length < LARGE_BYTES) return Buffer.concat(buffers);
  return Buffer.from(first!.buffer, first!.byteOffset, first!.length);
}

/** True if `buffers` are what `bytes` were copied from. */
function isStill(bytes: Buffer, buffers: readonly Uint8Array[]): boolean {
  let at = 0;
  for (const buffer of buffers) {
    if (bytes.compare(buffer, 0, buffer.length, at, at + buffer.length) !== 0) return false;
    at += buffer.length;
  }
  return true;
}
