/** Taking turns on the event loop. */

/** Whoever works for long stops again and again for whatever else there is to do. */
export function othersFirst(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
