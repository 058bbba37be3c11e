/** What fio is told, and the logs of requests that it replays. */

import { describe, expect, it } from 'vitest';
import { fioArguments } from '../../tools/bench/fio-arguments.ts';
import { type FioWork, LOADS } from '../../tools/bench/loads.ts';
import type { Target } from '../../tools/bench/peer.ts';
import { isReplayed, replayLog, sweepLog } from '../../tools/bench/replay-log.ts';

const WORK: FioWork = {
  kind: 'fio',
  rw: 'randwrite',
  blockBytes: 4096,
  depth: 32,
  flushEvery: 0,
  clients: 1,
};
const VOLUME_BYTES = 2 ** 24;
const RUN = { volumeBytes: VOLUME_BYTES, seconds: 1, seed: 7, replayLog: 'the.log' };
const NBD: Target = { kind: 'nbd', uri: 'nbd+unix:///x?socket=s' };
const FILE: Target = { kind: 'file', path: '/x' };

const argumentsOf = (work: Partial<FioWork>, ...targets: Target[]): string[] =>
  fioArguments({ ...WORK, ...work }, { ...RUN, targets });
const offsets = (log: string): number[] =>
  [...log.matchAll(/^nbd (?:read|write) (\d+)/gm)].map(([, at]) => Number(at));

describe('fio', () => {
  it('has a job for each volume, reported as one', () => {
    const args = argumentsOf({}, NBD, NBD);
    expect(args.filter((arg) => arg.startsWith('--name='))).toEqual(['--name=bench0', '--name=bench1']);
    expect(args).toContain('--group_reporting');
  });

  it('flushes a volume by NBD, and a file by fdatasync', () => {
    const work = { depth: 1, flushEvery: 1 } as const;
    expect(argumentsOf(work, NBD)).toContain('--fsync=1');
    expect(argumentsOf(work, FILE)).toContain('--fdatasync=1');
  });

  it('gives each of many clients a part of its own', () => {
    const args = argumentsOf({ clients: 32, rw: 'write' }, NBD);
    expect(args).toContain(`--offset_increment=${VOLUME_BYTES / 32}`);
    expect(args).toContain('--numjobs=32');
  });

  it('replays flushes at a depth, which it cannot keep in their places itself', () => {
    expect(argumentsOf({ flushEvery: 32 }, NBD)).toContain('--read_iolog=the.log');
    expect(argumentsOf({ flushEvery: 32 }, NBD).some((arg) => arg.startsWith('--fsync'))).toBe(false);
  });
});

describe('a log of requests', () => {
  it('has a flush behind every so many writes', () => {
    const log = [...replayLog({ ...WORK, flushEvery: 4 }, VOLUME_BYTES, 10, 1)].join('');
    const actions = log
      .split('\n')
      .slice(3, -2)
      .map((line) => line.split(' ')[1]);
    expect(actions.join(' ')).toBe('write write write write sync write write write write sync write write');
    expect(log).toMatch(/^fio version 2 iolog\n[^]*nbd close\n$/);
  });

  it('is the same for the same seed', () => {
    const make = (seed: number): string => [...replayLog(WORK, VOLUME_BYTES, 25_000, seed)].join('');
    expect(make(3)).toBe(make(3));
    expect(make(3)).not.toBe(make(4));
    expect(offsets(make(3))).toHaveLength(25_000);
  });

  it('keeps to the places that are written', () => {
    const places = { runBytes: 2 ** 16, everyBytes: 2 ** 20 };
    const log = [...replayLog({ ...WORK, rw: 'randread', places }, VOLUME_BYTES, 5_000, 5)].join('');
    expect(log).not.toContain('write');
    for (const at of offsets(log)) {
      expect(at % places.everyBytes).toBeLessThan(places.runBytes);
      expect(at % 4096).toBe(0);
    }
    const swept = offsets([...sweepLog('write', places, VOLUME_BYTES, places.runBytes)].join(''));
    expect(swept).toEqual(Array.from({ length: 16 }, (_, i) => i * places.everyBytes));
  });

  it('goes to a tenth of the places nine times of ten where it is told to', () => {
    const hot = { requests: 0.9, stretches: 0.1 };
    const places = { runBytes: 2 ** 16, everyBytes: 2 ** 20, hot };
    const at = offsets([...replayLog({ ...WORK, places }, 100 * 2 ** 20, 20_000, 11)].join(''));
    const share = at.filter((offset) => offset < 10 * 2 ** 20).length / at.length;
    expect(share).toBeGreaterThan(0.88);
    expect(share).toBeLessThan(0.92);
  });

  it('is made for all loads that go to places or flush at a depth, and for no other', () => {
    const replayed = LOADS.filter(({ work }) => work.kind === 'fio' && isReplayed(work)).map(
      ({ name }) => name,
    );
    expect(replayed).toContain('randwrite-flush32-qd32');
    expect(replayed.filter((name) => !name.startsWith('wide-'))).toHaveLength(1);
  });
});
