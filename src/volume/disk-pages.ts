/**
 * The pages of one disk: found in memory, or loaded through the keeper; those who want one at the same time share
 * one load.
 */

import type { Page, PageTable } from '../index/pages.ts';
import type { Lineage } from '../index/pointer-index.ts';
import type { PointerBlock } from '../index/pointers.ts';
import type { WantedChunks } from '../index/region-read.ts';
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

  /** Pointers of wanted chunks: of pages that are there, and of others read together, and not kept. @throws IO, CORRUPTION */
  async resolve(wanted: readonly WantedChunks[]): Promise<PointerBlock[]> {
    const found = wanted.map(({ region }) => this.table.find(region)?.block);
    const missing = wanted.filter((_, i) => found[i] === undefined);
    if (missing.length === 0) return found as PointerBlock[];
    const read = await this.#keeper.resolveWanted(this.#lineage, missing);
    let next = 0;
    return found.map((block) => block ?? read[next++]!);
  }

  /** The first region at or behind `from`, below `end`, in which anything may be stored; -1 if there is none. */
  nextRegion(from: number, end: number): Promise<number> {
    return this.#keeper.nextRegion(this.#lineage.tree, from, end);
  }
}
