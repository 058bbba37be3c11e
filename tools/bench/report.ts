// The tables a benchmark prints. No I/O.

import type { Change } from './compare.ts';
import { type FloorResult, promiseOf } from './floors.ts';
import type { FigureName, Spread, Summary } from './summary.ts';

const HEAD = [
  'load',
  'peer',
  '',
  'spread',
  'coppice is',
  'p50 us',
  'p99 us',
  'p99.9 us',
  'CPU s/100k',
  'CPU s/GiB',
];
const FIGURE_TITLES: Record<FigureName, string> = {
  value: '',
  p50Us: 'p50 us',
  p99Us: 'p99 us',
  p999Us: 'p99.9 us',
  flushP50Us: 'flush p50 us',
  cpuPer100k: 'CPU s/100k',
  cpuPerGib: 'CPU s/GiB',
  ratio: 'coppice is',
};

/** A row for each load on each peer. */
export function summaryTable(summaries: readonly Summary[]): string {
  let last = '';
  const rows = summaries.map(({ load, title, unit, peer, figures }) => {
    const { value, ratio, p50Us, p99Us, p999Us, flushP50Us, cpuPer100k, cpuPerGib } = figures;
    const first = load === last ? '' : title;
    last = load;
    return [
      first,
      peer,
      `${number(value?.median)} ${unit}`,
      value === undefined || value.count < 2 ? '' : `${number(value.min)}-${number(value.max)}`,
      ratio === undefined ? '' : `${number(ratio.median)}x`,
      // A write that waits for its flush takes both.
      flushP50Us === undefined
        ? number(p50Us?.median)
        : `${number(p50Us?.median)}+${number(flushP50Us.median)}`,
      number(p99Us?.median),
      number(p999Us?.median),
      number(cpuPer100k?.median),
      number(cpuPerGib?.median),
    ];
  });
  return align(HEAD, rows, [0, 1]);
}

/** A row for each promise. */
export function floorTable(floors: readonly FloorResult[]): string {
  const rows = floors.map((floor) => [
    floor.load,
    floor.peer ?? 'coppice',
    promiseOf(floor),
    floor.measured === undefined ? 'NOT MEASURED' : `${number(floor.measured)}x`,
    floor.held ? 'held' : floor.isAim === true ? 'not yet' : 'MISSED',
  ]);
  return align(['load', 'peer', 'promised', 'measured', ''], rows, [0, 1, 2, 4]);
}

/** A row for each figure that has changed. */
export function changeTable(changes: readonly Change[]): string {
  if (changes.length === 0) return 'nothing has changed by more than the spread';
  const rows = changes.map(({ load, peer, figure, before, after }) => [
    load,
    peer,
    FIGURE_TITLES[figure],
    told(before),
    told(after),
    `${number(after.median / before.median)}x`,
  ]);
  return align(['load', 'peer', 'figure', 'before', 'now', 'change'], rows, [0, 1, 2]);
}

function told({ median, min, max, count }: Spread): string {
  return count < 2 ? number(median) : `${number(median)} (${number(min)}-${number(max)})`;
}

/** Three digits that count, and thousands apart. */
export function number(value: number | undefined): string {
  if (value === undefined) return '';
  const size = Math.abs(value);
  const digits = size >= 100 || size === 0 ? 0 : size >= 10 ? 1 : size >= 0.1 ? 2 : 3;
  return value.toLocaleString('en-US', { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

/** Pads cells to columns: those of `left` to the left, others to the right. */
export function align(
  header: readonly string[],
  rows: readonly (readonly string[])[],
  left: readonly number[],
): string {
  const lines = [header, ...rows];
  const widths = header.map((_, column) => Math.max(...lines.map((line) => line[column]?.length ?? 0)));
  return lines
    .map((line) =>
      line
        .map((cell, column) =>
          left.includes(column) ? cell.padEnd(widths[column] ?? 0) : cell.padStart(widths[column] ?? 0),
        )
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}
