/** A clock that stands still until a test moves it. */

import type { Clock } from '../../src/base/clock.ts';

export class ManualClock implements Clock {
  #now = 1_700_000_000_000;
  #timers: { at: number; action: () => void }[] = [];

  now(): number {
    return this.#now;
  }

  after(delayMs: number, action: () => void): () => void {
    const timer = { at: this.#now + delayMs, action };
    this.#timers.push(timer);
    return () => {
      this.#timers = this.#timers.filter((each) => each !== timer);
    };
  }

  get waiting(): number {
    return this.#timers.length;
  }

  /** Time goes on; what is due is called, in order. */
  advance(ms: number): void {
    this.#now += ms;
    const due = this.#timers.filter((timer) => timer.at <= this.#now).sort((a, b) => a.at - b.at);
    this.#timers = this.#timers.filter((timer) => timer.at > this.#now);
    for (const timer of due) timer.action();
  }
}
