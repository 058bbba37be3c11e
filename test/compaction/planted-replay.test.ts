/** Catalogs in segments of before the base: outdated, and no part of what a replay takes. */

import { describe, expect, it } from 'vitest';
import { Overlay } from '../../src/index/overlay.ts';
import { CATALOG_FIRST, CATALOG_LAST, ENTRY_CATALOG, type Entry } from '../../src/log/entries.ts';
import { SegmentLedger } from '../../src/log/segment-ledger.ts';
import { Catalog } from '../../src/volume/catalog.ts';
import { encodeCatalog } from '../../src/volume/catalog-parts.ts';
import { Replay } from '../../src/volume/replay.ts';

/** The entries of an empty catalog that states some segments. */
function entriesOf(segments: readonly number[], sequence: number): Entry[] {
  const texts = [...encodeCatalog(new Catalog(), new SegmentLedger(segments))];
  return texts.map((text, i) => {
    const flags = (i === 0 ? CATALOG_FIRST : 0) | (i === texts.length - 1 ? CATALOG_LAST : 0);
    return { kind: ENTRY_CATALOG, flags, sequence: sequence + i, text };
  });
}

describe('a catalog of before the base', () => {
  it('says nothing about segments: those that it knew may be gone', () => {
    const replay = new Replay({ active: new Overlay(), frozen: undefined }, new Catalog());
    replay.apply(3, entriesOf([1, 2, 3], 10), true);
    expect(replay.newest).toBeUndefined();
    replay.apply(8, entriesOf([7, 8], 20));
    expect([...replay.newest!.segments]).toEqual([7, 8]);
  });

  it('is not the one that a replay begins with', () => {
    const replay = new Replay({ active: new Overlay(), frozen: undefined }, undefined);
    replay.apply(3, entriesOf([1, 2, 3], 10), true);
    expect(replay.catalog).toBeUndefined();
    replay.apply(8, entriesOf([7, 8], 20));
    expect([...replay.stated!.segments]).toEqual([7, 8]);
    expect(replay.catalogSequence).toBe(20);
  });
});
