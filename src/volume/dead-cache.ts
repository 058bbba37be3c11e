/**
 * Gives back the page cache of segments in which hardly anything lives any more: its memory is of more use elsewhere.
 *
 * Invariant: one at a time, in the order in which they came; a segment waits once. A checkpoint may name hundreds, and what
 * has to be done for writers must not wait behind them.
 */

import type { Logger } from '../base/logger.ts';
import type { SegmentFiles } from '../log/segment-files.ts';

export class DeadCache {
  readonly #files: SegmentFiles;
  readonly #logger: Logger;
  readonly #waiting = new Set<number>();
  #running: Promise<void> | undefined;

  constructor(files: SegmentFiles, logger: Logger) {
    this.#files = files;
    this.#logger = logger;
  }

  drop(segments: Iterable<number>): void {
    for (const segment of segments) this.#waiting.add(segment);
    this.#running ??= this.#run().finally(() => {
      this.#running = undefined;
    });
  }

  /** Never rejects. */
  async #run(): Promise<void> {
    for (const segment of this.#waiting) {
      this.#waiting.delete(segment);
      await this.#files.dropCached(segment).catch((error: unknown) => {
        // Compaction may have taken it away meanwhile.
        this.#logger.debug({ err: error, segment }, 'the cache of a dead segment was not dropped');
      });
    }
  }

  async close(): Promise<void> {
    this.#waiting.clear();
    await this.#running;
  }
}
