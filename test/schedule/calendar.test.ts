/** Moments of patterns: daylight saving, and what is no pattern. */

import { describe, expect, it } from 'vitest';
import { Calendar, calendarProblem } from '../../src/schedule/calendar.ts';
import { Random } from '../support/random.ts';

const SEED = Number(process.env.SEED ?? Date.now() % 1e9);

/** The first moments behind `from`. */
function moments(pattern: string, zone: string, from: string, count: number): string[] {
  const calendar = new Calendar(pattern, zone);
  const found: string[] = [];
  for (let at = Date.parse(from); found.length < count; found.push(new Date(at).toISOString().slice(5, 16)))
    at = calendar.next(at);
  return found;
}

describe('a calendar', () => {
  it('names the first moment strictly behind another', () => {
    const calendar = new Calendar('0 0 * * *', 'UTC');
    const midnight = Date.UTC(2026, 0, 2);
    expect(calendar.next(midnight - 1)).toBe(midnight);
    expect(calendar.next(midnight - 86_400_000)).toBe(midnight);
    expect(calendar.next(midnight)).toBe(midnight + 86_400_000);
  });

  it('puts a time of day that is skipped at the end of the gap, that day only', () => {
    expect(moments('30 2 * * *', 'Europe/Berlin', '2026-03-27T12:00Z', 4)).toEqual([
      '03-28T01:30',
      '03-29T01:00',
      '03-30T00:30',
      '03-31T00:30',
    ]);
  });

  it('takes a time of day that comes twice the first time', () => {
    expect(moments('30 2 * * *', 'Europe/Berlin', '2026-10-23T12:00Z', 3)).toEqual([
      '10-24T00:30',
      '10-25T00:30',
      '10-26T01:30',
    ]);
  });

  it('counts hours and minutes as they pass, through both changes of the clock', () => {
    const [spring, autumn] = ['2026-03-28T23:10Z', '2026-10-24T23:10Z'];
    for (const from of [spring, autumn]) {
      const hours = moments('0 * * * *', 'Europe/Berlin', from, 5).map((each) => Number(each.slice(6, 8)));
      expect(hours).toEqual([0, 1, 2, 3, 4]);
      const calendar = new Calendar('*/20 * * * *', 'Europe/Berlin');
      for (let at = Date.parse(from) + 600_000, i = 0; i < 20; i++, at += 1_200_000)
        expect(calendar.next(at)).toBe(at + 1_200_000);
    }
  });

  it('has days of a zone that begin at one in the morning, or half an hour off', () => {
    expect(moments('0 0 * * *', 'America/Sao_Paulo', '2018-11-03T12:00Z', 2)).toEqual([
      '11-04T03:00',
      '11-05T02:00',
    ]);
    expect(moments('0 * * * *', 'Asia/Kolkata', '2026-01-01T00:00Z', 2)).toEqual([
      '01-01T00:30',
      '01-01T01:30',
    ]);
  });

  it(`answers the same whatever it was asked before (SEED=${SEED})`, () => {
    const random = new Random(SEED);
    for (const pattern of ['*/10 * * * *', '0 * * * *', '30 2 * * *', '0 0 * * 1', '15 1 29 2 *']) {
      const asked = new Calendar(pattern, 'Europe/Berlin');
      const start = Date.UTC(2026, 2, 20);
      for (let i = 0; i < 60; i++) {
        const at = start + random.below(20 * 86_400_000);
        expect(asked.next(at), pattern).toBe(new Calendar(pattern, 'Europe/Berlin').next(at));
      }
    }
  });

  it('forgets what it knows rather than growing for ever, and is right all the same', () => {
    const calendar = new Calendar('* * * * *', 'UTC');
    for (let i = 0; i < 17_000; i++) expect(calendar.next(i * 60_000 + 1)).toBe((i + 1) * 60_000);
    expect(calendar.next(1)).toBe(60_000);
  });

  it('has nothing behind the end of time', () => {
    expect(new Calendar('0 0 * * *', 'UTC').next(Infinity)).toBe(Infinity);
    expect(new Calendar('0 0 * * *', 'UTC').next(8.64e15)).toBe(Infinity);
  });
});

describe('a pattern', () => {
  it.each(['0 * * * *', '*/15 8-17 * * MON-FRI', '0 0 L * *', '30 2 1,15 * *', '0 0 29 2 *'])(
    'may be %j',
    (pattern) => {
      expect(calendarProblem(pattern, 'Europe/Berlin')).toBeUndefined();
    },
  );

  it.each([
    ['', 'is no cron pattern'],
    ['0 0 * *', 'is no cron pattern'],
    ['0 0 0 * * *', 'is no cron pattern'],
    ['60 * * * *', 'is no cron pattern'],
    ['*/0 * * * *', 'is no cron pattern'],
    ['? 0 * * *', 'is no cron pattern'],
    ['@daily', 'is no cron pattern'],
    ['0\n0 * * *', 'is no cron pattern'],
    [`0 0 ${'1,'.repeat(200)}1 * *`, 'is no cron pattern'],
    ['0 0 30 2 *', 'never comes'],
  ])('is not %j', (pattern, problem) => {
    expect(calendarProblem(pattern, 'UTC')).toContain(problem);
  });

  it('needs a time zone that there is', () => {
    expect(calendarProblem('0 0 * * *', 'Europe/Nowhere')).toContain('no time zone');
    expect(calendarProblem('0 0 * * *', '')).toContain('no time zone');
  });
});
