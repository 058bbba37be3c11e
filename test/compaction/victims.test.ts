/** Which segments are emptied: those that give most for what they cost, within limits, and never for nothing. */

import { describe, expect, it } from 'vitest';
import { CHUNK_BYTES } from '../../src/base/units.ts';
import { movedBytes } from '../../src/compaction/moved-size.ts';
import {
  chooseVictims,
  gainOf,
  SeenSegments,
  type SegmentUse,
  type VictimsWanted,
} from '../../src/compaction/victims.ts';
import { MIB } from '../log/rig.ts';
import { Random, seeds } from '../support/random.ts';

const WANTED: VictimsWanted = { now: 1000, liveBytesMax: 64 * MIB, victimsMax: 16, deadShareMin: 0.1 };

const use = (segment: number, liveChunks: number, age: number, bytes = MIB): SegmentUse => ({
  segment,
  bytes,
  liveChunks,
  zerosBytes: 0,
  age,
});

const chosen = (candidates: readonly SegmentUse[], wanted: Partial<VictimsWanted> = {}): number[] =>
  chooseVictims(candidates, { ...WANTED, ...wanted }).map(({ segment }) => segment);

describe('victims', () => {
  it('are the older first where as much lives in each', () => {
    const candidates = [use(1, 100, 900), use(2, 100, 10), use(3, 100, 500)];
    expect(chosen(candidates)).toEqual([2, 3, 1]);
    expect(chosen(candidates, { victimsMax: 1 })).toEqual([2]);
  });

  it('are the emptier first where they are as old', () => {
    expect(chosen([use(1, 200, 10), use(2, 0, 10), use(3, 60, 10)])).toEqual([2, 3, 1]);
  });

  it('are old and fuller ones before young and emptier ones, if they are so much older', () => {
    expect(chosen([use(1, 80, 999), use(2, 180, 1)], { victimsMax: 1 })).toEqual([2]);
    expect(chosen([use(1, 10, 500), use(2, 200, 480)], { victimsMax: 1 })).toEqual([1]);
    // A fifth lives in the one, three fifths in the other: 1/u - 1 + ln u is 2.34 and 0.155, fifteen times as much.
    const ofAges = (a: number, b: number): number[] => chosen([use(1, 47, 1000 - a), use(2, 148, 1000 - b)]);
    expect(ofAges(50, 700)).toEqual([1, 2]);
    expect(ofAges(50, 800)).toEqual([2, 1]);
  });

  it('are the emptier first, whatever their ages, where chunks of all have been seen to die at one rate', () => {
    // In a hundred segments that were written a third of what lived has died, in two hundred as much of the rest.
    const young = { ...use(1, 100, 900), decay: { liveChunks: 150, segmentsSince: 100 } };
    const old = { ...use(2, 110, 10), decay: { liveChunks: 248, segmentsSince: 200 } };
    expect(chosen([young, old])).toEqual([1, 2]);
    expect(
      chosen([{ ...young, liveChunks: 130, decay: { liveChunks: 195, segmentsSince: 100 } }, old]),
    ).toEqual([2, 1]);
  });

  it('are not those of which zeros take what is not alive: they are moved on', () => {
    const zeros = { ...use(1, 0, 1), zerosBytes: 0.95 * MIB };
    expect(chosen([zeros, use(2, 200, 999)])).toEqual([2]);
    expect(gainOf([zeros])).toBeCloseTo(0.05 * MIB);
    expect(chosen([{ ...zeros, zerosBytes: 0.5 * MIB }])).toEqual([1]);
  });

  it('are not those that decay fast: they will soon be emptier', () => {
    const fast = { ...use(1, 100, 500), decay: { liveChunks: 200, segmentsSince: 20 } };
    const slow = { ...use(2, 130, 500), decay: { liveChunks: 140, segmentsSince: 20 } };
    expect(chosen([fast, slow])).toEqual([2, 1]);
    // Much emptier, it comes first all the same.
    expect(chosen([{ ...fast, liveChunks: 20 }, slow])).toEqual([1, 2]);
  });

  it('are of one order whatever order they are offered in', () => {
    const candidates = [use(5, 100, 10), use(3, 100, 10), use(9, 100, 10), use(4, 100, 10)];
    expect(chosen(candidates)).toEqual([3, 4, 5, 9]);
    expect(chosen([...candidates].reverse())).toEqual([3, 4, 5, 9]);
  });

  it('are those from the future too: a segment may be begun before its age is known', () => {
    expect(chosen([use(2, 200, 999), use(1, 10, 2000)])).toEqual([1, 2]);
  });

  it('are not those in which too little is dead, and lengths of files count, not of segments', () => {
    const room = (share: number): number => Math.floor((share * MIB) / (CHUNK_BYTES + 64));
    expect(chosen([use(1, room(0.95), 1), use(2, room(0.8), 1)])).toEqual([2]);
    expect(chosen([use(1, room(0.95), 1)], { deadShareMin: 0.02 })).toEqual([1]);
    // Short, and all of it lives: what compaction has just written.
    expect(chosen([use(1, 20, 1, movedBytes(20))], { deadShareMin: 0.02 })).toEqual([]);
    expect(chosen([use(1, 20, 1, 2 * movedBytes(20))], { deadShareMin: 0.02 })).toEqual([1]);
  });

  it('hold no more than may be moved at once; what is too much is passed by for what fits', () => {
    const candidates = [use(1, 100, 10), use(2, 120, 20), use(3, 0, 990), use(4, 30, 999)];
    expect(chosen(candidates, { liveBytesMax: 140 * CHUNK_BYTES })).toEqual([3, 1, 4]);
    expect(chosen([use(1, 0, 10), use(2, 0, 20)], { liveBytesMax: 0 })).toEqual([1, 2]);
  });

  for (const seed of seeds(4)) {
    it(`keep all limits, and each gives more than it takes (SEED=${seed})`, () => {
      const random = new Random(seed);
      for (let round = 0; round < 200; round++) {
        const candidates = Array.from({ length: random.below(40) }, (_, i) =>
          use(i + 1, random.below(260), random.below(1200), random.pick([MIB, MIB, MIB / 2, MIB / 16])),
        );
        const wanted = {
          now: 1000,
          liveBytesMax: random.pick([MIB, 3 * MIB, 20 * MIB]),
          victimsMax: random.pick([1, 4, 16]),
          deadShareMin: random.pick([0.02, 0.1, 0.5]),
        };
        const victims = chooseVictims(candidates, wanted);
        expect(new Set(victims).size).toBe(victims.length);
        expect(victims.every((each) => candidates.includes(each))).toBe(true);
        expect(victims.length).toBeLessThanOrEqual(wanted.victimsMax);
        const live = victims.reduce((sum, { liveChunks }) => sum + liveChunks * CHUNK_BYTES, 0);
        expect(live).toBeLessThanOrEqual(wanted.liveBytesMax);
        let gain = 0;
        for (const { bytes, liveChunks } of victims) {
          const dead = bytes - movedBytes(liveChunks);
          expect(dead).toBeGreaterThanOrEqual(wanted.deadShareMin * bytes);
          gain += dead;
        }
        // Together they fill segments better than each alone.
        expect(gainOf(victims)).toBeGreaterThanOrEqual(gain);
        // Something that is all dead is not left behind while there are places.
        const free = candidates.filter((each) => each.liveChunks === 0 && !victims.includes(each));
        if (victims.length < wanted.victimsMax) expect(free).toEqual([]);
      }
    });
  }

  it('gain what their files take, less what is written for what lives in them', () => {
    expect(gainOf([])).toBe(0);
    expect(gainOf([use(1, 0, 1), use(2, 0, 1, 4096)])).toBe(MIB + 4096);
    expect(gainOf([use(1, 100, 1), use(2, 50, 1)])).toBe(2 * MIB - movedBytes(150));
  });
});

describe('segments that have been looked at', () => {
  it('decay from what lived in them then, while users write others', () => {
    const seen = new SeenSegments();
    const moves = new Set([3]);
    const look = (...uses: [segment: number, liveChunks: number][]): SegmentUse['decay'][] =>
      seen
        .decayed(
          uses.map(([segment, liveChunks]) => use(segment, liveChunks, segment)),
          (segment) => moves.has(segment),
        )
        .map(({ decay }) => decay);
    expect(look([1, 200], [2, 150])).toEqual([
      { liveChunks: 200, segmentsSince: 0 },
      { liveChunks: 150, segmentsSince: 0 },
    ]);
    // What compaction wrote is no time that passes.
    expect(look([1, 180], [3, 90])).toEqual([
      { liveChunks: 200, segmentsSince: 0 },
      { liveChunks: 90, segmentsSince: 0 },
    ]);
    expect(look([1, 170], [3, 80], [4, 10], [5, 10]).slice(0, 2)).toEqual([
      { liveChunks: 200, segmentsSince: 2 },
      { liveChunks: 90, segmentsSince: 2 },
    ]);
    // What was gone in between is looked at for the first time again.
    expect(look([2, 77])).toEqual([{ liveChunks: 77, segmentsSince: 0 }]);
  });
});
