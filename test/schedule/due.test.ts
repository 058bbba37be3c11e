/** When the next snapshot is due: downtime, and clocks that are set. */

import { expect, it } from 'vitest';
import { dueAt, nextOf } from '../../src/schedule/due.ts';
import { rulesOf, scheduleOf } from './rules.ts';

const HOUR = 3_600_000;
const NOON = Date.UTC(2026, 5, 15, 12);
const hourly = rulesOf(scheduleOf({ hourly: 24 }));

it('is the first moment of any rule', () => {
  const rules = rulesOf(scheduleOf({ daily: 7, custom: 3 }, { cron: '30 13 * * *' }));
  expect(nextOf(rules, NOON)).toBe(NOON + 1.5 * HOUR);
  expect(nextOf(rules, NOON + 2 * HOUR)).toBe(NOON + 12 * HOUR);
});

it('is the moment behind the last snapshot, in the past after downtime', () => {
  expect(dueAt(hourly, NOON, NOON + 1)).toBe(NOON + HOUR);
  expect(dueAt(hourly, NOON, NOON + 100 * HOUR)).toBe(NOON + HOUR);
});

it('is not what was made already, when the clock is set back over it', () => {
  const made = NOON + 60_000;
  expect(dueAt(hourly, made, NOON - 60_000)).toBe(NOON + HOUR);
});

it('is never later than the second moment from now, however far ahead the clock was', () => {
  const now = NOON + 10 * 60_000;
  expect(dueAt(hourly, NOON + 10_000 * HOUR, now)).toBe(NOON + 2 * HOUR);
});

it('is not put off as time goes on', () => {
  let planned = dueAt(hourly, NOON + 10_000 * HOUR, NOON + 600_000);
  for (let now = NOON; now < NOON + 2 * HOUR; now += 60_000)
    planned = dueAt(hourly, NOON + 10_000 * HOUR, now, planned);
  expect(planned).toBe(NOON + 2 * HOUR);
});
