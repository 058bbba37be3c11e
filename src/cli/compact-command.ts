/** `coppice compact` and `coppice compaction`: gives the room of dead chunks back, now or by itself. */

import type { CompactionEstimate, CompactionProgress, ThoroughOptions } from '../compaction/thorough.ts';
import type { Door } from '../server/door.ts';
import type { Output } from './output.ts';
import { Progress } from './progress.ts';
import { formatSize } from './size.ts';

/** Says what `compact` would do. */
export async function estimateCompaction(
  door: Door,
  output: Output,
  options: ThoroughOptions,
): Promise<void> {
  const estimate = await door.estimateCompaction(options);
  output.print(estimate, () => drawEstimate(estimate));
}

function drawEstimate({ victims, movedBytes, freedBytes }: CompactionEstimate): string {
  if (victims === 0) return 'nothing to be gained\n';
  return `${victims} segments would be emptied: ${formatSize(movedBytes)} copied, about ${formatSize(freedBytes)} given back\n`;
}

export async function compactStore(door: Door, output: Output, options: ThoroughOptions): Promise<void> {
  let last: CompactionProgress = { movedBytes: 0, freedBytes: 0, totalBytes: 0 };
  let progress: Progress | undefined;
  try {
    for await (const step of door.compact(options)) {
      progress ??= new Progress('compacting', step.totalBytes);
      progress.add(step.movedBytes - last.movedBytes);
      last = step;
    }
  } finally {
    progress?.end();
  }
  const { movedBytes, freedBytes } = last;
  output.print({ movedBytes, freedBytes }, () =>
    movedBytes === 0 && freedBytes === 0
      ? 'nothing to be gained\n'
      : `copied ${formatSize(movedBytes)}, gave ${formatSize(Math.max(0, freedBytes))} back\n`,
  );
}

export async function pauseCompaction(door: Door, output: Output, isPaused: boolean): Promise<void> {
  await door.pauseCompaction(isPaused);
  const { compaction } = await door.status({ atCheckpoint: true });
  output.print(compaction, () => (isPaused ? 'compaction is paused\n' : 'compaction goes on\n'));
}
