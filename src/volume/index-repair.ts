/**
 * An index in doubt, opened again or made anew, while the store goes on: what is behind its last commit is in the overlays.
 *
 * Invariants: one repair at a time; after one that failed the index is not used before another has succeeded. Only LevelDB
 * that found no room to write is read on, as it is; it is opened again before anything is written.
 */

import { fromSystemError, StoreError } from '../base/errors.ts';
import type { Overlays, PointerIndex } from '../index/pointer-index.ts';
import type { LogBase } from '../log/superblock.ts';
import type { Catalog } from './catalog.ts';
import type { StatedSegments } from './catalog-parts.ts';
import { type IndexEnvironment, makeAnew, openIndex } from './index-builder.ts';
import { isDamage, isTemporary, lacksRoom, ofIndex } from './index-errors.ts';

/** How often an index is made anew that is in doubt again as soon as it is there. */
const REBUILDS_MAX = 3;
/** Nothing that failed is tried again before. */
const RETRY_MS = 1000;
/** Room that LevelDB gets for a commit: the changes, once in its log and once in a table, and what it compacts with them. */
const COMMIT_ROOM_BYTES = 32 << 20;

/** Opens it again; undefined if it has lost what it acknowledged. */
async function openAgain(
  environment: IndexEnvironment,
  overlays: Overlays,
  old: PointerIndex,
): Promise<PointerIndex | undefined> {
  await old.close().catch(() => undefined);
  const reopened = await openIndex(environment, overlays);
  if (reopened !== undefined && reopened.checkpoint.generation >= old.checkpoint.generation) return reopened;
  await reopened?.close();
  return undefined;
}

/** The log that an index is made from, and up to where the index had it, as far as it is known to have been committed. */
export interface LogOfIndex {
  readonly base: LogBase | undefined;
  readonly present: StatedSegments;
  readonly indexedAppend: number;
}

/**
 * Makes it anew as of its last commit. Writes go on meanwhile, loads wait. Nothing is appended, so that a full or poisoned
 * store goes on being read. What damages an index may damage the new one as well, before it is opened: then once more.
 *
 * `logNow` is asked once the old index is closed: until then a commit may be under way, which moves its checkpoint.
 */
async function makeAgain(
  environment: IndexEnvironment,
  overlays: Overlays,
  old: PointerIndex,
  catalog: Catalog,
  logNow: () => LogOfIndex,
): Promise<PointerIndex> {
  await old.close().catch(() => undefined);
  for (let attempt = 1; ; attempt++) {
    try {
      const { base, present, indexedAppend } = logNow();
      // A commit that was reported as failed may have been made.
      const until = Math.max(indexedAppend, old.checkpoint.append);
      await makeAnew(environment, base, present, until, old.checkpoint, catalog);
      const made = await openIndex(environment, overlays);
      if (made !== undefined) return made;
      throw new StoreError('INDEX_DAMAGED', 'the index that was made anew cannot be opened');
    } catch (error) {
      if (!isDamage(error) || attempt === REBUILDS_MAX) throw error;
      environment.logger.warn({ err: error }, 'the index that was made anew is in doubt');
    }
  }
}

/** Whose index it is. */
export interface IndexOwner {
  readonly environment: IndexEnvironment;
  readonly overlays: Overlays;
  readonly catalog: Catalog;
  current(): PointerIndex;
  replaceBy(index: PointerIndex): void;
  isClosed(): boolean;
  /** As of the last commit, now. */
  logNow(): LogOfIndex;
}

export class IndexRepair {
  readonly #owner: IndexOwner;
  #underWay: Promise<void> | undefined;
  /** Why the last one failed: until one succeeds, the index is not used. */
  #failure: StoreError | undefined;
  #retryAt = 0;
  /** Why LevelDB failed to write, if it was for want of room. */
  #lackedRoom: unknown;

  constructor(owner: IndexOwner) {
    this.#owner = owner;
  }

  get isNeeded(): boolean {
    return this.#underWay !== undefined || this.#failure !== undefined;
  }

  get underWay(): Promise<void> | undefined {
    return this.#underWay;
  }

  /** `anew`: from the log. Otherwise the index is only opened again, if it has kept what it acknowledged. */
  begin(cause: unknown, anew: boolean): void {
    if (this.#underWay !== undefined || this.#owner.isClosed()) return;
    const { logger, clock } = this.#owner.environment;
    logger.warn({ err: cause }, 'the index is in doubt');
    this.#underWay = (anew ? this.#rebuild() : this.#reopen(cause))
      .then(
        () => {
          this.#failure = undefined;
        },
        (error: unknown) => {
          logger.error({ err: error }, 'repairing the index failed');
          this.#retryAt = clock.now() + RETRY_MS;
          this.#failure = fromSystemError(ofIndex(error, 'repairing the index'), 'repairing the index');
          throw this.#failure;
        },
      )
      .finally(() => {
        this.#underWay = undefined;
      });
    this.#underWay.catch(() => undefined);
  }

  /** Waits for the repair under way, or tries once more after one that failed. @throws why it failed */
  async end(): Promise<void> {
    const { environment } = this.#owner;
    if (this.#underWay === undefined && this.#failure !== undefined) {
      if (this.#owner.isClosed() || environment.clock.now() < this.#retryAt) throw this.#failure;
      this.begin(this.#failure, !isTemporary(this.#failure));
    }
    await this.#underWay;
  }

  /**
   * There is room to write the index, and it may be written. LevelDB that runs out of room must be closed, and needs room to be
   * opened again: it is spared that. @throws NO_SPACE, and why a repair failed
   */
  async requireRoom(): Promise<void> {
    const hasRoom = await this.#hasRoom();
    if (hasRoom && this.#lackedRoom !== undefined) {
      this.begin(this.#lackedRoom, false);
      await this.#underWay;
    }
    if (!hasRoom || this.#lackedRoom !== undefined)
      throw new StoreError('NO_SPACE', 'there is no room for a checkpoint');
  }

  async #hasRoom(): Promise<boolean> {
    return (await this.#owner.environment.storage.freeBytes()) >= COMMIT_ROOM_BYTES;
  }

  async #reopen(cause: unknown): Promise<void> {
    const { environment, overlays } = this.#owner;
    this.#lackedRoom = undefined;
    if (lacksRoom(cause) && !(await this.#hasRoom())) {
      this.#lackedRoom = cause;
      return;
    }
    const reopened = await openAgain(environment, overlays, this.#owner.current());
    if (reopened === undefined) await this.#rebuild();
    else this.#owner.replaceBy(reopened);
  }

  async #rebuild(): Promise<void> {
    const { environment, overlays, catalog } = this.#owner;
    this.#lackedRoom = undefined;
    const made = await makeAgain(environment, overlays, this.#owner.current(), catalog, () =>
      this.#owner.logNow(),
    );
    this.#owner.replaceBy(made);
    environment.logger.info({ generation: made.checkpoint.generation }, 'the index is whole again');
  }
}
