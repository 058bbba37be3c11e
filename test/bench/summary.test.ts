/** Medians, spreads and ratios of a benchmark's samples. */

import { describe, expect, it } from 'vitest';
import { ratioOf, summarize } from '../../tools/bench/summary.ts';
import { latency, samples } from './samples.ts';

const LOAD = 'randwrite-qd32';

describe('the summary of a benchmark', () => {
  it('has the median and the spread of all rounds', () => {
    const [summary] = summarize(samples(LOAD, 'coppice', [30, 10, 20], latency(1, 2, 3)));
    expect(summary).toMatchObject({ load: LOAD, peer: 'coppice', unit: 'IOPS' });
    expect(summary!.figures.value).toEqual({ median: 20, min: 10, max: 30, count: 3 });
    expect(summary!.figures.p999Us).toEqual({ median: 3, min: 3, max: 3, count: 3 });
  });

  it('takes ratios within rounds, where a ratio of medians would be another', () => {
    const all = [...samples(LOAD, 'coppice', [10, 20, 90]), ...samples(LOAD, 'qemu-raw', [10, 40, 30])];
    const raw = summarize(all).find(({ peer }) => peer === 'qemu-raw');
    expect(raw!.figures.ratio).toEqual({ median: 1, min: 0.5, max: 3, count: 3 });
  });

  it('pairs the turns of a round, and a single baseline with each of them', () => {
    const boots = (peer: 'coppice' | 'file', values: number[]): ReturnType<typeof samples> =>
      values.map((value, turn) => ({ round: 1, turn, load: 'boot', peer, value }));
    const sides = [...boots('coppice', [2, 6]), ...boots('file', [1, 2])];
    expect(ratioOf(sides, { load: 'boot', peer: 'coppice' }, { load: 'boot', peer: 'file' })).toMatchObject({
      min: 2,
      max: 3,
    });
    const single = [...boots('coppice', [2, 6]), ...boots('file', [2])];
    expect(ratioOf(single, { load: 'boot', peer: 'coppice' }, { load: 'boot', peer: 'file' })).toMatchObject({
      min: 1,
      max: 3,
    });
  });

  it('passes a round by that one side has missed', () => {
    const all = [...samples(LOAD, 'coppice', [10, 20]), ...samples(LOAD, 'qemu-raw', [5])];
    const ratio = ratioOf(all, { load: LOAD, peer: 'coppice' }, { load: LOAD, peer: 'qemu-raw' });
    expect(ratio).toMatchObject({ median: 2, count: 1 });
    expect(ratioOf(all, { load: LOAD, peer: 'coppice' }, { load: LOAD, peer: 'file' })).toBeUndefined();
  });

  it('tells the CPU time of a server by requests and by bytes, and none of a file', () => {
    const cost = { serverCpuSeconds: 2, requests: 50_000, bytes: 2 ** 31 };
    const { figures } = summarize(samples(LOAD, 'coppice', [1], cost))[0]!;
    expect(figures.cpuPer100k?.median).toBe(4);
    expect(figures.cpuPerGib?.median).toBe(1);
    const [file] = summarize(samples('write-flush-qd1', 'file', [1], { requests: 5 }));
    expect(file!.figures.cpuPer100k).toBeUndefined();
  });
});
