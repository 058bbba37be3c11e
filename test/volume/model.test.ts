/**
 * The store against its specification: a buffer for each version. Random operations at odd offsets, some at the same
 * time: writes, trims, snapshots of snapshots, clones, deletes that are finished in the background, rollbacks, resizes,
 * the store opened again at any point. Every version is read whole again and again, what versions take up is counted by
 * brute force, and the checker must be silent.
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
const CHUNK = 4096;
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
  range(name: string): [offset: number, lengthBytes: number] {
    const { random } = this;
    const size = this.contents.get(name)!.length;
    const lengthBytes = random.pick([
      () => random.between(1, 700),
      () => 512 * random.between(1, 16),
      () => 4096 * random.between(1, 4),
      () => random.between(1, 20_000),
      () => (random.chance(10) ? random.between(1, 600_000) : 4096),
    ])();
    const end = size - lengthBytes;
    if (end < 0) return [0, size];
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
    else if (kind < 983) await this.store.checkpoint();
    else if (kind < 984) await this.reopen();
    else if (kind < 988) await this.delete();
    else if (kind < 990) await this.rollback();
    else if (kind < 993) await this.resize();
    else if (kind < 994) await this.rename();
    else if (kind < 995) await this.compareTwo();
    else if (kind < 997) await this.store.compactOnce();
    else this.release(random.pick([...this.contents.keys()]));
  }

  release(name: string): void {
    this.devices.get(name)?.release();
    this.devices.delete(name);
  }

  async write(): Promise<void> {
    const name = this.random.pick(this.volumes());
    const [offset, lengthBytes] = this.range(name);
    const bytes = this.random.bytes(lengthBytes);
    await write(this.device(name), offset, bytes, this.random.below(400) === 0);
    bytes.copy(this.contents.get(name)!, offset);
  }

  async zero(): Promise<void> {
    const name = this.random.pick(this.volumes());
    const [offset, lengthBytes] = this.range(name);
    await this.device(name).zero(offset, lengthBytes, false);
    this.contents.get(name)!.fill(0, offset, offset + lengthBytes);
  }

  /** Writes to neighbouring sectors at the same time: none may lose what another wrote. */
  async burst(): Promise<void> {
    const name = this.random.pick(this.volumes());
    const content = this.contents.get(name)!;
    const device = this.device(name);
    if (content.length < 200_000) return;
    const base = 512 * this.random.below(Math.floor((content.length - 100_000) / 512));
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
    const [offset, lengthBytes] = this.range(name);
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
      const found = await read(this.device(name), 0, expected.length);
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

  /** Lets go of devices of these versions, or leaves them to be taken away. */
  forget(names: readonly string[]): void {
    for (const name of names) {
      const device = this.devices.get(name);
      this.devices.delete(name);
      device?.release();
    }
  }

  async delete(): Promise<void> {
    const names = [...this.contents.keys()].filter((name) => name.includes('@') || this.volumes().length > 2);
    if (names.length === 0) return;
    const count = Math.min(this.random.pick([1, 1, 2, 5]), names.length);
    const chosen = new Set<string>();
    while (chosen.size < count) chosen.add(this.random.pick(names));
    if (this.volumes().every((name) => chosen.has(name))) return;
    const gone = await this.store.delete([...chosen], { recursive: true, force: true });
    const expected = [...this.contents.keys()].filter(
      (name) => chosen.has(name) || chosen.has(name.split('@')[0]!),
    );
    expect([...gone].sort()).toEqual(expected.sort());
    this.forget(gone);
    for (const name of gone) this.contents.delete(name);
    if (this.random.chance(30)) await this.store.pruned();
  }

  async rollback(): Promise<void> {
    const snapshots = [...this.contents.keys()].filter((name) => name.includes('@'));
    if (snapshots.length === 0 || this.contents.size >= VERSIONS_MAX) return;
    const name = this.random.pick(snapshots);
    const volume = name.split('@')[0]!;
    const before = this.contents.get(volume)!;
    const { saved } = await this.store.rollback(name, { force: true });
    this.forget([volume]);
    if (saved !== null) this.contents.set(saved, before);
    else
      expect([...this.contents].some(([each, bytes]) => each !== volume && bytes.equals(before))).toBe(true);
    this.contents.set(volume, Buffer.from(this.contents.get(name)!));
  }

  async resize(): Promise<void> {
    const name = this.random.pick(this.volumes());
    const before = this.contents.get(name)!;
    const size = 512 * this.random.between(1, Math.floor(DISK_BYTES / 512));
    await this.store.resize(name, size, { shrink: true, force: true });
    this.forget([name]); // it still has the old size
    const after = Buffer.alloc(size);
    before.copy(after);
    this.contents.set(name, after);
  }

  async rename(): Promise<void> {
    const name = this.random.pick([...this.contents.keys()]);
    const isSnapshot = name.includes('@');
    const to = `${isSnapshot ? `${name.split('@')[0]!}@` : ''}r${this.#names++}`;
    await this.store.rename(name, to);
    const before = [...this.contents];
    for (const [each, bytes] of before) {
      if (each !== name && (isSnapshot || !each.startsWith(`${name}@`))) continue;
      this.forget([each]);
      this.contents.delete(each);
      this.contents.set(`${to}${each.slice(name.length)}`, bytes);
    }
  }

  /** What differs is in the diff, and where the diff says that there is a hole, there are zeros. */
  async compareTwo(): Promise<void> {
    const [from, to] = [
      this.random.pick([...this.contents.keys()]),
      this.random.pick([...this.contents.keys()]),
    ];
    const [a, b] = [this.contents.get(from)!, this.contents.get(to)!];
    const isListed = new Uint8Array(Math.ceil(Math.max(a.length, b.length) / CHUNK));
    let last = -1;
    for await (const { offset, length, type } of this.store.diff(from, to)) {
      expect(offset % CHUNK).toBe(0);
      expect(offset).toBeGreaterThanOrEqual(last);
      last = offset + length;
      isListed.fill(1, offset / CHUNK, Math.ceil(last / CHUNK));
      if (type === 'hole') expect(b.subarray(offset, last).every((byte) => byte === 0)).toBe(true);
    }
    for (let at = 0; at < isListed.length; at++) {
      const same = chunkOf(a, at).equals(chunkOf(b, at));
      if (!same && isListed[at] === 0)
        throw new Error(`chunk ${at} differs between ${from} and ${to}, and is not listed`);
    }
    if (from === to && last >= 0) throw new Error(`${from} differs from itself`);
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
    await this.store.pruned();
    await this.readAll();
    expect((await this.store.status()).deleting).toBe(0);
    expect(await damageIn(this.store.check())).toEqual([]);
    await this.reopen();
    await this.readAll();
    for (const device of this.devices.values()) device.release();
    await this.store.close();
    expect(await damageIn(Store.check(this.directory))).toEqual([]);
    fs.rmSync(this.directory, { recursive: true });
  }
}

/** A chunk of a disk, with zeros behind its end. */
function chunkOf(bytes: Buffer, at: number): Buffer {
  const chunk = Buffer.alloc(CHUNK);
  bytes.subarray(at * CHUNK, (at + 1) * CHUNK).copy(chunk);
  return chunk;
}

describe('a store under random operations', () => {
  for (const seed of seeds(SEEDS)) {
    it(`reads in every version what was written there (SEED=${seed}, ${STEPS} steps)`, {
      timeout: Math.max(600_000, 5 * STEPS),
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
