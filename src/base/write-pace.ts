/**
 * Whether the kernel takes writes at once. No I/O.
 *
 * A write to the page cache is a copy of some microseconds, far less than a trip through the thread pool; but a kernel
 * that has too much to write back, or no memory, makes the writer sleep. So one slow write is the sign to stop writing
 * on the event loop for a while: longer each time, as long as it goes on being slow.
 */

/** A write that takes longer has slept. */
const SLOW_MS = 5;
const PAUSE_MS_MIN = 100;
const PAUSE_MS_MAX = 60_000;

export class WritePace {
  #pauseMs = PAUSE_MS_MIN;
  #pausedUntil = -Infinity;

  /** True if a write at `now` may be expected not to wait. */
  isPrompt(now: number): boolean {
    return now >= this.#pausedUntil;
  }

  /** Takes note of a write that was done at once, from `began` to `ended`. */
  note(began: number, ended: number): void {
    if (ended - began < SLOW_MS) return;
    const isAgain = began - this.#pausedUntil < this.#pauseMs;
    this.#pauseMs = isAgain ? Math.min(2 * this.#pauseMs, PAUSE_MS_MAX) : PAUSE_MS_MIN;
    this.#pausedUntil = ended + this.#pauseMs;
  }
}
