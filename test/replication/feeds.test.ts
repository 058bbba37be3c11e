/** Two stores and more over loopback: pushed, pulled, in a chain, to several targets; what is held, and what is deleted. */

import fs from 'node:fs';
import { afterEach, describe, expect, it } from 'vitest';
import { Store } from '../../src/volume/store.ts';
import { Random, seeds } from '../support/random.ts';
import { pause } from '../support/programs.ts';
import { damageIn } from '../support/stores.ts';
import { delivered, sent } from '../volume/replicas.ts';
import { Site } from './site.ts';

const SIZE = 1 << 20;
const sites: Site[] = [];

async function site(): Promise<Site> {
  const made = await Site.make();
  sites.push(made);
  return made;
}

afterEach(async () => {
  for (const each of sites.splice(0)) await each.remove();
});

const [seed] = seeds(1);
const random = new Random(seed!);

/** A volume `disk` with random bytes in it. */
async function source(): Promise<Site> {
  const made = await site();
  await made.store.createVolume('disk', SIZE);
  await scribble(made);
  return made;
}

async function scribble(at: Site): Promise<void> {
  await at.write('disk', 512 * random.below(1000), random.bytes(512 * random.between(1, 1000)));
}

/** The newest snapshot that is there, in full. */
async function newest(at: Site, volume = 'disk'): Promise<Buffer> {
  return await at.contents(`${volume}@${at.snapshots(volume).at(-1)}`);
}

/** Runs a feed; it has to go well. */
async function ran(at: Site, id: string): Promise<string> {
  const { error, last } = await at.run(id);
  expect(error).toBeNull();
  // The other end may have something to delete still.
  while (sites.some(({ listener }) => listener.sessionCount > 0)) await pause(2);
  return last!.name;
}

/** Has something happen when all of a snapshot has come, and it is about to be published. */
function onceBeforePublish({ store: { receives } }: Site, act: () => Promise<unknown>): void {
  const publish = receives.publish.bind(receives);
  receives.publish = async (session) => {
    receives.publish = publish;
    await act();
    return await publish(session);
  };
}

describe(`feeds (seed ${seed})`, () => {
  it('push a snapshot that they have made, and then what differs', async () => {
    const [from, to] = [await source(), await site()];
    const id = await from.push('disk', to);
    for (let round = 0; round < 3; round++) {
      const before = await from.contents('disk');
      const { error, last, lagMs, state } = await from.run(id);
      expect([error, state]).toEqual([null, 'idle']);
      expect(last!.name).toMatch(/^repl-\d{8}T\d{6}Z(-\d)?$/);
      expect(lagMs).toBeLessThan(60_000);
      expect(last!.bytes).toBeGreaterThan(0);
      expect((await newest(to)).equals(before)).toBe(true);
      expect((await to.contents('disk')).equals(before)).toBe(true);
      await scribble(from);
    }
    expect(to.store.show('disk').replica).toBe(true);
    expect(to.store.list().every(({ kind, madeBy }) => kind === 'volume' || madeBy === 'target')).toBe(true);
    for (const each of [from, to]) expect(await damageIn(each.store.check())).toEqual([]);
  });

  it('go the other way once the roles are changed, and what was written last at the first end stays', async () => {
    const [first, second] = [await source(), await site()];
    const there = await first.push('disk', second);
    await ran(first, there);
    await second.store.roles.promote('disk');
    await scribble(first);
    const own = await first.contents('disk');
    expect((await first.run(there)).error).toMatch(/no replica/);
    await first.store.feeds.remove(there);
    await first.store.roles.demote('disk', {});
    const back = await second.push('disk', first);
    for (let round = 0; round < 4; round++) {
      await scribble(second);
      const before = await second.contents('disk');
      await ran(second, back);
      expect((await first.contents('disk')).equals(before)).toBe(true);
    }
    const kept = first.store.list().filter(({ kind, origin }) => kind === 'snapshot' && origin === null);
    const contents = await Promise.all(kept.map(({ name }) => first.contents(name)));
    expect(contents.some((each) => each.equals(own))).toBe(true);
    for (const each of [first, second]) expect(await damageIn(each.store.check())).toEqual([]);
  });

  it('fetch it from where it is', async () => {
    const [from, to] = [await source(), await site()];
    const id = await to.pull('copy', from, { peerVolume: 'disk' });
    for (let round = 0; round < 3; round++) {
      await ran(to, id);
      expect((await newest(to, 'copy')).equals(await from.contents('disk'))).toBe(true);
      await scribble(from);
    }
    expect(from.snapshots('disk').length).toBe(1);
    const owner = `target:${id}@${to.store.feeds.storeUuid}`;
    expect(from.holds('disk')).toEqual([`disk@${from.snapshots('disk')[0]} ${owner}`]);
    expect(to.holds('copy').length).toBe(1);
  });

  it('hold what both ends have, and delete what they have made before', async () => {
    const [from, to] = [await source(), await site()];
    const id = await from.push('disk', to);
    await from.store.snapshot(['disk@by-hand']);
    const names: string[] = [];
    for (let round = 0; round < 4; round++) {
      names.push(await ran(from, id));
      expect(from.holds('disk')).toEqual([`disk@${names.at(-1)} target:${id}`]);
      expect(to.holds('disk')).toEqual([`disk@${names.at(-1)} source:${from.store.feeds.storeUuid}`]);
      expect(from.store.feeds.show(id).holding).toBe(`disk@${names.at(-1)}`);
      await scribble(from);
    }
    // The first run found one that was as new as the volume.
    expect(names[0]).toBe('by-hand');
    expect(from.snapshots('disk')).toEqual(['by-hand', names[3]]);
    expect(to.snapshots('disk')).toEqual(['by-hand', names[2], names[3]]);
  });

  it('make no snapshot of what has not changed', async () => {
    const [from, to] = [await source(), await site()];
    const id = await from.push('disk', to);
    const name = await ran(from, id);
    expect(await ran(from, id)).toBe(name);
    expect(from.snapshots('disk')).toEqual([name]);
  });

  it('skip to the newest, or bring all that there are', async () => {
    const [from, to] = [await source(), await site()];
    const all = await from.push('disk', to, { peerVolume: 'all', snapshots: 'all' });
    const made = await from.push('disk', to, { peerVolume: 'made' });
    await ran(from, all);
    await ran(from, made);
    for (const name of ['one', 'two', 'three']) {
      await scribble(from);
      await from.store.snapshot([`disk@${name}`]);
    }
    await ran(from, all);
    await ran(from, made);
    expect(to.snapshots('all').slice(-3)).toEqual(['one', 'two', 'three']);
    expect(to.snapshots('made').at(-1)).toBe('three');
    expect(to.snapshots('made')).not.toContain('two');
    for (const name of ['one', 'two', 'three'])
      expect((await to.contents(`all@${name}`)).equals(await from.contents(`disk@${name}`))).toBe(true);
  });

  it('go on in a chain, under the identity of the first store', async () => {
    const [first, second, third] = [await source(), await site(), await site()];
    const ids = [await first.push('disk', second), ''];
    await ran(first, ids[0]!);
    ids[1] = await second.push('disk', third);
    for (let round = 0; round < 4; round++) {
      await ran(first, ids[0]!);
      await ran(second, ids[1]!);
      expect((await newest(third)).equals(await first.contents('disk'))).toBe(true);
      await scribble(first);
    }
    const [a, c] = [first, third].map(({ store }) => store.feeds.volumeNamed('disk')!.snapshots.at(-1)!);
    expect(c!.origin).toBe(a!.uuid);
    // The first store could send to the third one what it lacks.
    const direct = await first.push('disk', third);
    await ran(first, direct);
    expect((await newest(third)).equals(await first.contents('disk'))).toBe(true);
  });

  it('wait for the first snapshot of a replica that has none', async () => {
    const [first, second, third] = [await source(), await site(), await site()];
    const id = await third.pull('disk', second);
    expect((await third.run(id)).error).toMatch(/refuses: there is no volume disk/);
    await ran(first, await first.push('disk', second));
    await ran(third, id);
  });

  it('are several of one volume, each with its own base', async () => {
    const [from, near, far] = [await source(), await site(), await site()];
    const [often, seldom] = [await from.push('disk', near), await from.push('disk', far)];
    await ran(from, seldom);
    for (let round = 0; round < 3; round++) {
      await scribble(from);
      await ran(from, often);
    }
    expect(from.snapshots('disk').length).toBe(2);
    await ran(from, seldom);
    for (const each of [near, far]) expect((await newest(each)).equals(await newest(from))).toBe(true);
    expect(from.snapshots('disk').length).toBe(1);
  });

  it('refuse what has gone its own way, what is another volume, and what has nothing in common', async () => {
    const [from, to] = [await source(), await site()];
    const id = await from.push('disk', to);
    await to.store.createVolume('disk', SIZE);
    expect((await from.run(id)).error).toMatch(/disk is no replica .*demote/);
    await to.store.delete(['disk']);
    await ran(from, id);
    const other = await source();
    expect((await other.run(await other.push('disk', to))).error).toMatch(/a replica of another volume/);
    // Both ends have lost what they had in common.
    await from.store.feeds.remove(id);
    await from.store.delete(from.snapshots('disk').map((name) => `disk@${name}`));
    const again = await from.push('disk', to);
    const { error, state, next } = await from.run(again);
    expect([error, state]).toEqual([expect.stringContaining('has no snapshot that disk has too'), 'failing']);
    expect(Date.parse(next!)).toBeGreaterThan(Date.now());
    expect(to.snapshots('disk').length).toBe(1);
  });

  it('go on from what came by hand', async () => {
    const [from, to] = [await source(), await site()];
    await from.store.snapshot(['disk@one']);
    await delivered(to.store, 'disk', await sent(from.store, 'disk@one'));
    await scribble(from);
    const id = await from.push('disk', to);
    const { last } = await from.run(id);
    expect(last!.bytes).toBeLessThan(SIZE);
    expect((await newest(to)).equals(await from.contents('disk'))).toBe(true);
    // And the other way round: that one is newer already.
    await scribble(from);
    await from.store.snapshot(['disk@two']);
    await delivered(to.store, 'disk', await sent(from.store, 'disk@two', { from: 'disk@one' }));
    expect(await ran(from, id)).toBe('two');
    expect(from.holds('disk')).toEqual([`disk@two target:${id}`]);
  });

  it('give a snapshot another name where its own is taken', async () => {
    const [from, to] = [await source(), await site()];
    const id = await from.push('disk', to, { snapshots: 'all' });
    await from.store.snapshot(['disk@same']);
    await ran(from, id);
    await scribble(from);
    await from.store.rename('disk@same', 'other');
    await from.store.snapshot(['disk@same']);
    await ran(from, id);
    expect(to.snapshots('disk')[1]).toMatch(/^same-[0-9a-f]{8}$/);
  });

  it('bring what is under way to a replica whatever it is called by then, and hold only the newest there', async () => {
    const [from, to] = [await source(), await site()];
    const id = await from.push('disk', to);
    await ran(from, id);
    await scribble(from);
    onceBeforePublish(to, () => to.store.rename('disk', 'moved'));
    await ran(from, id);
    expect((await newest(to, 'moved')).equals(await from.contents('disk'))).toBe(true);
    expect(to.holds('moved').filter((each) => each.includes('source:')).length).toBe(1);
    expect(to.store.list().filter(({ kind }) => kind === 'volume').length).toBe(1);
  });

  it('begin anew where a replica was deleted while a snapshot of it was received', async () => {
    const [from, to] = [await source(), await site()];
    const id = await from.push('disk', to);
    await ran(from, id);
    await scribble(from);
    const { receives } = to.store;
    onceBeforePublish(to, async () => {
      for (const each of to.holds('disk')) await to.store.release(...(each.split(' ') as [string, string]));
      await to.store.delete(['disk'], { recursive: true });
    });
    expect((await from.run(id)).error).toMatch(/was deleted while/);
    expect(receives.list()).toMatchObject([{ volumeGone: true }]);
    await ran(from, id);
    expect((await to.contents('disk')).equals(await from.contents('disk'))).toBe(true);
    expect(receives.list()).toEqual([]);
  });

  it('end with their volume, keep to it under another name, and are there after the store was opened again', async () => {
    const [from, to] = [await source(), await site()];
    const id = await from.push('disk', to, { id: 'nightly', rate: 1 << 20 });
    const pull = await to.pull('copy', from, { peerVolume: 'disk' });
    const name = await ran(from, id);
    await ran(to, pull);
    await from.store.rename('disk', 'renamed');
    await to.store.rename('copy', 'replica');
    await from.store.feeds.pause(id, true);
    for (const each of [from, to]) {
      await each.stop();
      await each.start();
    }
    expect(from.store.feeds.list()).toMatchObject([
      { id, volume: 'renamed', state: 'paused', rate: 1 << 20, last: { name } },
    ]);
    expect(to.store.feeds.list()).toMatchObject([{ id: pull, volume: 'replica', peerVolume: 'disk' }]);
    await from.store.feeds.pause(id, false);
    await from.write('renamed', 0, random.bytes(4096));
    await ran(from, id);
    await from.store.feeds.remove(id);
    expect(from.holds('renamed').filter((each) => each.endsWith(`target:${id}`))).toEqual([]);
    await from.store.rename('renamed', 'disk'); // the other end goes by the name
    await to.store.rename('replica', 'again');
    await ran(to, pull);
    expect((await to.contents('again')).equals(await from.contents('disk'))).toBe(true);
    for (const each of to.holds('again')) await to.store.release(...(each.split(' ') as [string, string]));
    await to.store.delete(['again'], { recursive: true });
    expect(to.store.feeds.list()).toEqual([]);
  });

  it('are in an index that was made anew, and in a log that is read from its beginning', async () => {
    const [from, to] = [await source(), await site()];
    const id = await from.push('disk', to);
    await ran(from, id);
    const before = from.store.feeds.list();
    await from.store.checkpoint();
    await from.replicator.stop();
    await from.listener.close();
    await from.store.close();
    fs.rmSync(from.file('index'), { recursive: true });
    from.store = await Store.open(from.directory);
    expect(from.store.feeds.list()).toEqual(
      before.map((each) => ({
        ...each,
        next: null,
        lagMs: expect.any(Number) as number,
        doneBytes: 0,
        totalBytes: null,
      })),
    );
    await from.store.close();
    await from.start();
  });

  it('leave one snapshot that they have made, however often it is refused', async () => {
    const [from, to] = [await source(), await source()];
    await from.store.snapshot(['disk@mine']);
    const id = await from.push('disk', to);
    for (let run = 0; run < 4; run++) {
      await scribble(from);
      expect((await from.run(id)).error).toMatch(/no replica|no snapshot/);
      expect(from.snapshots('disk').filter((name) => name !== 'mine')).toHaveLength(1);
    }
  });

  it('are as far behind as the last run that found nothing new', async () => {
    const [from, to] = [await source(), await site()];
    const id = await from.push('disk', to);
    await ran(from, id);
    await pause(1500);
    expect(from.store.feeds.show(id).lagMs).toBeGreaterThanOrEqual(1500);
    await ran(from, id);
    expect(from.store.feeds.show(id).lagMs).toBeLessThan(1500);
  });

  it('are refused if they cannot be', async () => {
    const [from, to] = [await source(), await site()];
    for (const [more, why] of [
      [{ everyMs: 10 }, /interval/],
      [{ rate: 1 }, /rate/],
      [{ id: 'no id' }, /an id has/],
      [{ address: 'nowhere' }, /an address is HOST:PORT/],
      [{ peerVolume: 'a b' }, /the name at the other end/],
      [{ snapshots: 'some' as 'all' }, /`made` or `all`/],
      [{ volume: 'nothing' }, /there is no volume/],
    ] as const)
      await expect(from.push('disk', to, more)).rejects.toThrow(why);
    const id = await from.push('disk', to);
    await expect(from.push('disk', to, { id })).rejects.toThrow(/there is a feed/);
    await expect(from.store.feeds.remove('none')).rejects.toThrow(/there is no target or source "none"/);
    const self = await from.push('disk', from, { peerVolume: 'self' });
    expect((await from.run(self)).error).toMatch(/that is this store itself/);
  });
});
