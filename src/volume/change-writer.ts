/**
 * Changes of the catalog on their way into the log.
 *
 * Invariants:
 * - Changes are decided and appended one at a time, and take effect in the step in which the log has them, before anything
 *   behind them is packed.
 * - One that finds no room while a round of compaction has it is decided anew behind that. Nobody waits in the turn of changes:
 *   a round ends with a catalog, which needs that turn.
 */

import { hasCode, StoreError } from '../base/errors.ts';
import { Mutex } from '../base/mutex.ts';
import { Append, AppendPromise } from '../log/append.ts';
import type { ChunkLog } from '../log/chunk-log.ts';
import type { Numbers } from '../log/numbers.ts';
import { TEXT_BYTES_MAX } from '../log/record-packer.ts';
import type { Change } from './change.ts';

/** Rounds of compaction that a change waits for. */
const ROUNDS_MAX = 20;

export class ChangeWriter {
  readonly #log: ChunkLog;
  readonly #numbers: Numbers;
  readonly #mutex = new Mutex();
  readonly #apply: (change: Change, sequence: number) => void;
  #isClosed = false;
  /** Undefined unless room is about to come; resolves when it has, or has not. */
  roomComing: () => Promise<void> | undefined = () => undefined;

  constructor(log: ChunkLog, numbers: Numbers, apply: (change: Change, sequence: number) => void) {
    this.#log = log;
    this.#numbers = numbers;
    this.#apply = apply;
  }

  /** Runs a step while no change is under way. */
  between<T>(step: () => Promise<T>): Promise<T> {
    return this.#mutex.run(step);
  }

  /**
   * Runs `body` while no other change is under way; it may take up to `labels` labels, and `append` one change. Where there was
   * no room for that, it is run again.
   */
  async run<T>(labels: number, body: () => Promise<T>): Promise<T> {
    for (let rounds = 0; ; rounds++) {
      try {
        return await this.#runOnce(labels, body);
      } catch (error) {
        const coming = this.roomComing();
        if (!hasCode(error, 'NO_SPACE') || coming === undefined || rounds === ROUNDS_MAX) throw error;
        await coming;
      }
    }
  }

  #runOnce<T>(labels: number, body: () => Promise<T>): Promise<T> {
    return this.#mutex.run(async () => {
      if (this.#isClosed) throw new StoreError('CLOSED', 'the store is closed');
      if (labels > 0) await this.#numbers.reserve('labels', labels);
      return await body();
    });
  }

  takeLabel(): number {
    return this.#numbers.take('labels');
  }

  /** Appends a change from within `run`; it has taken effect when this resolves. @throws NO_SPACE, IO, POISONED */
  async append(change: Change): Promise<void> {
    const text = JSON.stringify(change);
    if (Buffer.byteLength(text) > TEXT_BYTES_MAX)
      throw new StoreError('INVALID_ARGUMENT', 'that is too much for one change; name fewer at once');
    const owner = new AppendPromise((append) => this.#apply(change, append.sequence));
    this.#log.submit(Append.change(owner, text));
    await owner.promise;
  }

  /** Waits for what is under way; nothing is changed any more. */
  async close(): Promise<void> {
    this.#isClosed = true;
    await this.#mutex.run(async () => undefined);
  }
}
