// Samples of all rounds brought together: median and spread of each figure, and ratios. No I/O.
//
// A ratio is of two runs of one round, which lie close together and share what else the machine was doing; what is told
// is the median of all rounds' ratios, and their spread.

import type { Measurement } from './fio.ts';
import { LOADS, type Load, type LoadName, type Unit } from './loads.ts';
import { PEER_NAMES, type PeerName } from './peer.ts';

/** What one run has given. */
export interface Figures extends Partial<Measurement> {
  /** In the unit of the load. */
  value: number;
  /** CPU time of the server and its children; absent where there is no server. */
  serverCpuSeconds?: number;
}

export interface Sample extends Figures {
  round: number;
  /** Of the runs of a load in one round, from 0. */
  turn: number;
  load: LoadName;
  peer: PeerName;
}

export interface Spread {
  median: number;
  min: number;
  max: number;
  count: number;
}

export const FIGURE_NAMES = [
  'value',
  'p50Us',
  'p99Us',
  'p999Us',
  'flushP50Us',
  'cpuPer100k',
  'cpuPerGib',
  'ratio',
] as const;
export type FigureName = (typeof FIGURE_NAMES)[number];

const OF_SAMPLE: Record<Exclude<FigureName, 'ratio'>, (sample: Sample) => number | undefined> = {
  value: ({ value }) => value,
  p50Us: ({ latency }) => latency?.p50Us,
  p99Us: ({ latency }) => latency?.p99Us,
  p999Us: ({ latency }) => latency?.p999Us,
  flushP50Us: ({ flush }) => flush?.p50Us,
  cpuPer100k: ({ serverCpuSeconds, requests }) => per(serverCpuSeconds, requests, 100_000),
  cpuPerGib: ({ serverCpuSeconds, bytes }) => per(serverCpuSeconds, bytes, 2 ** 30),
};

/** One load on one peer. */
export interface Summary {
  load: LoadName;
  title: string;
  unit: Unit;
  peer: PeerName;
  /** Of `ratio`: the value of Coppice over the one of this peer. */
  figures: Partial<Record<FigureName, Spread>>;
}

/** A run's place among all: which load on which peer. */
export interface Side {
  readonly load: LoadName;
  readonly peer: PeerName;
}

export function summarize(samples: readonly Sample[]): Summary[] {
  const summaries: Summary[] = [];
  for (const load of LOADS) {
    for (const peer of PEER_NAMES) {
      const ofSide = samples.filter((sample) => sample.load === load.name && sample.peer === peer);
      if (ofSide.length > 0) summaries.push(summaryOf(samples, load, peer, ofSide));
    }
  }
  return summaries;
}

function summaryOf(
  samples: readonly Sample[],
  load: Load,
  peer: PeerName,
  ofSide: readonly Sample[],
): Summary {
  const figures: Summary['figures'] = {};
  for (const name of FIGURE_NAMES) {
    const spread =
      name === 'ratio'
        ? ratioOf(samples, { load: load.name, peer: 'coppice' }, { load: load.name, peer })
        : spreadOf(ofSide.map(OF_SAMPLE[name]));
    if (spread !== undefined && !(name === 'ratio' && peer === 'coppice')) figures[name] = spread;
  }
  return { load: load.name, title: load.title, unit: load.unit, peer, figures };
}

/** Of a figure on one side to the same on the other; undefined if no round has both. */
export function ratioOf(
  samples: readonly Sample[],
  over: Side,
  under: Side,
  figure: Exclude<FigureName, 'ratio'> = 'value',
): Spread | undefined {
  const of = OF_SAMPLE[figure];
  const ratios = samples.filter(isOf(over)).map((sample) => {
    const others = samples.filter((other) => isOf(under)(other) && other.round === sample.round);
    const other = others.find(({ turn }) => turn === sample.turn) ?? others[0];
    return other === undefined ? undefined : (of(sample) ?? Number.NaN) / (of(other) ?? Number.NaN);
  });
  return spreadOf(ratios);
}

/** Undefined if there is no number. */
export function spreadOf(values: readonly (number | undefined)[]): Spread | undefined {
  const numbers = values.filter((value) => value !== undefined && Number.isFinite(value)) as number[];
  if (numbers.length === 0) return undefined;
  return {
    median: median(numbers),
    min: Math.min(...numbers),
    max: Math.max(...numbers),
    count: numbers.length,
  };
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((left, right) => left - right);
  const middle = sorted.length >> 1;
  const upper = sorted[middle] ?? Number.NaN;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? Number.NaN) + upper) / 2;
}

const isOf =
  ({ load, peer }: Side) =>
  (sample: Sample): boolean =>
    sample.load === load && sample.peer === peer;

function per(seconds: number | undefined, amount: number | undefined, unit: number): number | undefined {
  return seconds === undefined || !amount ? undefined : (seconds * unit) / amount;
}
