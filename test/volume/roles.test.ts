/** Two stores that change roles: who is written and who receives, there and back, with only the difference sent. */

import fs from 'node:fs';
import { describe, expect, it } from 'vitest';
import { StoreError } from '../../src/base/errors.ts';
import { Store } from '../../src/volume/store.ts';
import { Random, seeds } from '../support/random.ts';
import { damageIn, onStore, scratchDirectory, write } from '../support/stores.ts';
import { CrashRig } from './crash-rig.ts';
import { contents, delivered, everything, sent } from './replicas.ts';

const CHUNK = 4096;
const DISK_BYTES = 64 * CHUNK;

async function refusal(promise: Promise<unknown>): Promise<StoreError> {
  const error: unknown = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (error instanceof StoreError) return error;
  throw error ?? new Error('was not refused');
}

/** A few chunks, here and there. */
async function scribble(store: Store, random: Random): Promise<void> {
  for (let left = random.between(1, 5); left > 0; left--) {
    const offset = CHUNK * random.below(DISK_BYTES / CHUNK);
    await onStore(store, 'disk', (device) => write(device, offset, random.bytes(CHUNK)));
  }
}

async function snapshotsOf(store: Store): Promise<Map<string, string>> {
  const all = await everything(store);
  for (const name of all.keys()) if (!name.includes('@')) all.delete(name);
  return all;
}

describe('a volume of two stores', () => {
  it.each(seeds(3))('goes there and back with only the difference sent (seed %i)', async (seed) => {
    const random = new Random(seed);
    const directories = [scratchDirectory(), scratchDirectory()] as const;
    for (const directory of directories) await Store.init(directory, { segmentBytes: 1 << 20 });
    const open = async (): Promise<[Store, Store]> => [
      await Store.open(directories[0]),
      await Store.open(directories[1]),
    ];
    let [written, received] = await open();
    await written.createVolume('disk', DISK_BYTES);
    await onStore(written, 'disk', (device) => write(device, 0, random.bytes(DISK_BYTES)));
    await written.snapshot(['disk@s0']);
    await delivered(received, 'disk', await sent(written, 'disk@s0'));
    let common = 'disk@s0';
    for (let round = 1; round <= 6; round++) {
      // Some deltas go the usual way; the last writes do not get over before the roles change.
      for (let left = random.below(3); left > 0; left--) {
        await scribble(written, random);
        const name = `disk@r${round}-${left}`;
        await written.snapshot([name]);
        await delivered(received, 'disk', await sent(written, name, { from: common }));
        common = name;
      }
      const [lost, before] = [random.chance(60), await contents(written, 'disk')];
      if (lost) await scribble(written, random);
      const atFailover = await contents(written, 'disk');
      await received.roles.promote('disk');
      const { saved } = await written.roles.demote('disk', {});
      expect(saved === null).toBe(!lost);
      if (saved !== null) expect((await contents(written, saved)).equals(atFailover)).toBe(true);
      else expect(atFailover.equals(before)).toBe(true);
      [written, received] = [received, written];
      await scribble(written, random);
      const back = `disk@back${round}`;
      await written.snapshot([back]);
      const delta = await sent(written, back, { from: common });
      expect(delta.length).toBeLessThan(DISK_BYTES / 4);
      expect(await delivered(received, 'disk', delta)).toEqual({ name: back, isNew: true });
      expect((await contents(received, 'disk')).equals(await contents(written, 'disk'))).toBe(true);
      common = back;
      if (random.chance(50)) {
        await Promise.all([written.close(), received.close()]);
        const both = await open();
        [written, received] = both[0].show('disk').replica ? [both[1], both[0]] : both;
      }
    }
    const [ours, theirs] = [await snapshotsOf(written), await snapshotsOf(received)];
    const isShared = (name: string): boolean => !name.includes('before-demote');
    for (const name of new Set([...ours.keys(), ...theirs.keys()].filter(isShared)))
      expect([name, ours.get(name)]).toEqual([name, theirs.get(name)]);
    for (const store of [written, received]) {
      expect(await damageIn(store.check())).toEqual([]);
      await store.close();
    }
    for (const directory of directories) {
      expect(await damageIn(Store.check(directory))).toEqual([]);
      fs.rmSync(directory, { recursive: true });
    }
  });
});

/** A store with `disk@one`, and one with a replica of it. */
async function pair(): Promise<{ source: CrashRig; target: CrashRig; random: Random }> {
  const random = new Random(3);
  const [source, target] = [await CrashRig.begin(), await CrashRig.begin()];
  await source.open();
  await target.open();
  await source.store.createVolume('disk', DISK_BYTES);
  await source.write('disk', 0, random.bytes(8 * CHUNK));
  await source.store.snapshot(['disk@one']);
  await delivered(target.store, 'disk', await sent(source.store, 'disk@one'));
  return { source, target, random };
}

describe('a promotion', () => {
  it('makes a replica one that is written, rolled back and resized, also behind a crash', async () => {
    const { source, target } = await pair();
    expect(await target.store.roles.promote('disk')).toMatchObject({ replica: false, parent: 'disk@one' });
    await target.write('disk', 0, Buffer.alloc(CHUNK, 7));
    await target.store.flush();
    target.crash();
    await target.open();
    expect(target.store.show('disk').replica).toBe(false);
    expect((await contents(target.store, 'disk')).subarray(0, CHUNK)).toEqual(Buffer.alloc(CHUNK, 7));
    await target.store.rollback('disk@one');
    await target.store.resize('disk', 2 * DISK_BYTES);
    await source.close();
    await target.close();
  });

  it('is only of a replica', async () => {
    const { source, target } = await pair();
    const code = async (name: string): Promise<string> =>
      (await refusal(source.store.roles.promote(name))).code;
    expect(await code('disk')).toBe('INVALID_ARGUMENT');
    expect(await code('disk@one')).toBe('INVALID_ARGUMENT');
    expect(await code('none')).toBe('NOT_FOUND');
    await source.close();
    await target.close();
  });

  it('makes what its source sends from then on a divergence, and says since when', async () => {
    const { source, target, random } = await pair();
    await source.write('disk', 0, random.bytes(CHUNK));
    await source.store.snapshot(['disk@two']);
    const delta = await sent(source.store, 'disk@two', { from: 'disk@one' });
    await target.store.roles.promote('disk');
    const before = await everything(target.store);
    const { code, message } = await refusal(delivered(target.store, 'disk', delta));
    expect(code).toBe('WRONG_BASE');
    expect(message).toContain('since disk@one, which both have');
    expect(message).toContain('coppice demote disk');
    expect(await everything(target.store)).toEqual(before);
    await target.store.roles.demote('disk', {});
    await delivered(target.store, 'disk', delta);
    await source.close();
    await target.close();
  });

  it('refuses what was on its way in', async () => {
    const { source, target, random } = await pair();
    await source.write('disk', 0, random.bytes(CHUNK));
    await source.store.snapshot(['disk@two']);
    const delta = await sent(source.store, 'disk@two', { from: 'disk@one' });
    let isPromoted = false;
    const promoting = delivered(target.store, 'disk', delta, {
      keeps: true,
      onKept: () => {
        isPromoted = true;
        void target.store.roles.promote('disk');
      },
    });
    expect([(await refusal(promoting)).code, isPromoted]).toEqual(['WRONG_BASE', true]);
    expect(target.store.list().map(({ name }) => name)).toEqual(['disk', 'disk@one']);
    // What has come is of use again when it is a replica again.
    await target.store.roles.demote('disk', {});
    expect(await delivered(target.store, 'disk', delta)).toEqual({ name: 'disk@two', isNew: true });
    await source.close();
    await target.close();
  });
});

describe('a demotion', () => {
  it('keeps what no snapshot has, disconnects nobody unasked, and then nobody writes', async () => {
    const { source, target } = await pair();
    const { store } = source;
    await source.write('disk', CHUNK, Buffer.alloc(CHUNK, 9));
    const before = await contents(store, 'disk');
    const device = store.device('disk');
    let isRevoked = false;
    device.attach(() => {
      isRevoked = true;
    });
    const refused = refusal(store.roles.demote('disk', {}));
    source.clock.advance(2000);
    expect((await refused).code).toBe('IN_USE');
    const { volume, saved } = await store.roles.demote('disk', { force: true });
    expect([isRevoked, volume.replica]).toEqual([true, true]);
    expect(saved).toMatch(/^disk@before-demote-/);
    expect(store.show(saved!)).toMatchObject({ automatic: true, parent: 'disk@one' });
    for (const name of ['disk', saved!]) expect((await contents(store, name)).equals(before)).toBe(true);
    expect(store.device('disk').readOnly).toBe(true);
    expect((await refusal(store.rollback('disk@one'))).code).toBe('READ_ONLY');
    await store.flush();
    source.crash();
    await source.open();
    expect(source.store.show('disk')).toMatchObject({ replica: true, parent: saved });
    // Nothing was lost: promoted again, it is what it was.
    await source.store.roles.promote('disk');
    expect((await contents(source.store, 'disk')).equals(before)).toBe(true);
    await source.close();
    await target.close();
  });

  it('of what has not changed keeps nothing, and of a replica is refused', async () => {
    const { source, target } = await pair();
    expect((await source.store.roles.demote('disk', {})).saved).toBeNull();
    expect(source.store.list().map(({ name }) => name)).toEqual(['disk', 'disk@one']);
    for (const { store } of [source, target])
      expect((await refusal(store.roles.demote('disk', {}))).message).toContain('a replica already');
    expect((await refusal(source.store.roles.demote('disk@one', {}))).code).toBe('INVALID_ARGUMENT');
    await source.close();
    await target.close();
  });

  it('can name the volume that it is a replica of, which is there behind a crash and a checkpoint', async () => {
    const { source, target } = await pair();
    const origin = source.store.show('disk').uuid;
    const { store } = target;
    await store.createVolume('copy', DISK_BYTES);
    await target.write('copy', 0, Buffer.alloc(CHUNK, 1));
    expect((await refusal(store.roles.demote('copy', { replicaOf: 'that one' }))).code).toBe(
      'INVALID_ARGUMENT',
    );
    const { volume } = await store.roles.demote('copy', { replicaOf: origin });
    expect(volume).toMatchObject({ origin, replica: true });
    const another = '00000000-0000-4000-8000-000000000001';
    await store.roles.demote('disk', { replicaOf: another });
    for (const checkpoints of [false, true]) {
      if (checkpoints) await target.store.checkpoint();
      await target.store.flush();
      target.crash();
      await target.open();
      expect(target.store.show('copy')).toMatchObject({ origin, replica: true });
      expect(target.store.show('disk')).toMatchObject({ origin: another, replica: true });
    }
    await source.close();
    await target.close();
  });
});
