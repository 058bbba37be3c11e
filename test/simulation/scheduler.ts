/**
 * The order in which things come to pass: every call that leaves the store is parked here, and completes when its
 * turn has been drawn. Also the clock, which only moves when something completes or when somebody sleeps.
 *
 * Invariants: nothing but the seed decides the order, so the same seed gives the same trace, and the same hash of it.
 * After `halt` nothing completes any more: what waits, waits for ever, like a process that is gone.
 */

import type { Clock } from '../../src/base/clock.ts';
import type { Random } from '../support/random.ts';

interface Parked {
  kind: string;
  complete(): void;
}

interface Timer {
  at: number;
  action(): void;
}

export interface SchedulerOptions {
  /** Longest time that one completion takes, in microseconds. */
  latencyMaxUs: number;
  /** Calls of this kind wait as long as there are others, most of the time. */
  slow: string | undefined;
  /** In order, most of the time. */
  inOrder: boolean;
}

/** Turns of the event loop in which a store that is not stuck does something; steps in which a life is over. */
const TURNS_MAX = 1000;
const STEPS_MAX = 100_000;

/** A hash that goes on from another. */
export function hashOf(text: string, from: number): number {
  let hash = from;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  return hash >>> 0;
}

export class Scheduler implements Clock {
  readonly #random: Random;
  readonly #options: SchedulerOptions;
  #parked: Parked[] = [];
  #timers: Timer[] = [];
  #sleepers = 0;
  #nowUs: number;
  #isRunning = false;
  #isHalted = false;
  #pauses = 0;
  /** Of all that has completed, in order. */
  traceHash = 0x811c9dc5;
  steps = 0;
  /** Resolves when the store waits for what will never come, or goes round for ever. */
  readonly stuck: Promise<void>;
  #isStuck: () => void = () => undefined;

  constructor(random: Random, options: SchedulerOptions, nowMs: number) {
    this.#random = random;
    this.#options = options;
    this.#nowUs = nowMs * 1000;
    this.stuck = new Promise((resolve) => {
      this.#isStuck = resolve;
    });
  }

  now(): number {
    return Math.floor(this.#nowUs / 1000);
  }

  after(delayMs: number, action: () => void): () => void {
    const timer = { at: this.#nowUs + delayMs * 1000, action };
    this.#timers.push(timer);
    return () => {
      const at = this.#timers.indexOf(timer);
      if (at >= 0) this.#timers.splice(at, 1);
    };
  }

  /** Virtual time passes; it jumps when nothing else is to be done. */
  sleep(ms: number): Promise<void> {
    this.#sleepers += 1;
    this.#run();
    return new Promise((resolve) => {
      this.after(ms, () => {
        this.#sleepers -= 1;
        resolve();
      });
    });
  }

  /** Completes `act` at its turn; `detail` goes into the trace. */
  park<T>(kind: string, detail: string, act: () => T): Promise<T> {
    if (this.#isHalted) return new Promise(() => undefined);
    return new Promise<T>((resolve, reject) => {
      this.#parked.push({
        kind,
        complete: () => {
          this.#note(kind, detail);
          try {
            resolve(act());
          } catch (error) {
            this.#note('failed', kind);
            reject(error as Error);
          }
        },
      });
      this.#run();
    });
  }

  #note(kind: string, detail: string): void {
    this.traceHash = hashOf(detail, hashOf(kind, this.traceHash));
  }

  halt(): void {
    this.#isHalted = true;
    this.#parked = [];
    this.#timers = [];
  }

  /** Nothing completes while `work` runs. */
  async paused<T>(work: () => Promise<T>): Promise<T> {
    this.#pauses += 1;
    try {
      return await work();
    } finally {
      this.#pauses -= 1;
      this.#run();
    }
  }

  #run(): void {
    if (this.#isRunning || this.#isHalted) return;
    this.#isRunning = true;
    setImmediate(() => this.#step());
  }

  #step(): void {
    if (this.#isHalted || this.#pauses > 0 || (this.#parked.length === 0 && this.#sleepers === 0)) {
      this.#isRunning = false;
      if (!this.#isHalted) setImmediate(() => this.#watch(this.steps, TURNS_MAX));
      return;
    }
    this.steps += 1;
    if (this.steps > STEPS_MAX) this.#isStuck();
    // In a step of its own: what has just completed has taken effect by then.
    if (this.#timers.some((timer) => timer.at <= this.#nowUs)) this.#fire();
    else if (this.#parked.length > 0) {
      this.#nowUs += this.#random.below(this.#options.latencyMaxUs);
      const [next] = this.#parked.splice(this.#draw(), 1);
      next!.complete();
    } else {
      this.#nowUs = Math.max(this.#nowUs, Math.min(...this.#timers.map((timer) => timer.at)));
    }
    setImmediate(() => this.#step());
  }

  /** Nothing is parked: in the next turns something must be, or the end come. */
  #watch(steps: number, turns: number): void {
    if (this.#isHalted || this.#isRunning || this.#pauses > 0 || this.steps !== steps) return;
    if (turns === 0) this.#isStuck();
    else setImmediate(() => this.#watch(steps, turns - 1));
  }

  #draw(): number {
    const { slow, inOrder } = this.#options;
    if (this.#parked.length === 1 || (inOrder && this.#random.chance(90))) return 0;
    const at = this.#random.below(this.#parked.length);
    if (slow === undefined || this.#parked[at]!.kind !== slow || this.#random.chance(10)) return at;
    const other = this.#parked.findIndex((each) => each.kind !== slow);
    return other < 0 ? at : other;
  }

  #fire(): void {
    const due = this.#timers.filter((timer) => timer.at <= this.#nowUs).sort((a, b) => a.at - b.at);
    this.#timers = this.#timers.filter((timer) => timer.at > this.#nowUs);
    for (const timer of due) timer.action();
  }
}
