/** Who reads a pointer, and which extents of whom damage reaches. Pure. */

import { CHUNK_BYTES } from '../base/units.ts';
import type { PointerBlock } from '../index/pointers.ts';
import type { VersionTree } from '../index/version-tree.ts';
import type { AffectedExtent, AffectedVersion, FindingDetails } from './finding.ts';

const VERSIONS_MAX = 32;
const EXTENTS_MAX = 32;

/** What a check knows of versions. */
export interface VersionNames {
  readonly tree: VersionTree;
  /** For messages. */
  describe(label: number): string;
  /** undefined: nobody can name it. */
  nameOf(label: number): { volume: string; snapshot?: string } | undefined;
  /** Who has what the log holds under a label; undefined if nobody. */
  holderOf(label: number): { readonly label: number } | undefined;
}

/**
 * Visible versions that read the pointer of `label` at `index` of a region: it and those below that have none of their own
 * in between. `blocks` are all versions' own pointers there. In the order of their labels.
 */
export function readersOf(
  tree: VersionTree,
  blocks: ReadonlyMap<number, PointerBlock>,
  label: number,
  index: number,
): number[] {
  const readers: number[] = [];
  const pending = [label];
  for (let at = pending.pop(); at !== undefined; at = pending.pop()) {
    const node = tree.get(at);
    if (node === undefined) continue;
    if (node.hidden === 0) readers.push(at);
    for (const child of tree.children(at))
      if ((blocks.get(child)?.segment(index) ?? 0) === 0) pending.push(child);
  }
  return readers.sort((a, b) => a - b);
}

/** Extents that damage reaches, by version: the first of them, and how many more. Chunks of a version come in order. */
export class Reach {
  readonly #extents = new Map<number, { first: AffectedExtent[]; more: number; end: number }>();
  readonly #others = new Set<number>();

  add(label: number, chunk: number): void {
    let of = this.#extents.get(label);
    if (of === undefined) {
      if (this.#extents.size >= VERSIONS_MAX) {
        this.#others.add(label);
        return;
      }
      of = { first: [], more: 0, end: -1 };
      this.#extents.set(label, of);
    }
    const offsetBytes = chunk * CHUNK_BYTES;
    const last = of.more === 0 ? of.first.at(-1) : undefined;
    if (offsetBytes === of.end) {
      if (last !== undefined) last.lengthBytes += CHUNK_BYTES;
    } else if (of.first.length < EXTENTS_MAX) of.first.push({ offsetBytes, lengthBytes: CHUNK_BYTES });
    else of.more += 1;
    of.end = offsetBytes + CHUNK_BYTES;
  }

  get isEmpty(): boolean {
    return this.#extents.size === 0;
  }

  /** What a finding says of it; nothing if nothing is reached. */
  details(names: VersionNames): Pick<FindingDetails, 'affects' | 'moreVersions'> {
    const affects: AffectedVersion[] = [];
    for (const [label, { first: extents, more }] of this.#extents) {
      const name = names.nameOf(label);
      if (name === undefined) continue;
      affects.push(more > 0 ? { ...name, extents, moreExtents: more } : { ...name, extents });
    }
    if (affects.length === 0) return {};
    const { size } = this.#others;
    return size > 0 ? { affects, moreVersions: size } : { affects };
  }
}
