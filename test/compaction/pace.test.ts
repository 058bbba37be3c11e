/** When compaction has something to do, and when writers wait for it. */

import { describe, expect, it } from 'vitest';
import { deadShareMin, type LogRoom, mustWait, type Urgency, urgencyOf } from '../../src/compaction/pace.ts';
import { MIB } from '../log/rig.ts';

const SEGMENT = 64 * MIB;

interface Case {
  what: string;
  /** In segments. */
  used: number;
  live: number;
  free: number;
  busy: Urgency;
  idle: Urgency;
  waits: boolean;
}

const LOTS = 10_000;

const CASES: Case[] = [
  { what: 'an empty store', used: 0, live: 0, free: LOTS, busy: 'none', idle: 'none', waits: false },
  { what: 'a new store', used: 2, live: 1, free: LOTS, busy: 'none', idle: 'none', waits: false },
  { what: 'a few dead segments', used: 3.5, live: 0, free: LOTS, busy: 'none', idle: 'idle', waits: false },
  { what: 'some more of them', used: 5, live: 0, free: LOTS, busy: 'busy', idle: 'busy', waits: false },
  { what: 'many of them', used: 7, live: 0, free: LOTS, busy: 'busy', idle: 'busy', waits: true },
  { what: 'all of it lives', used: 1000, live: 1000, free: LOTS, busy: 'none', idle: 'none', waits: false },
  { what: 'a tenth is dead', used: 1100, live: 1000, free: LOTS, busy: 'none', idle: 'none', waits: false },
  { what: 'an eighth more', used: 1130, live: 1000, free: LOTS, busy: 'none', idle: 'idle', waits: false },
  { what: 'a quarter more', used: 1250, live: 1000, free: LOTS, busy: 'none', idle: 'idle', waits: false },
  { what: 'a third more', used: 1340, live: 1000, free: LOTS, busy: 'busy', idle: 'busy', waits: false },
  { what: 'two fifths more', used: 1400, live: 1000, free: LOTS, busy: 'busy', idle: 'busy', waits: false },
  { what: 'half as much again', used: 1500, live: 1000, free: LOTS, busy: 'busy', idle: 'busy', waits: true },
  { what: 'no room left', used: 1000, live: 1000, free: 0, busy: 'full', idle: 'full', waits: true },
  { what: 'a segment left', used: 1000, live: 1000, free: 1, busy: 'full', idle: 'full', waits: true },
  { what: 'a few left', used: 1000, live: 1000, free: 5, busy: 'full', idle: 'full', waits: false },
  { what: 'a few left, much dead', used: 1500, live: 1000, free: 5, busy: 'full', idle: 'full', waits: true },
  { what: 'enough left', used: 1000, live: 1000, free: 200, busy: 'none', idle: 'none', waits: false },
];

const roomOf = ({ used, live, free }: Case): LogRoom => ({
  usedBytes: used * SEGMENT,
  liveBytes: live * SEGMENT,
  freeBytes: free * SEGMENT,
  segmentBytes: SEGMENT,
});

describe('the pace of compaction', () => {
  for (const each of CASES) {
    it(`${each.what}: ${each.busy}, ${each.idle} when idle${each.waits ? ', writers wait' : ''}`, () => {
      const room = roomOf(each);
      expect([urgencyOf(room, false), urgencyOf(room, true), mustWait(room)]).toEqual([
        each.busy,
        each.idle,
        each.waits,
      ]);
    });
  }

  it('is at work whenever writers wait for it', () => {
    for (let used = 0; used < 3000; used += 7) {
      for (const live of [0, 1, 10, 500, 2000]) {
        for (const free of [0, 1, 3, 6, 12, 100]) {
          const room = roomOf({ ...CASES[0]!, used, live, free });
          if (mustWait(room)) expect(['busy', 'full']).toContain(urgencyOf(room, false));
        }
      }
    }
  });

  it('asks for less that is dead, the more is at stake', () => {
    expect(deadShareMin('full')).toBeLessThan(deadShareMin('idle'));
    expect(deadShareMin('idle')).toBeLessThan(deadShareMin('busy'));
    expect(deadShareMin('full')).toBeGreaterThan(0);
  });
});
