/**
 * When the next snapshot is due. Pure.
 *
 * Due is the first moment of any rule behind the last snapshot. So one that is late, because nobody was there to make it, is made
 * once, however many moments have passed; and a clock that is set back makes none again.
 *
 * But a clock that was far ahead, and is put right, must not end snapshots until it is there again: nothing is due later than the
 * second moment from now on. The first one may be the one that has been made already.
 */

import type { Followed } from './schedule.ts';

/** The first moment of any rule behind `after`; Infinity if there is none. Milliseconds since 1970. */
export function nextOf(rules: readonly Followed[], after: number): number {
  let first = Infinity;
  for (const { calendar } of rules) first = Math.min(first, calendar.next(after));
  return first;
}

/**
 * When the next snapshot is due, with the last one, or the schedule's beginning, at `last`. `planned` is what was answered for the
 * same `last` before: what was due is not put off when the clock is set back.
 */
export function dueAt(rules: readonly Followed[], last: number, now: number, planned = Infinity): number {
  return Math.min(planned, nextOf(rules, last), nextOf(rules, nextOf(rules, now)));
}
