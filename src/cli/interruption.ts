/**
 * SIGINT, SIGTERM and SIGHUP as something that work can notice, to clean up before it ends.
 *
 * Invariants: the first signal aborts, a second ends the process at once. A signal that comes right behind another is
 * the same press of a key: the terminal sends one to each process, and npm passes on its own.
 */

import { EXIT, Interrupted } from './exit-codes.ts';

const SAME_PRESS_MS_MAX = 200;
const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

export interface Interruption {
  /** Aborted with an `Interrupted`. */
  readonly signal: AbortSignal;
  /** Gives the signals back to the system. */
  release(): void;
}

export function catchInterruption(): Interruption {
  const controller = new AbortController();
  let firstAt = 0;
  const onSignal = (name: NodeJS.Signals): void => {
    if (!controller.signal.aborted) {
      firstAt = performance.now();
      controller.abort(new Interrupted(name === 'SIGINT' ? 'SIGINT' : 'SIGTERM'));
    } else if (performance.now() - firstAt > SAME_PRESS_MS_MAX) {
      process.exit(name === 'SIGINT' ? EXIT.interrupted : EXIT.terminated);
    }
  };
  for (const name of SIGNALS) process.on(name, onSignal);
  return {
    signal: controller.signal,
    release: () => {
      for (const name of SIGNALS) process.off(name, onSignal);
    },
  };
}

/** Runs `work`, which is told of signals meanwhile. */
export async function interruptible(work: (signal: AbortSignal) => Promise<void>): Promise<void> {
  const interruption = catchInterruption();
  try {
    await work(interruption.signal);
  } finally {
    interruption.release();
  }
}
