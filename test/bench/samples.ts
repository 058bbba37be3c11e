/** Samples as runs of the benchmark leave them. */

import type { LoadName } from '../../tools/bench/loads.ts';
import type { PeerName } from '../../tools/bench/peer.ts';
import type { Sample } from '../../tools/bench/summary.ts';

/** A round for each value. */
export function samples(load: LoadName, peer: PeerName, values: readonly number[], more = {}): Sample[] {
  return values.map((value, i) => ({ round: i + 1, turn: 0, load, peer, value, ...more }));
}

/** Latencies of p50, p99, p99.9. */
export function latency(p50Us: number, p99Us: number, p999Us: number): Pick<Sample, 'latency'> {
  return { latency: { p50Us, p99Us, p999Us } };
}
