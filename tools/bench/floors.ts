// The ratios this release promises, checked against what was measured. No I/O.
//
// A floor is a ratio of coppice to a peer at the same load, or of coppice to itself at the
// baseline of the load.

import type { LoadName } from './loads.ts';
import type { PeerName } from './peers.ts';
import type { LoadSummary } from './summary.ts';

export interface Floor {
  readonly load: LoadName;
  readonly over: PeerName | 'before';
  readonly atLeast: number;
}

export interface FloorResult extends Floor {
  /** Absent when one of the two sides was not measured. */
  measured?: number;
  held: boolean;
}

export const FLOORS: readonly Floor[] = [
  { load: 'randwrite-qd32', over: 'qemu-raw', atLeast: 1.5 },
  { load: 'randwrite-qd32', over: 'qemu-qcow2', atLeast: 2 },
  { load: 'randwrite-after-snapshot', over: 'before', atLeast: 0.9 },
  { load: 'randread-qd32', over: 'qemu-raw', atLeast: 1.2 },
  { load: 'seqwrite-qd8', over: 'qemu-raw', atLeast: 0.6 },
  { load: 'seqread-qd8', over: 'qemu-raw', atLeast: 0.7 },
  { load: 'write-flush-qd1', over: 'qemu-raw', atLeast: 0.8 },
];

/**
 * Checks the floors of the loads and peers that were asked for. One that could not be measured is
 * not held.
 */
export function checkFloors(summaries: readonly LoadSummary[], peers: readonly PeerName[]): FloorResult[] {
  const results: FloorResult[] = [];
  for (const floor of FLOORS) {
    const summary = summaries.find((candidate) => candidate.load === floor.load);
    const asked = peers.includes('coppice') && (floor.over === 'before' || peers.includes(floor.over));
    if (summary === undefined || !asked) continue;
    const ratios = floor.over === 'before' ? summary.overBaseline : summary.ratios;
    const measured = ratios[floor.over === 'before' ? 'coppice' : floor.over];
    if (measured === undefined) results.push({ ...floor, held: false });
    else results.push({ ...floor, measured, held: measured >= floor.atLeast });
  }
  return results;
}
