/**
 * Pages: the resolved pointers of the regions that are in use, in memory, under a bound in bytes. Pure.
 *
 * A page belongs to one reader of a version (a head, or a snapshot that is read), and is flat: reading does not know
 * how many versions there are. A page is never the only holder of anything: what is not in LevelDB yet stands in
 * an overlay, so any page may go at any time.
 *
 * The bound holds over all readers. What goes first is what has not been used for a round of the hand (second chance).
 */

import type { PointerBlock } from './pointers.ts';

/** What a page takes up beside its block. */
const PAGE_BYTES = 200;

export class Page {
  readonly block: PointerBlock;
  readonly table: PageTable;
  readonly region: number;
  used = true;
  /** Of memory, as the cache counts it. */
  bytes: number;
  /** The cache has it; who still holds one that it has let go may go on with it. */
  isCounted = false;

  constructor(table: PageTable, region: number, block: PointerBlock) {
    this.table = table;
    this.region = region;
    this.block = block;
    this.bytes = PAGE_BYTES + block.bytes;
  }

  /** Chunks were put into the block, which may have grown. */
  changed(): void {
    const bytes = PAGE_BYTES + this.block.bytes;
    if (bytes !== this.bytes) this.table.grew(this, bytes);
  }
}

/** The pages of one reader. */
export class PageTable {
  readonly #cache: PageCache;
  readonly #pages = new Map<number, Page>();
  /** Most requests in a row fall into one page. */
  #last: Page | undefined;

  constructor(cache: PageCache) {
    this.#cache = cache;
  }

  find(region: number): Page | undefined {
    const last = this.#last;
    if (last !== undefined && last.region === region) {
      last.used = true;
      return last;
    }
    const page = this.#pages.get(region);
    if (page !== undefined) {
      page.used = true;
      this.#last = page;
    }
    return page;
  }

  /** The page, if it is there, for who does not want it kept. */
  peek(region: number): Page | undefined {
    return this.#pages.get(region);
  }

  pages(): IterableIterator<Page> {
    return this.#pages.values();
  }

  get size(): number {
    return this.#pages.size;
  }

  /** A page of the same region that is there already makes room for it: nobody finds that one again. */
  add(page: Page): void {
    this.#pages.set(page.region, page);
    if (this.#last?.region === page.region) this.#last = page;
    this.#cache.added(page);
  }

  /** Called by the page. */
  grew(page: Page, bytes: number): void {
    const grownBytes = bytes - page.bytes;
    page.bytes = bytes;
    this.#cache.grew(page, grownBytes);
  }

  /** Called by the cache. */
  drop(page: Page): void {
    if (this.#pages.get(page.region) === page) this.#pages.delete(page.region);
    if (this.#last === page) this.#last = undefined;
  }

  /** Lets all pages go. */
  clear(): void {
    this.#pages.clear();
    this.#last = undefined;
    this.#cache.forget(this);
  }
}

export class PageCache {
  readonly boundBytes: number;
  #pages: Page[] = [];
  #hand = 0;
  #usedBytes = 0;

  constructor(boundBytes: number) {
    this.boundBytes = boundBytes;
  }

  get usedBytes(): number {
    return this.#usedBytes;
  }

  added(page: Page): void {
    this.#pages.push(page);
    page.isCounted = true;
    this.#takeUp(page.bytes);
  }

  grew(page: Page, bytes: number): void {
    if (page.isCounted) this.#takeUp(bytes);
  }

  #takeUp(bytes: number): void {
    this.#usedBytes += bytes;
    while (this.usedBytes > this.boundBytes && this.#pages.length > 1) this.#evictOne();
  }

  #evictOne(): void {
    for (;;) {
      if (this.#hand >= this.#pages.length - 1) this.#hand = 0; // never the newest, which is at the end
      const page = this.#pages[this.#hand]!;
      if (!page.used) {
        this.#pages[this.#hand] = this.#pages.pop()!;
        this.#hand += 1;
        this.#forgetOne(page);
        page.table.drop(page);
        return;
      }
      page.used = false;
      this.#hand += 1;
    }
  }

  forget(table: PageTable): void {
    for (const page of this.#pages) if (page.table === table) this.#forgetOne(page);
    this.#pages = this.#pages.filter((page) => page.isCounted);
    this.#hand = 0;
  }

  #forgetOne(page: Page): void {
    this.#usedBytes -= page.bytes;
    page.isCounted = false;
  }
}
