/**
 * Finishes deletes in the background: takes the pointers of versions without a name out of the index, hands on what others
 * inherit, and takes the versions out of the tree.
 *
 * 1. A checkpoint: all that these versions wrote is in rows, and the catalog that the index goes by says that they are
 *    deleted. So no crash can bring one back that has lost pointers.
 * 2. Batch by batch, what the versions and the ghosts right above them have (index/prune-batches.ts).
 * 3. The tree forgets those that go. The next catalog in the log says so; until then a crash repeats 2, which finds
 *    hardly anything left to do.
 *
 * Invariants: one run at a time; versions that are deleted during a run wait for the next. A run that fails is repeated
 * from its beginning. The tree forgets versions while no index is made anew: that goes by what the tree has.
 */

import type { Clock } from '../base/clock.ts';
import { assert, AssertionError, hasCode, StoreError } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import { destiniesOf } from '../index/heirs.ts';
import { pruneBatches } from '../index/prune-batches.ts';
import { VersionView } from '../index/version-tree.ts';
import type { Numbers } from '../log/numbers.ts';
import type { Catalog } from './catalog.ts';
import type { IndexKeeper } from './index-keeper.ts';

/** How long a run that failed is not repeated; doubled each time. */
const RETRY_MS = 1000;
const RETRY_MS_MAX = 60_000;

export class VersionPruner {
  readonly #catalog: Catalog;
  readonly #keeper: IndexKeeper;
  readonly #numbers: Numbers;
  readonly #clock: Clock;
  readonly #logger: Logger;
  /** Runs a step while no change of the catalog is under way. */
  readonly #betweenChanges: <T>(step: () => Promise<T>) => Promise<T>;
  #running: Promise<void> | undefined;
  #cancelRetry: (() => void) | undefined;
  #retryMs = RETRY_MS;
  #isClosed = false;
  /** Somebody needs things to stay as they are. */
  #pause: Promise<void> | undefined;
  /** A run has begun to take pointers out, and has not ended: of deletes that an earlier process began, nobody knows. */
  #isHalfway: boolean;

  constructor(
    catalog: Catalog,
    keeper: IndexKeeper,
    numbers: Numbers,
    clock: Clock,
    logger: Logger,
    betweenChanges: <T>(step: () => Promise<T>) => Promise<T>,
  ) {
    this.#catalog = catalog;
    this.#keeper = keeper;
    this.#numbers = numbers;
    this.#clock = clock;
    this.#logger = logger;
    this.#betweenChanges = betweenChanges;
    this.#isHalfway = catalog.pending.size > 0;
  }

  /**
   * Runs `work` between two runs: every pointer is with the version that the catalog says it is with.
   * @throws IN_USE if the last run failed halfway, and what `work` throws
   */
  async between<T>(work: () => Promise<T>): Promise<T> {
    assert(this.#pause === undefined, 'one at a time waits between two runs');
    let end: () => void = () => undefined;
    this.#pause = new Promise((resolve) => {
      end = resolve;
    });
    try {
      await this.#running;
      if (this.#isHalfway) throw new StoreError('IN_USE', 'deletes are to be finished first');
      return await work();
    } finally {
      this.#pause = undefined;
      end();
      this.wake();
    }
  }

  /** Begins a run if there is anything to do and none is under way. */
  wake(): void {
    if (this.#isClosed || this.#running !== undefined || this.#cancelRetry !== undefined) return;
    if (this.#catalog.pending.size === 0 || this.#pause !== undefined) return;
    this.#running = this.#run()
      .catch((error: unknown) => this.#failed(error))
      .finally(() => {
        this.#running = undefined;
        this.wake();
      });
  }

  /** Resolves when no version waits to be pruned, or when a run has failed. */
  async idle(): Promise<void> {
    this.wake();
    while (this.#running !== undefined || (this.#pause !== undefined && this.#catalog.pending.size > 0))
      await (this.#running ?? this.#pause);
  }

  #failed(error: unknown): void {
    if (error instanceof AssertionError) {
      // A programmer's mistake: nobody waits for this promise, and the process must not go on.
      setImmediate(() => {
        throw error;
      });
    }
    if (this.#isClosed || hasCode(error, 'CLOSED')) return;
    this.#logger.warn({ err: error }, 'deleted versions could not be taken out of the index; trying again');
    this.#cancelRetry = this.#clock.after(this.#retryMs, () => {
      this.#cancelRetry = undefined;
      this.wake();
    });
    this.#retryMs = Math.min(2 * this.#retryMs, RETRY_MS_MAX);
  }

  async #run(): Promise<void> {
    const catalog = this.#catalog;
    const keeper = this.#keeper;
    const started = this.#clock.now();
    await keeper.checkpoint();
    const view = new VersionView(catalog.tree, keeper.catalogSequence);
    const hidden = [...catalog.pending].filter((label) => view.isHidden(label));
    assert(hidden.length > 0, 'a checkpoint has every delete before it');
    const destinies = destiniesOf(hidden, view);
    let regions = 0;
    this.#isHalfway = true;
    for (let isDone = false; !isDone; ) {
      const { index } = keeper;
      for await (const batch of pruneBatches(keeper, destinies.keys(), view)) {
        if (this.#isClosed) return;
        await keeper.prune(batch, destinies, view);
        regions += batch.regions.size;
      }
      // One that was made anew has the pointers with these versions again.
      isDone = await keeper.exclusively(() =>
        this.#betweenChanges(async () => {
          if (keeper.index !== index || keeper.isInRepair) return false;
          catalog.splice(hidden, destinies, this.#numbers.peek('segments'));
          return true;
        }),
      );
    }
    this.#isHalfway = false;
    this.#retryMs = RETRY_MS;
    this.#logger.debug(
      { versions: hidden.length, regions, ms: this.#clock.now() - started },
      'deletes finished',
    );
  }

  /** Stops after the batch under way; what is left is done when the store is opened again. */
  async close(): Promise<void> {
    this.#isClosed = true;
    this.#cancelRetry?.();
    await this.#running;
  }
}
