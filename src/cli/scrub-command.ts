/**
 * `coppice scrub`: reads all of the log at a pace, prints what is damaged as it is found, and says in the exit code whether
 * anything is.
 *
 * Invariants: the store goes on working; stopped on the way it says how far it came, and never that the store is clean.
 * With `--json` a line of JSON for each finding, and one at the end that sums up.
 */

import type { Door } from '../server/door.ts';
import type { ScrubOptions } from '../volume/scrub.ts';
import type { ScrubStep } from '../volume/summary.ts';
import { EXIT, type ExitCode } from './exit-codes.ts';
import type { Output } from './output.ts';
import { Progress } from './progress.ts';
import { formatSize } from './size.ts';

export async function scrubStore(
  door: Door,
  output: Output,
  options: ScrubOptions,
  signal: AbortSignal,
): Promise<ExitCode> {
  const began = performance.now();
  let last: ScrubStep = { readBytes: 0, totalBytes: 0, findings: [] };
  let progress: Progress | undefined;
  let damage = 0;
  let isWhole = false;
  try {
    for await (const step of door.scrub(options, signal)) {
      progress ??= new Progress('scrub', step.totalBytes);
      if (step.findings.length > 0) progress.end(); // the line is drawn again behind them
      for (const finding of step.findings) {
        if (finding.severity === 'damage') damage += 1;
        const { severity, message, code } = finding;
        output.raw(output.json ? `${JSON.stringify(finding)}\n` : `${severity}: ${message} [${code}]\n`);
      }
      progress.add(step.readBytes - last.readBytes);
      last = step;
    }
    isWhole = true;
  } finally {
    progress?.end();
    const { readBytes, totalBytes } = last;
    const ms = Math.round(performance.now() - began);
    // One that was refused has not begun.
    if (progress !== undefined)
      output.raw(
        output.json
          ? `${JSON.stringify({ readBytes, totalBytes, damage, isWhole, ms })}\n`
          : drawResult(last, damage, isWhole, ms),
      );
  }
  return damage === 0 ? EXIT.ok : EXIT.findings;
}

function drawResult(
  { readBytes, totalBytes }: ScrubStep,
  damage: number,
  isWhole: boolean,
  ms: number,
): string {
  const read = isWhole
    ? `read ${formatSize(readBytes)} in ${(ms / 1000).toFixed(1)} s`
    : `stopped after ${formatSize(readBytes)} of ${formatSize(totalBytes)}`;
  if (damage > 0) return `${read}: ${damage} finding${damage === 1 ? '' : 's'}\n`;
  return isWhole ? `${read}: clean\n` : `${read}: nothing found so far\n`;
}
