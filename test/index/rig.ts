/**
 * An index under test beside its specification: a map of pointers for each version. Writes go to the overlay and to
 * the pages that are loaded, as a disk does it; every read is compared with the maps.
 */

import { MemoryLevel } from 'memory-level';
import { CHUNK_BYTES } from '../../src/base/units.ts';
import type { IndexDatabase } from '../../src/index/directory.ts';
import { destiniesOf } from '../../src/index/heirs.ts';
import { pruneBatches } from '../../src/index/prune-batches.ts';
import { CanonicalForm, nextRegionOf, treesOf } from '../../src/index/dump.ts';
import { fillHoles, Overlay } from '../../src/index/overlay.ts';
import { type Page, PageCache, PageTable } from '../../src/index/pages.ts';
import { type CommitPosition, type Overlays, PointerIndex } from '../../src/index/pointer-index.ts';
import { HOLE, type PointerBlock, REGION_CHUNKS } from '../../src/index/pointers.ts';
import { VersionTree, VersionView } from '../../src/index/version-tree.ts';

export const UUID = Buffer.from('00112233445566778899aabbccddeeff', 'hex');
export const REGIONS_END = 2 ** 26;
const CACHE_BYTES = 1 << 20;

export interface Pointer {
  segment: number;
  offset: number;
  checksum: number;
  sequence: number;
}

/** What can be done to versions; the same list done in another rhythm of commits makes the same index. */
export type Operation =
  | { op: 'write'; label: number; first: number; count: number }
  | { op: 'zero'; label: number; first: number; count: number }
  | { op: 'create' }
  | { op: 'snapshot'; label: number }
  | { op: 'clone'; label: number }
  | { op: 'delete'; labels: number[] };

export async function memoryDatabase(): Promise<IndexDatabase> {
  const options = { keyEncoding: 'buffer', valueEncoding: 'buffer', storeEncoding: 'buffer' };
  const database = new MemoryLevel<Buffer, Buffer>(options as object);
  await database.open();
  return database as unknown as IndexDatabase;
}

/** Who reads a version, as a disk does: its pages, and the path that a snapshot adds to. */
export interface Reader {
  tree: number;
  label: number;
  path: Set<number>;
  table: PageTable;
}

export class IndexRig {
  readonly overlays: Overlays = { active: new Overlay(), frozen: undefined };
  readonly versions = new VersionTree();
  /** All versions that ever were. */
  readonly ancestry = new VersionTree();
  /** Hidden versions that are not pruned yet. */
  readonly pending = new Set<number>();
  /** Regions of a batch. */
  pruneRegions = 3;
  /** Own pointers of each version. */
  readonly own = new Map<number, Map<number, Pointer>>();
  readonly heads: number[] = [];
  readonly frozen: number[] = [];
  readonly done: Operation[] = [];
  readonly #readers = new Map<number, Reader>();
  readonly #cache: PageCache;
  database: IndexDatabase;
  index: PointerIndex;
  readonly #directoryBytes: number;
  #sequence = 0;
  #label = 0;
  #appends = 0;

  static async begin(
    database?: IndexDatabase,
    pageBytes = 1 << 20,
    directoryBytes = 1 << 20,
  ): Promise<IndexRig> {
    return new IndexRig(database ?? (await memoryDatabase()), pageBytes, directoryBytes);
  }

  private constructor(database: IndexDatabase, pageBytes: number, directoryBytes: number) {
    this.database = database;
    this.#directoryBytes = directoryBytes;
    this.#cache = new PageCache(pageBytes);
    this.index = PointerIndex.empty(database, this.overlays, UUID, directoryBytes);
  }

  apply(operation: Operation): void {
    this.done.push(operation);
    this.#sequence += 1;
    switch (operation.op) {
      case 'write':
        this.#write(operation.label, operation.first, operation.count);
        return;
      case 'zero':
        this.#zero(operation.label, operation.first, operation.count);
        return;
      case 'create':
        this.heads.push(this.#add(0));
        return;
      case 'snapshot': {
        const child = this.#add(operation.label);
        this.heads[this.heads.indexOf(operation.label)] = child;
        this.frozen.push(operation.label);
        // The head's pages hold for the new version as well.
        const reader = this.#readers.get(operation.label);
        if (reader === undefined) return;
        this.#readers.delete(operation.label);
        reader.path.add(child);
        reader.label = child;
        this.#readers.set(child, reader);
        return;
      }
      case 'clone':
        this.heads.push(this.#add(operation.label));
        return;
      case 'delete':
        for (const label of operation.labels) this.#hide(label);
    }
  }

  #hide(label: number): void {
    this.versions.hide(label, this.#sequence);
    this.pending.add(label);
    for (const list of [this.heads, this.frozen])
      if (list.includes(label)) list.splice(list.indexOf(label), 1);
    this.#readers.get(label)?.table.clear();
    this.#readers.delete(label);
  }

  /** Versions that can be named. */
  visible(): number[] {
    return [...this.heads, ...this.frozen].sort((a, b) => a - b);
  }

  /** Finishes deletes as the store does, `between` batches doing whatever else; then the specification follows. */
  async prune(between: () => Promise<void> = async () => undefined): Promise<void> {
    await this.commit();
    const { view } = this;
    const hidden = [...this.pending];
    const destinies = destiniesOf(hidden, view);
    for await (const { tree, regions } of pruneBatches(
      this.index,
      destinies.keys(),
      view,
      this.pruneRegions,
    )) {
      await this.index.prune(tree, regions, destinies, view);
      await between();
    }
    for (const label of [...destinies.keys()].sort((a, b) => b - a))
      if (destinies.get(label) !== label) this.versions.splice(label);
    for (const label of hidden) this.pending.delete(label);
  }

  /** Pointers that are inherited, each under the label that has it when all deletes are finished: by brute force. */
  inherited(): Map<number, Map<number, Pointer>> {
    const found = new Map<number, Map<number, Pointer>>();
    for (const label of this.visible()) {
      for (const at of this.ancestry.path(label)) {
        const stays = this.#standIn(at, label);
        let pointers = found.get(stays);
        if (pointers === undefined) {
          pointers = new Map();
          found.set(stays, pointers);
        }
        for (const [chunk, pointer] of this.own.get(at)!)
          if (this.#ownerOf(label, chunk) === at) pointers.set(chunk, pointer);
      }
    }
    return found;
  }

  #ownerOf(label: number, chunk: number): number {
    return this.ancestry.path(label).find((at) => this.own.get(at)!.has(chunk)) ?? 0;
  }

  /** The version that has the pointers of `at` for `heir` in the end: the uppermost on the way that stays. */
  #standIn(at: number, heir: number): number {
    return this.ancestry
      .path(heir)
      .filter((label) => label >= at && this.#stays(label))
      .at(-1)!;
  }

  /** Visible, or forked: what a tree without dead and single branches keeps. */
  #stays(label: number): boolean {
    if (this.visible().includes(label)) return true;
    let branches = 0;
    for (const child of this.ancestry.children(label)) if (this.#isAlive(child)) branches += 1;
    return branches > 1;
  }

  #isAlive(label: number): boolean {
    if (this.visible().includes(label)) return true;
    return [...this.ancestry.children(label)].some((child) => this.#isAlive(child));
  }

  #add(parent: number): number {
    this.#label += 1;
    this.versions.add(this.#label, parent, this.#sequence);
    this.ancestry.add(this.#label, parent, this.#sequence);
    this.own.set(this.#label, new Map());
    return this.#label;
  }

  #write(label: number, first: number, count: number): void {
    const segment = 1 + (this.#sequence % 7);
    const offset = (this.#sequence * CHUNK_BYTES) % 2 ** 30;
    const checksums = Uint32Array.from(
      { length: count },
      (_, i) => (this.#sequence * 2_654_435_761 + i) % 2 ** 32,
    );
    const { tree } = this.versions.get(label)!;
    const sequence = this.#sequence;
    this.overlays.active.putChunks(tree, label, first, count, segment, offset, checksums, sequence);
    for (let i = 0; i < count; i++) {
      this.#put(label, first + i, segment, offset + i * CHUNK_BYTES, checksums[i]!, sequence);
    }
  }

  /** The chunks stand elsewhere from now on; what was written, and when, stays. */
  move(label: number, first: number, count: number, segment: number): void {
    const { tree } = this.versions.get(label)!;
    for (let chunk = first; chunk < first + count; chunk++) {
      const { offset, checksum, sequence } = this.own.get(label)!.get(chunk)!;
      const checksums = Uint32Array.of(checksum);
      this.overlays.active.putChunks(tree, label, chunk, 1, segment, offset, checksums, sequence);
      this.#put(label, chunk, segment, offset, checksum, sequence);
    }
  }

  #put(
    label: number,
    chunk: number,
    segment: number,
    offset: number,
    checksum: number,
    sequence: number,
  ): void {
    this.own.get(label)!.set(chunk, { segment, offset, checksum, sequence });
    const page = this.#readers.get(label)?.table.find(Math.floor(chunk / REGION_CHUNKS));
    page?.block.put(chunk % REGION_CHUNKS, segment, offset, checksum, sequence);
  }

  #zero(label: number, first: number, count: number): void {
    const { tree } = this.versions.get(label)!;
    const end = first + count;
    this.overlays.active.putZeros(tree, label, first, count, this.#sequence);
    const hole = { segment: HOLE, offset: 0, checksum: 0, sequence: this.#sequence };
    // Only chunks that are known anywhere can be told from chunks that never were written.
    const known = new Set<number>();
    for (const pointers of this.own.values()) for (const chunk of pointers.keys()) known.add(chunk);
    for (const chunk of known) if (chunk >= first && chunk < end) this.own.get(label)!.set(chunk, hole);
    for (const page of this.#readers.get(label)?.table.pages() ?? []) {
      const start = page.region * REGION_CHUNKS;
      if (start >= first && start + REGION_CHUNKS <= end) fillHoles(page.block, this.#sequence);
      for (let chunk = Math.max(start, first); chunk < Math.min(start + REGION_CHUNKS, end); chunk++) {
        page.block.put(chunk - start, HOLE, 0, 0, this.#sequence);
      }
    }
  }

  /** What a version reads at a chunk; undefined is zeros. */
  expected(label: number, chunk: number): Pointer | undefined {
    for (const at of this.ancestry.path(label)) {
      const pointer = this.own.get(at)!.get(chunk);
      if (pointer !== undefined) return pointer.segment === HOLE ? undefined : pointer;
    }
    return undefined;
  }

  reader(label: number): Reader {
    let reader = this.#readers.get(label);
    if (reader === undefined) {
      const { tree } = this.versions.get(label)!;
      reader = { tree, label, path: new Set(this.versions.path(label)), table: new PageTable(this.#cache) };
      this.#readers.set(label, reader);
    }
    return reader;
  }

  async load(label: number, region: number): Promise<Page> {
    const reader = this.reader(label);
    return reader.table.find(region) ?? (await this.index.load(reader.table, reader, region));
  }

  /** The page of a region read from rows and overlays alone. */
  async loadCold(label: number, region: number): Promise<PointerBlock> {
    const { tree, path } = this.reader(label);
    const page = await this.index.load(
      new PageTable(new PageCache(CACHE_BYTES)),
      { tree, label, path },
      region,
    );
    return page.block;
  }

  /** What is wrong with the pointers of a region; undefined if nothing is. */
  wrong(block: PointerBlock, label: number, region: number): string | undefined {
    for (let i = 0; i < REGION_CHUNKS; i++) {
      const expected = this.expected(label, region * REGION_CHUNKS + i);
      const segment = block.segment(i);
      const found = segment === 0 || segment === HOLE ? undefined : pointerAt(block, i);
      if (JSON.stringify(found) !== JSON.stringify(expected)) {
        return `version ${label}, chunk ${region * REGION_CHUNKS + i}: ${JSON.stringify(found)}, not ${JSON.stringify(expected)}`;
      }
    }
    return undefined;
  }

  /** Reads every region of every version, past all pages. */
  async readAll(): Promise<void> {
    for (const label of this.visible()) {
      for (const region of this.regions()) {
        const wrong = this.wrong(await this.loadCold(label, region), label, region);
        if (wrong !== undefined) throw new Error(wrong);
      }
    }
  }

  regions(): number[] {
    const regions = new Set<number>();
    for (const pointers of this.own.values()) {
      for (const chunk of pointers.keys()) regions.add(Math.floor(chunk / REGION_CHUNKS));
    }
    return [...regions].sort((a, b) => a - b);
  }

  position(): CommitPosition {
    this.#appends += 1;
    return { segment: 1, offset: 4096 * this.#appends, append: this.#appends, at: 1_000_000 };
  }

  /** Of the last operation. */
  get sequence(): number {
    return this.#sequence;
  }

  get view(): VersionView {
    return new VersionView(this.versions, this.#sequence);
  }

  async commit(): Promise<void> {
    this.index.freeze();
    await this.index.commit(this.position(), this.view);
  }

  /** The index anew over the same database. */
  async reopen(): Promise<void> {
    this.index = await PointerIndex.open(this.database, this.overlays, UUID, this.#directoryBytes);
  }

  /** Live chunks by segment, counted in the maps. */
  countedUsage(): Map<number, number> {
    const usage = new Map<number, number>();
    for (const pointers of this.own.values()) {
      for (const { segment } of pointers.values()) {
        if (segment !== HOLE) usage.set(segment, (usage.get(segment) ?? 0) + 1);
      }
    }
    return usage;
  }

  /** The canonical dump as text. */
  async dump(): Promise<string> {
    const view = { index: this.index, overlay: this.overlays.active };
    const lines: string[] = [];
    const canonical = new CanonicalForm(this.versions);
    for (const tree of treesOf(view)) {
      let region = await nextRegionOf(tree, 0, REGIONS_END, view);
      while (region >= 0) {
        const blocks = await canonical.region(view, tree, region);
        for (const [label, block] of [...blocks].sort((a, b) => a[0] - b[0])) {
          for (let i = 0; i < REGION_CHUNKS; i++) {
            if (block.segment(i) === HOLE) lines.push(`${label} ${region * REGION_CHUNKS + i} hole`);
            else if (block.segment(i) !== 0)
              lines.push(`${label} ${region * REGION_CHUNKS + i} ${JSON.stringify(pointerAt(block, i))}`);
          }
        }
        region = await nextRegionOf(tree, region + 1, REGIONS_END, view);
      }
    }
    return lines.join('\n');
  }

  /** Every row, by key in hex. */
  async rows(): Promise<Map<string, Buffer>> {
    const rows = new Map<string, Buffer>();
    for await (const [key, value] of this.database.iterator()) {
      rows.set(Buffer.from(key).toString('hex'), Buffer.from(value));
    }
    return rows;
  }
}

export function pointerAt(block: PointerBlock, index: number): Pointer {
  return {
    segment: block.segment(index),
    offset: block.offset(index),
    checksum: block.checksum(index),
    sequence: block.sequence(index),
  };
}
