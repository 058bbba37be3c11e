/**
 * Spreads reads over time, so that no more than so many bytes are read in a second. No I/O.
 *
 * What was not used is lost, but for a moment: a long pause (a busy disk, a machine that slept) is not made up for by
 * reading faster behind it.
 */

const UNUSED_MS_MAX = 100;

export class ReadPace {
  readonly #bytesPerSecond: number;
  #freeAt = Number.NEGATIVE_INFINITY;

  constructor(bytesPerSecond: number) {
    this.#bytesPerSecond = bytesPerSecond;
  }

  /** Takes `bytes` at `now`; answers how many milliseconds whoever reads them has to wait first. */
  take(bytes: number, now: number): number {
    const from = Math.max(this.#freeAt, now - UNUSED_MS_MAX);
    this.#freeAt = from + (1000 * bytes) / this.#bytesPerSecond;
    return Math.max(0, from - now);
  }
}
