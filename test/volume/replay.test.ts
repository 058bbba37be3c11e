/** Entries of the log onto a catalog and an overlay: what waits for what, and what counts once. */

import { describe, expect, it } from 'vitest';
import { Overlay } from '../../src/index/overlay.ts';
import { HOLE, PointerBlock } from '../../src/index/pointers.ts';
import { CATALOG_LAST, ENTRY_CATALOG, ENTRY_CHANGE, type Entry } from '../../src/log/entries.ts';
import { SegmentLedger } from '../../src/log/segment-ledger.ts';
import { Catalog } from '../../src/volume/catalog.ts';
import { encodeCatalog } from '../../src/volume/catalog-parts.ts';
import type { Change } from '../../src/volume/change.ts';
import { Replay } from '../../src/volume/replay.ts';

const SIZE = 64 << 20;
const create = (name: string, label: number): Change => {
  return { op: 'create', at: 0, volume: `uuid-${name}`, name, size: SIZE, label };
};

const changeAt = (sequence: number, change: Change): Entry => {
  return { kind: ENTRY_CHANGE, flags: 0, sequence, text: JSON.stringify(change) };
};
const chunksAt = (sequence: number, label: number, first: number): Entry => {
  return { kind: 1, sequence, label, first, count: 1, offset: 4096, checksums: Uint32Array.of(sequence) };
};
const zerosAt = (sequence: number, label: number, first: number, count: number): Entry => {
  return { kind: 2, sequence, label, first, count };
};
const partAt = (sequence: number, text: string, flags = 0): Entry => {
  return { kind: ENTRY_CATALOG, flags, sequence, text };
};

/** The parts of a catalog with a volume of label 3. */
function parts(): string[] {
  const catalog = new Catalog();
  catalog.apply(create('disk', 3), 7);
  return [...encodeCatalog(catalog, new SegmentLedger())].filter((text) => !text.includes('segments'));
}

function replayOf(catalog: Catalog | undefined): { replay: Replay; block: () => PointerBlock } {
  const overlays = { active: new Overlay(), frozen: undefined };
  const replay = new Replay(overlays, catalog);
  const block = (): PointerBlock => {
    const merged = new PointerBlock();
    overlays.active.mergeInto(merged, 3, 0, new Set([3]));
    return merged;
  };
  return { replay, block };
}

describe('a replay that starts at a catalog', () => {
  it('has none before its last part, and loses nothing that stands between the parts', () => {
    const { replay, block } = replayOf(undefined);
    const [first, last] = parts();
    replay.apply(5, [partAt(10, first!), chunksAt(11, 3, 0)]);
    expect(replay.catalog).toBeUndefined();
    // The rest of it stands in the next segment.
    replay.apply(6, [zerosAt(12, 3, 4, 1), partAt(13, last!, CATALOG_LAST)]);
    expect(replay.catalog!.find('disk').label).toBe(3);
    expect([replay.sequence, replay.catalogSequence, replay.label]).toEqual([13, 13, 3]);
    expect([block().segment(0), block().checksum(0), block().segment(4)]).toEqual([5, 11, HOLE]);
  });

  it('applies no change that the catalog has already, and every later one', () => {
    const { replay } = replayOf(undefined);
    const [first, last] = parts();
    replay.apply(5, [partAt(10, first!), partAt(11, last!, CATALOG_LAST)]);
    replay.apply(5, [changeAt(9, create('disk', 3)), changeAt(12, create('new', 8))]);
    expect(replay.catalog!.volumes().map(({ name }) => name)).toEqual(['disk', 'new']);
    expect(replay.label).toBe(8);
  });
});

describe('a replay from the beginning', () => {
  it('makes the catalog from the changes, passes catalogs by, and takes what belongs to a version', () => {
    const { replay, block } = replayOf(new Catalog());
    replay.apply(5, [changeAt(1, create('disk', 3)), chunksAt(2, 3, 0), chunksAt(3, 99, 1)]);
    replay.apply(5, [partAt(4, '{}', CATALOG_LAST), chunksAt(5, 3, 2), zerosAt(6, 3, 0, 1)]);
    expect(replay.catalog!.volumes()).toHaveLength(1);
    expect([block().segment(0), block().segment(1), block().segment(2)]).toEqual([HOLE, 0, 5]);
    expect([replay.sequence, replay.label]).toEqual([6, 3]);
  });
});
