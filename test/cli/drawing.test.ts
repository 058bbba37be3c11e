/** The tree and the tables that are drawn for a terminal. */

import { describe, expect, it } from 'vitest';
import { drawFields, drawTable } from '../../src/cli/table.ts';
import { drawTree, growTree } from '../../src/cli/version-tree.ts';
import type { VersionWithSpace } from '../../src/volume/summary.ts';

const MIB = 2 ** 20;

function version(
  name: string,
  parent: string | null,
  space: Partial<VersionWithSpace> = {},
): VersionWithSpace {
  const kind = name.startsWith('#') ? 'ghost' : name.includes('@') ? 'snapshot' : 'volume';
  const created = '2020-01-01T00:00:00.000Z';
  const here = { origin: null, replica: false };
  const none = {
    referenced: 0,
    exclusive: 0,
    shared: 0,
    automatic: false,
    madeBy: null,
    priority: 0,
    holds: [],
    ...here,
  };
  return { name, kind, uuid: name, size: MIB, created, parent, ...none, ...space };
}

describe('the tree', () => {
  it('shows who descends from whom', () => {
    const versions = [
      version('disk', 'disk@c', { referenced: 3 * 4096, exclusive: 4096, shared: 2 * 4096 }),
      version('disk@a', null, { referenced: 8192, shared: 8192 }),
      version('disk@b', 'disk@a'),
      version('disk@c', 'disk@b'),
      version('test', 'disk@a'),
      version('test@x', 'disk@a'),
      version('lone', null),
    ];
    const nothing = '0 B of 0 B its own';
    expect(drawTree(growTree(versions))).toBe(
      [
        'disk@a       snapshot  1 MiB     0 B of 8 KiB its own',
        `├─ disk@b    snapshot  1 MiB     ${nothing}`,
        `│  ↓ disk@c  snapshot  1 MiB     ${nothing}`,
        '│  ↓ disk    volume    1 MiB     4 KiB of 12 KiB its own',
        `├─ test      volume    1 MiB     ${nothing}`,
        `└─ test@x    snapshot  1 MiB     ${nothing}`,
        `lone         volume    1 MiB     ${nothing}`,
        '',
      ].join('\n'),
    );
  });

  it('shows a ghost without a size: it is no disk any more', () => {
    const versions = [version('a', '#7'), version('b', '#7'), version('#7', null, { size: 0 })];
    expect(drawTree(growTree(versions))).toBe(
      [
        '#7    ghost',
        '├─ a  volume    1 MiB     0 B of 0 B its own',
        '└─ b  volume    1 MiB     0 B of 0 B its own',
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
