/** A store of a few versions with known contents over real files, whose LevelDB handles a test has its hands on. */

import fs from 'node:fs';
import path from 'node:path';
import { afterEach, expect } from 'vitest';
import type { Clock } from '../../src/base/clock.ts';
import type { IndexDatabase } from '../../src/index/directory.ts';
import { openLevel, Store } from '../../src/volume/store.ts';
import { type Watch, watched } from '../index/slow-database.ts';
import { Random } from '../support/random.ts';
import { damageIn, read, scratchDirectory, write } from '../support/stores.ts';

export const CHUNK = 4096;
export const DISK_BYTES = 4 << 20;

const scratch: string[] = [];
afterEach(() => {
  for (const directory of scratch.splice(0)) fs.rmSync(directory, { recursive: true, force: true });
});

export function directoryOf(name: string): string {
  const directory = scratchDirectory();
  scratch.push(directory);
  return path.join(directory, name);
}

/** LevelDB handles that a store opens (and its checks), the newest last, and what is done to their calls. */
export class Handles {
  readonly opened: IndexDatabase[] = [];
  watch: Watch = {};
  refuseToOpen: ((location: string) => Error | undefined) | undefined;

  readonly open = async (location: string): Promise<IndexDatabase> => {
    const refusal = this.refuseToOpen?.(location);
    if (refusal) throw refusal;
    const database = await openLevel(location);
    this.opened.push(database);
    return watched(database, {
      before: (call, args) => this.watch.before?.(call, args),
      after: (call, args) => this.watch.after?.(call, args),
    });
  };

  get current(): IndexDatabase {
    return this.opened.findLast((database) => database.status === 'open')!;
  }

  async rows(kind: string): Promise<[Buffer, Buffer][]> {
    const rows: [Buffer, Buffer][] = [];
    for await (const [key, value] of this.current.iterator()) {
      if (key.toString('latin1', 0, 1) === kind) rows.push([Buffer.from(key), Buffer.from(value)]);
    }
    return rows;
  }
}

/** A store of two volumes and two snapshots with known contents. */
export class StoreFixture {
  readonly directory = directoryOf('store');
  readonly handles = new Handles();
  readonly contents = new Map<string, Buffer>();
  readonly random: Random;
  store!: Store;
  compacts: boolean | undefined;

  constructor(seed: number) {
    this.random = new Random(seed);
  }

  static async make(seed = 1): Promise<StoreFixture> {
    const fixture = new StoreFixture(seed);
    await Store.init(fixture.directory, { segmentBytes: 1 << 20 });
    await fixture.open();
    await fixture.store.createVolume('a', DISK_BYTES);
    fixture.contents.set('a', Buffer.alloc(DISK_BYTES));
    await fixture.writeSome('a', 30);
    await fixture.store.checkpoint();
    await fixture.snapshot('a@1');
    await fixture.writeSome('a', 30);
    await fixture.snapshot('a@2');
    await fixture.store.clone('a@1', 'b');
    fixture.contents.set('b', Buffer.from(fixture.contents.get('a@1')!));
    await fixture.writeSome('b', 30);
    await fixture.writeSome('a', 10);
    return fixture;
  }

  async open(clock?: Clock): Promise<void> {
    // No room for pages: every read asks the index.
    const options = { cacheBytes: 1, openDatabase: this.handles.open, clock, compacts: this.compacts };
    this.store = await Store.open(this.directory, options);
  }

  async snapshot(name: string): Promise<void> {
    await this.store.snapshot([name]);
    this.contents.set(name, Buffer.from(this.contents.get(name.split('@')[0]!)!));
  }

  async writeSome(name: string, count: number): Promise<void> {
    const device = this.store.device(name);
    const content = this.contents.get(name)!;
    for (let i = 0; i < count; i++) {
      const isZero = this.random.chance(15);
      const lengthBytes = CHUNK * this.random.pick(isZero ? [1, 20, 400] : [1, 1, 2, 30]);
      const offset = CHUNK * this.random.below((DISK_BYTES - lengthBytes) / CHUNK);
      if (isZero) {
        await device.zero(offset, lengthBytes, false);
        content.fill(0, offset, offset + lengthBytes);
        continue;
      }
      const bytes = this.random.bytes(lengthBytes);
      await write(device, offset, bytes);
      bytes.copy(content, offset);
    }
    device.release();
  }

  async readAll(): Promise<void> {
    for (const name of this.contents.keys()) await this.readOne(name);
  }

  async readOne(name: string): Promise<void> {
    const device = this.store.device(name);
    try {
      const found = await read(device, 0, DISK_BYTES);
      const expected = this.contents.get(name)!;
      const at = found.equals(expected) ? -1 : found.findIndex((byte, i) => byte !== expected[i]);
      if (at >= 0) throw new Error(`${name} differs at chunk ${Math.floor(at / CHUNK)}`);
    } finally {
      device.release();
    }
  }

  async reopen(): Promise<void> {
    await this.store.close();
    await this.open();
  }

  async end(): Promise<void> {
    await this.readAll();
    expect(await damageIn(this.store.check())).toEqual([]);
    await this.store.close();
    expect(await damageIn(Store.check(this.directory))).toEqual([]);
  }

  get index(): string {
    return path.join(this.directory, 'index');
  }
}

export function filesOf(directory: string, ending: string): string[] {
  const names = fs.readdirSync(directory).filter((name) => name.endsWith(ending));
  return names.map((name) => path.join(directory, name));
}
