/**
 * How long to wait before what has failed is tried again: twice as long each time, from one second to five minutes, and of
 * that a part by chance, so that many do not come back at once. Pure.
 */

const WAIT_MS_MIN = 1000;
const WAIT_MS_MAX = 300_000;

/** `failures` in a row, at least one; `chance` from 0 to 1. At least half of the full time. */
export function waitMs(failures: number, chance: number): number {
  const full = Math.min(WAIT_MS_MAX, WAIT_MS_MIN * 2 ** Math.min(failures - 1, 30));
  return Math.max(WAIT_MS_MIN, Math.round(full * (0.5 + chance / 2)));
}
