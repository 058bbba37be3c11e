/**
 * What is logged of clients that do what they should not: the 1st, 2nd, 4th, 8th ... time for each reason, with how often it
 * was. Whoever knocks ten thousand times writes no ten thousand lines.
 */

import type { Logger } from 'pino';

export class Complaints {
  readonly #logger: Logger;
  readonly #counts = new Map<string, number>();

  constructor(logger: Logger) {
    this.#logger = logger;
  }

  /** `reason` is one of a few: nothing that a client made up. */
  note(reason: string, connection: number): void {
    const count = (this.#counts.get(reason) ?? 0) + 1;
    this.#counts.set(reason, count);
    if ((count & (count - 1)) === 0) this.#logger.info({ reason, connection, count }, 'a client was refused');
  }
}
