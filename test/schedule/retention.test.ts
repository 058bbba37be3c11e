/** Which snapshots are kept: by rules, whatever rules say, and by chance. */

import { describe, expect, it } from 'vitest';
import { retain, type Thinned } from '../../src/schedule/retention.ts';
import { Random } from '../support/random.ts';
import { rulesOf, scheduleOf } from './rules.ts';

const SEED = Number(process.env.SEED ?? Date.now() % 1e9);
const HOUR = 3_600_000;
const DAY = 24 * HOUR;
/** A Monday. */
const MONDAY = Date.UTC(2026, 5, 1);

interface Named extends Thinned {
  readonly name: string;
}

function made(created: number, more: Partial<Named> = {}): Named {
  return { name: String(created), created, foreign: undefined, protected: undefined, ...more };
}

const left = (snapshots: readonly Named[], rules: Parameters<typeof retain>[1]): Named[] =>
  retain(snapshots, rules)
    .filter(({ goes }) => !goes)
    .map(({ of }) => of);

describe('of the snapshots of a schedule', () => {
  it('the oldest of each of the last periods is kept, and the newest of all', () => {
    const rules = rulesOf(scheduleOf({ daily: 2 }));
    const snapshots = [0, 1, 2].flatMap((day) =>
      [1, 5, 9].map((hour) => made(MONDAY + day * DAY + hour * HOUR)),
    );
    expect(left(snapshots, rules).map(({ created }) => (created - MONDAY) / HOUR)).toEqual([25, 49, 57]);
  });

  it('one may be kept by several rules, which say so', () => {
    const rules = rulesOf(scheduleOf({ hourly: 1, daily: 1, weekly: 2 }));
    const [decision] = retain([made(MONDAY)], rules);
    expect(decision!.keptBy).toEqual([
      { rule: 'hourly', periodEnd: MONDAY + HOUR },
      { rule: 'daily', periodEnd: MONDAY + DAY },
      { rule: 'weekly', periodEnd: MONDAY + 7 * DAY },
    ]);
    expect([decision!.goes, decision!.exempt]).toEqual([false, 'newest']);
  });

  it('none goes because nothing was made for a while: empty periods do not count', () => {
    const rules = rulesOf(scheduleOf({ daily: 3 }));
    const snapshots = [0, 1, 2, 300].map((day) => made(MONDAY + day * DAY));
    expect(left(snapshots, rules)).toEqual(snapshots.slice(1));
  });

  it('what is foreign neither goes nor counts', () => {
    const rules = rulesOf(scheduleOf({ daily: 2 }));
    const manual = made(MONDAY + 1, { foreign: 'manual' });
    const snapshots = [
      manual,
      made(MONDAY + 2),
      made(MONDAY + DAY),
      made(MONDAY + DAY + 1, { foreign: 'automatic' }),
    ];
    expect(left(snapshots, rules)).toEqual(snapshots);
    const [decision] = retain(snapshots, rules);
    expect([decision!.exempt, decision!.keptBy]).toEqual(['manual', []]);
  });

  it('what is protected counts, and does not go', () => {
    const rules = rulesOf(scheduleOf({ daily: 1 }));
    const [early, held] = [MONDAY, MONDAY + DAY].map((at) => made(at, { protected: 'held by who' }));
    const snapshots = [early!, made(MONDAY + HOUR), held!, made(held!.created + 1), made(held!.created + 2)];
    expect(left(snapshots, rules)).toEqual([early, held, snapshots[4]]);
  });

  it('the newest is the one that was made last, whatever the clock said', () => {
    const rules = rulesOf(scheduleOf({ daily: 1 }));
    const snapshots = [made(MONDAY + 300 * DAY), made(MONDAY), made(MONDAY + 1)];
    expect(left(snapshots, rules)).toEqual([snapshots[0], snapshots[2]]);
  });

  it(`grandfathers, fathers and sons of two months stand where they should (SEED=${SEED})`, () => {
    const random = new Random(SEED);
    const rules = rulesOf(scheduleOf({ hourly: 6, daily: 7, weekly: 4, monthly: 3 }));
    let kept: Named[] = [];
    for (let hour = 0; hour < 24 * 61; hour++) {
      kept.push(made(MONDAY + hour * HOUR + random.below(60_000)));
      kept = left(kept, rules);
    }
    const hours = kept.map(({ created }) => Math.floor((created - MONDAY) / HOUR));
    const last = 24 * 61 - 1;
    const expected = new Set([
      ...[0, 1, 2, 3, 4, 5].map((i) => last - i),
      ...[0, 1, 2, 3, 4, 5, 6].map((i) => (60 - i) * 24),
      ...[5, 6, 7, 8].map((week) => week * 7 * 24),
      ...[0, 30].map((day) => day * 24), // June and July: the third month has none yet
    ]);
    expect(hours).toEqual([...expected].sort((a, b) => a - b));
  });

  it(`deciding twice changes nothing, and no more are kept than rules allow (SEED=${SEED})`, () => {
    const random = new Random(SEED);
    for (let round = 0; round < 200; round++) {
      const keeps = { hourly: 1 + random.below(5), daily: 1 + random.below(4), monthly: 1 + random.below(3) };
      const rules = rulesOf(scheduleOf(keeps));
      const snapshots = Array.from({ length: 1 + random.below(60) }, (_, i) =>
        made(MONDAY + random.below(random.pick([2 * HOUR, 3 * DAY, 100 * DAY])), {
          name: String(i),
          foreign: random.chance(10) ? 'manual' : undefined,
          protected: random.chance(10) ? 'held' : undefined,
        }),
      );
      const once = left(snapshots, rules);
      expect(left(once, rules)).toEqual(once);
      for (const each of snapshots)
        if (each.foreign !== undefined || each.protected !== undefined) expect(once).toContain(each);
      const own = snapshots.filter(({ foreign }) => foreign === undefined);
      if (own.length > 0) expect(once).toContain(own.at(-1));
      const ruled = once.filter((each) => each.foreign === undefined && each.protected === undefined);
      expect(ruled.length).toBeLessThanOrEqual(keeps.hourly + keeps.daily + keeps.monthly + 1);
    }
  });
});
