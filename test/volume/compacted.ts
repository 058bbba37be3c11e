/** A store that compaction has been at work in, and what its versions must read. */

import { expect } from 'vitest';
import { SEGMENT_MOVES } from '../../src/log/format.ts';
import { SegmentScanner } from '../../src/log/scan.ts';
import { type LogBase, readSuperblock } from '../../src/log/superblock.ts';
import { checkClosedStore } from '../../src/volume/check-offline.ts';
import { UUID } from '../log/rig.ts';
import { MemoryStorage } from '../support/memory-storage.ts';
import { Random } from '../support/random.ts';
import { closedEnvironment } from './checked-closed.ts';
import { CrashRig } from './crash-rig.ts';

const CHUNK = 4096;
const DISK_BYTES = 2 << 20;

/** A store and what its versions must read. */
export class Compacted {
  readonly rig: CrashRig;
  readonly random: Random;
  readonly contents = new Map<string, Buffer>();
  #names = 0;

  private constructor(rig: CrashRig, random: Random) {
    this.rig = rig;
    this.random = random;
  }

  /** Open, with two volumes. */
  static async begin(seed: number): Promise<Compacted> {
    const made = new Compacted(await CrashRig.begin(), new Random(seed));
    await made.rig.open();
    for (const name of ['a', 'b']) {
      await made.rig.store.createVolume(name, DISK_BYTES);
      made.contents.set(name, Buffer.alloc(DISK_BYTES));
    }
    return made;
  }

  /** Closed, compacted several times: snapshots deleted and merged, disks trimmed, the beginning of the log gone. */
  static async make(seed: number, rounds = 6): Promise<Compacted> {
    const made = await Compacted.begin(seed);
    for (let i = 0; i < rounds; i++) {
      await made.work();
      for (let each = 0; each < 2; each++) await made.rig.store.compactOnce();
    }
    await made.rig.close();
    return made;
  }

  get storage(): MemoryStorage {
    return this.rig.storage;
  }

  /** Another machine with the disk as it is, without its index. */
  fork(): Compacted {
    const other = new Compacted(this.rig.fork(), this.random);
    for (const [name, content] of this.contents) other.contents.set(name, Buffer.from(content));
    other.#names = this.#names;
    return other;
  }

  async work(): Promise<void> {
    const { rig, random, contents } = this;
    for (let i = 0; i < 60; i++) {
      const name = random.pick(['a', 'a', 'b']);
      const content = contents.get(name)!;
      const length = CHUNK * random.pick([1, 1, 2, 8, 40]);
      const offset = CHUNK * random.below((content.length - length) / CHUNK);
      if (random.chance(15)) {
        await rig.device(name).zero(offset, length, false);
        content.fill(0, offset, offset + length);
      } else {
        const bytes = random.bytes(length);
        await rig.write(name, offset, bytes);
        bytes.copy(content, offset);
      }
      if (random.chance(8)) await this.#snapshot(name);
      if (random.chance(6)) await this.#delete();
    }
    if (random.chance(50)) await this.#shrink();
  }

  async #snapshot(name: string): Promise<void> {
    const snapshot = `${name}@${++this.#names}`;
    await this.rig.store.snapshot([snapshot]);
    this.contents.set(snapshot, Buffer.from(this.contents.get(name)!));
    if (!this.random.chance(30)) return;
    const clone = `c${this.#names}`;
    await this.rig.store.clone(snapshot, clone);
    this.contents.set(clone, Buffer.from(this.contents.get(snapshot)!));
    const bytes = this.random.bytes(20 * CHUNK);
    await this.rig.write(clone, 0, bytes);
    bytes.copy(this.contents.get(clone)!);
  }

  async #delete(): Promise<void> {
    const names = [...this.contents.keys()].filter((name) => name !== 'a' && name !== 'b');
    if (names.length === 0) return;
    const name = this.random.pick(names);
    // A clone goes with whoever reads it; all the others are snapshots.
    await this.rig.store.delete([name], { force: true });
    this.contents.delete(name);
    if (this.random.chance(70)) await this.rig.store.pruned();
  }

  /** Cuts off the end of a disk and brings it back: it reads as zeros. */
  async #shrink(): Promise<void> {
    const content = this.contents.get('b')!;
    const length = content.length - 60 * CHUNK;
    await this.rig.store.resize('b', length, { shrink: true, force: true });
    await this.rig.store.resize('b', DISK_BYTES);
    content.fill(0, length);
  }

  async base(): Promise<LogBase | undefined> {
    return (await readSuperblock(this.storage)).base;
  }

  /** Segments before the base, and of moves: what is read besides the chain. */
  async kept(): Promise<number[]> {
    const base = await this.base();
    const kept: number[] = [];
    for (const segment of this.rig.segments()) {
      const scanner = await SegmentScanner.open(this.storage, UUID, segment);
      const isMoves = ((scanner?.header.flags ?? 0) & SEGMENT_MOVES) !== 0;
      await scanner?.close();
      if (isMoves || segment < base!.segment) kept.push(segment);
    }
    return kept;
  }

  async readAll(): Promise<void> {
    for (const [name, content] of this.contents) {
      const found = await this.rig.read(name, 0, content.length);
      for (let at = 0; at < content.length; at += CHUNK) {
        if (!found.subarray(at, at + CHUNK).equals(content.subarray(at, at + CHUNK)))
          throw new Error(`${name} differs at chunk ${at / CHUNK}`);
      }
    }
  }

  /** By segment. */
  async firstAppends(): Promise<Map<number, number>> {
    const appends = new Map<number, number>();
    for (const segment of this.rig.segments()) {
      const scanner = await SegmentScanner.open(this.storage, UUID, segment);
      appends.set(segment, scanner!.header.firstAppend);
      await scanner!.close();
    }
    return appends;
  }

  /** The check of a closed store. */
  async findings(): Promise<string[]> {
    const environment = closedEnvironment(this.storage);
    const found: string[] = [];
    const superblock = await readSuperblock(this.storage);
    for await (const { severity, code, message } of checkClosedStore(
      environment,
      superblock,
      superblock.base,
    ))
      found.push(`${severity} ${code} ${message}`);
    return found;
  }

  async damage(): Promise<string[]> {
    return (await this.findings()).filter((each) => each.startsWith('damage'));
  }

  /** Opening fails as it says, and not a file has changed. */
  async refuses(message: RegExp): Promise<void> {
    const before = this.rig.segments();
    await expect(this.rig.open()).rejects.toMatchObject({
      code: 'CORRUPTION',
      message: expect.stringMatching(message),
    });
    expect(this.rig.segments()).toEqual(before);
    expect(this.storage.openFiles).toBe(0);
  }
}
