/** The tree and the tables that are drawn for a terminal. */

import { describe, expect, it } from 'vitest';
import { drawFields, drawTable } from '../../src/cli/table.ts';
import { drawTree, growTree } from '../../src/cli/version-tree.ts';
import type { VersionSummary } from '../../src/volume/summary.ts';

function version(name: string, parent: string | null): VersionSummary {
  const kind = name.includes('@') ? 'snapshot' : 'volume';
  return { name, kind, uuid: name, size: 2 ** 20, created: '2020-01-01T00:00:00.000Z', parent };
}

describe('the tree', () => {
  it('shows who descends from whom', () => {
    const versions = [
      version('disk', 'disk@c'),
      version('disk@a', null),
      version('disk@b', 'disk@a'),
      version('disk@c', 'disk@b'),
      version('test', 'disk@a'),
      version('test@x', 'disk@a'),
      version('lone', null),
    ];
    expect(drawTree(growTree(versions))).toBe(
      [
        'disk@a       snapshot  1 MiB',
        '├─ disk@b    snapshot  1 MiB',
        '│  ↓ disk@c  snapshot  1 MiB',
        '│  ↓ disk    volume    1 MiB',
        '├─ test      volume    1 MiB',
        '└─ test@x    snapshot  1 MiB',
        'lone         volume    1 MiB',
        '',
      ].join('\n'),
    );
  });

  it('takes a version whose parent is not there for a root', () => {
    expect(growTree([version('a', 'gone@x')]).map(({ name }) => name)).toEqual(['a']);
  });

  it('has no limit to its depth', () => {
    const versions = Array.from({ length: 20_000 }, (_, i) =>
      version(`d@${i}`, i === 0 ? null : `d@${i - 1}`),
    );
    const lines = drawTree(growTree([...versions, version('d', 'd@19999')]))
      .trimEnd()
      .split('\n');
    expect(lines).toHaveLength(20_001);
    expect(lines.at(-1)).toContain('↓ d ');
  });

  it('is empty for an empty store', () => {
    expect(drawTree(growTree([]))).toBe('');
  });
});

describe('columns', () => {
  it('are as wide as their widest cell', () => {
    expect(
      drawTable(
        ['NAME', 'X'],
        [
          ['a', '1'],
          ['longer', '22'],
        ],
      ),
    ).toBe('NAME    X\na       1\nlonger  22\n');
  });

  it('stand beneath each other behind their keys', () => {
    expect(
      drawFields([
        ['a', '1'],
        ['long key', '2'],
      ]),
    ).toBe('a:        1\nlong key: 2\n');
  });
});
