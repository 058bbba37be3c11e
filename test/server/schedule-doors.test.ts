/** Schedules through a door, over both; and what a server adds to what the store tells. */

import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { StoreError } from '../../src/base/errors.ts';
import type { Door } from '../../src/server/door.ts';
import { StoreDoor } from '../../src/server/store-door.ts';
import { scheduleOf } from '../schedule/rules.ts';
import { DOORS, refusal } from './both-doors.ts';
import { MemoryStore } from './memory-store.ts';
import { DECISION, SCHEDULE } from './summaries.ts';

const { since: _, ...SETTINGS } = { ...scheduleOf({ hourly: 24, custom: 2 }), hookBefore: 'freeze "it"' };

describe.each(DOORS)('%s', (_kind, open) => {
  let store: MemoryStore;
  let door: Door;
  let end: () => Promise<void>;

  beforeEach(async () => {
    store = new MemoryStore();
    ({ door, end } = await open(store));
  });
  afterEach(async () => await end());

  it('sets a schedule, ends it, lists all, and prunes', async () => {
    expect(await door.schedules.set('disk', SETTINGS)).toEqual({ ...SCHEDULE, ...SETTINGS });
    expect(await door.schedules.set('disk', null)).toBeNull();
    expect(await door.schedules.list()).toEqual([SCHEDULE]);
    expect((await door.status()).schedules).toEqual([SCHEDULE]);
    expect(await door.schedules.prune({ volume: 'disk', dryRun: true })).toEqual([DECISION]);
    await door.schedules.prune({ dryRun: false });
    expect(store.calls).toEqual([
      ['setSchedule', 'disk', SETTINGS],
      ['setSchedule', 'disk', null],
      ['prune', { volume: 'disk', dryRun: true }],
      ['prune', { dryRun: false }],
    ]);
  });

  it('hands on what it is refused with', async () => {
    store.failure = new StoreError(
      'INVALID_ARGUMENT',
      '"0 0 30 2 *" never comes; choose days that there are',
    );
    for (const change of [door.schedules.set('disk', SETTINGS), door.schedules.prune({ dryRun: true })]) {
      const refused = await refusal(change);
      expect([refused.code, refused.message]).toEqual(['INVALID_ARGUMENT', store.failure.message]);
    }
  });
});

it('a door with a scheduler wakes it behind a change, and tells what it knows', async () => {
  let woken = 0;
  const scheduler = {
    wake: () => void (woken += 1),
    withProgress: (summary: typeof SCHEDULE) => ({ ...summary, nextDue: 'soon' }),
  };
  const door = new StoreDoor(new MemoryStore(), scheduler);
  expect((await door.schedules.set('disk', SETTINGS))?.nextDue).toBe('soon');
  expect(woken).toBe(1);
  await door.schedules.set('disk', null);
  expect(woken).toBe(2);
  expect((await door.schedules.list())[0]!.nextDue).toBe('soon');
  expect((await door.status()).schedules[0]!.nextDue).toBe('soon');
});
