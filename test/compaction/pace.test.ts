/** When compaction has something to do, and when writers wait for it. */

import { describe, expect, it } from 'vitest';
import {
  deadShareMin,
  type LogRoom,
  mustWait,
  nextStep,
  roundBytesMax,
  type Urgency,
  urgencyOf,
} from '../../src/compaction/pace.ts';
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
  comingBytes: 0,
  chainBytes: SEGMENT,
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

  /** A full-grown store of 1000 segments, 900 of which live. */
  const roomWith = (free: number, coming = 0, chain = 0): LogRoom => ({
    usedBytes: (1000 - free) * SEGMENT,
    liveBytes: 900 * SEGMENT,
    freeBytes: free * SEGMENT,
    segmentBytes: SEGMENT,
    comingBytes: coming * SEGMENT,
    chainBytes: chain * SEGMENT,
  });

  it('has nobody wait for what a round has taken, as long as there is room to write', () => {
    expect(mustWait(roomWith(3.9, 0, 1.5))).toBe(true);
    expect(mustWait(roomWith(3.9, 1.7, 1.5))).toBe(false);
    expect(mustWait(roomWith(3.9, 1.5, 1.5))).toBe(true);
    expect(mustWait(roomWith(2.4, 10, 1.5))).toBe(true);
    expect(mustWait(roomWith(4, 0, 1.5))).toBe(false);
  });

  it('counts what was made ahead as room to write: making it has nobody wait', () => {
    for (let free = 3; free < 9; free += 0.1)
      expect(mustWait(roomWith(free, 0, 1.2))).toBe(mustWait(roomWith(free + 1, 0, 0.2)));
  });

  it('leaves what writers fill during a round, and takes what it needs where they wait', () => {
    const segments = (free: number): number => roundBytesMax(roomWith(free), 'full') / SEGMENT;
    expect([20, 11, 10, 9, 8, 7, 6].map(segments)).toEqual([4, 4, 3, 2, 1, 1, 1]);
    expect([5, 4].map(segments)).toEqual([2.5, 2]);
  });

  it('takes one victim at least, if there is room for it and for the catalog that states it', () => {
    const segments = (free: number, chain: number): number =>
      roundBytesMax(roomWith(free, 0, chain), 'full') / SEGMENT;
    expect(segments(2, 0)).toBeCloseTo(0.95); // the catalog begins a segment
    expect(segments(1.7, 0)).toBeCloseTo(0.665);
    expect(segments(1.7, 0.2)).toBeCloseTo(1);
    expect(segments(1, 0.2)).toBeCloseTo(0.95);
    expect(segments(0.9, 0)).toBeCloseTo(0.855);
  });

  describe('and checkpoints', () => {
    /** A 24th of what lives is 37.5 segments. */
    const step = (free: number, behind: number, haveWaited = false, isIdle = false): string => {
      const { urgency, checkpoint } = nextStep(roomWith(free), isIdle, behind * SEGMENT, haveWaited);
      return checkpoint ? `${urgency}, checkpoint` : urgency;
    };

    it('come before a round when much is behind the last one, where writers wait', () => {
      expect(step(10, 30, true)).toBe('full');
      expect(step(10, 40, true)).toBe('full, checkpoint');
    });

    it('come when there is room for what is written meanwhile, where writers need not wait', () => {
      expect(step(10, 40)).toBe('full');
      expect(step(15, 40)).toBe('full');
      expect(step(16, 40)).toBe('none, checkpoint');
      expect(step(16, 30)).toBe('none');
    });

    it('do not wait for that for ever', () => {
      expect(step(10, 74)).toBe('full');
      expect(step(10, 76)).toBe('full, checkpoint');
    });

    it('are not made for room that nobody needs', () => {
      expect(step(500, 40)).toBe('none');
      expect(step(500, 1000)).toBe('none');
    });
  });
});
