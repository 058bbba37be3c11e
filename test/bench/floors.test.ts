/** What is promised of loads, held against samples. */

import { describe, expect, it } from 'vitest';
import { checkFloors, FLOORS, type FloorResult, promiseOf, sidesOf } from '../../tools/bench/floors.ts';
import { type LoadName, LOADS, selectLoads } from '../../tools/bench/loads.ts';
import { PEERS } from '../../tools/bench/peers.ts';
import { peersFor } from '../../tools/bench/rounds.ts';
import type { Sample } from '../../tools/bench/summary.ts';
import { latency, samples } from './samples.ts';

const everything = (): boolean => true;

function resultOf(load: LoadName, over: string, measured: readonly Sample[]): FloorResult {
  const results = checkFloors(measured, everything);
  return results.find((floor) => floor.load === load && Object.values<string>(floor.over).includes(over))!;
}

describe('a floor', () => {
  it('is held from its ratio on', () => {
    const at = (value: number): Sample[] => [
      ...samples('randwrite-qd32', 'coppice', [value]),
      ...samples('randwrite-qd32', 'qemu-raw', [10]),
    ];
    expect(resultOf('randwrite-qd32', 'qemu-raw', at(30))).toMatchObject({ measured: 3, held: true });
    expect(resultOf('randwrite-qd32', 'qemu-raw', at(29))).toMatchObject({ held: false });
  });

  it('compares a load with its baseline on the same peer', () => {
    const measured = [
      ...samples('randwrite-before-snapshot', 'coppice', [100]),
      ...samples('randwrite-after-snapshot', 'coppice', [96]),
      ...samples('randwrite-before-snapshot', 'qemu-qcow2', [1]),
    ];
    const result = resultOf('randwrite-after-snapshot', 'randwrite-before-snapshot', measured);
    expect(result).toMatchObject({ measured: 0.96, held: true });
  });

  it('may bound a latency from above, and let a small one pass whatever the other has', () => {
    const at = (p999Us: number): Sample[] => [
      ...samples('paced-half', 'coppice', [1], latency(1, 1, p999Us)),
      ...samples('paced-half', 'qemu-raw', [1], latency(1, 1, 1000)),
    ];
    expect(resultOf('paced-half', 'qemu-raw', at(9_000))).toMatchObject({ measured: 9, held: true });
    expect(resultOf('paced-half', 'qemu-raw', at(11_000)).held).toBe(false);
  });

  it('is not held when a side that was asked for is missing, and left out when it was not', () => {
    const asked = ({ peer }: { peer: string }): boolean => peer !== 'nbdkit-file';
    const results = checkFloors([], asked).filter(({ load }) => load === 'randwrite-qd32');
    expect(results.map(({ over, held }) => [over.peer, held])).toEqual([
      ['qemu-raw', false],
      ['qemu-qcow2', false],
    ]);
  });

  it('names two sides that the table of loads measures, in one stage', () => {
    const measures = LOADS.flatMap((load) => peersFor(PEERS, load).map(({ name }) => `${load.name} ${name}`));
    const stageOf = (name: LoadName): string => LOADS.find((load) => load.name === name)!.stage;
    for (const floor of FLOORS) {
      const [over, under] = sidesOf(floor);
      for (const { load, peer } of [over, under]) expect(measures).toContain(`${load} ${peer}`);
      expect(stageOf(under.load)).toBe(stageOf(over.load));
      // Whoever asks for a load alone gets what it is compared with.
      expect(selectLoads([over.load]).map(({ name }) => name)).toContain(under.load);
    }
  });

  it('is told in words', () => {
    const told = FLOORS.map(promiseOf);
    expect(told).toContain('at least 3x of qemu-raw');
    expect(told).toContain('p99.9 at most 2x of qemu-raw, or 10 ms');
    expect(told).toContain('at least 0.95x of randwrite-before-snapshot');
  });
});
