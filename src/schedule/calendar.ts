/**
 * The moments that a cron pattern names in a time zone. Pure; the pattern is read by croner.
 *
 * A pattern cuts time into periods: one begins at each of its moments and ends at the next one, by which it is named here. A
 * moment belongs to the period that it begins.
 *
 * Daylight saving: a time of day that is skipped stands at the end of the gap, one that comes twice counts the first time; what
 * goes by hours or minutes counts as they pass.
 *
 * Invariant: finding a moment takes long (tens of microseconds), so stretches of time that are known to have none are kept, a
 * bounded number of them. `next` answers the same with and without.
 */

import { Cron } from 'croner';

/** Stretches that one calendar keeps: more than a volume has snapshots of a schedule. */
const STRETCHES_MAX = 1 << 14;
const PATTERN_CHARACTERS_MAX = 128;
/** Any moment: a pattern that names none behind it never names one. */
const SOME_DAY_MS = Date.UTC(2024, 0, 1);
/** The last moment that a date can be. */
const TIME_MS_MAX = 8.64e15;

export class Calendar {
  readonly #cron: Cron;
  /** No moment stands behind `from` and before `end`, which is one. By `end`; they do not overlap. */
  readonly #stretches: { from: number; readonly end: number }[] = [];

  /** @throws TypeError, RangeError if that is no pattern or no zone */
  constructor(pattern: string, timeZone: string) {
    this.#cron = new Cron(pattern, { timezone: timeZone, mode: '5-part' });
  }

  /** The first moment behind `after`, in milliseconds since 1970; Infinity if there is none. */
  next(after: number): number {
    const at = this.#firstEndingBehind(after);
    const known = this.#stretches[at];
    if (known !== undefined && known.from <= after) return known.end;
    const end = this.#find(after);
    if (known?.end === end) known.from = after;
    else if (this.#stretches.length < STRETCHES_MAX) this.#stretches.splice(at, 0, { from: after, end });
    else this.#stretches.splice(0, STRETCHES_MAX, { from: after, end }); // what is still asked for comes back
    return end;
  }

  #find(after: number): number {
    if (!(Math.abs(after) <= TIME_MS_MAX)) return Infinity;
    return this.#cron.nextRun(new Date(after))?.getTime() ?? Infinity;
  }

  #firstEndingBehind(after: number): number {
    let [low, high] = [0, this.#stretches.length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#stretches[middle]!.end > after) high = middle;
      else low = middle + 1;
    }
    return low;
  }
}

/** Why that is no calendar, as a sentence that says what to do; undefined if it is one. */
export function calendarProblem(pattern: string, timeZone: string): string | undefined {
  const zone = timeZoneProblem(timeZone);
  if (zone !== undefined) return zone;
  const shown = JSON.stringify(pattern.slice(0, PATTERN_CHARACTERS_MAX));
  const advice = 'write five fields: minute, hour, day of the month, month, day of the week';
  // A question mark would be this moment.
  const isSound = pattern.length <= PATTERN_CHARACTERS_MAX && /^[^\s?]+( [^\s?]+){4}$/.test(pattern);
  if (!isSound) return `${shown} is no cron pattern; ${advice}`;
  try {
    if (new Calendar(pattern, timeZone).next(SOME_DAY_MS) < Infinity) return undefined;
  } catch {
    return `${shown} is no cron pattern; ${advice}`;
  }
  return `${shown} never comes; choose days that there are`;
}

function timeZoneProblem(timeZone: string): string | undefined {
  try {
    new Intl.DateTimeFormat('en', { timeZone });
    return undefined;
  } catch {
    const shown = JSON.stringify(timeZone.slice(0, PATTERN_CHARACTERS_MAX));
    return `${shown} is no time zone that is known here; write one such as Europe/Berlin, or UTC`;
  }
}
