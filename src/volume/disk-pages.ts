/**
 * The pages of one disk: found in memory, or loaded through the keeper; those who want one at the same time share
 * one load.
 */

import type { Page, PageTable } from '../index/pages.ts';
import type { Lineage } from '../index/pointer-index.ts';
import type { IndexKeeper } from './index-keeper.ts';

export class DiskPages {
  readonly table: PageTable;
  readonly #lineage: Lineage;
  readonly #keeper: IndexKeeper;
  readonly #loading = new Map<number, Promise<Page>>();

  constructor(keeper: IndexKeeper, table: PageTable, lineage: Lineage) {
    this.#keeper = keeper;
    this.table = table;
    this.#lineage = lineage;
  }

  find(region: number): Page | undefined {
    return this.table.find(region);
  }

  /** The page, loaded anew. @throws IO, CORRUPTION */
  load(region: number): Promise<Page> {
    let loading = this.#loading.get(region);
    if (loading === undefined) {
      loading = this.#keeper
        .load(this.table, this.#lineage, region)
        .finally(() => this.#loading.delete(region));
      this.#loading.set(region, loading);
    }
    return loading;
  }

  /** The first region at or behind `from`, below `end`, in which anything may be stored; -1 if there is none. */
  nextRegion(from: number, end: number): Promise<number> {
    return this.#keeper.nextRegion(this.#lineage.tree, from, end);
  }
}
