/**
 * Spreads work over time, so that no more than so many units (bytes, connections) are done in a second. No I/O.
 *
 * What was not used is lost, but for a moment: a long pause (a busy disk, a machine that slept) is not made up for by
 * going faster behind it.
 */

const UNUSED_MS_MAX = 100;

export class Rate {
  readonly #perSecond: number;
  readonly #unusedMsMax: number;
  #freeAt = Number.NEGATIVE_INFINITY;

  constructor(perSecond: number, unusedMsMax: number = UNUSED_MS_MAX) {
    this.#perSecond = perSecond;
    this.#unusedMsMax = unusedMsMax;
  }

  /** Takes `units` at `now`; answers how many milliseconds whoever does them has to wait first. */
  take(units: number, now: number): number {
    const from = Math.max(this.#freeAt, now - this.#unusedMsMax);
    this.#freeAt = from + (1000 * units) / this.#perSecond;
    return Math.max(0, from - now);
  }
}
