/**
 * Spreads work over time, so that no more than so many units (bytes, connections) are done in a second. No I/O.
 *
 * What was not used is lost, but for a moment: a long pause (a busy disk, a machine that slept) is not made up for by
 * going faster behind it. What was done too early may be forgiven, but for a moment, as well.
 */

const UNUSED_MS_MAX = 100;

export class Rate {
  readonly #perSecond: number;
  readonly #unusedMsMax: number;
  readonly #owedMsMax: number;
  #freeAt = Number.NEGATIVE_INFINITY;

  /** `owedMsMax`: what whoever does not wait owes at most. */
  constructor(perSecond: number, unusedMsMax: number = UNUSED_MS_MAX, owedMsMax = Number.POSITIVE_INFINITY) {
    this.#perSecond = perSecond;
    this.#unusedMsMax = unusedMsMax;
    this.#owedMsMax = owedMsMax;
  }

  /** Takes `units` at `now`; answers how many milliseconds whoever does them has to wait first. */
  take(units: number, now: number): number {
    const from = Math.max(this.#freeAt, now - this.#unusedMsMax);
    this.#freeAt = Math.min(from + (1000 * units) / this.#perSecond, now + this.#owedMsMax);
    return Math.max(0, from - now);
  }
}
