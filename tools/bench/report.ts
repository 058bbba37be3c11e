// The tables a benchmark prints. No I/O.

import type { FloorResult } from './floors.ts';
import type { PeerName } from './peers.ts';
import type { LoadSummary } from './summary.ts';

/** A row a load: median and spread of each peer, coppice over each other peer, and the floors. */
export function throughputTable(
  summaries: readonly LoadSummary[],
  peers: readonly PeerName[],
  floors: readonly FloorResult[],
): string {
  const others = peers.includes('coppice') ? peers.filter((peer) => peer !== 'coppice') : [];
  const header = ['load', 'unit', ...peers, ...others.map((peer) => `/ ${peer}`), 'vs before', 'floors'];
  const rows = summaries.map((summary) => [
    summary.title,
    summary.unit,
    ...peers.map((peer) => spread(summary, peer)),
    ...others.map((peer) => ratio(summary.ratios[peer])),
    Object.entries(summary.overBaseline)
      .map(([peer, value]) => `${peer} ${ratio(value)}`)
      .join(', '),
    floors
      .filter((floor) => floor.load === summary.load)
      .map(mark)
      .join(', '),
  ]);
  return align(header, rows, 2);
}

/** A row a load and peer: latency percentiles and the CPU time of the server. */
export function latencyTable(summaries: readonly LoadSummary[], peers: readonly PeerName[]): string {
  const header = ['load', 'peer', 'p50 us', 'p99 us', 'p99.9 us', 'flush p50 us', 'CPU s', 'CPU us/request'];
  const rows = summaries.flatMap((summary) =>
    peers.flatMap((peer) => {
      const measured = summary.peers[peer];
      if (measured === undefined) return [];
      const { p50Us, p99Us, p999Us } = measured.latency;
      const flush = measured.flushP50Us === undefined ? '' : count(measured.flushP50Us);
      const cpu = [measured.serverCpuSeconds.toFixed(2), measured.serverCpuUsPerRequest.toFixed(1)];
      return [[summary.title, peer, count(p50Us), count(p99Us), count(p999Us), flush, ...cpu]];
    }),
  );
  return align(header, rows, 2);
}

function spread(summary: LoadSummary, peer: PeerName): string {
  const measured = summary.peers[peer];
  if (measured === undefined) return '-';
  return `${count(measured.median)} (${count(measured.min)}-${count(measured.max)})`;
}

function ratio(value: number | undefined): string {
  return value === undefined ? '-' : `${value.toFixed(2)}x`;
}

function mark(floor: FloorResult): string {
  const promised = `>= ${floor.atLeast}x ${floor.over}`;
  if (floor.measured === undefined) return `NOT MEASURED ${promised}`;
  return `${floor.held ? 'ok' : 'MISSED'} ${promised}`;
}

function count(value: number): string {
  return Math.round(value).toLocaleString('en-US');
}

/** Pads cells to columns: the first `leftCount` and the floors to the left, others to the right. */
function align(header: readonly string[], rows: readonly (readonly string[])[], leftCount: number): string {
  const lines = [header, ...rows];
  const widths = header.map((_, column) => Math.max(...lines.map((line) => line[column]?.length ?? 0)));
  return lines
    .map((line) =>
      line
        .map((cell, column) => {
          const isText = column < leftCount || header[column] === 'floors';
          return isText ? cell.padEnd(widths[column] ?? 0) : cell.padStart(widths[column] ?? 0);
        })
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}
