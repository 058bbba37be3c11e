/**
 * The tree of versions: who descends from whom. Pure.
 *
 * Forward orientation: the root is oldest, a live head is a leaf, a child inherits what its parent has. A label is
 * larger than its parent's and never reused. Source: versioned pointers (Phillips 2008), redirect-on-write.
 */

import { assert } from '../base/errors.ts';
import type { Sequence, VersionLabel } from '../base/units.ts';

export interface VersionNode {
  readonly label: VersionLabel;
  /** 0 for a root. */
  readonly parent: VersionLabel;
  /** Label of the root: all versions of a tree share the regions of the index. */
  readonly tree: VersionLabel;
  /** Sequence of the change that made it; whatever it wrote itself is newer. */
  readonly birth: Sequence;
}

export class VersionTree {
  readonly #nodes = new Map<VersionLabel, VersionNode>();
  readonly #childCounts = new Map<VersionLabel, number>();

  get size(): number {
    return this.#nodes.size;
  }

  get(label: VersionLabel): VersionNode | undefined {
    return this.#nodes.get(label);
  }

  nodes(): IterableIterator<VersionNode> {
    return this.#nodes.values();
  }

  /** Adds a child of `parent`, or a root if `parent` is 0. */
  add(label: VersionLabel, parent: VersionLabel, birth: Sequence): VersionNode {
    assert(label > parent && !this.#nodes.has(label), 'a label is new and larger than its parent');
    const above = parent === 0 ? undefined : this.#nodes.get(parent);
    assert(parent === 0 || above !== undefined, 'a version descends from a known one');
    const node = { label, parent, tree: above?.tree ?? label, birth };
    this.#nodes.set(label, node);
    if (parent !== 0) this.#childCounts.set(parent, this.childCount(parent) + 1);
    return node;
  }

  childCount(label: VersionLabel): number {
    return this.#childCounts.get(label) ?? 0;
  }

  /** The labels from `label` up to its root, both included. */
  path(label: VersionLabel): VersionLabel[] {
    const labels: VersionLabel[] = [];
    for (let at = label; at !== 0; at = this.#nodes.get(at)!.parent) {
      assert(this.#nodes.has(at), 'a path leads to its root');
      labels.push(at);
    }
    return labels;
  }
}
