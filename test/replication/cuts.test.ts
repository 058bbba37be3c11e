/**
 * Connections that break after any number of bytes, and stores that go and come back in the middle: whatever can be named at the
 * replica is what it was at the source, and what has come is not sent twice.
 */

import { afterEach, describe, expect, it } from 'vitest';
import { pause } from '../support/programs.ts';
import { Random, seeds } from '../support/random.ts';
import { damageIn } from '../support/stores.ts';
import { BreakingWire } from './cut-connections.ts';
import { Site } from './site.ts';

const STEPS = Number(process.env.REPLICATION_STEPS ?? 40);
const SIZE = 3 << 20;

const ends: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0)) await end();
});

async function pair(): Promise<{ from: Site; to: Site }> {
  const [from, to] = [await Site.make(), await Site.make()];
  ends.push(
    () => from.remove(),
    () => to.remove(),
  );
  return { from, to };
}

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await pause(2);
}

describe('a replica', () => {
  it.each(seeds(2).flatMap((seed) => [[seed, 'pushed'] as const, [seed, 'fetched'] as const]))(
    'is whole after any cut, and never anything else (seed %i, %s)',
    async (seed, way) => {
      const random = new Random(seed);
      const { from, to } = await pair();
      const wire = await BreakingWire.to(() => (way === 'pushed' ? to : from).port);
      ends.push(() => wire.close());
      await from.store.createVolume('disk', SIZE);
      const by = { address: wire.address };
      const [runner, id] =
        way === 'pushed' ? [from, await from.push('disk', to, by)] : [to, await to.pull('disk', from, by)];
      /** By UUID: what each snapshot of the source is. */
      const truth = new Map<string, Buffer>();
      const note = async (): Promise<void> => {
        for (const { name, uuid } of from.store.feeds.volumeNamed('disk')!.snapshots)
          if (!truth.has(uuid)) truth.set(uuid, await from.contents(name));
      };
      const compare = async (): Promise<void> => {
        // The other end may take something away still.
        await until(() => from.listener.sessionCount + to.listener.sessionCount === 0);
        for (const { name, origin } of to.store.feeds.volumeNamed('disk')?.snapshots ?? [])
          if (truth.has(origin!)) expect((await to.contents(name)).equals(truth.get(origin!)!)).toBe(true);
      };
      for (let step = 0; step < STEPS; step++) {
        const offset = 4096 * random.below(SIZE / 4096);
        const length = Math.min(SIZE - offset, random.between(1, random.chance(30) ? 1 << 20 : 9000));
        await from.write('disk', offset, random.bytes(length));
        wire.bytesLeft = random.chance(30) ? Infinity : random.between(1, SIZE);
        runner.store.feeds.run(id);
        if (random.chance(20)) {
          await pause(random.below(30));
          const gone = random.pick([from, to]);
          await gone.stop();
          await gone.start();
        }
        await runner.idle(id);
        await note();
        await compare();
      }
      wire.bytesLeft = Infinity;
      const { error } = await runner.run(id);
      expect(error).toBeNull();
      await note();
      await compare();
      expect((await to.contents('disk')).equals(await from.contents('disk'))).toBe(true);
      expect(to.store.receives.list()).toEqual([]);
      for (const each of [from, to]) expect(await damageIn(each.store.check())).toEqual([]);
    },
  );

  it('goes on where it was cut off', async () => {
    const { from, to } = await pair();
    const random = new Random(7);
    await from.store.createVolume('disk', SIZE);
    await from.write('disk', 0, random.bytes(SIZE));
    const wire = await BreakingWire.to(() => to.port);
    ends.push(() => wire.close());
    const id = await from.push('disk', to, { address: wire.address });
    for (let [position, tries] = [0, 0]; position === 0; tries++) {
      expect(tries).toBeLessThan(20);
      wire.bytesLeft = Math.floor(1.9 * 2 ** 20);
      expect((await from.run(id)).state).toBe('failing');
      await until(() => to.listener.sessionCount === 0);
      position = to.store.receives.list()[0]?.position ?? 0;
      await from.write('disk', 0, random.bytes(4096)); // a newer one waits until this has arrived
      expect(from.holds('disk').length).toBe(1);
    }
    const { position } = to.store.receives.list()[0]!;
    wire.bytesLeft = Infinity;
    const passedBefore = wire.passedBytes;
    expect((await from.run(id)).error).toBeNull();
    expect((await to.contents('disk')).equals(await from.contents('disk'))).toBe(true);
    expect(wire.passedBytes - passedBefore).toBeLessThan(SIZE - position + 2 ** 17);
  });

  it('is not held up by a receive of what the source does not have any more', async () => {
    const { from, to } = await pair();
    await from.store.createVolume('disk', SIZE);
    await from.write('disk', 0, new Random(8).bytes(SIZE));
    const wire = await BreakingWire.to(() => to.port);
    ends.push(() => wire.close());
    const id = await from.push('disk', to, { address: wire.address });
    for (let tries = 0; to.store.receives.list().length === 0; tries++) {
      expect(tries).toBeLessThan(20);
      wire.bytesLeft = 2 ** 21;
      expect((await from.run(id)).state).toBe('failing');
      await until(() => to.listener.sessionCount === 0);
    }
    wire.bytesLeft = Infinity;
    await from.store.feeds.remove(id);
    await from.store.delete(from.snapshots('disk').map((name) => `disk@${name}`));
    const again = await from.push('disk', to, { address: wire.address });
    expect((await from.run(again)).error).toBeNull();
    expect(to.store.receives.list()).toEqual([]);
  });

  it('is sent no faster than the rate, and a stop does not wait for that', async () => {
    const { from, to } = await pair();
    await from.store.createVolume('disk', SIZE);
    await from.write('disk', 0, new Random(9).bytes(1 << 20));
    const id = await from.push('disk', to, { rate: 1 << 19 });
    const startedAt = performance.now();
    await from.run(id);
    expect(performance.now() - startedAt).toBeGreaterThan(1500);
    await from.store.feeds.remove(id);
    await from.write('disk', 0, new Random(10).bytes(1 << 20));
    const slow = await from.push('disk', to, { rate: 4096 });
    from.store.feeds.run(slow);
    while (from.store.feeds.show(slow).state !== 'sending') await pause(5);
    expect(from.store.feeds.show(slow).totalBytes).toBe(1 << 20);
    const stoppedAt = performance.now();
    await from.stop();
    expect(performance.now() - stoppedAt).toBeLessThan(2000);
    await from.start();
  });
});
