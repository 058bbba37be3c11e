/** The catalog as texts of the log, and back: nothing of it is lost, whatever its size. */

import { expect, it } from 'vitest';
import { Catalog, fullName } from '../../src/volume/catalog.ts';
import { decodeCatalog, decodeSegments, encodeCatalog } from '../../src/volume/catalog-parts.ts';
import { SegmentLedger } from '../../src/log/segment-ledger.ts';
import { destiniesOf } from '../../src/index/heirs.ts';
import { VersionView } from '../../src/index/version-tree.ts';
import { scheduleOf } from '../schedule/rules.ts';

const SIZE = 1 << 20;

function catalogOf(snapshots: number): Catalog {
  const catalog = new Catalog();
  let sequence = 0;
  let label = 0;
  const apply = (change: Parameters<Catalog['apply']>[0]): void => catalog.apply(change, ++sequence);
  apply({ op: 'create', at: 1, volume: 'v', name: 'a', size: SIZE, label: ++label });
  for (let i = 0; i < snapshots; i++)
    apply({
      op: 'snapshot',
      at: 2,
      cuts: [{ volume: 'v', snapshot: `s${i}`, name: `${i}`, label: ++label }],
    });
  apply({ op: 'clone', at: 3, from: 2, volume: 'c', name: 'clone', size: SIZE, label: ++label });
  apply({ op: 'hold', at: 4, snapshot: 's0', owner: 'who', reason: 'why', until: 2 ** 42 });
  apply({ op: 'priority', at: 5, snapshot: 's0', priority: -3 });
  apply({ op: 'schedule', at: 5, volume: 'v', schedule: scheduleOf({ daily: 7, custom: 3 }) });
  // The first root goes for good, a fork stays as a ghost, and one is still to be pruned.
  apply({ op: 'delete', at: 6, volumes: [], snapshots: [2] });
  const hidden = [...catalog.pending];
  catalog.merged.set(7, { heir: 3, until: 12 });
  catalog.splice(hidden, destiniesOf(hidden, new VersionView(catalog.tree, sequence)), 9);
  apply({
    op: 'rollback',
    at: 7,
    volume: 'v',
    to: 3,
    size: 512,
    label: ++label,
    saved: { snapshot: 'x', name: 'saved' },
  });
  apply({ op: 'delete', at: 8, volumes: [], snapshots: [3] });
  return catalog;
}

function contentOf(catalog: Catalog): unknown {
  return {
    nodes: [...catalog.tree.nodes()].sort((a, b) => a.label - b.label),
    pending: [...catalog.pending],
    merged: [...catalog.merged],
    sequence: catalog.sequence,
    count: catalog.snapshotCount,
    versions: catalog.volumes().flatMap((volume) =>
      [volume, ...volume.snapshots.values()].map((each) => {
        const { label, sizeBytes, uuid, created } = each;
        const own =
          'volume' in each ? [each.isAutomatic, each.madeBy, each.priority, each.holds] : [each.schedule];
        return [fullName(each), label, sizeBytes, uuid, created, ...own];
      }),
    ),
  };
}

it('a catalog is read back as it was, in one part or in many', () => {
  for (const snapshots of [4, 2000]) {
    const catalog = catalogOf(snapshots);
    expect(catalog.pending.size).toBe(1);
    expect(catalog.merged.size).toBe(1);
    const ledger = new SegmentLedger([1, 2, 3, 7, 9, 10], [5]);
    const texts = [...encodeCatalog(catalog, ledger)];
    expect(texts.length).toBeGreaterThan(snapshots / 500);
    for (const text of texts) expect(text.length).toBeLessThan(64 << 10);
    expect(contentOf(decodeCatalog(texts, catalog.sequence))).toEqual(contentOf(catalog));
    expect(decodeSegments(texts)).toEqual(ledger);
  }
  const empty = [...encodeCatalog(new Catalog(), new SegmentLedger())];
  expect(decodeSegments(empty)).toEqual(new SegmentLedger());
  expect(decodeSegments(['{"versions":[]}'])).toBeUndefined();
});

it('a tree that does not hold together is refused as corruption of the log, and no mistake of ours', () => {
  const volume = '"volumes":[{"uuid":"v","name":"a","size":4096,"created":1,"label":2}]';
  const snapshot = '"snapshots":[{"uuid":"s","name":"s","size":4096,"created":1,"label":1,"volume":"v"}]';
  expect(decodeCatalog([`{"versions":[[1,0,1],[2,1,5]],${volume},${snapshot}}`], 9).snapshotCount).toBe(1);
  for (const versions of [
    '[[2,1,5]]',
    '[[1,2,1],[2,0,5]]',
    '[[1,0,1],[2,1,5],[2,1,5]]',
    '[[1,0,1]]',
    '[["x",0,1]]',
  ])
    expect(() => decodeCatalog([`{"versions":${versions},${volume},${snapshot}}`], 9)).toThrow(
      expect.objectContaining({ code: 'CORRUPTION' }),
    );
});
