/**
 * Puts the catalog into the log: for a checkpoint, which begins where it stands, and for compaction, whose moves count once
 * a catalog states them.
 */

import { hasCode, StoreError } from '../base/errors.ts';
import { othersFirst } from '../base/event-loop.ts';
import { Append, AppendPromise } from '../log/append.ts';
import type { ChunkLog } from '../log/chunk-log.ts';
import { CATALOG_FIRST, CATALOG_LAST } from '../log/entries.ts';
import type { Replacement, SegmentLedger } from '../log/segment-ledger.ts';
import type { Catalog } from './catalog.ts';
import { encodeCatalog } from './catalog-parts.ts';

/** Parts of a catalog that are made before requests have their turn. */
const PARTS_AT_ONCE = 4;

export interface AppendedCatalog {
  /** Where its first record stands. */
  readonly segment: number;
  readonly offset: number;
  readonly append: number;
}

export class CatalogAppender {
  readonly #log: ChunkLog;
  readonly #catalog: Catalog;
  readonly #ledger: SegmentLedger;
  /** Runs a step while no change of the catalog is under way. */
  readonly #betweenChanges: <T>(step: () => Promise<T>) => Promise<T>;

  constructor(
    log: ChunkLog,
    catalog: Catalog,
    ledger: SegmentLedger,
    betweenChanges: <T>(step: () => Promise<T>) => Promise<T>,
  ) {
    this.#log = log;
    this.#catalog = catalog;
    this.#ledger = ledger;
    this.#betweenChanges = betweenChanges;
  }

  /**
   * Appends the catalog as it is. `first` runs in the step in which its first record is written, before what follows it.
   * @throws NO_SPACE, IO, POISONED, CLOSED
   */
  append(first?: (append: Append) => void): Promise<AppendedCatalog> {
    return this.#append(() => this.#ledger, first);
  }

  /**
   * Appends the catalog as it is once the replacement has been made.
   * @throws NO_SPACE: nobody will ever read it; IO: it may be there all the same, POISONED, CLOSED
   */
  async announce(replacement: Replacement): Promise<void> {
    const parts: Append[] = [];
    try {
      await this.#append(() => this.#ledger.replaced(replacement), undefined, parts);
    } catch (error) {
      // Without its last part it does not count; with it, it may: what could not be written may be on the disk, as a whole.
      const wasHandedOver = parts.at(-1)?.isPacked === true;
      if (!wasHandedOver || !hasCode(error, 'NO_SPACE')) throw error;
      throw new StoreError('IO', 'the catalog that states what was moved may be in the log, or not', error);
    }
  }

  #append(
    ledgerOf: () => SegmentLedger,
    first?: (append: Append) => void,
    parts: Append[] = [],
  ): Promise<AppendedCatalog> {
    return this.#betweenChanges(async () => {
      const texts: string[] = [];
      this.#catalog.forgetMerged(this.#ledger.lowest);
      for (const text of encodeCatalog(this.#catalog, ledgerOf())) {
        if (texts.push(text) % PARTS_AT_ONCE === 0) await othersFirst();
      }
      const owners = texts.map((_, i) => new AppendPromise(i === 0 ? first : undefined));
      texts.forEach((text, i) => {
        const flags = (i === 0 ? CATALOG_FIRST : 0) | (i === texts.length - 1 ? CATALOG_LAST : 0);
        parts.push(Append.catalog(owners[i]!, text, flags));
      });
      for (const part of parts) this.#log.submit(part);
      const [head] = await Promise.all(owners.map((owner) => owner.promise));
      return { segment: head!.segment, offset: head!.offset, append: head!.record };
    });
  }
}
