// What has changed since an earlier run, beyond the spread of both. No I/O.
//
// A change counts if each side's median lies outside of all that the other side has measured. A single round has no
// spread: then it counts from SINGLE_ROUND_SHARE on.

import type { Results } from './results.ts';
import { FIGURE_NAMES, type FigureName, type Spread, type Summary } from './summary.ts';

const SINGLE_ROUND_SHARE = 0.3;

export interface Change {
  readonly load: string;
  readonly peer: string;
  readonly figure: FigureName;
  readonly before: Spread;
  readonly after: Spread;
}

/** In the order of the run of now; what only one of the runs has is passed by. */
export function changesSince(before: readonly Summary[], after: readonly Summary[]): Change[] {
  return after.flatMap(({ load, peer, figures }) => {
    const old = before.find((summary) => summary.load === load && summary.peer === peer);
    return FIGURE_NAMES.flatMap((figure) => {
      const [was, is] = [old?.figures[figure], figures[figure]];
      return was !== undefined && is !== undefined && differ(was, is)
        ? [{ load, peer, figure, before: was, after: is }]
        : [];
    });
  });
}

/** What keeps the figures of two runs from being compared, if anything does, in one line each. */
export function differencesOfRuns(before: Results, after: Results): string[] {
  const of = ({ machine, seconds, sizes }: Results): Record<string, string> => ({
    processor: `${machine.cpuCount} x ${machine.cpuModel}`,
    kernel: machine.kernel,
    node: machine.node,
    'file system': machine.fileSystem.type,
    'seconds of a run': String(seconds),
    sizes: JSON.stringify(sizes),
  });
  // Tools that only one of the runs had are of peers that are not compared.
  const [old, now] = [
    { ...of(before), ...before.tools },
    { ...of(after), ...after.tools },
  ];
  return Object.keys(now)
    .filter((what) => old[what] !== undefined && old[what] !== now[what])
    .map((what) => `another ${what}: ${old[what]} before, ${now[what]} now`);
}

function differ(before: Spread, after: Spread): boolean {
  if (Math.min(before.count, after.count) < 2)
    return Math.abs(after.median / before.median - 1) > SINGLE_ROUND_SHARE;
  return isOutside(after.median, before) && isOutside(before.median, after);
}

const isOutside = (value: number, { min, max }: Spread): boolean => value < min || value > max;
