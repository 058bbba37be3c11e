/**
 * Who inherits a pointer, and what becomes of the pointers of deleted versions. Pure.
 *
 * An *heir* of a pointer is a visible version that reads it: the version itself, or one below that has no pointer of
 * its own in between. A pointer without an heir is an orphan, and dies. A hidden version with
 *
 * - no visible version below is dead: its pointers die with it;
 * - one branch with visible versions hands its pointers to the next version down that branch that stays, and goes;
 * - two or more such branches stays, as a ghost.
 *
 * All hidden versions of a batch are judged at once, by the tree as it will be: so one visit to each address is enough,
 * in any order. Source: versioned pointers (Phillips 2008); the batch is ours.
 */

import type { VersionLabel } from '../base/units.ts';
import { type PointerBlock, REGION_CHUNKS } from './pointers.ts';
import type { VersionView } from './version-tree.ts';

/** In the place of a label: no visible version is left. */
export const DEAD = 0;

/** What is to become of hidden versions: DEAD, the label that takes their pointers over, or their own: they stay. */
export type Destinies = ReadonlyMap<VersionLabel, VersionLabel>;

/** The destinies of hidden versions, and of the ghosts right above them, which may have lost their reason to stay. */
export function destiniesOf(hidden: Iterable<VersionLabel>, view: VersionView): Destinies {
  const judged = new Judge(view);
  const destinies = new Map<VersionLabel, VersionLabel>();
  for (const label of hidden) {
    for (const each of [label, ...view.ghostsAbove(label)]) {
      if (!destinies.has(each)) destinies.set(each, judged.destinyOf(each));
    }
  }
  return destinies;
}

class Judge {
  readonly #view: VersionView;
  readonly #known = new Map<VersionLabel, VersionLabel>();

  constructor(view: VersionView) {
    this.#view = view;
  }

  destinyOf(label: VersionLabel): VersionLabel {
    if (!this.#view.isHidden(label)) return label;
    // From the leaves up, without recursion: a line of deleted snapshots may be very long.
    const pending = [label];
    while (pending.length > 0) {
      const at = pending.at(-1)!;
      const unknown = this.#known.has(at)
        ? []
        : [...this.#hiddenChildren(at)].filter((c) => !this.#known.has(c));
      if (unknown.length > 0) {
        pending.push(...unknown);
        continue;
      }
      pending.pop();
      this.#known.set(at, this.#judge(at));
    }
    return this.#known.get(label)!;
  }

  *#hiddenChildren(label: VersionLabel): Generator<VersionLabel> {
    for (const child of this.#view.tree.children(label)) if (this.#view.isHidden(child)) yield child;
  }

  /** Requires: all hidden children are judged. */
  #judge(label: VersionLabel): VersionLabel {
    let destiny = DEAD;
    for (const child of this.#view.tree.children(label)) {
      const below = this.#view.isHidden(child) ? this.#known.get(child)! : child;
      if (below === DEAD) continue;
      if (destiny !== DEAD) return label;
      destiny = below;
    }
    return destiny;
  }
}

/** A version's own pointers in a region; null: it has none; undefined: it is not known. */
export type BlockOf = (label: VersionLabel) => PointerBlock | null | undefined;

export interface Orphans {
  /** Chunks in which the version has a pointer and no known heir. */
  chunks: Uint8Array;
  count: number;
  /** Versions whose pointers have to be known to be sure. */
  unknown: VersionLabel[];
}

const INHERITED = 1;

/** Which pointers of a hidden version in a region nobody inherits, as far as blocks are known. */
export function orphansOf(
  label: VersionLabel,
  block: PointerBlock,
  blockOf: BlockOf,
  view: VersionView,
): Orphans {
  const chunks = new Uint8Array(REGION_CHUNKS);
  let count = 0;
  for (let i = 0; i < REGION_CHUNKS; i++) {
    if (block.segment(i) === 0) continue;
    chunks[i] = INHERITED;
    count += 1;
  }
  const unknown: VersionLabel[] = [];
  const pending: [VersionLabel, Uint8Array][] = [];
  const below = (parent: VersionLabel, inherited: Uint8Array): void => {
    for (const child of view.tree.children(parent)) pending.push([child, inherited]);
  };
  below(label, chunks.slice());
  while (count > 0 && pending.length > 0) {
    const [version, above] = pending.pop()!;
    const own = blockOf(version);
    if (own === undefined) {
      unknown.push(version);
      continue;
    }
    const inherited = own === null ? above : withoutPointers(above, own);
    if (view.isHidden(version)) {
      below(version, inherited);
      continue;
    }
    for (let i = 0; i < REGION_CHUNKS; i++) {
      if (inherited[i] !== INHERITED || chunks[i] !== INHERITED) continue;
      chunks[i] = 0;
      count -= 1;
    }
  }
  return { chunks, count, unknown };
}

function withoutPointers(inherited: Uint8Array, own: PointerBlock): Uint8Array {
  const left = inherited.slice();
  for (let i = 0; i < REGION_CHUNKS; i++) if (own.segment(i) !== 0) left[i] = 0;
  return left;
}

/**
 * Drops orphans from the version's block, and hands what is left to the version that takes it over; `dropped` is told
 * each segment that loses a chunk. Answers true if anything changed. Requires: `heir` has no pointer where one is left.
 */
export function dropAndHandOver(
  block: PointerBlock,
  orphans: Orphans,
  heir: PointerBlock | undefined,
  dropped: (segment: number) => void,
): boolean {
  let changed = false;
  for (let i = 0; i < REGION_CHUNKS; i++) {
    const segment = block.segment(i);
    if (segment === 0) continue;
    if (orphans.chunks[i] === INHERITED) dropped(segment);
    else if (heir === undefined) continue;
    else heir.put(i, segment, block.offset(i), block.checksum(i), block.sequence(i));
    block.clear(i);
    changed = true;
  }
  return changed;
}
