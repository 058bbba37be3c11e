/** Figures in columns, next to what they should be. Pure. */

/** What the release promises. Amplification, overhead and index are those at 80 % live. */
export const TARGETS = {
  level: 80,
  amplification: { uniform: 2.85, zipf: 2.05, hot: 1.85, vm: 2.3 },
  overheadPercent: 3,
  index: 0.15,
  p99Ratio: 1.5,
  /** While an endless store is written: log over live bytes, and segments beside it. */
  endlessShare: 1.5,
  endlessSegments: 8,
  /** Within a minute of idling. */
  idleShare: 1.35,
  /** Behind `compact`. */
  compactedShare: 1.06,
  /** Reading an aged volume in order, by a fresh one: behind `compact`, if idling does not do. */
  agedRatioMin: 0.9,
} as const;

export interface Report {
  readonly title: string;
  readonly head: readonly string[];
  readonly rows: readonly (readonly string[])[];
  /** All figures, for programs. */
  readonly figures: unknown;
}

/** `value (<= target)`, with a cry if it is not. */
export function against(value: number, target: number, digits = 2): string {
  const verdict = value <= target ? '' : ' MISSED';
  return `${value.toFixed(digits)} (<= ${target}${verdict})`;
}

export function drawReport({ title, head, rows }: Report): string {
  const widths = head.map((_, column) => Math.max(...[head, ...rows].map((row) => row[column]!.length)));
  const lines = [head, ...rows].map((row) =>
    row
      .map((cell, column) => cell.padEnd(widths[column]!))
      .join('  ')
      .trimEnd(),
  );
  return `${title}\n${lines.join('\n')}\n`;
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length / 2;
  return (sorted[Math.floor(middle - 0.5)]! + sorted[Math.floor(middle)]!) / 2;
}
