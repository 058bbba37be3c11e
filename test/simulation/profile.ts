/**
 * What a seed is about: each draws some features, sizes, weights and faults, and leaves others out, so that together
 * they come to places that an average load never sees. Everything is tiny: segments roll, regions end and rows merge
 * within dozens of operations.
 */

import type { Random } from '../support/random.ts';
import type { FaultRates, Operation } from './faults.ts';
import type { SchedulerOptions } from './scheduler.ts';

export const ACTIONS = [
  'write',
  'zero',
  'read',
  'flush',
  'snapshot',
  'clone',
  'create',
  'delete',
  'rollback',
  'resize',
  'receive',
  'change role',
  'diff',
  'checkpoint',
  'compact',
  'rest',
  'check',
  'release',
  'spoil index',
  'fill disk',
] as const;

export type Action = (typeof ACTIONS)[number];

export interface Profile {
  segmentBytes: number;
  capacityBytes: number;
  cacheBytes: number;
  coldPercent: number;
  schedule: SchedulerOptions;
  lives: number;
  clients: number;
  operations: number;
  weights: [Action, number][];
  volumesMax: number;
  versionsMax: number;
  /** Chunks of a volume, and the part of it that is used. */
  volumeChunks: number;
  hotChunks: number;
  /** Percent of writes at any byte, of whole chunks else. */
  oddPercent: number;
  writeChunksMax: number;
  fuaPercent: number;
  rates: FaultRates;
  /** Percent of crashes behind which something is wrong with the index. */
  spoilPercent: number;
  /** Percent of recoveries that are crashed as well. */
  crashInRecoveryPercent: number;
  /** Percent of lives that end by being closed. */
  closePercent: number;
  killPercent: number;
  /** Rounds of compaction begin by themselves. */
  compacts: boolean;
  /** Percent of those that are asked for and go on to the end. */
  thoroughPercent: number;
  /** Bytes of changes that a replay of the whole log holds before it writes them. */
  replayBytesMax: number | undefined;
}

/** Writes may fail, and be there in part: that of a footer too. */
export function mayFailToWrite({ rates, weights }: Profile): boolean {
  return (
    rates.write !== undefined || weights.some(([action, weight]) => action === 'fill disk' && weight > 0)
  );
}

/** What fails may be there in part; and compaction writes footers again that an earlier process has left. */
export function mayTearFooters(profile: Profile): boolean {
  const { compacts, weights } = profile;
  const isAsked = weights.some(([action, weight]) => action === 'compact' && weight > 0);
  return compacts || isAsked || mayFailToWrite(profile);
}

const FAULTY: readonly Operation[] = [
  'write',
  'write',
  'datasync',
  'datasync',
  'datasync',
  'allocate',
  'create',
  'open',
  'remove',
  'rename',
  'syncDirectory',
  'read',
  'list',
  'index write',
  'index read',
  'index open',
];

function drawRates(random: Random): FaultRates {
  const rates: FaultRates = {};
  if (random.chance(60)) return rates;
  for (let i = random.pick([1, 1, 2, 4]); i > 0; i--)
    rates[random.pick(FAULTY)] = random.pick([5, 20, 50, 150]);
  return rates;
}

/** Percent of seeds in which compaction has much to do. */
const CHURNED_PERCENT = 3;

export function drawProfile(random: Random): Profile {
  const usual = drawUsual(random);
  return random.chance(CHURNED_PERCENT) ? churned(random, usual) : usual;
}

/** Rounds between all that makes chunks dead, hands them on, or has the index made anew: seldom together by chance. */
function churned(random: Random, usual: Profile): Profile {
  const some = (weight: number): number => random.pick([0, weight, weight]);
  const segmentBytes = random.pick([64, 64, 128]) << 10;
  return {
    ...usual,
    segmentBytes,
    capacityBytes: random.chance(20) ? segmentBytes * random.between(8, 14) : 0,
    lives: random.pick([2, 4]),
    operations: random.pick([12, 30, 60]),
    weights: [
      ['write', random.pick([10, 20, 40])],
      ['zero', some(5)],
      ['read', some(2)],
      ['flush', some(4)],
      ['snapshot', random.pick([2, 5])],
      ['clone', random.pick([1, 5])],
      ['create', some(1)],
      ['delete', random.pick([2, 6])],
      ['rollback', some(2)],
      ['resize', some(2)],
      ['receive', some(3)],
      ['change role', some(2)],
      ['diff', some(1)],
      ['checkpoint', some(2)],
      ['compact', random.pick([3, 8])],
      ['rest', some(2)],
      ['check', random.pick([0, 0, 1])],
      ['release', some(1)],
      ['spoil index', random.pick([0, 1, 2])],
      ['fill disk', Object.keys(usual.rates).length > 0 ? some(1) : 0],
    ],
    versionsMax: random.pick([6, 10, 16]),
    hotChunks: random.pick([2, 6, 20]),
    spoilPercent: random.pick([0, 30, 60]),
    compacts: random.chance(50),
    thoroughPercent: random.pick([0, 15, 50]),
    replayBytesMax: random.pick([undefined, 1, 10_000]),
  };
}

function drawUsual(random: Random): Profile {
  const segmentBytes = random.pick([64, 64, 128, 256]) << 10;
  const rates = drawRates(random);
  const isFaulty = Object.keys(rates).length > 0;
  const some = (weight: number, percent = 60): number => (random.chance(percent) ? weight : 0);
  const volumeChunks = random.pick([4, 9, 20, 264]);
  return {
    segmentBytes,
    capacityBytes: random.chance(8) ? segmentBytes * random.between(4, 6) : 0,
    cacheBytes: random.pick([1 << 20, 1 << 20, 16 << 10]),
    coldPercent: random.pick([0, 10, 100]),
    schedule: {
      latencyMaxUs: random.pick([2, 200, 5000]),
      slow: random.pick([undefined, undefined, 'datasync', 'write', 'index write', 'syncDirectory']),
      inOrder: random.chance(30),
    },
    lives: random.pick([1, 2, 2, 3]),
    clients: random.pick([1, 2, 4]),
    operations: random.pick([4, 12, 24, 40]),
    weights: [
      ['write', random.pick([10, 30])],
      ['zero', some(5)],
      ['read', some(6)],
      ['flush', some(random.pick([2, 10]), 80)],
      ['snapshot', some(random.pick([1, 4]))],
      ['clone', some(2, 40)],
      ['create', some(1, 30)],
      ['delete', some(random.pick([1, 4]), 50)],
      ['rollback', some(1, 40)],
      ['resize', some(1, 30)],
      ['receive', some(random.pick([2, 6]), 30)],
      ['change role', some(2, 30)],
      ['diff', some(3, 40)],
      ['checkpoint', some(random.pick([1, 4]))],
      ['compact', some(random.pick([1, 4]), 50)],
      ['rest', some(2)],
      ['check', some(1, 15)],
      ['release', some(2, 30)],
      ['spoil index', some(1, 10)],
      ['fill disk', isFaulty ? some(1, 30) : 0],
    ],
    volumesMax: random.between(1, 4),
    versionsMax: random.pick([3, 8, 16]),
    volumeChunks,
    hotChunks: random.pick([2, 6, volumeChunks]),
    oddPercent: random.pick([0, 20, 60]),
    writeChunksMax: random.pick([1, 2, 6]),
    fuaPercent: random.pick([0, 10, 50]),
    rates,
    spoilPercent: random.pick([0, 0, 0, 30]),
    crashInRecoveryPercent: random.pick([0, 30, 70]),
    closePercent: random.pick([5, 20, 40]),
    killPercent: random.pick([0, 30, 60]),
    compacts: random.chance(5),
    thoroughPercent: random.pick([0, 0, 30]),
    replayBytesMax: random.pick([undefined, undefined, 1, 10_000]),
  };
}
