/**
 * Where two versions differ: the chunks that either has a pointer for which the other does not read. Costs what changed.
 *
 * Versions below the nearest common ancestor, on the two paths, have all pointers that make a difference: a chunk for
 * which none of them has one is read from the same pointer by both. Where they have data and only one side has any, that
 * is the answer; where there are holes, or pointers on both sides, both versions are resolved. Chunks that were written
 * again with the same bytes count as different, and so does a chunk in which only one of the disks ends. All is read from
 * the index of one moment: a delete that is finished meanwhile hands pointers from one version of a path to another.
 * Source: versioned pointers (Phillips 2008).
 */

import { StoreError } from '../base/errors.ts';
import { CHUNK_BYTES } from '../base/units.ts';
import { byRegion, DATA_POINTER, HOLE_POINTER, type LabelledRow, NO_POINTER } from '../index/extents.ts';
import type { PinnedIndex } from '../index/pinned-index.ts';
import type { Lineage } from '../index/pointer-index.ts';
import { HOLE, type PointerBlock, REGION_CHUNKS } from '../index/pointers.ts';
import { leavesOf, windowsOf } from '../index/prune-batches.ts';
import { type Catalog, fullName, type Snapshot, type Volume } from './catalog.ts';
import type { IndexKeeper } from './index-keeper.ts';
import type { DiffExtent } from './summary.ts';

interface Side {
  lineage: Lineage;
  /** Versions on its path that are not on the other's. */
  own: Set<number>;
}

/**
 * Extents that differ, in order, merged; as of a moment between this call and the first answer.
 * @throws NOT_FOUND (deleted before that moment), IO, CORRUPTION
 */
export async function* diffVersions(
  keeper: IndexKeeper,
  catalog: Catalog,
  from: Volume | Snapshot,
  to: Volume | Snapshot,
): AsyncGenerator<DiffExtent> {
  const isBehind = ({ lineage }: Side): boolean => [...lineage.path].some((label) => keeper.isBehind(label));
  if (sidesOf(catalog, from, to).some(isBehind)) await keeper.checkpoint();
  const extents = new ExtentList(Math.max(from.sizeBytes, to.sizeBytes));
  const edge = edgeChunk(from.sizeBytes, to.sizeBytes);
  const edgeRegion = Math.floor(edge / REGION_CHUNKS);
  let done = 0;
  yield* keeper.reading(async function* (index) {
    const [a, b] = sidesOf(catalog, from, to);
    const labels = [...a.own, ...b.own];
    const add = async (region: number, there: LabelledRow[]): Promise<void> => {
      const edgeThere = region === edgeRegion ? edge % REGION_CHUNKS : -1;
      if (edgeThere >= 0 || !addWritten(extents, region, there, b))
        extents.addKinds(region, await differenceIn(index, region, there, a, b, edgeThere));
      done = region + 1;
    };
    for (const window of windowsOf(index, labels)) {
      for (const rows of await leavesOf(index, labels, window)) {
        for (const [region, there] of byRegion(rows)) {
          if (edgeRegion >= done && edgeRegion < region) await add(edgeRegion, []);
          if (region >= done) await add(region, there);
        }
        yield* extents.takeComplete();
      }
    }
    if (edgeRegion >= done) await add(edgeRegion, []);
  });
  yield* extents.takeAll();
}

/** The chunk in which only the smaller of two disks ends: both may read it from one pointer, and differ. Or -1. */
export function edgeChunk(bytes: number, otherBytes: number): number {
  const end = Math.min(bytes, otherBytes);
  return bytes === otherBytes || end % CHUNK_BYTES === 0 ? -1 : Math.floor(end / CHUNK_BYTES);
}

/** Extents in order, merged; the last one may still grow. */
class ExtentList {
  readonly #end: number;
  #extents: DiffExtent[] = [];

  /** `end` is that of the larger disk, in bytes. */
  constructor(end: number) {
    this.#end = end;
  }

  add(first: number, count: number, type: DiffExtent['type']): void {
    const offset = first * CHUNK_BYTES;
    const length = Math.min(this.#end, offset + count * CHUNK_BYTES) - offset;
    if (length <= 0) return;
    const last = this.#extents.at(-1);
    if (last?.type === type && last.offset + last.length === offset) last.length += length;
    else this.#extents.push({ offset, length, type });
  }

  addKinds(region: number, kinds: Uint8Array): void {
    for (let first = 0; first < REGION_CHUNKS; ) {
      let next = first + 1;
      while (next < REGION_CHUNKS && kinds[next] === kinds[first]) next += 1;
      if (kinds[first] !== NO_POINTER)
        this.add(
          region * REGION_CHUNKS + first,
          next - first,
          kinds[first] === HOLE_POINTER ? 'hole' : 'data',
        );
      first = next;
    }
  }

  takeComplete(): DiffExtent[] {
    return this.#extents.splice(0, this.#extents.length - 1);
  }

  takeAll(): DiffExtent[] {
    return this.#extents.splice(0);
  }
}

/** Adds what the second version wrote in a region where nothing else happened; false if there is more to it. */
function addWritten(extents: ExtentList, region: number, rows: readonly LabelledRow[], b: Side): boolean {
  const [label, row] = rows[0]!;
  if (rows.length > 1 || !b.own.has(label) || !row.hasDataOnly()) return false;
  row.forEachRun((first, count) => extents.add(region * REGION_CHUNKS + first, count, 'data'));
  return true;
}

function sidesOf(catalog: Catalog, from: Volume | Snapshot, to: Volume | Snapshot): [Side, Side] {
  const side = (version: Volume | Snapshot): Side => {
    const { label } = version;
    if (catalog.at(label) !== version)
      throw new StoreError('NOT_FOUND', `there is no ${fullName(version)} any more`);
    const path = new Set(catalog.tree.path(label));
    return { lineage: { tree: catalog.tree.get(label)!.tree, label, path }, own: new Set(path) };
  };
  const [a, b] = [side(from), side(to)];
  for (const label of a.lineage.path) {
    if (!b.lineage.path.has(label)) continue;
    a.own.delete(label);
    b.own.delete(label);
  }
  return [a, b];
}

/** What the second version has in chunks that differ; NO_POINTER in others. `edge` differs unless it reads as zeros. */
async function differenceIn(
  index: PinnedIndex,
  region: number,
  rows: LabelledRow[],
  a: Side,
  b: Side,
  edge: number,
): Promise<Uint8Array> {
  const kinds = new Uint8Array(REGION_CHUNKS);
  // Nearer versions hide farther ones: their labels are larger.
  rows.sort(([one], [other]) => one - other);
  for (const [label, row] of rows) if (b.own.has(label)) row.kindsInto(kinds);
  if (edge >= 0) kinds[edge] = DATA_POINTER;
  else if (!kinds.includes(HOLE_POINTER) && rows.every(([label]) => b.own.has(label))) return kinds;
  for (const [label, row] of rows) if (a.own.has(label)) row.kindsInto(kinds);
  const [before, after] = [await index.resolve(a.lineage, region), await index.resolve(b.lineage, region)];
  for (let i = 0; i < REGION_CHUNKS; i++) {
    if (kinds[i] === NO_POINTER) continue;
    if (isSamePointer(before, after, i) && (i !== edge || readsZeros(after, i))) kinds[i] = NO_POINTER;
    else kinds[i] = readsZeros(after, i) ? HOLE_POINTER : DATA_POINTER;
  }
  return kinds;
}

export function readsZeros(block: PointerBlock, index: number): boolean {
  const segment = block.segment(index);
  return segment === 0 || segment === HOLE;
}

/** True if both read the chunk from one write, or as zeros. */
export function isSamePointer(a: PointerBlock, b: PointerBlock, index: number): boolean {
  if (readsZeros(a, index) || readsZeros(b, index)) return readsZeros(a, index) && readsZeros(b, index);
  return a.sequence(index) === b.sequence(index);
}
