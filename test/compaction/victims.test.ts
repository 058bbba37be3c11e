/** Which segments are emptied: those that give most for what they cost, within limits, and never for nothing. */

import { describe, expect, it } from 'vitest';
import { CHUNK_BYTES } from '../../src/base/units.ts';
import { movedBytes } from '../../src/compaction/layout.ts';
import { chooseVictims, gainOf, type SegmentUse, type VictimsWanted } from '../../src/compaction/victims.ts';
import { MIB } from '../log/rig.ts';
import { Random, seeds } from '../support/random.ts';

const WANTED: VictimsWanted = { now: 1000, liveBytesMax: 64 * MIB, victimsMax: 16, deadShareMin: 0.1 };

const use = (segment: number, liveChunks: number, age: number, bytes = MIB): SegmentUse => ({
  segment,
  bytes,
  liveChunks,
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
    // A fifth lives in the one, three fifths in the other: what it costs to read and write counts too.
    const ofAges = (a: number, b: number): number[] => chosen([use(1, 47, 1000 - a), use(2, 148, 1000 - b)]);
    // The root of the age: what is 2.7 times as dear has to be seven times as old.
    expect(ofAges(100, 650)).toEqual([1, 2]);
    expect(ofAges(100, 850)).toEqual([2, 1]);
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
    expect(chosen(candidates, { liveBytesMax: 140 * CHUNK_BYTES })).toEqual([1, 3, 4]);
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
