/**
 * The simulated disk: folders of names, files of sectors, indexes; what the page cache has and what the disk has.
 *
 * It outlives the processes that use it. A process boots (machine.ts) and ends: killed, it leaves the page cache as it
 * is; with the power goes everything unsynced, or any part of it: sectors lost, kept, zeroed or torn to garbage, sizes
 * ahead of the content, names and removals of any subset.
 */

import type { IndexDatabase } from '../../src/index/directory.ts';
import type { Storage, StorageFile } from '../../src/base/storage.ts';
import { StoreError } from '../../src/base/errors.ts';
import type { Scratch } from '../../src/volume/check.ts';
import type { Random } from '../support/random.ts';
import { IndexFolder, StillIndex } from './index-folder.ts';
import { type Fate, Inode } from './inode.ts';
import type { Marks } from './marks.ts';

export type Entry = Inode | IndexFolder;

export class Folder {
  names = new Map<string, Entry>();
  onDisk = new Map<string, Entry>();
  /** Syncs issued, and the last of them that has succeeded. */
  syncs = 0;
  synced = 0;
}

export const folderOf = (path: string): string => path.slice(0, Math.max(0, path.lastIndexOf('/'))) || '.';
export const nameOf = (path: string): string => path.slice(path.lastIndexOf('/') + 1);

const SCRATCH = 'scratch/';
const SCRATCH_STORAGE: Storage = {
  open: async (path) => Promise.reject(new StoreError('NOT_FOUND', `${path} is not there`)),
  list: async () => [],
  makeDirectory: async () => undefined,
  remove: async () => undefined,
  rename: async () => undefined,
  link: async () => undefined,
  syncDirectory: async () => undefined,
  freeBytes: async () => 2 ** 40,
  nativePath: (path) => SCRATCH + path,
};

/** A place beside the disk in which an index can be made. */
export function makeScratch(): Scratch {
  return { storage: SCRATCH_STORAGE, remove: () => undefined };
}

export const isScratch = (path: string): boolean => path.startsWith(SCRATCH);

/** How a power cut treats what is not synced: percentages. */
interface Weather {
  keep: number;
  /** Of the sectors that are not kept. */
  zeros: number;
  garbage: number;
  keepNames: number;
}

export class SimulatedDisk {
  readonly folders = new Map<string, Folder>([
    ['.', new Folder()],
    ['log', new Folder()],
  ]);

  find(path: string): Entry | undefined {
    return this.folders.get(folderOf(path))?.names.get(nameOf(path));
  }

  inode(path: string): Inode {
    const found = this.find(path);
    if (found instanceof Inode) return found;
    throw new StoreError('NOT_FOUND', `${path} is not there`);
  }

  names(path: string): string[] {
    if (this.find(path) instanceof IndexFolder) return ['CURRENT'];
    return [...(this.folders.get(path)?.names.keys() ?? [])].sort();
  }

  get index(): IndexFolder | undefined {
    const found = this.find('index');
    return found instanceof IndexFolder ? found : undefined;
  }

  /** Nobody uses this disk any more. */
  dispose(): void {
    const folders = [...this.folders.values()];
    const entries = new Set(folders.flatMap(({ names, onDisk }) => [...names.values(), ...onDisk.values()]));
    for (const entry of entries) if (entry instanceof Inode) entry.dispose();
  }

  /** Makes everything durable: what a new store is. */
  settle(): void {
    for (const folder of this.folders.values()) {
      folder.onDisk = new Map(folder.names);
      for (const entry of folder.names.values()) {
        if (entry instanceof Inode) entry.endSync(entry.beginSync(), () => true);
      }
    }
  }

  get #files(): Inode[] {
    const entries = [...this.folders.values()].flatMap((folder) => [...folder.names.values()]);
    return entries.filter((entry) => entry instanceof Inode);
  }

  /** A sync of some file has failed: what is called clean may not be on the disk. */
  get hasLied(): boolean {
    return this.#files.some((inode) => inode.hasLied);
  }

  abandonSyncs(): void {
    for (const inode of this.#files) inode.abandonSyncs();
  }

  /** The kernel forgets what is called clean; true if that changes what is read. */
  dropClean(): boolean {
    return this.#files.map((inode) => inode.dropClean()).includes(true);
  }

  powerCut(random: Random, marks: Marks): void {
    const weather: Weather = {
      keep: random.pick([0, 0, 5, 50, 95, 100]),
      zeros: random.pick([0, 0, 10, 50]),
      garbage: random.pick([0, 0, 0, 20]),
      keepNames: random.pick([0, 50, 100]),
    };
    // One that is lost or kept against all others finds what no average does.
    const odd = random.chance(20) ? random.below(64) : -1;
    let at = 0;
    const fate = (): Fate => {
      const isKept = at++ === odd ? weather.keep < 50 : random.chance(weather.keep);
      if (isKept) return 'kept';
      const draw = random.below(100);
      return draw < weather.garbage ? 'garbage' : draw < weather.garbage + weather.zeros ? 'zeros' : 'lost';
    };
    const entries = new Set<Entry>();
    for (const folder of this.folders.values()) {
      this.#crashNames(folder, random, marks, weather.keepNames);
      for (const entry of folder.names.values()) entries.add(entry);
    }
    for (const entry of entries) {
      if (entry instanceof IndexFolder) entry.crash(random, marks);
      else this.#crashFile(entry, random, marks, fate);
    }
  }

  #crashNames(folder: Folder, random: Random, marks: Marks, keepPercent: number): void {
    for (const name of new Set([...folder.names.keys(), ...folder.onDisk.keys()])) {
      const [now, before] = [folder.names.get(name), folder.onDisk.get(name)];
      if (now === before) continue;
      if (random.chance(keepPercent)) {
        marks.hit('name: kept');
        if (now === undefined) folder.onDisk.delete(name);
        else folder.onDisk.set(name, now);
        continue;
      }
      marks.hit(now === undefined ? 'removal: lost' : 'name: lost');
      // A directory of which some files may be gone.
      if (before instanceof IndexFolder) before.isUnreadable ||= random.chance(50);
    }
    folder.names = new Map(folder.onDisk);
  }

  #crashFile(inode: Inode, random: Random, marks: Marks, fate: () => Fate): void {
    const garbage = (bytes: Buffer): void => void random.bytes(bytes.length).copy(bytes);
    const sectorFate = (): Fate => {
      const drawn = fate();
      marks.hit(`sector: ${drawn}`);
      return drawn;
    };
    inode.crash(sectorFate, garbage, () => {
      const keeps = random.chance(50);
      marks.hit(keeps ? 'size: kept' : 'size: lost');
      return keeps;
    });
  }

  /** The disk for whoever only looks at it: everything at once, nothing fails. New folders are scratch. */
  get still(): Storage {
    const refuse = async (): Promise<never> => {
      throw new StoreError('READ_ONLY', 'this disk is only looked at');
    };
    return {
      open: async (path) => stillFile(this.inode(path)),
      list: async (path) => this.names(path),
      makeDirectory: refuse,
      remove: refuse,
      rename: refuse,
      link: refuse,
      syncDirectory: refuse,
      freeBytes: async () => 2 ** 40,
      nativePath: (path) => path,
    };
  }

  /** Opens an index to look at, or a new one in scratch. */
  readonly openStill = async (path: string): Promise<IndexDatabase> => {
    if (isScratch(path)) return new StillIndex() as unknown as IndexDatabase;
    return (this.find(path) as IndexFolder).still();
  };
}

function stillFile(inode: Inode): StorageFile {
  const refuse = async (): Promise<never> => {
    throw new StoreError('READ_ONLY', 'this file is only looked at');
  };
  return {
    write: refuse,
    writeCached: () => false,
    read: async (target, start, length, position) => inode.read(target, start, length, position),
    readCached: (target, start, length, position) => inode.read(target, start, length, position),
    datasync: refuse,
    allocate: refuse,
    dropCached: async () => undefined,
    sizeBytes: async () => inode.sizeBytes,
    close: async () => undefined,
  };
}
