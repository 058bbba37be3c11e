/**
 * Volumes and snapshots as the tree they descend in, as JSON or drawn for a terminal. Pure.
 *
 * A line of snapshots is usually long and straight: an only child stands under its parent with an arrow, in the
 * same column, and only a fork indents. So a year of daily snapshots still fits a terminal.
 *
 *     disk@monday
 *     ├─ test              volume
 *     └─ disk@tuesday
 *        ↓ disk            volume
 *
 * Invariants: each version appears once, whatever its parent says; no recursion, so that depth has no limit.
 */

import type { VersionWithSpace } from '../volume/summary.ts';
import { formatSize } from './size.ts';

export interface TreeNode extends VersionWithSpace {
  children: TreeNode[];
}

/** The roots, with their descendants. A version whose parent is not among `versions` is a root. */
export function growTree(versions: readonly VersionWithSpace[]): TreeNode[] {
  const nodes = new Map<string, TreeNode>();
  for (const version of versions) nodes.set(version.name, { ...version, children: [] });
  const roots: TreeNode[] = [];
  for (const node of nodes.values()) {
    const parent = node.parent === null ? undefined : nodes.get(node.parent);
    (parent?.children ?? roots).push(node);
  }
  return roots;
}

interface Line {
  readonly node: TreeNode;
  /** What stands before the name, and before the names of its children. */
  readonly lead: string;
  readonly indent: string;
}

export function drawTree(roots: readonly TreeNode[]): string {
  const lines: Line[] = [];
  const pending: Line[] = roots.toReversed().map((node) => ({ node, lead: '', indent: '' }));
  for (let line = pending.pop(); line !== undefined; line = pending.pop()) {
    lines.push(line);
    pending.push(...linesBelow(line).toReversed());
  }
  const width = Math.max(0, ...lines.map(({ lead, node }) => lead.length + node.name.length));
  return lines.map((line) => `${describe(line, width)}\n`).join('');
}

function linesBelow({ node, indent }: Line): Line[] {
  const { children } = node;
  if (children.length === 1) return [{ node: children[0]!, lead: `${indent}↓ `, indent }];
  return children.map((child, i) => {
    const isLast = i === children.length - 1;
    return {
      node: child,
      lead: `${indent}${isLast ? '└─ ' : '├─ '}`,
      indent: `${indent}${isLast ? '   ' : '│  '}`,
    };
  });
}

function describe({ node, lead }: Line, width: number): string {
  const name = `${lead}${node.name}`.padEnd(width);
  const size = node.kind === 'ghost' ? '' : formatSize(node.size);
  const own = `${formatSize(node.exclusive)} of ${formatSize(node.referenced)} its own`;
  return `${name}  ${node.kind.padEnd(8)}  ${size.padEnd(8)}  ${node.kind === 'ghost' ? '' : own}`.trimEnd();
}
