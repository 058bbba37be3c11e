/** A volume of which most has been written over, and rounds of compaction that something comes between. */

import { expect } from 'vitest';
import type { IndexDatabase } from '../../src/index/directory.ts';
import { keyRange } from '../../src/index/rows.ts';
import { SEGMENT_MOVES, segmentPath } from '../../src/log/format.ts';
import { SegmentScanner } from '../../src/log/scan.ts';
import { UUID } from '../log/rig.ts';
import type { TraceEntry } from '../support/memory-storage.ts';
import { Random } from '../support/random.ts';
import { damageIn } from '../support/stores.ts';
import { CrashRig } from './crash-rig.ts';

export const CHUNK = 4096;
export const DISK_BYTES = 4 << 20;
export const CHUNKS = DISK_BYTES / CHUNK;
/** Every tenth chunk is not written over: segments are left in which little lives. */
const LIVING = 10;

/** A moment at which what goes to the disk stops. */
export class Step {
  hasCome = false;
  #goOn: () => void = () => undefined;
  readonly #over = new Promise<void>((resolve) => {
    this.#goOn = resolve;
  });
  #come: () => void = () => undefined;
  readonly #coming = new Promise<void>((resolve) => {
    this.#come = resolve;
  });

  stop(): Promise<void> {
    this.hasCome = true;
    this.#come();
    return this.#over;
  }

  come(): Promise<void> {
    return this.#coming;
  }

  goOn(): void {
    this.#goOn();
  }
}

export class Aged {
  readonly rig: CrashRig;
  readonly random = new Random(1);
  readonly contents = new Map<string, Buffer>();

  private constructor(rig: CrashRig) {
    this.rig = rig;
  }

  /** A volume that was filled; a snapshot may freeze it. Nothing of it is dead yet. */
  static async begin(): Promise<Aged> {
    const aged = new Aged(await CrashRig.begin());
    await aged.rig.open();
    await aged.rig.store.createVolume('v', DISK_BYTES);
    aged.contents.set('v', Buffer.alloc(DISK_BYTES));
    for (let chunk = 0; chunk < CHUNKS; chunk++) await aged.write(chunk);
    return aged;
  }

  async write(chunk: number, name = 'v'): Promise<void> {
    const bytes = this.random.bytes(CHUNK);
    await this.rig.write(name, chunk * CHUNK, bytes);
    bytes.copy(this.contents.get(name)!, chunk * CHUNK);
  }

  async trim(first: number, count: number): Promise<void> {
    await this.rig.device('v').zero(first * CHUNK, count * CHUNK, false);
    this.contents.get('v')!.fill(0, first * CHUNK, (first + count) * CHUNK);
  }

  async writeOver(living = LIVING, from = 0): Promise<void> {
    for (let chunk = from; chunk < CHUNKS; chunk++) if (chunk % living > 0) await this.write(chunk);
  }

  async snapshot(name: string): Promise<void> {
    await this.rig.store.snapshot([name]);
    this.contents.set(name, Buffer.from(this.contents.get('v')!));
  }

  async delete(name: string): Promise<void> {
    await this.rig.store.delete([name]);
    this.contents.delete(name);
  }

  /** Another machine with the disk as it is, without its index. */
  fork(): Aged {
    const other = new Aged(this.rig.fork());
    for (const [name, content] of this.contents) other.contents.set(name, Buffer.from(content));
    return other;
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

  /** All that is there is right, and what another machine makes of the log alone. */
  async end(): Promise<void> {
    await this.readAll();
    expect(await damageIn(this.rig.store.check())).toEqual([]);
    await this.rig.close();
    const other = this.fork();
    await other.rig.open();
    await other.readAll();
    await other.rig.close();
  }

  /** Segments that hold what was moved. */
  async moves(): Promise<number[]> {
    const found: number[] = [];
    for (const segment of this.rig.segments()) {
      const scanner = await SegmentScanner.open(this.rig.storage, UUID, segment);
      if (((scanner?.header.flags ?? 0) & SEGMENT_MOVES) !== 0) found.push(segment);
      await scanner?.close();
    }
    return found;
  }

  /** Stops the first operation that `isIt` is true of. */
  stopAt(isIt: (entry: TraceEntry) => boolean): Step {
    const step = new Step();
    this.rig.storage.gate = async (entry): Promise<void> => {
      if (!step.hasCome && isIt(entry)) await step.stop();
    };
    return step;
  }

  /** A file of the log that is not there yet. */
  isNew(): (entry: TraceEntry) => boolean {
    const known = new Set(this.rig.segments().map(segmentPath));
    return ({ path }) => path.startsWith('log/') && !known.has(path);
  }

  /** As `begin`, written over so that a store that becomes idle has a round to make, and moves more than a segment. */
  static async beginCompacting(): Promise<Aged> {
    const aged = await Aged.begin();
    await aged.writeOver(3);
    await aged.writeOver(3, CHUNKS / 2);
    await aged.rig.close();
    aged.rig.compacts = true;
    await aged.rig.open();
    aged.rig.compacts = false;
    // The store has something to become idle of, and the next segment of the chain is there.
    await aged.write(0);
    await aged.rig.store.flush();
    await aged.rig.rest();
    return aged;
  }

  /** Rows are gone, and somebody looks for them: the index is made anew. Requires: nobody has read the volume. */
  async loseIndex(): Promise<void> {
    const database = await this.rig.storage.openDatabase('index');
    for await (const [key] of database.iterator(keyRange('p'))) await database.batch().del(key).write();
    await this.rig.read('v', 0, CHUNK);
    expect(this.rig.messages).toContain('the index is whole again');
  }

  /** Runs `then` once, behind the next batch of the index. */
  async behindBatch(then: () => void): Promise<void> {
    const database = await this.rig.storage.openDatabase('index');
    const batch = database.batch.bind(database);
    database.batch = ((): ReturnType<IndexDatabase['batch']> => {
      const next = batch();
      const write = next.write.bind(next);
      next.write = async (): Promise<void> => {
        await write();
        database.batch = batch;
        then();
      };
      return next;
    }) as IndexDatabase['batch'];
  }

  /** The store becomes idle: a round begins. */
  async beginRound(): Promise<void> {
    for (let i = 0; i < 3; i++) {
      this.rig.clock.advance(2500);
      await this.rig.rest(20);
    }
  }

  /**
   * The power goes right behind the first operation that `isLast` is true of; answers when it has gone: the next open is
   * another life.
   */
  powerGoesBehind(isLast: (entry: TraceEntry) => boolean): () => Promise<void> {
    const { storage } = this.rig;
    let isOver = false;
    storage.beforeChange = (entry) => {
      if (!isLast(entry)) return;
      isOver = true;
      storage.turnOffAt(1);
    };
    return async () => {
      for (let i = 0; i < 20_000 && !isOver; i++) await this.rig.rest(1);
      if (!isOver) throw new Error('what the power was to go behind has not come');
      await this.rig.rest();
      this.rig.crash(undefined, true);
    };
  }
}

/** The names of files of the log that were removed are synced. */
export function removal(): (entry: TraceEntry) => boolean {
  let hasRemoved = false;
  return ({ operation, path }) => {
    if (operation === 'remove' && path.startsWith('log/')) hasRemoved = true;
    return hasRemoved && operation === 'syncDirectory';
  };
}
