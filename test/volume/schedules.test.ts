/** Schedules of a real store: kept through everything, and what thinning leaves alone. */

import fs from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { StoreError } from '../../src/base/errors.ts';
import type { ScheduleSettings } from '../../src/schedule/schedule.ts';
import { Store } from '../../src/volume/store.ts';
import { ReadOnlyStore } from '../../src/volume/read-only-store.ts';
import { scheduleOf } from '../schedule/rules.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { damageIn, onStore, scratchDirectory, write } from '../support/stores.ts';
import { delivered, sent } from './replicas.ts';

const HOUR = 3_600_000;
const SIZE = 1 << 20;

let directory: string;
let store: Store;
let clock: ManualClock;

beforeEach(async () => {
  clock = new ManualClock();
  directory = path.join(scratchDirectory(), 'store');
  await Store.init(directory, { segmentBytes: 1 << 20 });
  store = await Store.open(directory, { clock });
  await store.createVolume('a', SIZE);
});
afterEach(async () => {
  await store.close();
  expect(await damageIn(Store.check(directory))).toEqual([]);
  fs.rmSync(path.dirname(directory), { recursive: true });
});

async function reopen(): Promise<void> {
  await store.close();
  store = await Store.open(directory, { clock });
}

const settings = (keeps: Parameters<typeof scheduleOf>[0]): ScheduleSettings => scheduleOf(keeps);
const uuidOf = (name: string): string => store.show(name).uuid;
const snapshots = (volume = 'a'): string[] =>
  store
    .list()
    .filter(({ name }) => name.startsWith(`${volume}@`))
    .map(({ name }) => name.split('@')[1]!);

/** A snapshot as its schedule makes it. */
async function take(name: string, volume = 'a'): Promise<void> {
  await store.schedules.take(uuidOf(volume), name);
  clock.advance(HOUR);
}

async function refusal(change: Promise<unknown>): Promise<string> {
  return await change.then(
    () => 'not refused',
    (error: StoreError) => `${error.code}: ${error.message}`,
  );
}

describe('a schedule', () => {
  it('is told, with what it has made and when it is due', async () => {
    const now = new Date(clock.now()).toISOString();
    const summary = await store.schedules.set('a', settings({ hourly: 24, daily: 7 }));
    expect(summary).toMatchObject({
      volume: 'a',
      uuid: uuidOf('a'),
      timeZone: 'UTC',
      since: now,
      last: null,
      error: null,
    });
    expect(summary!.nextDue).toBe('2023-11-14T23:00:00.000Z');
    await take('s1');
    expect(store.schedules.list()).toMatchObject([
      { volume: 'a', last: 'a@s1', nextDue: '2023-11-14T23:00:00.000Z' },
    ]);
    expect((await store.status()).schedules).toEqual(store.schedules.list());
    expect(store.show('a@s1').madeBy).toBe('schedule');
  });

  it('stays as it is when it is set again as it is, and begins anew when it is another one', async () => {
    const first = await store.schedules.set('a', settings({ hourly: 24, daily: 7 }));
    clock.advance(HOUR);
    expect((await store.schedules.set('a', settings({ daily: 7, hourly: 24 })))!.since).toBe(first!.since);
    expect((await store.schedules.set('a', settings({ daily: 7 })))!.since).not.toBe(first!.since);
  });

  it('is there after reopening, a checkpoint, a rebuild, a rename and a rollback; a clone has none', async () => {
    await store.schedules.set('a', { ...settings({ daily: 7 }), hookBefore: 'freeze', hookAfter: 'thaw' });
    const [before] = store.schedules.list();
    await take('s1');
    await store.clone('a@s1', 'b');
    await reopen();
    await store.checkpoint();
    await reopen();
    await store.close();
    fs.rmSync(path.join(directory, 'index'), { recursive: true });
    store = await Store.open(directory, { clock });
    await onStore(store, 'a', (device) => write(device, 0, Buffer.alloc(4096, 1)));
    await store.rename('a', 'c');
    await store.rollback('c@s1');
    await reopen();
    const found = store.schedules.list();
    expect(found).toEqual([{ ...before!, volume: 'c', last: 'c@s1', nextDue: found[0]!.nextDue }]);
  });

  it('ends when it is taken away, and with its volume', async () => {
    await store.schedules.set('a', settings({ daily: 7 }));
    expect(await store.schedules.set('a', null)).toBeNull();
    await reopen();
    expect(store.schedules.list()).toEqual([]);
    await store.schedules.set('a', settings({ daily: 7 }));
    await store.delete(['a']);
    expect(store.schedules.list()).toEqual([]);
    await store.createVolume('a', SIZE);
    expect(store.schedules.list()).toEqual([]);
  });

  it('is refused where it cannot be followed, and for what is no volume', async () => {
    await take_('s1');
    expect(await refusal(store.schedules.set('none', settings({ daily: 1 })))).toMatch(/^NOT_FOUND/);
    expect(await refusal(store.schedules.set('a@s1', settings({ daily: 1 })))).toMatch(
      /^INVALID_ARGUMENT: a@s1 is a snapshot/,
    );
    expect(await refusal(store.schedules.set('a', { ...settings({ daily: 1 }), rules: [] }))).toMatch(
      /^INVALID_ARGUMENT.*needs a rule/,
    );
    expect(await refusal(store.schedules.set('a', { ...settings({ daily: 1 }), timeZone: 'x' }))).toMatch(
      /no time zone/,
    );
    expect(await refusal(store.schedules.prune({ volume: 'a', dryRun: true }))).toMatch(
      /^INVALID_ARGUMENT: a has no schedule/,
    );
    expect(await refusal(store.schedules.take(uuidOf('a'), 's2'))).toMatch(/^NOT_FOUND/);
    await store.schedules.set('a', settings({ daily: 1 }));
    expect(await refusal(store.schedules.take(uuidOf('a'), 's1'))).toMatch(/^ALREADY_EXISTS/);
  });

  const take_ = async (name: string): Promise<void> => void (await store.snapshot([`a@${name}`]));

  it('is told of a store that is opened read-only', async () => {
    await store.schedules.set('a', settings({ daily: 7 }));
    const told = store.schedules.list();
    await store.close();
    const readOnly = await ReadOnlyStore.open(directory, { clock });
    expect(readOnly.schedules.list()).toEqual(told);
    expect((await readOnly.status()).schedules).toEqual(told);
    expect(await refusal(readOnly.schedules.set())).toMatch(/^READ_ONLY/);
    await readOnly.close();
    store = await Store.open(directory, { clock });
  });
});

describe('thinning', () => {
  beforeEach(async () => {
    await store.schedules.set('a', settings({ hourly: 2 }));
  });

  it('deletes by rules alone, in one change, and says what it did', async () => {
    for (let i = 0; i < 5; i++) await take(`s${i}`);
    const dry = await store.schedules.prune({ volume: 'a', dryRun: true });
    expect(dry.map(({ snapshot, verdict }) => `${snapshot} ${verdict}`)).toEqual([
      'a@s0 goes',
      'a@s1 goes',
      'a@s2 goes',
      'a@s3 kept',
      'a@s4 exempt',
    ]);
    expect(dry[3]!.why).toEqual(['hourly, up to 2023-11-15T02:00:00.000Z']);
    expect(dry[4]!.why[0]).toBe('newest');
    expect(snapshots().length).toBe(5);
    expect(await store.schedules.prune({ dryRun: false })).toEqual(dry);
    expect(snapshots()).toEqual(['s3', 's4']);
    expect(await store.schedules.thin(uuidOf('a'))).toEqual([]);
    await reopen();
    expect(snapshots()).toEqual(['s3', 's4']);
  });

  it('leaves alone what a person, a rollback or a target has made, what is held, in use, or never goes', async () => {
    await store.snapshot(['a@manual']);
    await store.snapshot(['a@target'], 'target');
    for (const name of ['held', 'used', 'high', 'low', 'expired']) await take(name);
    await onStore(store, 'a', (device) => write(device, 0, Buffer.alloc(4096, 1)));
    await store.rollback('a@low');
    await store.hold('a@held', { owner: 'who' });
    await store.hold('a@expired', { owner: 'who', until: clock.now() + HOUR });
    await store.setPriority('a@high', 127);
    const device = store.device('a@used');
    device.attach(() => undefined);
    for (const name of ['s0', 's1', 's2']) await take(name);
    const gone = await store.schedules.thin(uuidOf('a'));
    expect(gone.sort()).toEqual(['a@expired', 'a@low', 'a@s0']);
    const why = new Map(
      (await store.schedules.prune({ dryRun: true })).map(({ snapshot, why }) => [
        snapshot.split('@')[1]!,
        why[0],
      ]),
    );
    expect(Object.fromEntries([...why].filter(([name]) => !name.startsWith('before')))).toEqual({
      manual: 'manual',
      target: 'made by a target',
      held: 'held by who',
      used: 'in use',
      high: 'priority 127',
      s1: expect.stringMatching(/^hourly/),
      s2: 'newest',
    });
    expect([...why].find(([name]) => name.startsWith('before'))![1]).toBe('automatic');
    device.release();
    expect(await store.schedules.thin(uuidOf('a'))).toEqual(['a@used']);
  });

  it('may delete what has clones: they keep what they inherit', async () => {
    await onStore(store, 'a', (device) => write(device, 0, Buffer.alloc(4096, 7)));
    await take('s0');
    await store.clone('a@s0', 'b');
    for (const name of ['s1', 's2', 's3']) await take(name);
    expect(await store.schedules.thin(uuidOf('a'))).toContain('a@s0');
    await store.pruned();
    const bytes = Buffer.alloc(4096);
    await onStore(store, 'b', (device) => device.read(bytes, 0, 0, 4096));
    expect(bytes).toEqual(Buffer.alloc(4096, 7));
  });

  it('takes more than one change can hold in several', async () => {
    for (let i = 0; i < 1003; i++) await store.schedules.take(uuidOf('a'), `s${i}`);
    expect((await store.schedules.thin(uuidOf('a'))).length).toBe(1001);
    expect(snapshots()).toEqual(['s0', 's1002']);
  });

  it('gives way to a hold that comes while it waits for its turn', async () => {
    for (let i = 0; i < 5; i++) await take(`s${i}`);
    const [, gone] = await Promise.all([
      store.hold('a@s0', { owner: 'who' }),
      store.schedules.thin(uuidOf('a')),
    ]);
    expect(gone).toEqual(['a@s1', 'a@s2']);
    expect(snapshots()).toEqual(['s0', 's3', 's4']);
  });
});

it('a replica is thinned of what programs have made, by its own schedule', async () => {
  const other = path.join(path.dirname(directory), 'other');
  await Store.init(other, { segmentBytes: 1 << 20 });
  const copy = await Store.open(other, { clock });
  await store.schedules.set('a', settings({ hourly: 24 }));
  await store.snapshot(['a@manual']);
  await delivered(copy, 'r', await sent(store, 'a@manual'));
  await copy.schedules.set('r', settings({ hourly: 2 }));
  for (let i = 0; i < 4; i++) {
    const from = i === 0 ? 'a@manual' : `a@s${i - 1}`;
    await onStore(store, 'a', (device) => write(device, 0, Buffer.alloc(4096, i + 1)));
    await take(`s${i}`);
    await delivered(copy, 'r', await sent(store, `a@s${i}`, { from }));
  }
  expect(copy.schedules.list()).toMatchObject([{ replica: true, nextDue: null, last: 'r@s3' }]);
  expect(await refusal(copy.schedules.take(copy.show('r').uuid, 'x'))).toMatch(/^NOT_FOUND/);
  expect(await copy.schedules.thin(copy.show('r').uuid)).toEqual(['r@s0', 'r@s1']);
  expect(copy.list().map(({ name }) => name)).toEqual(['r', 'r@manual', 'r@s2', 'r@s3']);
  await copy.close();
  expect(await damageIn(Store.check(other))).toEqual([]);
});
