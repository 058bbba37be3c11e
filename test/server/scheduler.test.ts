/** The scheduler: what it does when, what it does when that fails, and how it ends. */

import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { StoreError } from '../../src/base/errors.ts';
import type { Volume } from '../../src/volume/catalog.ts';
import { scheduleOf } from '../schedule/rules.ts';
import { ScheduledRig, settled } from './scheduled-rig.ts';

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;

let rig: ScheduledRig;
let volume: Volume;

beforeEach(() => {
  rig = new ScheduledRig(); // half past midnight
  volume = rig.create('db');
});
afterEach(async () => {
  await rig.scheduler?.close();
  expect(rig.wrongs).toEqual([]);
});

const names = (of = volume): string[] => [...of.snapshots.keys()];
const summary = (name = 'db') => {
  const found = rig.schedules.list().find((each) => each.volume === name)!;
  return rig.scheduler === undefined ? found : rig.scheduler.withProgress(found);
};
const pass = async (ms: number, stepMs = 10 * MINUTE): Promise<void> => {
  for (let passed = 0; passed < ms; passed += stepMs) await rig.clock.pass(Math.min(stepMs, ms - passed));
};

describe('a server', () => {
  it('makes a snapshot when it is due, says by whom, and thins what is too old', async () => {
    await rig.schedules.set('db', scheduleOf({ hourly: 2 }));
    rig.serve();
    await rig.clock.pass(29 * MINUTE);
    expect(names()).toEqual([]);
    await rig.clock.pass(MINUTE);
    expect(names()).toEqual(['auto-20260101T010000Z']);
    expect(volume.snapshots.get('auto-20260101T010000Z')!.madeBy).toBe('schedule');
    expect(summary()).toMatchObject({
      last: 'db@auto-20260101T010000Z',
      nextDue: '2026-01-01T02:00:00.000Z',
    });
    await pass(3 * HOUR);
    expect(names()).toEqual(['auto-20260101T030000Z', 'auto-20260101T040000Z']);
  });

  it('has no timer where no volume has a schedule, and looks when one gets one', async () => {
    const scheduler = rig.serve();
    expect(rig.clock.waiting).toBe(0);
    await rig.schedules.set('db', scheduleOf({ hourly: 2 }));
    scheduler.wake();
    expect(rig.clock.waiting).toBe(1);
    await rig.schedules.set('db', null);
    await pass(2 * HOUR);
    expect([names(), rig.clock.waiting]).toEqual([[], 0]);
  });

  it('makes one late snapshot behind downtime, not twenty', async () => {
    await rig.schedules.set('db', scheduleOf({ hourly: 24 }));
    await rig.serve().close();
    await rig.clock.pass(20 * HOUR + 5 * MINUTE);
    rig.serve();
    await settled();
    expect(names()).toEqual(['auto-20260101T203500Z']);
    await rig.clock.pass(24 * MINUTE);
    expect(names().length).toBe(1);
    await rig.clock.pass(MINUTE);
    expect(names()).toEqual(['auto-20260101T203500Z', 'auto-20260101T210000Z']);
  });

  it('makes none for what was due before there was the schedule', async () => {
    await rig.clock.pass(100 * HOUR);
    await rig.schedules.set('db', scheduleOf({ daily: 7 }));
    rig.serve();
    await settled();
    expect(names()).toEqual([]);
  });

  it('makes none twice when the clock is set back, and goes on when it was far ahead', async () => {
    await rig.schedules.set('db', scheduleOf({ hourly: 24 }));
    rig.serve();
    await pass(31 * MINUTE, MINUTE);
    expect(names().length).toBe(1);
    rig.clock.set(-2 * MINUTE);
    await pass(50 * MINUTE);
    expect(names().length).toBe(1);
    rig.clock.set(365 * 24 * HOUR);
    await pass(MINUTE);
    expect(names().length).toBe(2);
    rig.clock.set(-365 * 24 * HOUR);
    await pass(3 * HOUR);
    expect(names().length).toBeGreaterThanOrEqual(3);
  });

  it('goes on by the hour though the schedule was set by a clock that was a year ahead', async () => {
    rig.clock.set(365 * 24 * HOUR);
    await rig.schedules.set('db', scheduleOf({ hourly: 24 }));
    rig.clock.set(-365 * 24 * HOUR);
    rig.serve();
    await pass(5 * HOUR);
    expect(names().length).toBe(5);
  });

  it('gives a second name where the first is taken', async () => {
    await rig.schedules.set('db', scheduleOf({ hourly: 24 }));
    rig.clock.set(30 * MINUTE);
    rig.snapshot(volume, 'auto-20260101T010000Z');
    rig.serve();
    await rig.clock.pass(0);
    await settled();
    expect(names()).toEqual(['auto-20260101T010000Z', 'auto-20260101T010000Z-2']);
  });

  it('follows a volume through a rename, and ends with it', async () => {
    await rig.schedules.set('db', scheduleOf({ hourly: 24 }));
    rig.serve();
    rig.apply({ op: 'rename', at: 1, of: volume.uuid, name: 'other' });
    await pass(HOUR);
    expect(names()).toEqual(['auto-20260101T010000Z']);
    rig.apply({ op: 'delete', at: 1, volumes: [volume.uuid], snapshots: [] });
    await pass(2 * HOUR);
    expect(rig.clock.waiting).toBe(0);
  });

  it('thins when it begins, and when a schedule was changed', async () => {
    await rig.schedules.set('db', scheduleOf({ hourly: 24 }));
    for (let i = 0; i < 6; i++) {
      rig.snapshot(volume, `auto-${i}`, 'schedule');
      rig.clock.set(HOUR);
    }
    await rig.schedules.set('db', scheduleOf({ hourly: 4 }));
    const scheduler = rig.serve();
    await settled();
    expect(names()).toEqual(['auto-2', 'auto-3', 'auto-4', 'auto-5']);
    await rig.schedules.set('db', scheduleOf({ hourly: 2 }));
    scheduler.wake();
    await settled();
    expect(names()).toEqual(['auto-4', 'auto-5']);
  });

  it('thins a replica of what programs have made, makes none there, and keeps what people made', async () => {
    const start = rig.clock.now();
    rig.receive('copy', 'by-hand', start);
    rig.receive('copy', 'repl-0', start, 'target');
    await rig.schedules.set('copy', scheduleOf({ hourly: 2 }));
    rig.serve();
    for (let i = 1; i < 6; i++) {
      rig.receive('copy', `repl-${i}`, start + i * HOUR, i % 2 === 0 ? 'target' : 'schedule');
      await pass(HOUR);
    }
    expect(names(rig.catalog.find('copy') as Volume)).toEqual(['by-hand', 'repl-4', 'repl-5']);
    await pass(3 * HOUR); // nothing comes any more
    expect(rig.warnings).toEqual([]);
    expect(summary('copy')).toMatchObject({ replica: true, nextDue: null, last: 'copy@repl-5' });
  });

  it('does not make one volume wait for another one’s failure, tells it, and tries again with a growing pause', async () => {
    const other = rig.create('other');
    await rig.schedules.set('db', { ...scheduleOf({ daily: 3 }), hookBefore: 'freeze' });
    await rig.schedules.set('other', scheduleOf({ hourly: 3 }));
    rig.runHook = async () => {
      throw new StoreError('IO', 'the hook before the snapshot ended with code 1');
    };
    rig.serve();
    await pass(24 * HOUR, MINUTE);
    expect(names()).toEqual([]);
    expect(names(other).length).toBe(3);
    await pass(3 * HOUR, MINUTE);
    // At 0, 1, 3, 7, 15, 31, 63 minutes, then each hour.
    expect(rig.hooks.length).toBeGreaterThanOrEqual(8);
    expect(rig.hooks.length).toBeLessThanOrEqual(10);
    expect(summary().error?.message).toContain('ended with code 1');
    expect(rig.warnings.at(-1)).toMatchObject({ volume: 'db', code: 'IO' });
    rig.runHook = async () => undefined;
    await pass(HOUR, MINUTE);
    expect(names().length).toBe(1);
    expect(summary().error).toBeNull();
  });

  it('tries at the next moment of a rule though the pause is longer', async () => {
    await rig.schedules.set('db', scheduleOf({ custom: 100 }));
    rig.failures.set('snapshot', new StoreError('NO_SPACE', 'it is full'));
    rig.serve();
    await pass(10 * HOUR, MINUTE);
    rig.failures.clear();
    await pass(10 * MINUTE, MINUTE);
    expect(names().length).toBe(1);
  });

  it('works on a few volumes at a time, and on all of them in the end', async () => {
    let [running, runningMax] = [0, 0];
    const goOn: (() => void)[] = [];
    rig.runHook = async () => {
      running += 1;
      runningMax = Math.max(runningMax, running);
      await new Promise<void>((resolve) => goOn.push(resolve));
      running -= 1;
    };
    const volumes = Array.from({ length: 10 }, (_, i) => rig.create(`v${i}`));
    for (const { name } of volumes)
      await rig.schedules.set(name, { ...scheduleOf({ hourly: 3 }), hookBefore: 'x' });
    rig.serve();
    await rig.clock.pass(30 * MINUTE);
    while (goOn.length > 0) {
      goOn.shift()!();
      await settled();
    }
    expect(runningMax).toBe(4);
    expect(volumes.map((each) => each.snapshots.size)).toEqual(volumes.map(() => 1));
  });
});

describe('hooks', () => {
  const both = { ...scheduleOf({ hourly: 3 }), hookBefore: 'freeze', hookAfter: 'thaw' };
  const told = (): string[] => rig.hooks.map(({ when, command }) => `${when}: ${command}`);

  it('run around a snapshot, and know its name', async () => {
    await rig.schedules.set('db', both);
    const seen: number[] = [];
    rig.runHook = async () => void seen.push(volume.snapshots.size);
    rig.serve();
    await rig.clock.pass(30 * MINUTE);
    expect([told(), seen]).toEqual([
      ['before: freeze', 'after: thaw'],
      [0, 1],
    ]);
    const environment = { COPPICE_VOLUME: 'db', COPPICE_SNAPSHOT: 'db@auto-20260101T010000Z' };
    expect(rig.hooks.map((hook) => hook.environment)).toEqual([environment, environment]);
  });

  it('that fail before mean no snapshot, and the one behind runs all the same', async () => {
    await rig.schedules.set('db', both);
    rig.runHook = async ({ when }) => {
      if (when === 'before') throw new StoreError('IO', 'frozen already');
    };
    rig.serve();
    await rig.clock.pass(30 * MINUTE);
    expect([told(), names()]).toEqual([['before: freeze', 'after: thaw'], []]);
    expect(summary().error?.message).toBe('frozen already');
  });

  it('thaw though the store is full', async () => {
    await rig.schedules.set('db', both);
    rig.failures.set('snapshot', new StoreError('NO_SPACE', 'it is full'));
    rig.serve();
    await rig.clock.pass(30 * MINUTE);
    expect([told(), names()]).toEqual([['before: freeze', 'after: thaw'], []]);
  });

  it('that fail behind it are told, and the snapshot stays and is not made again', async () => {
    await rig.schedules.set('db', both);
    rig.runHook = async ({ when }) => {
      if (when === 'after') throw new StoreError('IO', 'still frozen');
    };
    rig.serve();
    await rig.clock.pass(30 * MINUTE);
    await pass(20 * MINUTE, MINUTE);
    expect(names().length).toBe(1);
    expect(summary().error?.message).toBe('still frozen');
  });

  it('do not bring a snapshot to a volume whose schedule was ended meanwhile', async () => {
    await rig.schedules.set('db', both);
    rig.runHook = async () => void (await rig.schedules.set('db', null));
    rig.serve();
    await rig.clock.pass(30 * MINUTE);
    expect([told(), names()]).toEqual([['before: freeze', 'after: thaw'], []]);
  });
});

it('an end waits for what is under way, and begins nothing more', async () => {
  await rig.schedules.set('db', { ...scheduleOf({ hourly: 3 }), hookBefore: 'freeze', hookAfter: 'thaw' });
  rig.runHook = async ({ when }, _clock, stopping) => {
    if (when === 'before')
      await new Promise((_, reject) => {
        stopping.addEventListener('abort', () => reject(new StoreError('CLOSED', 'the server is stopping')));
      });
  };
  const scheduler = rig.serve();
  await rig.clock.pass(30 * MINUTE);
  await scheduler.close();
  expect(rig.hooks.map(({ when }) => when)).toEqual(['before', 'after']);
  expect([names(), rig.clock.waiting, rig.warnings]).toEqual([[], 0, []]);
  scheduler.wake();
  expect(rig.clock.waiting).toBe(0);
});

it('a schedule that this machine cannot follow is an error of its own', async () => {
  const other = rig.create('other');
  await rig.schedules.set('other', scheduleOf({ hourly: 3 }));
  const schedule = scheduleOf({ hourly: 3 }, { timeZone: 'Mars/Olympus' });
  rig.apply({ op: 'schedule', at: 1, volume: volume.uuid, schedule });
  expect(summary().error?.message).toContain('Mars/Olympus');
  rig.serve();
  await pass(HOUR);
  expect(summary().error?.message).toContain('Mars/Olympus');
  expect([names(), names(other).length]).toEqual([[], 1]);
});
