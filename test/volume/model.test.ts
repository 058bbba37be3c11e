/**
 * The store against its specification: a buffer for each version. Random operations at odd offsets, some at the same
 * time; every version is read whole again and again, and the checker must be silent.
 */

import fs from 'node:fs';
import { describe, expect, it } from 'vitest';
import type { BlockDevice } from '../../src/volume/device.ts';
import { Store } from '../../src/volume/store.ts';
import { Random, seeds } from '../support/random.ts';
import { damageIn, read, scratchDirectory, write } from '../support/stores.ts';

const STEPS = Number(process.env.MODEL_STEPS ?? 25_000);
const SEEDS = 8;
const DISK_BYTES = 700 * 1024 + 512;
const VERSIONS_MAX = 24;

class Model {
  readonly random: Random;
  readonly directory = scratchDirectory();
  readonly contents = new Map<string, Buffer>();
  readonly devices = new Map<string, BlockDevice>();
  store!: Store;
  #names = 0;

  constructor(seed: number) {
    this.random = new Random(seed);
  }

  async begin(): Promise<void> {
    await Store.init(this.directory, { segmentBytes: 1 << 20 });
    this.store = await this.#open();
    for (const name of ['a', 'b']) {
      await this.store.createVolume(name, DISK_BYTES);
      this.contents.set(name, Buffer.alloc(DISK_BYTES));
    }
  }

  async #open(): Promise<Store> {
    // A cache of a few pages, so that pages go and come; sometimes a large one.
    return await Store.open(this.directory, { cacheBytes: this.random.pick([16 << 10, 1 << 20]) });
  }

  device(name: string): BlockDevice {
    let device = this.devices.get(name);
    if (device === undefined) {
      device = this.store.device(name);
      this.devices.set(name, device);
    }
    return device;
  }

  volumes(): string[] {
    return [...this.contents.keys()].filter((name) => !name.includes('@'));
  }

  /** A range at an odd place: a few sectors or bytes, some chunks, or a lot. */
  range(): [offset: number, lengthBytes: number] {
    const { random } = this;
    const lengthBytes = random.pick([
      () => random.between(1, 700),
      () => 512 * random.between(1, 16),
      () => 4096 * random.between(1, 4),
      () => random.between(1, 20_000),
      () => (random.chance(10) ? random.between(1, 600_000) : 4096),
    ])();
    const end = DISK_BYTES - lengthBytes;
    const offset = random.pick([
      () => random.between(0, end),
      () => 4096 * Math.floor(random.between(0, end) / 4096),
      () => 4096 * Math.floor(random.between(0, Math.min(end, 40_000)) / 4096),
      () => end,
    ])();
    return [offset, lengthBytes];
  }

  async step(): Promise<void> {
    const { random } = this;
    const kind = random.below(1000);
    if (kind < 500) await this.write();
    else if (kind < 600) await this.zero();
    else if (kind < 930) await this.readSome(random.pick([...this.contents.keys()]));
    else if (kind < 960) await this.burst();
    else if (kind < 966) await this.store.flush();
    else if (kind < 974) await this.snapshot();
    else if (kind < 980) await this.clone();
    else if (kind < 984) await this.store.checkpoint();
    else if (kind < 985) await this.reopen();
    else this.release(random.pick([...this.contents.keys()]));
  }

  release(name: string): void {
    this.devices.get(name)?.release();
    this.devices.delete(name);
  }

  async write(): Promise<void> {
    const name = this.random.pick(this.volumes());
    const [offset, lengthBytes] = this.range();
    const bytes = this.random.bytes(lengthBytes);
    await write(this.device(name), offset, bytes, this.random.below(400) === 0);
    bytes.copy(this.contents.get(name)!, offset);
  }

  async zero(): Promise<void> {
    const name = this.random.pick(this.volumes());
    const [offset, lengthBytes] = this.range();
    await this.device(name).zero(offset, lengthBytes, false);
    this.contents.get(name)!.fill(0, offset, offset + lengthBytes);
  }

  /** Writes to neighbouring sectors at the same time: none may lose what another wrote. */
  async burst(): Promise<void> {
    const name = this.random.pick(this.volumes());
    const content = this.contents.get(name)!;
    const device = this.device(name);
    const base = 512 * this.random.below(Math.floor((DISK_BYTES - 100_000) / 512));
    const writes: Promise<void>[] = [];
    let at = base;
    for (let i = 0; i < 12; i++) {
      const lengthBytes = this.random.pick([100, 512, 1024, 4096, 4096 - (at % 4096 || 4096) + 4096]);
      const offset = at;
      at += lengthBytes;
      if (this.random.chance(15)) {
        writes.push(device.zero(offset, lengthBytes, false));
        content.fill(0, offset, at);
      } else {
        const bytes = this.random.bytes(lengthBytes);
        writes.push(write(device, offset, bytes));
        bytes.copy(content, offset);
      }
    }
    await Promise.all(writes);
  }

  async readSome(name: string): Promise<void> {
    const [offset, lengthBytes] = this.range();
    const found = await read(this.device(name), offset, lengthBytes);
    const expected = this.contents.get(name)!.subarray(offset, offset + lengthBytes);
    if (!found.equals(expected)) this.fail(name, offset, found, expected);
  }

  fail(name: string, offset: number, found: Buffer, expected: Buffer): never {
    const at = found.findIndex((byte, i) => byte !== expected[i]);
    throw new Error(`${name} differs at ${offset + at} (chunk ${Math.floor((offset + at) / 4096)})`);
  }

  async readAll(): Promise<void> {
    for (const [name, expected] of this.contents) {
      const found = await read(this.device(name), 0, DISK_BYTES);
      if (!found.equals(expected)) this.fail(name, 0, found, expected);
    }
  }

  async snapshot(): Promise<void> {
    if (this.contents.size >= VERSIONS_MAX) return;
    const volumes = this.random.chance(30) ? this.volumes() : [this.random.pick(this.volumes())];
    const names = volumes.map((volume) => `${volume}@s${this.#names}`);
    this.#names += 1;
    await this.store.snapshot(names);
    names.forEach((name, i) => this.contents.set(name, Buffer.from(this.contents.get(volumes[i]!)!)));
  }

  async clone(): Promise<void> {
    const snapshots = [...this.contents.keys()].filter((name) => name.includes('@'));
    if (snapshots.length === 0 || this.contents.size >= VERSIONS_MAX) return;
    const source = this.random.pick(snapshots);
    const name = `c${this.#names++}`;
    await this.store.clone(source, name);
    this.contents.set(name, Buffer.from(this.contents.get(source)!));
  }

  async reopen(): Promise<void> {
    for (const device of this.devices.values()) device.release();
    this.devices.clear();
    await this.store.close();
    if (this.random.chance(20)) fs.rmSync(`${this.directory}/index`, { recursive: true });
    this.store = await this.#open();
  }

  async end(): Promise<void> {
    await this.readAll();
    expect(await damageIn(this.store.check())).toEqual([]);
    await this.reopen();
    await this.readAll();
    for (const device of this.devices.values()) device.release();
    await this.store.close();
    expect(await damageIn(Store.check(this.directory))).toEqual([]);
    fs.rmSync(this.directory, { recursive: true });
  }
}

describe('a store under random operations', () => {
  for (const seed of seeds(SEEDS)) {
    it(`reads in every version what was written there (SEED=${seed}, ${STEPS} steps)`, {
      timeout: 600_000,
    }, async () => {
      const model = new Model(seed);
      await model.begin();
      for (let step = 0; step < STEPS; step++) {
        try {
          await model.step();
          if (step % 5000 === 4999) await model.readAll();
        } catch (error) {
          throw new Error(`step ${step} of SEED=${seed}: ${(error as Error).message}`, { cause: error });
        }
      }
      await model.end();
    });
  }
});
