// Samples of all rounds brought together: median, spread and ratios of each load. No I/O.
//
// A ratio is the median of the ratios within each round: the runs of a round lie close together
// and share what else the machine was doing.

import type { Latency, Measurement } from './fio.ts';
import { LOADS, type Load, type LoadName } from './loads.ts';
import type { PeerName } from './peers.ts';

export interface Sample extends Measurement {
  round: number;
  load: LoadName;
  peer: PeerName;
  /** CPU time of the server during the run. */
  serverCpuSeconds: number;
}

export interface PeerSummary {
  /** In the unit of the load. */
  median: number;
  min: number;
  max: number;
  latency: Latency;
  /** Median of a flush, for loads that flush. */
  flushP50Us?: number;
  serverCpuSeconds: number;
  serverCpuUsPerRequest: number;
}

export interface LoadSummary {
  load: LoadName;
  title: string;
  unit: Load['unit'];
  peers: Partial<Record<PeerName, PeerSummary>>;
  /** Of coppice to each other peer. */
  ratios: Partial<Record<PeerName, number>>;
  /** Of each peer to itself in the baseline of this load. */
  overBaseline: Partial<Record<PeerName, number>>;
}

export function summarize(samples: readonly Sample[], loads: readonly Load[]): LoadSummary[] {
  return loads.map((load) => {
    const baseline = LOADS.find((candidate) => candidate.baselineOf === load.name);
    const summary: LoadSummary = {
      load: load.name,
      title: load.title,
      unit: load.unit,
      peers: {},
      ratios: {},
      overBaseline: {},
    };
    const ofLoad = samples.filter((sample) => sample.load === load.name);
    const coppice = ofLoad.filter((sample) => sample.peer === 'coppice');
    for (const peer of new Set(ofLoad.map((sample) => sample.peer))) {
      const ofPeer = ofLoad.filter((sample) => sample.peer === peer);
      summary.peers[peer] = summarizePeer(ofPeer, load);
      const ratio = peer === 'coppice' ? undefined : medianRatio(coppice, ofPeer, load);
      if (ratio !== undefined) summary.ratios[peer] = ratio;
      const before = samples.filter((sample) => sample.load === baseline?.name && sample.peer === peer);
      const overBaseline = medianRatio(ofPeer, before, load);
      if (overBaseline !== undefined) summary.overBaseline[peer] = overBaseline;
    }
    return summary;
  });
}

function summarizePeer(samples: readonly Sample[], load: Load): PeerSummary {
  const values = samples.map((sample) => valueOf(sample, load));
  const flushes = samples.flatMap((sample) => (sample.flush === undefined ? [] : [sample.flush.p50Us]));
  return {
    median: median(values),
    min: Math.min(...values),
    max: Math.max(...values),
    latency: {
      p50Us: median(samples.map((sample) => sample.latency.p50Us)),
      p99Us: median(samples.map((sample) => sample.latency.p99Us)),
      p999Us: median(samples.map((sample) => sample.latency.p999Us)),
    },
    ...(flushes.length === 0 ? {} : { flushP50Us: median(flushes) }),
    serverCpuSeconds: median(samples.map((sample) => sample.serverCpuSeconds)),
    serverCpuUsPerRequest: median(samples.map(cpuUsPerRequest)),
  };
}

function cpuUsPerRequest(sample: Sample): number {
  return (sample.serverCpuSeconds * 1e6) / Math.max(1, (sample.iops * sample.runtimeMs) / 1000);
}

function medianRatio(over: readonly Sample[], under: readonly Sample[], load: Load): number | undefined {
  const ratios = over.flatMap((sample) => {
    const other = under.find((candidate) => candidate.round === sample.round);
    return other === undefined ? [] : [valueOf(sample, load) / valueOf(other, load)];
  });
  return ratios.length === 0 ? undefined : median(ratios);
}

function valueOf(sample: Sample, load: Load): number {
  return load.unit === 'MB/s' ? sample.megabytesPerSecond : sample.iops;
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((left, right) => left - right);
  const middle = sorted.length >> 1;
  const upper = sorted[middle] ?? Number.NaN;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? Number.NaN) + upper) / 2;
}
