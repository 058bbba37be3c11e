/**
 * Where a version differs from another, in runs, for a range of it: the answer to coppice:changed-since. As `diff.ts` says
 * it, and by the same reasoning; but for as much as one reply holds, and with what is written and not yet in rows, so that
 * a client that asks behind each write costs no checkpoint.
 *
 * Invariant: what was answered to a write before the question is in the answer.
 */

import { byRegion, type LabelledRow, NO_POINTER, HOLE_POINTER } from '../index/extents.ts';
import type { PinnedIndex } from '../index/pinned-index.ts';
import type { Lineage } from '../index/pointer-index.ts';
import { HOLE, PointerBlock, REGION_CHUNKS } from '../index/pointers.ts';
import { leavesOf, windowsOf } from '../index/prune-batches.ts';
import { WINDOW_REGIONS } from '../index/extent-table.ts';
import { CHANGED, CHANGED_TO_ZEROS, SAME, type StatusRun } from './device.ts';
import { edgeChunk, isSamePointer, readsZeros } from './diff.ts';
import type { IndexKeeper } from './index-keeper.ts';
import { pinnedAnswer } from './pinned-answer.ts';
import { StatusRuns } from './status-runs.ts';

/** Regions that one call compares, and that it looks at at all. */
const COMPARED_MAX = 256;
const LOOKED_MAX = 4096;

/** A version as it is compared. */
export interface Compared extends Lineage {
  readonly sizeBytes: number;
}

/** See BlockDevice.changes. @throws IO, CORRUPTION */
export async function changedRuns(
  keeper: IndexKeeper,
  from: Compared,
  to: Compared,
  offset: number,
  lengthBytes: number,
  runsMax: number,
): Promise<StatusRun[]> {
  return await pinnedAnswer(keeper, async (index) => {
    const list = new StatusRuns(offset, lengthBytes, runsMax);
    const comparison = new Comparison(index, from, to);
    const { endRegion } = list;
    let compared = 0;
    let looked = 0;
    for await (const [region, rows] of comparison.regions(list.region, endRegion)) {
      if (compared === COMPARED_MAX || looked++ === LOOKED_MAX) return list.runs;
      if (!list.pushUntil(region, SAME)) return list.runs;
      if (region >= endRegion) break;
      const statuses = await comparison.statusesIn(region, rows);
      if (comparison.hasResolved) compared += 1;
      if (!list.pushRegion(region, statuses)) return list.runs;
    }
    list.pushUntil(endRegion, SAME);
    return list.runs;
  });
}

/** Where something is next. It is looked for again only behind that: on the way may be much of other versions. */
class RegionAhead {
  #region = -1;
  readonly #find: (from: number) => number | Promise<number>;

  constructor(find: (from: number) => number | Promise<number>) {
    this.#find = find;
  }

  async from(from: number): Promise<number> {
    if (this.#region < from) this.#region = await this.#find(from);
    return this.#region;
  }
}

class Comparison {
  readonly #index: PinnedIndex;
  readonly #from: Compared;
  readonly #to: Compared;
  /** Versions on the path of one that are not on the other's. */
  readonly #ownOfFrom: ReadonlySet<number>;
  readonly #ownOfTo: ReadonlySet<number>;
  readonly #edge: number;
  /** Whether the last answer took more than looking at extents. */
  hasResolved = false;

  constructor(index: PinnedIndex, from: Compared, to: Compared) {
    this.#index = index;
    this.#from = from;
    this.#to = to;
    this.#ownOfFrom = without(from.path, to.path);
    this.#ownOfTo = without(to.path, from.path);
    this.#edge = edgeChunk(from.sizeBytes, to.sizeBytes);
  }

  /** Regions in [first, end) in which the two may differ, in order, with the rows there; some turn out to be the same. */
  async *regions(first: number, end: number): AsyncGenerator<[region: number, rows: LabelledRow[]]> {
    const rows = this.#rowRegions(first, end);
    let inRows = await rows.next();
    const ahead = [
      new RegionAhead((at) => this.#nextWritten(this.#from, this.#ownOfFrom, at, end)),
      new RegionAhead((at) => this.#nextWritten(this.#to, this.#ownOfTo, at, end)),
      new RegionAhead((at) => this.#nextZeroed(this.#from, this.#ownOfFrom, at, end)),
      new RegionAhead((at) => this.#nextZeroed(this.#to, this.#ownOfTo, at, end)),
    ];
    for (let at = first; ; at++) {
      let region = inRows.done === true ? end : inRows.value[0];
      for (const each of ahead) region = Math.min(region, await each.from(at));
      if (this.#edge >= at * REGION_CHUNKS) region = Math.min(region, Math.floor(this.#edge / REGION_CHUNKS));
      if (region >= end) return;
      if (inRows.done !== true && inRows.value[0] === region) {
        yield inRows.value;
        inRows = await rows.next();
      } else {
        yield [region, []];
      }
      at = region;
    }
  }

  async *#rowRegions(
    first: number,
    end: number,
  ): AsyncGenerator<[region: number, rows: LabelledRow[]], undefined> {
    const labels = [...this.#ownOfFrom, ...this.#ownOfTo];
    for (const window of windowsOf(this.#index, labels)) {
      if ((window + 1) * WINDOW_REGIONS <= first || window * WINDOW_REGIONS >= end) continue;
      for (const rows of await leavesOf(this.#index, labels, window)) {
        for (const each of byRegion(rows)) {
          if (each[0] >= end) return;
          if (each[0] >= first) yield each;
        }
      }
    }
  }

  /** The next region in which one of the versions has pointers that are not in rows, or `end`. */
  #nextWritten({ tree }: Compared, own: ReadonlySet<number>, from: number, end: number): number {
    let next = end;
    for (const overlay of this.#index.overlays) {
      let region = overlay.nextRegion(tree, from, next);
      while (region >= 0 && !overlay.hasAny(tree, region, own))
        region = overlay.nextRegion(tree, region + 1, next);
      if (region >= 0) next = region;
    }
    return next;
  }

  /** The same of zeros: over regions in which nothing is stored they change nothing, however many they are. */
  async #nextZeroed(
    { tree }: Compared,
    own: ReadonlySet<number>,
    from: number,
    end: number,
  ): Promise<number> {
    let next = end;
    for (const overlay of this.#index.overlays) {
      const zeroed = overlay.zeroed.next(tree, own, from);
      if (zeroed >= 0 && zeroed < next) next = await this.#index.nextRegionLive(tree, zeroed, next);
    }
    return next;
  }

  async statusesIn(region: number, rows: readonly LabelledRow[]): Promise<Uint8Array> {
    const statuses = new Uint8Array(REGION_CHUNKS);
    const edge = Math.floor(this.#edge / REGION_CHUNKS) === region ? this.#edge % REGION_CHUNKS : -1;
    const isPlain = this.#markTouched(statuses, region, rows);
    if (edge >= 0) statuses[edge] = CHANGED;
    // Data that only the second one has is different; all else has to be compared.
    this.hasResolved = !isPlain || edge >= 0;
    if (!this.hasResolved) return statuses;
    const before = await this.#index.resolveLive(this.#from, region);
    const after = await this.#index.resolveLive(this.#to, region);
    for (let i = 0; i < REGION_CHUNKS; i++) {
      if (statuses[i] === SAME) continue;
      const isSame = isSamePointer(before, after, i) && (i !== edge || readsZeros(after, i));
      if (isSame) statuses[i] = SAME;
      else statuses[i] = readsZeros(after, i) ? CHANGED_TO_ZEROS : CHANGED;
    }
    return statuses;
  }

  /** Marks the chunks that either has pointers of its own for; true if all are data of the second one. */
  #markTouched(statuses: Uint8Array, region: number, rows: readonly LabelledRow[]): boolean {
    let isPlain = true;
    for (const [label, row] of rows) {
      if (!this.#ownOfTo.has(label)) isPlain = false;
      row.forEachRun((first, count, kind) => {
        statuses.fill(CHANGED, first, first + count);
        if (kind === HOLE_POINTER) isPlain = false;
      });
    }
    for (const [{ tree }, own] of [
      [this.#from, this.#ownOfFrom],
      [this.#to, this.#ownOfTo],
    ] as const) {
      const block = new PointerBlock();
      for (const overlay of this.#index.overlays) overlay.mergeInto(block, tree, region, own);
      for (let i = 0; i < REGION_CHUNKS; i++) {
        const segment = block.segment(i);
        if (segment === NO_POINTER) continue;
        statuses[i] = CHANGED;
        if (segment === HOLE || own === this.#ownOfFrom) isPlain = false;
      }
    }
    return isPlain;
  }
}

function without(labels: ReadonlySet<number>, others: ReadonlySet<number>): Set<number> {
  const left = new Set<number>();
  for (const label of labels) if (!others.has(label)) left.add(label);
  return left;
}
