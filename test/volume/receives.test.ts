/** What a receive may do to a store, and what nothing that goes wrong with it may do. */

import { beforeAll, describe, expect, it } from 'vitest';
import { StoreError } from '../../src/base/errors.ts';
import { DIGEST_BYTES, FRAME_HEADER_BYTES, SIGNATURE } from '../../src/delta/format.ts';
import { type Frame, StreamReader } from '../../src/delta/stream-reader.ts';
import type { Store } from '../../src/volume/store.ts';
import { bodyOf, headOf, makeStream } from '../delta/streams.ts';
import { Random, seeds } from '../support/random.ts';
import { damageIn } from '../support/stores.ts';
import { CrashRig } from './crash-rig.ts';
import { contents, delivered, everything, sent } from './replicas.ts';

const CHUNK = 4096;
const DISK_BYTES = 40 * CHUNK;

/** Streams of a store with two snapshots, of which the second is shorter: all of the first, and what differs. */
let full: Buffer;
let delta: Buffer;
let bytesOf: { one: Buffer; two: Buffer };

beforeAll(async () => {
  const source = await CrashRig.begin();
  const store = await source.open();
  const random = new Random(11);
  await store.createVolume('disk', DISK_BYTES);
  for (let chunk = 0; chunk < 30; chunk += 2) await source.write('disk', chunk * CHUNK, random.bytes(CHUNK));
  await store.snapshot(['disk@one']);
  for (let chunk = 1; chunk < 30; chunk += 3) await source.write('disk', chunk * CHUNK, random.bytes(CHUNK));
  await source.device('disk').zero(4 * CHUNK, 3 * CHUNK, false);
  await store.resize('disk', DISK_BYTES - 5 * CHUNK - 512, { shrink: true, force: true });
  await store.snapshot(['disk@two']);
  full = await sent(store, 'disk@one');
  delta = await sent(store, 'disk@two', { from: 'disk@one' });
  bytesOf = { one: await contents(store, 'disk@one'), two: await contents(store, 'disk@two') };
  await source.close();
});

async function replica(): Promise<CrashRig> {
  const rig = await CrashRig.begin();
  const store = await rig.open();
  await delivered(store, 'disk', full);
  await store.flush();
  return rig;
}

async function refusal(promise: Promise<unknown>): Promise<StoreError> {
  const error: unknown = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (error instanceof StoreError) return error;
  throw error ?? new Error('was not refused');
}

async function notes(store: Store): Promise<string[]> {
  const found: string[] = [];
  for await (const { code } of store.check()) found.push(code);
  return found;
}

/** A stream of as many frames as wanted, each of one chunk. */
async function manyFrames(count: number): Promise<{ bytes: Buffer; disk: Buffer }> {
  const random = new Random(count);
  const disk = Buffer.alloc(count * CHUNK);
  const frames = [];
  for (let i = 0; i < count; i++) {
    const bytes = random.bytes(CHUNK);
    bytes.copy(disk, i * CHUNK);
    frames.push([{ offset: i * CHUNK, bytes }]);
  }
  return { bytes: await makeStream(headOf(disk.length), frames), disk };
}

describe('a receive', () => {
  it('makes a replica that is read like the version, and only read', async () => {
    const rig = await replica();
    const { store } = rig;
    expect((await contents(store, 'disk')).equals(bytesOf.one)).toBe(true);
    expect(store.show('disk')).toMatchObject({ replica: true, parent: 'disk@one' });
    expect(store.device('disk').readOnly).toBe(true);
    expect((await refusal(store.rollback('disk@one'))).code).toBe('READ_ONLY');
    expect((await refusal(store.resize('disk', 2 * DISK_BYTES))).code).toBe('READ_ONLY');
    await store.clone('disk@one', 'work');
    await rig.write('work', 0, Buffer.alloc(512, 3));
    expect(store.show('work').replica).toBe(false);
    await rig.close();
  });

  it('is one change: until then the volume is what it was, behind it what was sent', async () => {
    const rig = await replica();
    const { store } = rig;
    const before = await everything(store);
    const frames = [...new StreamReader().push(delta)];
    const head = frames[0] as Extract<Frame, { kind: 'head' }>;
    const begun = await store.receives.begin(head.head, 'disk');
    if (begun.state !== 'begun') throw new Error('it is there');
    for (const frame of frames)
      if (frame.kind === 'changes') await store.receives.apply(begun.session, frame.changes.body);
    expect(await everything(store)).toEqual(before);
    expect(store.receives.list()).toMatchObject([{ name: 'disk@two', position: 0 }]);
    expect(await notes(store)).toContain('UNFINISHED_RECEIVE');
    expect(await store.receives.publish(begun.session)).toBe('disk@two');
    expect((await contents(store, 'disk')).equals(bytesOf.two)).toBe(true);
    expect((await contents(store, 'disk@one')).equals(bytesOf.one)).toBe(true);
    expect(store.show('disk').size).toBe(bytesOf.two.length);
    await store.pruned();
    expect(await notes(store)).toEqual([]);
    await rig.close();
  });

  it('of what is there already changes nothing', async () => {
    const rig = await replica();
    const { store } = rig;
    await delivered(store, 'disk', delta);
    const before = await everything(store);
    for (const bytes of [full, delta]) expect((await delivered(store, 'disk', bytes)).isNew).toBe(false);
    expect(await everything(store)).toEqual(before);
    expect(store.receives.list()).toEqual([]);
    await rig.close();
  });

  it('is refused where it does not go on', async () => {
    const rig = await CrashRig.begin();
    const store = await rig.open();
    const code = async (name: string, bytes: Buffer): Promise<string> =>
      (await refusal(delivered(store, name, bytes))).code;
    // Nothing to build on.
    expect(await code('disk', delta)).toBe('WRONG_BASE');
    await store.createVolume('other', DISK_BYTES);
    expect(await code('other', full)).toBe('ALREADY_EXISTS');
    await delivered(store, 'disk', full);
    // A volume that goes its own way, and a replica of another one.
    expect(await code('other', delta)).toBe('WRONG_BASE');
    const foreign = await makeStream(headOf(4096), [[{ offset: 0, bytes: Buffer.alloc(512, 1) }]]);
    await delivered(store, 'foreign', foreign);
    expect(await code('foreign', delta)).toBe('WRONG_BASE');
    expect(await code('disk', foreign)).toBe('ALREADY_EXISTS');
    // A name that is taken.
    await store.snapshot(['disk@mine']);
    expect(await code('disk@mine', delta)).toBe('ALREADY_EXISTS');
    expect(await code('disk@a b', delta)).toBe('INVALID_ARGUMENT');
    // A base of the same UUID and another size is no base.
    const head = headOf(DISK_BYTES);
    const { origin } = store.show('disk@one');
    const base = { uuid: origin!, name: 'one', size: DISK_BYTES + 512 };
    expect(await code('new', await makeStream({ ...head, base }, []))).toBe('WRONG_BASE');
    expect(await code('new', await makeStream({ ...head, position: 512 }, []))).toBe('WRONG_BASE');
    expect(store.receives.list()).toEqual([]);
    await rig.close();
  });

  it('of a shorter version leaves nothing behind its end that a longer one could show', async () => {
    const source = await CrashRig.begin();
    const from = await source.open();
    await from.createVolume('disk', 10 * CHUNK);
    await source.write('disk', 0, Buffer.alloc(10 * CHUNK, 7));
    await from.snapshot(['disk@long']);
    await from.resize('disk', 5 * CHUNK - 512, { shrink: true, force: true });
    await from.snapshot(['disk@short']);
    await from.resize('disk', 10 * CHUNK);
    await from.snapshot(['disk@again']);
    const rig = await CrashRig.begin();
    const store = await rig.open();
    await delivered(store, 'disk', await sent(from, 'disk@long'));
    await delivered(store, 'disk', await sent(from, 'disk@short', { from: 'disk@long' }));
    await delivered(store, 'disk', await sent(from, 'disk@again', { from: 'disk@short' }));
    const wanted = Buffer.alloc(10 * CHUNK);
    wanted.fill(7, 0, 5 * CHUNK - 512);
    expect((await contents(from, 'disk@again')).equals(wanted)).toBe(true);
    expect((await contents(store, 'disk@again')).equals(wanted)).toBe(true);
    await source.close();
    await rig.close();
  });

  it('never goes into the volume that it comes from', async () => {
    const rig = await CrashRig.begin();
    const store = await rig.open();
    await store.createVolume('disk', DISK_BYTES);
    await store.snapshot(['disk@one']);
    const { uuid, size } = store.show('disk@one');
    const head = headOf(DISK_BYTES, { uuid, name: 'one', size, created: 0 });
    const stream = await makeStream({ ...head, volume: { uuid: store.show('disk').uuid, name: 'disk' } }, []);
    const refused = await refusal(delivered(store, 'disk', stream));
    expect([refused.code, refused.message]).toEqual(['WRONG_BASE', expect.stringContaining('is no replica')]);
    // Beside it, it may.
    expect((await delivered(store, 'copy', stream)).name).toBe('copy@two');
    await rig.close();
  });

  it('of a stream that is cut off or damaged anywhere shows nothing, and goes on', async () => {
    const rig = await replica();
    const { store } = rig;
    const before = await everything(store);
    const random = new Random(2);
    for (let i = 0; i < 150; i++) {
      const at = random.below(delta.length);
      const bytes = Buffer.from(random.chance(50) ? delta.subarray(0, at) : delta);
      if (bytes.length === delta.length) bytes[at]! ^= 1 << random.below(8);
      await refusal(delivered(store, 'disk', bytes, { keeps: random.chance(50) }));
      expect(await everything(store)).toEqual(before);
    }
    expect(store.receives.list().length).toBe(1);
    await delivered(store, 'disk', delta);
    expect((await contents(store, 'disk')).equals(bytesOf.two)).toBe(true);
    expect(await damageIn(store.check())).toEqual([]);
    await rig.close();
  });

  it('goes on where it was kept, also in another life of the store and with an index made anew', async () => {
    const rig = await CrashRig.begin();
    await rig.open();
    const { bytes, disk } = await manyFrames(12);
    const cut = SIGNATURE.length + 3000 + 6 * (FRAME_HEADER_BYTES + 16 + CHUNK + DIGEST_BYTES);
    await refusal(delivered(rig.store, 'disk', bytes.subarray(0, cut), { keeps: true }));
    const { position } = rig.store.receives.list()[0]!;
    expect(position).toBeGreaterThan(4 * CHUNK);
    await rig.close();
    await rig.open();
    expect(rig.store.receives.list()).toMatchObject([{ position }]);
    rig.crash();
    await rig.open();
    expect(rig.store.names()).toEqual([]);
    expect(rig.store.receives.list()).toMatchObject([{ position }]);
    // From its position on, with a head that says so.
    const { head } = [...new StreamReader().push(bytes)][0] as Extract<Frame, { kind: 'head' }>;
    const rest = [];
    for (let at = position; at < disk.length; at += CHUNK)
      rest.push([{ offset: at, bytes: disk.subarray(at, at + CHUNK) }]);
    await delivered(rig.store, 'disk', await makeStream({ ...head, position }, rest));
    expect((await contents(rig.store, 'disk')).equals(disk)).toBe(true);
    expect(await damageIn(rig.store.check())).toEqual([]);
    await rig.close();
  });

  it('keeps who made a snapshot, in another life of the store, with an index made anew, and sent on', async () => {
    const rig = await CrashRig.begin();
    await rig.open();
    await rig.store.createVolume('mine', DISK_BYTES);
    await rig.store.snapshot(['mine@daily'], 'schedule');
    await rig.store.snapshot(['mine@own']);
    const stream = await sent(rig.store, 'mine@daily');
    await delivered(rig.store, 'copy', stream);
    await rig.close();
    await rig.open();
    rig.crash();
    await rig.open();
    const makers = ['mine@daily', 'mine@own', 'copy@daily'].map((name) => rig.store.show(name).madeBy);
    expect(makers).toEqual(['schedule', null, 'schedule']);
    expect(await damageIn(rig.store.check())).toEqual([]);
    await rig.close();
  });

  it('survives that its base is deleted, and takes up nothing when it is ended', async () => {
    const rig = await replica();
    const { store } = rig;
    await refusal(delivered(store, 'disk', delta.subarray(0, delta.length - 1), { keeps: true }));
    await store.snapshot(['disk@stays']);
    await store.delete(['disk@one']);
    await store.pruned();
    await delivered(store, 'disk', delta);
    expect((await contents(store, 'disk')).equals(bytesOf.two)).toBe(true);
    const { bytes } = await manyFrames(4);
    await refusal(delivered(store, 'new', bytes.subarray(0, bytes.length - 1), { keeps: true }));
    const [receive] = store.receives.list().map((each) => each.receive);
    await store.delete(['disk'], { recursive: true });
    await store.pruned();
    expect(store.names()).toEqual([]);
    expect(await damageIn(store.check())).toEqual([]);
    await store.receives.abort(receive!);
    expect((await refusal(store.receives.abort(receive!))).code).toBe('NOT_FOUND');
    await store.pruned();
    expect(store.receives.list()).toEqual([]);
    expect((await store.status()).liveBytes).toBe(0);
    expect(await notes(store)).toEqual([]);
    await rig.close();
  });

  it('is taken over by the sender who comes last', async () => {
    const rig = await CrashRig.begin();
    const store = await rig.open();
    const head = headOf(8192);
    const [one, two] = [await store.receives.begin(head, 'disk'), await store.receives.begin(head, 'disk')];
    if (one.state !== 'begun' || two.state !== 'begun') throw new Error('it is there');
    const body = bodyOf([{ offset: 0, bytes: Buffer.alloc(512, 1) }]);
    expect((await refusal(store.receives.apply(one.session, body))).code).toBe('IN_USE');
    expect((await refusal(store.receives.publish(one.session))).code).toBe('IN_USE');
    // What is under way is not published.
    const applied = store.receives.apply(two.session, body);
    expect((await refusal(store.receives.publish(two.session))).message).toContain('under way');
    expect((await refusal(store.receives.advance(two.session, 512))).message).toContain('under way');
    await applied;
    const behind = bodyOf([{ offset: 8192, bytes: Buffer.alloc(512, 1) }]);
    expect((await refusal(store.receives.apply(two.session, behind))).code).toBe('CORRUPTION');
    expect(await store.receives.publish(two.session)).toBe('disk@two');
    await rig.close();
  });

  it('that finds no space keeps what has come, and goes on when there is room', async () => {
    const rig = await CrashRig.begin();
    const store = await rig.open();
    const { bytes, disk } = await manyFrames(20);
    rig.storage.fail('write', { path: /^log/, code: 'NO_SPACE', after: 15, sticky: true });
    let kept = 0;
    const failure = await refusal(
      delivered(store, 'disk', bytes, { keeps: true, onKept: (position) => (kept = position) }),
    );
    expect(failure.code).toBe('NO_SPACE');
    expect(kept).toBeGreaterThan(0);
    expect(store.names()).toEqual([]);
    rig.storage.clearFailures();
    expect(store.receives.list()).toMatchObject([{ position: kept }]);
    await delivered(store, 'disk', bytes);
    expect((await contents(store, 'disk')).equals(disk)).toBe(true);
    expect(await damageIn(store.check())).toEqual([]);
    await rig.close();
  });

  it.each(seeds(3))(
    'that the power cuts off shows all or nothing, and has what it kept (seed %i)',
    async (seed) => {
      const random = new Random(seed);
      const before = await replica();
      await before.close();
      const { bytes, disk } = await manyFrames(8);
      for (let change = 1; change < 60; change += random.between(1, 4)) {
        const rig = before.fork();
        const store = await rig.open();
        rig.storage.turnOffAt(change);
        const isDelta = random.chance(50);
        let kept = -1;
        const onKept = (position: number): void => void (kept = position);
        const name = await delivered(store, isDelta ? 'disk' : 'new', isDelta ? delta : bytes, {
          keeps: true,
          onKept,
        }).then(
          (received) => received.name,
          () => undefined,
        );
        if (random.chance(30)) rig.kill();
        else {
          const percent = random.pick([0, 50, 90]);
          rig.crash(() => random.chance(percent), random.chance(50));
        }
        const again = await rig.open();
        const where = `SEED=${seed}, off at change ${change}`;
        const target = isDelta ? 'disk@two' : 'new@two';
        const isThere = again.names().includes(target);
        if (name !== undefined) expect(isThere, where).toBe(true);
        expect((await contents(again, 'disk@one')).equals(bytesOf.one), where).toBe(true);
        const [receive] = again.receives.list();
        if (isThere) expect(receive, where).toBeUndefined();
        else if (kept >= 0) expect(receive!.position, where).toBeGreaterThanOrEqual(kept);
        if (!isThere && isDelta)
          expect((await contents(again, 'disk')).equals(bytesOf.one), where).toBe(true);
        // It goes on behind what was kept: nothing before that comes again.
        if (!isThere && !isDelta && receive !== undefined) {
          const { head } = [...new StreamReader().push(bytes)][0] as Extract<Frame, { kind: 'head' }>;
          const rest = [];
          for (let at = receive.position; at < disk.length; at += CHUNK)
            rest.push([{ offset: at, bytes: disk.subarray(at, at + CHUNK) }]);
          await delivered(again, 'new', await makeStream({ ...head, position: receive.position }, rest));
        } else await delivered(again, isDelta ? 'disk' : 'new', isDelta ? delta : bytes);
        const whole = isDelta ? bytesOf.two : disk;
        expect((await contents(again, target)).equals(whole), where).toBe(true);
        expect(await damageIn(again.check()), where).toEqual([]);
        await rig.close();
      }
    },
  );
});
