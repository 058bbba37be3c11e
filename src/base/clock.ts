/**
 * Time as the store sees it. Below the doors nobody reads the machine's clock: it is passed in, so that a test can
 * stop it. Wall time only names moments for people; nothing is ever ordered by it.
 */

export interface Clock {
  /** Milliseconds since 1970. */
  now(): number;
  /** Calls `action` once after `delayMs`; the answer cancels it. Does not keep the process alive. */
  after(delayMs: number, action: () => void): () => void;
}

export const systemClock: Clock = {
  now: () => Date.now(),
  after(delayMs, action) {
    const timer = setTimeout(action, delayMs);
    timer.unref();
    return () => clearTimeout(timer);
  },
};
