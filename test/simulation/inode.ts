/**
 * What a file holds: in the page cache, and on the disk. No I/O, no chance: whoever crashes it says what is kept.
 *
 * Invariants: a sector that is not dirty was written by a datasync that succeeded, or was called clean by one that
 * failed: then cache and disk differ, and nothing will ever tell. A sync covers what was written before it was issued.
 */

export const SECTOR_BYTES = 512;

/** What becomes of an unsynced sector when the power goes. */
export type Fate = 'kept' | 'lost' | 'zeros' | 'garbage';

/** The sectors that a sync is about to put on the disk, as they were when it was issued. */
export interface SyncImage {
  sectors: number[];
  writes: number[];
  /** What sectors had that have been written again since. */
  readonly before: Map<number, Buffer>;
  sizeBytes: number;
}

/** Memory of files that are no more, by capacity: to be used again, because fresh memory is dear. */
const spare = new Map<number, { cache: Buffer; disk: Buffer }[]>();

export class Inode {
  cache: Buffer = Buffer.alloc(0);
  disk: Buffer = Buffer.alloc(0);
  /** As the process sees it, and as it is on the disk. */
  sizeBytes = 0;
  diskSizeBytes = 0;
  /** By sector: the number of the write that made it dirty, 0 if it is clean. */
  #dirty = new Uint32Array(0);
  #writes = 0;
  /** Syncs under way. */
  readonly #images = new Set<SyncImage>();
  /** A sync of this file has failed: what is called clean may not be on the disk. */
  hasLied = false;

  #grow(bytes: number): void {
    if (bytes <= this.cache.length) return;
    const capacity = Math.ceil(bytes / SECTOR_BYTES) * SECTOR_BYTES;
    const [cache, disk, dirty] = [this.cache, this.disk, this.#dirty];
    const again = spare.get(capacity)?.pop();
    this.cache = again?.cache.fill(0) ?? Buffer.alloc(capacity);
    this.disk = again?.disk.fill(0) ?? Buffer.alloc(capacity);
    this.#dirty = new Uint32Array(capacity / SECTOR_BYTES);
    cache.copy(this.cache);
    disk.copy(this.disk);
    this.#dirty.set(dirty);
  }

  resize(bytes: number): void {
    this.#grow(bytes);
    this.sizeBytes = Math.max(this.sizeBytes, bytes);
  }

  /** Bytes [from, to) of `bytes`, which belong at `position`. */
  write(bytes: Buffer, position: number, from = 0, to = bytes.length): void {
    if (to <= from) return;
    this.resize(position + to);
    const first = Math.floor((position + from) / SECTOR_BYTES);
    const last = Math.floor((position + to - 1) / SECTOR_BYTES);
    for (const image of this.#images) this.#saveInto(image, first, last);
    bytes.copy(this.cache, position + from, from, to);
    this.#writes += 1;
    this.#dirty.fill(this.#writes, first, last + 1);
  }

  #saveInto(image: SyncImage, first: number, last: number): void {
    for (const sector of image.sectors) {
      if (sector < first || sector > last || image.before.has(sector)) continue;
      const at = sector * SECTOR_BYTES;
      image.before.set(sector, Buffer.from(this.cache.subarray(at, at + SECTOR_BYTES)));
    }
  }

  read(target: Buffer, start: number, length: number, position: number): number {
    if (position >= Math.min(this.sizeBytes, this.cache.length)) return 0;
    return this.cache.copy(target, start, position, Math.min(this.sizeBytes, position + length));
  }

  beginSync(): SyncImage {
    const sectors: number[] = [];
    const writes: number[] = [];
    for (let i = 0; i < this.#dirty.length; i++) {
      if (this.#dirty[i] === 0) continue;
      sectors.push(i);
      writes.push(this.#dirty[i]!);
    }
    const image = { sectors, writes, before: new Map(), sizeBytes: this.sizeBytes };
    this.#images.add(image);
    return image;
  }

  /** `lands` says which sectors really get to the disk; all of them are called clean. */
  endSync(image: SyncImage, lands: (sector: number) => boolean): void {
    this.#images.delete(image);
    image.sectors.forEach((sector, i) => {
      const at = sector * SECTOR_BYTES;
      const before = image.before.get(sector);
      if (lands(sector)) {
        if (before === undefined) this.cache.copy(this.disk, at, at, at + SECTOR_BYTES);
        else before.copy(this.disk, at);
      }
      if (this.#dirty[sector] === image.writes[i]) this.#dirty[sector] = 0;
    });
    this.diskSizeBytes = Math.max(this.diskSizeBytes, image.sizeBytes);
  }

  /** The process is gone, and whoever waited for a sync. */
  abandonSyncs(): void {
    this.#images.clear();
  }

  get dirtySectors(): number[] {
    const sectors: number[] = [];
    for (let i = 0; i < this.#dirty.length; i++) if (this.#dirty[i] !== 0) sectors.push(i);
    return sectors;
  }

  /** The kernel needs the memory: what is called clean is read from the disk again. */
  dropClean(): boolean {
    let changed = false;
    for (let i = 0; i < this.#dirty.length; i++) {
      if (this.#dirty[i] !== 0) continue;
      const at = i * SECTOR_BYTES;
      if (this.cache.compare(this.disk, at, at + SECTOR_BYTES, at, at + SECTOR_BYTES) === 0) continue;
      this.disk.copy(this.cache, at, at, at + SECTOR_BYTES);
      changed = true;
    }
    this.hasLied = false;
    return changed;
  }

  /** The power goes. */
  crash(fate: (sector: number) => Fate, garbage: (bytes: Buffer) => void, keepsSize: () => boolean): void {
    for (const sector of this.dirtySectors) {
      const at = sector * SECTOR_BYTES;
      const onDisk = this.disk.subarray(at, at + SECTOR_BYTES);
      switch (fate(sector)) {
        case 'kept':
          this.cache.copy(onDisk, 0, at, at + SECTOR_BYTES);
          break;
        case 'zeros':
          onDisk.fill(0);
          break;
        case 'garbage':
          garbage(onDisk);
          break;
        case 'lost':
          break;
      }
    }
    if (this.sizeBytes > this.diskSizeBytes && keepsSize()) this.diskSizeBytes = this.sizeBytes;
    this.sizeBytes = this.diskSizeBytes;
    this.disk.fill(0, this.sizeBytes);
    this.disk.copy(this.cache);
    this.#dirty.fill(0);
    this.#images.clear();
    this.hasLied = false;
  }

  /** Nobody uses it any more. */
  dispose(): void {
    const { cache, disk } = this;
    if (cache.length === 0) return;
    if (!spare.has(cache.length)) spare.set(cache.length, []);
    spare.get(cache.length)!.push({ cache, disk });
    this.cache = Buffer.alloc(0);
    // Who has it open may go on writing.
    this.#dirty = new Uint32Array(0);
    this.disk = Buffer.alloc(0);
  }
}
