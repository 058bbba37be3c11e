/** How far the making of an index from the log has come: told to whoever waits for it, and to the log every few seconds. */

import type { Clock } from '../base/clock.ts';
import type { Logger } from '../base/logger.ts';
import type { SegmentNumber } from '../base/units.ts';
import type { WholeLog } from './whole-log.ts';

const LOG_EVERY_MS = 5_000;

export interface RebuildStep {
  /** Segments that have been read, or begun. */
  readonly segments: number;
  /** Of how many. */
  readonly of: number;
}

/** Told of each segment that is begun. */
export type RebuildObserver = (step: RebuildStep) => void;

export class RebuildProgress {
  readonly #whole: WholeLog;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #observe: RebuildObserver | undefined;
  readonly #startedAt: number;
  #toldAt: number;
  #segment: SegmentNumber = 0;
  /** What stands before the base is read by itself. */
  readonly #begun = new Set<SegmentNumber>();

  constructor(whole: WholeLog, clock: Clock, logger: Logger, observe?: RebuildObserver) {
    this.#whole = whole;
    this.#clock = clock;
    this.#logger = logger;
    this.#observe = observe;
    this.#startedAt = clock.now();
    this.#toldAt = this.#startedAt;
  }

  /** To be called with the segment of each record, in the order of the replay. */
  reached(segment: SegmentNumber): void {
    if (segment !== this.#segment) {
      this.#segment = segment;
      this.#begun.add(segment);
      this.#observe?.(this.step);
    }
    const now = this.#clock.now();
    if (now - this.#toldAt < LOG_EVERY_MS) return;
    this.#toldAt = now;
    this.#logger.info({ ...this.step, ms: now - this.#startedAt }, 'making the index anew');
  }

  /** What to tell at the end. */
  get result(): RebuildStep & { ms: number } {
    return { ...this.step, ms: this.#clock.now() - this.#startedAt };
  }

  /** Segments may be begun while the log is read. */
  get step(): RebuildStep {
    const segments = this.#begun.size;
    return { segments, of: Math.max(segments, this.#whole.segmentCount) };
  }
}
