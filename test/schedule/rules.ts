/** Rules with calendars, for tests. */

import {
  Calendars,
  type Followed,
  PATTERNS,
  type RuleName,
  type Schedule,
} from '../../src/schedule/schedule.ts';

const calendars = new Calendars();

/** `keeps`: how many of each rule; `cron` is the pattern of the custom one. */
export function scheduleOf(
  keeps: Partial<Record<RuleName, number>>,
  { timeZone = 'UTC', cron = '*/10 * * * *', since = 0 } = {},
): Schedule {
  const rules = Object.entries(keeps).map(([name, keep]) => {
    const rule = name as RuleName;
    return { name: rule, cron: rule === 'custom' ? cron : PATTERNS[rule], keep };
  });
  return { timeZone, rules, hookBefore: null, hookAfter: null, since };
}

export function rulesOf(schedule: Schedule): readonly Followed[] {
  return calendars.of(schedule);
}
