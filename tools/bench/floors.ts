// The ratios that are promised, checked against what was measured. No I/O.
//
// A floor is a ratio of two sides: a load on a peer, Coppice if no other is named, over another load or another peer.

import type { LoadName } from './loads.ts';
import type { PeerName } from './peer.ts';
import { type FigureName, ratioOf, type Sample, type Side, spreadOf } from './summary.ts';

export interface Floor {
  readonly load: LoadName;
  readonly peer?: PeerName;
  readonly figure?: Exclude<FigureName, 'ratio'>;
  /** What is left out is the same as on this side. */
  readonly over: Partial<Side>;
  readonly atLeast?: number;
  readonly atMost?: number;
  /** It is enough if the figure itself is no larger, whatever the ratio. */
  readonly orBelow?: number;
  /** Hoped for, not promised. */
  readonly isAim?: true;
}

export interface FloorResult extends Floor {
  /** Absent when one of the two sides was not measured. */
  measured?: number;
  held: boolean;
}

const RAW = { peer: 'qemu-raw' } as const;
const KIT = { peer: 'nbdkit-file' } as const;
const QCOW2 = { peer: 'qemu-qcow2' } as const;
const FILE = { peer: 'file' } as const;
const SMALL_CACHE = 'coppice-cache-16m';
const CACHED = { peer: 'coppice-cache-1g' } as const;
const SMALL_QCOW2 = { peer: 'qcow2-cache-16m' } as const;

export const FLOORS: readonly Floor[] = [
  { load: 'randwrite-qd32', over: RAW, atLeast: 3 },
  { load: 'randwrite-qd32', over: QCOW2, atLeast: 4 },
  { load: 'randwrite-qd32', over: KIT, atLeast: 1.5 },
  { load: 'randwrite-after-snapshot', over: { load: 'randwrite-before-snapshot' }, atLeast: 0.95 },
  { load: 'randwrite-after-snapshot', over: QCOW2, atLeast: 25 },
  { load: 'randwrite-1000-snapshots', over: { load: 'randwrite-qd32' }, atLeast: 0.95 },
  { load: 'randread-qd32', over: RAW, atLeast: 2 },
  { load: 'randread-qd32', over: KIT, atLeast: 0.9 },
  { load: 'randread-1000-snapshots', over: { load: 'randread-qd32' }, atLeast: 0.95 },
  { load: 'wide-randread', peer: SMALL_CACHE, over: CACHED, atLeast: 0.35 },
  { load: 'wide-randread', peer: SMALL_CACHE, over: SMALL_QCOW2, atLeast: 1 },
  { load: 'wide-randwrite', peer: SMALL_CACHE, over: CACHED, atLeast: 0.35 },
  { load: 'wide-randwrite', peer: SMALL_CACHE, over: SMALL_QCOW2, atLeast: 1 },
  { load: 'wide-randread-90-10', peer: SMALL_CACHE, over: CACHED, atLeast: 0.7 },
  { load: 'wide-randwrite-90-10', peer: SMALL_CACHE, over: CACHED, atLeast: 0.7 },
  { load: 'seqread-qd8', over: RAW, atLeast: 1 },
  { load: 'seqread-qd8', over: KIT, atLeast: 0.9, isAim: true },
  { load: 'seqwrite-fresh', over: RAW, atLeast: 1 },
  { load: 'seqwrite-fresh', over: KIT, atLeast: 0.9, isAim: true },
  { load: 'seqwrite-qd8', over: RAW, atLeast: 0.7 },
  { load: 'seqwrite-qd8', over: KIT, atLeast: 0.9, isAim: true },
  { load: 'write-flush-qd1', over: FILE, atLeast: 0.8 },
  { load: 'write-flush-sparse', over: RAW, atLeast: 1.5 },
  { load: 'write-flush-32-clients', over: { load: 'write-flush-qd1' }, atLeast: 8 },
  { load: 'randwrite-flush32-qd32', over: RAW, atLeast: 1.5 },
  { load: 'randread-qd1', figure: 'p50Us', over: RAW, atMost: 1.3 },
  { load: 'randwrite-qd1', figure: 'p50Us', over: RAW, atMost: 1.3 },
  { load: 'mixed-qd16', over: RAW, atLeast: 1.5 },
  { load: 'four-randwrite-qd32', over: RAW, atLeast: 1.5 },
  { load: 'four-mixed-qd16', over: RAW, atLeast: 1.5 },
  { load: 'paced-half', figure: 'p999Us', over: { peer: 'coppice-uncompacted' }, atMost: 2 },
  { load: 'paced-half', figure: 'p999Us', over: RAW, atMost: 2, orBelow: 10_000 },
  { load: 'import', over: FILE, atLeast: 0.7 },
  { load: 'export', over: FILE, atLeast: 0.7 },
  { load: 'boot', over: FILE, atMost: 1.1 },
  { load: 'untar', over: RAW, atMost: 1 },
];

/** The two sides of a floor. */
export function sidesOf({ load, peer = 'coppice', over }: Floor): [over: Side, under: Side] {
  return [
    { load, peer },
    { load, peer, ...over },
  ];
}

/** Checks those of which both sides were asked for. One that could not be measured is not held. */
export function checkFloors(samples: readonly Sample[], asked: (side: Side) => boolean): FloorResult[] {
  return FLOORS.filter((floor) => sidesOf(floor).every(asked)).map((floor) => {
    const [over, under] = sidesOf(floor);
    const measured = ratioOf(samples, over, under, floor.figure)?.median;
    if (measured === undefined) return { ...floor, held: false };
    return { ...floor, measured, held: isWithin(floor, measured) || isBelow(floor, samples) };
  });
}

/** In words, as in `p99.9 at most 2x of qemu-raw`. */
export function promiseOf(floor: Floor): string {
  const [over, under] = sidesOf(floor);
  const figure =
    floor.figure === undefined ? '' : `${floor.figure === 'p50Us' ? 'median latency' : 'p99.9'} `;
  const bound = floor.atLeast === undefined ? `at most ${floor.atMost}x` : `at least ${floor.atLeast}x`;
  const other = [
    ...(under.load === over.load ? [] : [under.load]),
    ...(under.peer === over.peer ? [] : [under.peer]),
  ];
  const enough = floor.orBelow === undefined ? '' : `, or ${floor.orBelow / 1000} ms`;
  return `${figure}${bound} of ${other.join(' on ')}${enough}${floor.isAim === true ? ' (aim)' : ''}`;
}

function isWithin({ atLeast = 0, atMost = Number.POSITIVE_INFINITY }: Floor, ratio: number): boolean {
  return ratio >= atLeast && ratio <= atMost;
}

function isBelow({ load, peer = 'coppice', orBelow }: Floor, samples: readonly Sample[]): boolean {
  if (orBelow === undefined) return false;
  const ofSide = samples.filter((sample) => sample.load === load && sample.peer === peer);
  const spread = spreadOf(ofSide.map(({ latency }) => latency?.p999Us));
  return spread !== undefined && spread.median <= orBelow;
}
