/**
 * The tree of versions: who descends from whom. Pure.
 *
 * Forward orientation: the root is oldest, a live head is a leaf, a child inherits what its parent has. A label is
 * larger than its parent's and never reused. A version that was deleted is *hidden*: nobody can name it, and it stays
 * in the tree as a ghost for as long as others inherit through it. Source: versioned pointers (Phillips 2008),
 * redirect-on-write.
 *
 * A checkpoint goes by the tree as it stood at its position (`VersionView`): a delete that came later may be lost in a
 * crash, and must not have cost anybody a pointer then.
 */

import { assert } from '../base/errors.ts';
import type { Sequence, VersionLabel } from '../base/units.ts';

export interface VersionNode {
  readonly label: VersionLabel;
  /** 0 for a root. */
  readonly parent: VersionLabel;
  /** All versions of a tree share the regions of the index: the label that its first root had. */
  readonly tree: VersionLabel;
  /** Sequence of the change that made it; whatever it wrote itself is newer. */
  readonly birth: Sequence;
  /** Sequence of the change that hid it; 0 while it can be named. */
  readonly hidden: Sequence;
}

interface Node extends VersionNode {
  parent: VersionLabel;
  hidden: Sequence;
}

const NONE: ReadonlySet<VersionLabel> = new Set();

export class VersionTree {
  readonly #nodes = new Map<VersionLabel, Node>();
  readonly #children = new Map<VersionLabel, Set<VersionLabel>>();

  get size(): number {
    return this.#nodes.size;
  }

  get(label: VersionLabel): VersionNode | undefined {
    return this.#nodes.get(label);
  }

  nodes(): IterableIterator<VersionNode> {
    return this.#nodes.values();
  }

  children(label: VersionLabel): ReadonlySet<VersionLabel> {
    return this.#children.get(label) ?? NONE;
  }

  /** Adds a child of `parent`, or a root if `parent` is 0: of a new tree, or of `tree`, whose first root is gone. */
  add(label: VersionLabel, parent: VersionLabel, birth: Sequence, tree = label): VersionNode {
    assert(label > parent && !this.#nodes.has(label), 'a label is new and larger than its parent');
    const above = parent === 0 ? undefined : this.#nodes.get(parent);
    assert(parent === 0 || above !== undefined, 'a version descends from a known one');
    const node = { label, parent, tree: above?.tree ?? tree, birth, hidden: 0 };
    this.#nodes.set(label, node);
    this.#link(label, parent);
    return node;
  }

  /** The version can no longer be named. */
  hide(label: VersionLabel, sequence: Sequence): void {
    const node = this.#nodes.get(label);
    assert(node?.hidden === 0, 'a version is hidden once');
    node.hidden = sequence;
  }

  /** Takes a hidden version out; its only child, if there is one, takes its place. Requires: it has no pointers. */
  splice(label: VersionLabel): void {
    const node = this.#nodes.get(label);
    const below = this.children(label);
    assert(node !== undefined && node.hidden > 0 && below.size <= 1, 'a ghost with children stays');
    this.#children.get(node.parent)?.delete(label);
    for (const child of below) {
      this.#nodes.get(child)!.parent = node.parent;
      this.#link(child, node.parent);
    }
    this.#children.delete(label);
    this.#nodes.delete(label);
  }

  #link(label: VersionLabel, parent: VersionLabel): void {
    if (parent === 0) return;
    const siblings = this.#children.get(parent);
    if (siblings === undefined) this.#children.set(parent, new Set([label]));
    else siblings.add(label);
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

/** The tree as of a sequence: what was hidden later counts as visible. */
export class VersionView {
  readonly tree: VersionTree;
  readonly #asOf: Sequence;

  constructor(tree: VersionTree, asOf: Sequence) {
    this.tree = tree;
    this.#asOf = asOf;
  }

  /** True if nothing is above the version. */
  isRoot(label: VersionLabel): boolean {
    return this.tree.get(label)?.parent === 0;
  }

  isHidden(label: VersionLabel): boolean {
    const hidden = this.tree.get(label)?.hidden ?? 0;
    return hidden > 0 && hidden <= this.#asOf;
  }

  /** The unbroken line of ghosts right above a version: whose pointers it may be the last to inherit. */
  ghostsAbove(label: VersionLabel): VersionLabel[] {
    const ghosts: VersionLabel[] = [];
    let at = this.tree.get(label)?.parent ?? 0;
    while (at !== 0 && this.isHidden(at)) {
      ghosts.push(at);
      at = this.tree.get(at)!.parent;
    }
    return ghosts;
  }
}
