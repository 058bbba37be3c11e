/** An index in doubt, opened again or made anew, while the store goes on: what is behind its last commit is in the overlays. */

import { StoreError } from '../base/errors.ts';
import type { Overlays, PointerIndex } from '../index/pointer-index.ts';
import type { LogBase } from '../log/superblock.ts';
import type { Catalog } from './catalog.ts';
import type { StatedSegments } from './catalog-parts.ts';
import { type IndexEnvironment, makeAnew, openIndex } from './index-builder.ts';
import { isDamage } from './index-errors.ts';

/** How often an index is made anew that is in doubt again as soon as it is there. */
const REBUILDS_MAX = 3;

/** Opens it again; undefined if it has lost what it acknowledged. */
export async function openAgain(
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
export async function makeAgain(
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
