/** Whether writers may go on: what is behind the checkpoint is bounded, and so is the room that the log takes. */

import type { Background } from '../compaction/background.ts';
import type { IndexKeeper } from './index-keeper.ts';

export class WriteGate {
  readonly #keeper: IndexKeeper;
  readonly #background: Background | undefined;

  constructor(keeper: IndexKeeper, background: Background | undefined) {
    this.#keeper = keeper;
    this.#background = background;
  }

  get isOpen(): boolean {
    return this.#keeper.hasRoom && this.#background?.hasRoom !== false;
  }

  /** Resolves when writers may go on; also when nothing is under way that would make room. */
  async opened(): Promise<void> {
    await this.#background?.room();
    await this.#keeper.room();
  }
}
