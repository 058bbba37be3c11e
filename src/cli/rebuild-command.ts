/** `coppice rebuild-index`: makes the index anew from the log, in a process of its own. */

import { hasCode, StoreError } from '../base/errors.ts';
import type { RebuildStep } from '../volume/rebuild-progress.ts';
import { Store } from '../volume/store.ts';
import type { Output } from './output.ts';
import { Progress } from './progress.ts';
import { retryWhileOwned } from './reach-store.ts';

/** @throws LOCKED (naming the owner), and what opening throws */
export async function rebuildIndex(directory: string, output: Output): Promise<void> {
  const startedAt = performance.now();
  let progress: Progress | undefined;
  let last: RebuildStep = { segments: 0, of: 0 };
  const onRebuild = (step: RebuildStep): void => {
    progress ??= new Progress('making the index anew', step.of, process.stderr, 'segments');
    progress.add(step.segments - last.segments);
    last = step;
  };
  const open = (): Promise<Store> => Store.open(directory, { onRebuild, compacts: false });
  const store = await retryWhileOwned(open)
    .catch((error: unknown) => {
      if (!hasCode(error, 'LOCKED')) throw error;
      const { message } = error as StoreError;
      throw new StoreError('LOCKED', `${message}; a store that is served mends its index by itself`, error);
    })
    .finally(() => progress?.end());
  const ms = Math.round(performance.now() - startedAt);
  const versions = store.versionCount;
  await store.close();
  const { segments } = last;
  output.print({ segments, versions, ms }, () => {
    const read = `${count(segments, 'segment')} and ${count(versions, 'version')}`;
    return `made the index anew from ${read} in ${(ms / 1000).toFixed(1)} s\n`;
  });
}

function count(number: number, what: string): string {
  return `${number} ${what}${number === 1 ? '' : 's'}`;
}
