/**
 * Two stores, and what goes from one to the other: random histories with writes, trims, zeros, rollbacks, resizes and clones,
 * of which snapshots are sent whole or from any snapshot that has arrived. Every byte is compared.
 */

import fs from 'node:fs';
import { describe, expect, it } from 'vitest';
import { encodeToken } from '../../src/delta/head.ts';
import { StreamReader } from '../../src/delta/stream-reader.ts';
import { Store } from '../../src/volume/store.ts';
import type { ReceiveSummary } from '../../src/volume/summary.ts';
import { Random, seeds } from '../support/random.ts';
import { damageIn, onStore, scratchDirectory, write } from '../support/stores.ts';
import { contents, delivered, sent } from './replicas.ts';

const STEPS = Number(process.env.REPLICA_STEPS ?? 60);

class Pair {
  readonly random: Random;
  readonly directories = [scratchDirectory(), scratchDirectory()];
  source!: Store;
  target!: Store;
  /** Snapshots that have arrived, by the name at the source. */
  readonly arrived = new Map<string, string>();
  readonly volumes = ['disk'];
  #names = 0;

  constructor(seed: number) {
    this.random = new Random(seed);
  }

  async begin(): Promise<void> {
    for (const directory of this.directories) await Store.init(directory, { segmentBytes: 1 << 20 });
    await this.open();
    await this.source.createVolume('disk', this.#size());
  }

  async open(): Promise<void> {
    [this.source, this.target] = [
      await Store.open(this.directories[0]!),
      await Store.open(this.directories[1]!),
    ];
  }

  async close(): Promise<void> {
    await this.source.close();
    await this.target.close();
  }

  #size(): number {
    return 512 * this.random.between(1, 1500);
  }

  async change(): Promise<void> {
    const { random, source } = this;
    const volume = random.pick(this.volumes);
    const { size } = source.show(volume);
    const offset = random.below(size);
    const length = Math.min(size - offset, random.between(1, random.chance(20) ? 300_000 : 9000));
    const snapshots = source.list().filter(({ name }) => name.startsWith(`${volume}@`));
    switch (random.below(10)) {
      case 0:
        await onStore(source, volume, (device) => device.zero(offset, length, false));
        break;
      case 1:
        await onStore(source, volume, (device) => write(device, offset, Buffer.alloc(length)));
        break;
      case 2:
        await source.resize(volume, this.#size(), { shrink: true, force: true });
        break;
      case 3:
        if (snapshots.length > 0 && random.chance(50)) await source.rollback(random.pick(snapshots).name);
        break;
      case 4:
        if (snapshots.length > 0 && this.volumes.length < 4 && random.chance(40)) {
          const name = `clone-${++this.#names}`;
          await source.clone(random.pick(snapshots).name, name);
          this.volumes.push(name);
        }
        break;
      default:
        await onStore(source, volume, (device) => write(device, offset, random.bytes(length)));
    }
    if (random.chance(30)) await source.snapshot([`${volume}@s${++this.#names}`]);
    // The name of one that a rollback made may come again, and the target has it still.
    const doomed = snapshots.filter(({ automatic }) => !automatic);
    if (doomed.length > 3 && random.chance(15)) await this.#forget(random.pick(doomed).name);
  }

  /** The source deletes one: it is no base any more. */
  async #forget(name: string): Promise<void> {
    await this.source.delete([name]);
    this.arrived.delete(name);
  }

  async replicate(): Promise<void> {
    const { random, source, target, arrived } = this;
    const waiting = source.list().filter(({ name, kind }) => kind === 'snapshot' && !arrived.has(name));
    if (waiting.length === 0) return;
    const { name } = random.pick(waiting);
    const [volume] = name.split('@');
    const isThere = target.names().includes(volume!);
    const bases = [...arrived.keys()];
    const isFull = !isThere && (bases.length === 0 || random.chance(30));
    // What is there and has no base any more goes, and comes whole.
    if (bases.length === 0 && isThere) {
      await target.delete([volume!], { recursive: true });
      return;
    }
    const from = isFull ? {} : { from: random.pick(bases) };
    const bytes = await sent(source, name, { ...from, isCompressed: random.chance(50) });
    const received = await delivered(target, volume!, bytes, { keeps: random.chance(30) });
    expect(received).toEqual({ name, isNew: true });
    arrived.set(name, received.name);
    if (random.chance(20)) {
      expect(await delivered(target, volume!, bytes)).toEqual({ name, isNew: false });
    }
    expect((await contents(target, volume!)).equals(await contents(source, name))).toBe(true);
  }

  async compare(): Promise<void> {
    for (const name of this.arrived.keys()) {
      if (!(await contents(this.target, name)).equals(await contents(this.source, name)))
        throw new Error(`${name} is another one at the target`);
    }
  }
}

describe('a store that receives', () => {
  it.each(seeds(6))('has what the other one has, byte for byte (seed %i)', async (seed) => {
    const pair = new Pair(seed);
    await pair.begin();
    for (let step = 0; step < STEPS; step++) {
      await pair.change();
      if (pair.random.chance(40)) await pair.replicate();
      if (pair.random.chance(5)) {
        await pair.close();
        await pair.open();
      }
    }
    await pair.compare();
    expect(pair.arrived.size).toBeGreaterThan(0);
    expect(await damageIn(pair.target.check())).toEqual([]);
    await pair.close();
    for (const directory of pair.directories) {
      expect(await damageIn(Store.check(directory))).toEqual([]);
      fs.rmSync(directory, { recursive: true });
    }
  });

  it('sends from where a token says on, and that is enough', async () => {
    const pair = new Pair(9);
    await pair.begin();
    const bytes = pair.random.bytes(8 * 4096);
    await pair.source.resize('disk', bytes.length, { shrink: true, force: true });
    await onStore(pair.source, 'disk', (device) => write(device, 0, bytes));
    await pair.source.snapshot(['disk@a']);
    const whole = await sent(pair.source, 'disk@a');
    const [head, changes] = [...new StreamReader().push(whole)];
    if (head?.kind !== 'head' || changes?.kind !== 'changes') throw new Error('no stream');
    const begun = await pair.target.receives.begin(head.head, 'disk');
    if (begun.state !== 'begun') throw new Error('it is there');
    const half = changes.changes.payloadStart + 4 * 4096;
    const first = Buffer.from(changes.changes.body.subarray(0, half));
    first.writeUIntBE((4 * 4096) / 512, 10, 6);
    await pair.target.receives.apply(begun.session, first);
    await pair.target.receives.advance(begun.session, 4 * 4096);
    const [{ token }] = pair.target.receives.list() as [ReceiveSummary];
    const rest = await sent(pair.source, '', { token });
    expect(rest.length).toBe(whole.length - 4 * 4096 + `${4 * 4096}`.length - 1);
    await delivered(pair.target, 'disk', rest);
    expect((await contents(pair.target, 'disk@a')).equals(bytes)).toBe(true);
    // What differs from a base begins there as well, in the middle of an extent.
    await onStore(pair.source, 'disk', (device) => write(device, 0, Buffer.alloc(bytes.length, 5)));
    await pair.source.snapshot(['disk@b']);
    const [a, b] = [pair.source.show('disk@a').uuid, pair.source.show('disk@b').uuid];
    const later = await sent(pair.source, '', { token: encodeToken(b, a, 4 * 4096) });
    const [, only] = [...new StreamReader().push(later)];
    if (only?.kind !== 'changes') throw new Error('nothing differs');
    expect([only.changes.offset(0), only.changes.dataBytes]).toEqual([4 * 4096, 4 * 4096]);
    await pair.close();
    for (const directory of pair.directories) fs.rmSync(directory, { recursive: true });
  });

  it('sends on what it has received, and knows it when it comes by another way', async () => {
    const pair = new Pair(5);
    await pair.begin();
    const third = scratchDirectory();
    await Store.init(third);
    const last = await Store.open(third);
    await onStore(pair.source, 'disk', (device) => write(device, 0, Buffer.alloc(512, 1)));
    await pair.source.snapshot(['disk@a']);
    await onStore(pair.source, 'disk', (device) => write(device, 0, Buffer.alloc(512, 2)));
    await pair.source.snapshot(['disk@b']);
    await delivered(pair.target, 'replica@x', await sent(pair.source, 'disk@a'));
    await delivered(last, 'disk', await sent(pair.target, 'replica@x'));
    expect(last.show('disk@x').origin).toBe(pair.source.show('disk@a').uuid);
    // From the first store, on top of what came from the second.
    await delivered(last, 'disk', await sent(pair.source, 'disk@b', { from: 'disk@a' }));
    expect((await contents(last, 'disk')).subarray(0, 512)).toEqual(Buffer.alloc(512, 2));
    const again = await delivered(last, 'disk', await sent(pair.source, 'disk@a'));
    expect(again).toEqual({ name: 'disk@x', isNew: false });
    await last.close();
    await pair.close();
    for (const directory of [...pair.directories, third]) fs.rmSync(directory, { recursive: true });
  });
});
