/** Schedules and pruning as users ask for them, and a server that follows them. */

import fs from 'node:fs';
import path from 'node:path';
import { afterAll, afterEach, describe, expect, it, vi } from 'vitest';
import type { ScheduleSettings } from '../../src/schedule/schedule.ts';
import type { PruneDecision, ScheduleSummary, VersionSummary } from '../../src/volume/summary.ts';
import { Store } from '../../src/volume/store.ts';
import { scheduleOf } from '../schedule/rules.ts';
import { temporaryDirectory } from '../server/served.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { ok, run, type Running, serve, stop } from './command.ts';

vi.setConfig({ testTimeout: 120_000, hookTimeout: 60_000 });

const HOUR = 3_600_000;
const root = temporaryDirectory();
let stores = 0;
let server: Running | undefined;

afterEach(async () => {
  if (server !== undefined) expect((await stop(server)).code).toBe(0);
  server = undefined;
});
afterAll(() => fs.rmSync(root, { recursive: true, force: true }));

/**
 * A store with `disk`, whose schedule was set in 2023 and has made snapshots since, one an hour: the next one is long overdue. One
 * that a person has made stands before them.
 */
async function oldStore(settings: ScheduleSettings, snapshots = 0): Promise<string> {
  const directory = path.join(root, `store-${stores++}`);
  const clock = new ManualClock();
  await Store.init(directory);
  const store = await Store.open(directory, { clock });
  await store.createVolume('disk', 1 << 20);
  await store.schedules.set('disk', settings);
  if (snapshots > 0) await store.snapshot(['disk@manual']);
  for (let i = 0; i < snapshots; i++) {
    clock.advance(HOUR);
    const { uuid } = store.show('disk');
    await store.schedules.take(uuid, store.schedules.nameFor(uuid).snapshot);
  }
  await store.close();
  return directory;
}

async function json<T>(store: string, args: string[]): Promise<T> {
  return JSON.parse(await ok(store, [...args, '--json'])) as T;
}

const made = async (store: string): Promise<VersionSummary[]> =>
  (await json<VersionSummary[]>(store, ['list'])).filter(({ madeBy }) => madeBy === 'schedule');

async function until(condition: () => Promise<boolean>): Promise<void> {
  for (let tries = 0; !(await condition()); tries++) {
    if (tries > 100) throw new Error(`that did not come; the server says ${server?.err}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

describe.each(['nobody', 'a server'])('when %s has the store', (owner) => {
  it('a schedule is set, shown, listed and ended', async () => {
    const store = path.join(root, `store-${stores++}`);
    await ok(store, ['init']);
    if (owner === 'a server') server = await serve(store);
    await ok(store, ['create', 'disk', '--size', '1M']);
    expect(await ok(store, ['schedule', 'disk'])).toBe(
      'disk has no schedule; give it one with `coppice schedule disk --daily 7`\n',
    );
    expect(await ok(store, ['schedule'])).toContain('no volume has a schedule');
    const words = ['--hourly', '24', '--monthly', '12', '--custom', '*/15  8-17 * * MON-FRI', '--keep', '8'];
    const hooks = ['--hook-before', 'freeze it', '--hook-after', 'thaw it', '--time-zone', 'Europe/Berlin'];
    const shown = await ok(store, ['schedule', 'disk', ...words, ...hooks]);
    expect(shown).toMatch(/^keeps: {7}24 hourly, 12 monthly, 8 at \*\/15 8-17 \* \* MON-FRI$/m);
    expect(shown).toMatch(/^hook before: freeze it\nhook after: {2}thaw it$/m);
    expect(shown).toMatch(/^last: {8}none yet\nnext: {8}20\d\d-.*Z$/m);
    expect(await ok(store, ['schedule', 'disk'])).toBe(shown);
    const summary = await json<ScheduleSummary>(store, ['schedule', 'disk']);
    expect(summary).toMatchObject({ volume: 'disk', timeZone: 'Europe/Berlin', replica: false, error: null });
    expect(summary.rules[2]).toEqual({ name: 'custom', cron: '*/15 8-17 * * MON-FRI', keep: 8 });
    expect(await json(store, ['schedule', '--list'])).toEqual([summary]);
    expect(await ok(store, ['schedule', '--list'])).toMatch(/^VOLUME +KEEPS .*\ndisk +24 hourly/);
    expect(await ok(store, ['status'])).toMatch(/^schedule: +disk: last none yet, next 20/m);
    expect(await ok(store, ['schedule', 'disk', '--off'])).toBe('disk has no schedule; its snapshots stay\n');
    expect(await json(store, ['schedule', 'disk'])).toBeNull();
    expect(await ok(store, ['status'])).not.toContain('schedule:');
  });

  it('prune says what it would do and why, and does it', async () => {
    const store = await oldStore(scheduleOf({ hourly: 6 }), 6);
    if (owner === 'a server') {
      server = await serve(store);
      // It makes what is overdue, and thins the first one.
      await until(async () => {
        const all = await made(store);
        return all.length === 6 && !all.at(-1)!.created.startsWith('2023');
      });
    }
    await ok(store, ['hold', 'disk@auto-20231115T011320Z', '--owner', 'me']);
    const decisions = async (args: string[]): Promise<PruneDecision[]> =>
      (await ok(store, ['prune', ...args, '--json']))
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line) as PruneDecision);
    const before = await decisions(['disk', '--dry-run']);
    expect(before.length).toBe(7);
    expect(before[0]).toMatchObject({ snapshot: 'disk@manual', verdict: 'exempt', why: ['manual'] });
    expect(before.find(({ why }) => why[0] === 'held by me')?.verdict).toBe('exempt');
    expect(before.at(-1)!.why[0]).toBe('newest');
    expect(await ok(store, ['prune', '--dry-run'])).toMatch(/^SNAPSHOT +CREATED +VERDICT +WHY\ndisk@manual /);
    expect(before.some(({ verdict }) => verdict === 'goes')).toBe(false);
    await ok(store, ['schedule', 'disk', '--monthly', '1']);
    await ok(store, ['prune', 'disk']);
    const after = await decisions(['--dry-run']);
    expect(after.some(({ verdict }) => verdict === 'goes')).toBe(false);
    // The manual one, the held one, the newest, and where nobody has made one since, the first of that month.
    expect(after.length).toBe(owner === 'a server' ? 3 : 4);
    expect(after[0]!.snapshot).toBe('disk@manual');
  });
});

describe('a server', () => {
  it('makes the one snapshot that is overdue, with its hooks around it, and no second one when it is started again', async () => {
    const log = path.join(root, `hooks-${stores}`);
    const say = (when: string): string => `echo ${when} $COPPICE_VOLUME $COPPICE_SNAPSHOT >> ${log}`;
    const hooks = { hookBefore: say('before'), hookAfter: say('after') };
    const store = await oldStore({ ...scheduleOf({ monthly: 3 }), ...hooks });
    server = await serve(store);
    await until(async () => (await made(store)).length === 1);
    const [{ name, created }] = (await made(store)) as [VersionSummary];
    expect(name).toBe(`disk@auto-${created.slice(0, 19).replace(/[-:]/g, '')}Z`);
    await until(async () => fs.readFileSync(log, 'utf8').split('\n').length === 3);
    expect(fs.readFileSync(log, 'utf8')).toBe(`before disk ${name}\nafter disk ${name}\n`);
    expect(await ok(store, ['schedule', 'disk'])).toContain(name);
    await stop(server);
    server = await serve(store);
    await ok(store, ['status']);
    expect((await made(store)).length).toBe(1);
  });

  it('tells what fails, and makes no snapshot where the hook before it fails', async () => {
    const store = await oldStore({ ...scheduleOf({ hourly: 3 }), hookBefore: 'echo no agent >&2; exit 7' });
    server = await serve(store);
    const text = 'the hook before the snapshot ended with code 7: no agent';
    await until(async () => (await ok(store, ['schedule', 'disk'])).includes(text));
    expect(await ok(store, ['status'])).toContain(text);
    expect(await ok(store, ['schedule', '--list'])).toContain(text);
    expect(server.err).toContain('"schedule: no snapshot"');
    expect(await made(store)).toEqual([]);
  });

  it('stops in time while a hook hangs, and thaws', async () => {
    const log = path.join(root, `thawed-${stores}`);
    const hooks = { hookBefore: `echo > ${log}-begun; sleep 1000`, hookAfter: `echo > ${log}` };
    const store = await oldStore({ ...scheduleOf({ hourly: 3 }), ...hooks });
    server = await serve(store);
    await until(async () => fs.existsSync(`${log}-begun`));
    const ended = await stop(server);
    server = undefined;
    expect([ended.code, ended.tookMs < 5000, fs.existsSync(log)]).toEqual([0, true, true]);
  });

  it('makes no snapshots of a store that it only reads', async () => {
    const store = await oldStore(scheduleOf({ hourly: 3 }));
    server = await serve(store, ['--read-only']);
    expect(await ok(store, ['schedule', 'disk'])).toContain('3 hourly');
    expect((await run(['--store', store, 'schedule', 'disk', '--off'])).err).toContain('read-only');
    expect(await made(store)).toEqual([]);
  });
});
