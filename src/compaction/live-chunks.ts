/**
 * What lives in victims: their records held against the index of one moment. A chunk lives if a pointer of the version that has
 * it leads to just this place.
 *
 * Invariants: the event loop has its turn between a few regions and the next; a victim counts as explained if its records
 * name every pointer that rows have into it.
 */

import { othersFirst } from '../base/event-loop.ts';
import type { OwnPlace, PinnedIndex } from '../index/pinned-index.ts';
import type { Overlays } from '../index/pointer-index.ts';
import { PointerBlock, REGION_CHUNKS } from '../index/pointers.ts';
import { type ChunkArrays, ChunkList } from './chunk-list.ts';
import { uncovered } from './kept-zeros.ts';
import type { Zeros } from './layout.ts';
import type { Found } from './mover.ts';

/**
 * Regions that are looked up in one turn. Requests take several turns, and wait for as many of these. No rows are read ahead:
 * on two cores the threads that read would take the event loop's.
 */
const REGIONS_AT_ONCE = 16;

/** What is asked of the store. */
export interface Holders {
  /** The version that has what the log holds under a label, if there is one. */
  holderOf(label: number): { readonly label: number; readonly tree: number } | undefined;
  readonly overlays: Overlays;
}

export interface Live {
  /** Labels are those of the versions that have them now. */
  readonly chunks: ChunkArrays;
  readonly zeros: Zeros[];
  /** The tree of each version. */
  readonly trees: Map<number, number>;
  /** When rows were as this says. */
  readonly moment: symbol;
  /** Victims whose records explain every pointer that leads into them; the others, and how many pointers more rows have. */
  readonly explained: ReadonlySet<number>;
  readonly unexplained: readonly { readonly segment: number; readonly chunks: number }[];
}

/** Chunks [from, to) of a list, all of one version in one region. */
interface Group extends OwnPlace {
  readonly from: number;
  readonly to: number;
}

export class LiveChunks {
  readonly #holders: Holders;
  /** Used over and over: what is allocated by the thousand is collected for long. */
  readonly #blocks = Array.from({ length: REGIONS_AT_ONCE }, () => new PointerBlock());

  constructor(holders: Holders) {
    this.#holders = holders;
  }

  /** One search at a time. @throws INDEX_DAMAGED, IO */
  async find({ chunks, zeros }: Found, victims: ReadonlySet<number>, index: PinnedIndex): Promise<Live> {
    const live = new ChunkList();
    const trees = new Map<number, number>();
    const inRows = new Map<number, number>();
    for (const groups of this.#groupsOf(chunks, trees)) {
      await index.ownPointers(groups, this.#blocks);
      groups.forEach((group, i) => this.#takeLive(chunks, group, this.#blocks[i]!, inRows, live));
      await othersFirst();
    }
    const explained = new Set<number>();
    const unexplained: { segment: number; chunks: number }[] = [];
    for (const segment of victims) {
      const [is, stated] = [inRows.get(segment) ?? 0, index.usage.get(segment) ?? 0];
      if (is === stated) explained.add(segment);
      else unexplained.push({ segment, chunks: stated - is });
    }
    const needed = await this.#neededZeros(zeros, index);
    return { chunks: live.arrays(), zeros: needed, trees, moment: index.moment, explained, unexplained };
  }

  /** Chunks of versions that are there, by version and region, some groups at a time. */
  *#groupsOf({ labels, chunks }: ChunkArrays, trees: Map<number, number>): Generator<Group[], undefined> {
    const count = labels.length;
    const regionOf = (at: number): number => Math.floor(chunks[at]! / REGION_CHUNKS);
    let groups: Group[] = [];
    for (let at = 0; at < count; ) {
      const from = at;
      const region = regionOf(from);
      while (at < count && labels[at] === labels[from] && regionOf(at) === region) at += 1;
      const holder = this.#holders.holderOf(labels[from]!);
      if (holder === undefined) continue;
      trees.set(holder.label, holder.tree);
      groups.push({ from, to: at, label: holder.label, tree: holder.tree, region });
      if (groups.length < REGIONS_AT_ONCE) continue;
      yield groups;
      groups = [];
    }
    if (groups.length > 0) yield groups;
  }

  #takeLive(
    { chunks, sequences, segments, offsets, checksums }: ChunkArrays,
    { from, to, label, tree, region }: Group,
    block: PointerBlock,
    inRows: Map<number, number>,
    live: ChunkList,
  ): void {
    const isHere = (c: number): boolean => {
      const inRegion = chunks[c]! % REGION_CHUNKS;
      return block.segment(inRegion) === segments[c] && block.offset(inRegion) === offsets[c];
    };
    for (let c = from; c < to; c++)
      if (isHere(c)) inRows.set(segments[c]!, (inRows.get(segments[c]!) ?? 0) + 1);
    this.#addOverlays(block, tree, region, label);
    for (let c = from; c < to; c++) {
      if (!isHere(c)) continue;
      live.add(label, chunks[c]!, sequences[c]!, segments[c]!, offsets[c]!, checksums[c]!);
    }
  }

  /** What has been written over since the rows were is not copied; what is missed here loses by its sequence. */
  #addOverlays(block: PointerBlock, tree: number, region: number, label: number): void {
    const { frozen, active } = this.#holders.overlays;
    frozen?.mergeVersionInto(block, tree, region, label);
    active.mergeVersionInto(block, tree, region, label);
  }

  async #neededZeros(zeros: readonly Zeros[], index: PinnedIndex): Promise<Zeros[]> {
    const held: Zeros[] = [];
    for (const each of zeros) {
      const holder = this.#holders.holderOf(each.label);
      if (holder !== undefined) held.push({ ...each, label: holder.label });
    }
    const needed: Zeros[] = [];
    for (const each of uncovered(held)) {
      if (!(await this.#isWrittenOver(each, index))) needed.push(each);
    }
    return needed;
  }

  /** True if every chunk of an extent in one region has been written since. */
  async #isWrittenOver({ label, first, count, sequence }: Zeros, index: PinnedIndex): Promise<boolean> {
    const region = Math.floor(first / REGION_CHUNKS);
    if (Math.floor((first + count - 1) / REGION_CHUNKS) !== region) return false;
    const { tree } = this.#holders.holderOf(label)!;
    const block = this.#blocks[0]!;
    await index.ownPointers([{ tree, region, label }], [block]);
    for (let chunk = first; chunk < first + count; chunk++) {
      const at = chunk % REGION_CHUNKS;
      if (block.segment(at) === 0 || block.sequence(at) <= sequence) return false;
    }
    return true;
  }
}
