/** Catalogs that do not hold together, put right: nothing that has data goes, and what comes out of it holds together. */

import { describe, expect, it } from 'vitest';
import { CHUNK_BYTES } from '../../src/base/units.ts';
import { writeCatalogSegment } from '../../src/repair/catalog-segment.ts';
import { mendCatalog, type MendedCatalog } from '../../src/repair/catalog-mending.ts';
import { auditCatalog } from '../../src/volume/catalog-audit.ts';
import { type CatalogPart, decodeCatalog, encodeCatalog } from '../../src/volume/catalog-parts.ts';
import { readEndOfLog } from '../../src/volume/log-end.ts';
import { SegmentLedger } from '../../src/log/segment-ledger.ts';
import { UUID } from '../log/rig.ts';
import { scheduleOf } from '../schedule/rules.ts';
import { MemoryStorage } from '../support/memory-storage.ts';

const MIB = 1 << 20;
const volume = (uuid: string, name: string, label: number) => ({ uuid, name, size: MIB, created: 1, label });
const snapshot = (of: string, uuid: string, name: string, label: number) => ({
  ...volume(uuid, name, label),
  volume: of,
});

/** Versions in `extents` have chunks up to there. */
function mended(part: CatalogPart, extents: Record<number, number> = {}): MendedCatalog {
  let [label, uuid] = [100, 0];
  const result = mendCatalog(decodeCatalog([JSON.stringify(part)], 50), 60, {
    extentOf: (each) => extents[each] ?? 0,
    freshLabel: () => label++,
    freshUuid: () => `fresh-${uuid++}`,
    now: 7,
  });
  expect([...auditCatalog(result.catalog)]).toEqual([]);
  expect(result.catalog.sequence).toBe(60);
  return result;
}

const namesOf = ({ catalog }: MendedCatalog): string[] =>
  catalog
    .volumes()
    .flatMap(({ name, snapshots }) => [name, ...[...snapshots.keys()].map((of) => `${name}@${of}`)]);

describe('a catalog', () => {
  it('that holds together stays as it is', () => {
    const part: CatalogPart = {
      versions: [
        [1, 0, 1],
        [2, 1, 5],
        [3, 1, 6, 8],
        [4, 3, 7],
        [5, 3, 7],
      ],
      volumes: [volume('v', 'a', 2), volume('w', 'b', 4), volume('x', 'c', 5)],
      snapshots: [snapshot('v', 's', 'one', 1)],
    };
    const result = mended(part);
    expect(result.changes).toEqual([]);
    expect(namesOf(result)).toEqual(['a', 'a@one', 'b', 'c']);
  });

  it('keeps schedules, but for those that are none', () => {
    const strange = { ...scheduleOf({ daily: 7 }), rules: [] };
    const right = scheduleOf({ daily: 7 }, { timeZone: 'Mars/Olympus' });
    const part: CatalogPart = {
      versions: [
        [1, 0, 1],
        [2, 0, 2],
      ],
      volumes: [
        { ...volume('v', 'a', 1), schedule: strange },
        { ...volume('w', 'b', 2), schedule: right },
      ],
    };
    const result = mended(part);
    expect(result.catalog.volumes().map(({ schedule }) => schedule)).toEqual([null, right]);
    expect(result.changes).toEqual(['volume a has no schedule any more: it was none']);
  });

  it('keeps receives that can go on, and deletes what has come of others', () => {
    const receive = (uuid: string, label: number, size = MIB) => ({
      at: 1,
      receive: uuid,
      label,
      size: MIB,
      volume: null,
      volumeName: 'new',
      name: 'one',
      source: { store: 's', volume: 'v', target: { uuid: 't', size, created: 1 }, base: null },
      position: 512,
    });
    const part: CatalogPart = {
      versions: [
        [1, 0, 1],
        [2, 0, 2],
        [3, 0, 3],
      ],
      volumes: [volume('v', 'a', 1)],
      receives: [receive('r', 2), receive('longer', 3, 2 * MIB), receive('named', 1)],
    };
    const result = mended(part, { 2: 10, 3: 10 });
    expect(namesOf(result)).toEqual(['a']);
    expect([...result.catalog.receives.keys()]).toEqual(['r']);
    expect(result.catalog.receives.get('r')).toMatchObject({ label: 2, position: 512 });
    expect([...result.catalog.pending]).toEqual([3]);
    expect(result.changes.length).toBe(2);
    const without = { ...part, receives: [{ ...receive('r', 2), source: undefined as never }] };
    expect(() => decodeCatalog([JSON.stringify(without)], 50)).toThrow('does not say what of');
  });

  it('keeps feeds that can be, and drops others', () => {
    const uuid = '00000000-0000-4000-8000-000000000001';
    const feed = (id: string, direction: 'push' | 'pull', of: string, address = 'host:1') => ({
      id,
      direction,
      volume: of,
      address,
      peerVolume: 'there',
      everyMs: 1000,
      rate: null,
      snapshots: 'made' as const,
      isPaused: true,
      last: null,
    });
    const part: CatalogPart = {
      versions: [[1, 0, 1]],
      volumes: [volume(uuid, 'a', 1)],
      feeds: [
        feed('push', 'push', uuid),
        feed('pull', 'pull', 'new'),
        feed('gone', 'push', uuid.replace('1', '2')),
        feed('nowhere', 'pull', 'new', 'nowhere'),
      ],
    };
    const result = mended(part);
    expect(result.catalog.feeds.all().map(({ id, isPaused }) => [id, isPaused])).toEqual([
      ['push', true],
      ['pull', true],
    ]);
    expect(result.changes.length).toBe(2);
  });

  it('keeps versions without a name that have data, under one of their own', () => {
    const part: CatalogPart = {
      versions: [
        [1, 0, 1],
        [2, 1, 5],
        [3, 0, 6],
        [4, 0, 7],
      ],
      volumes: [volume('v', 'a', 2)],
    };
    const result = mended(part, { 1: 10, 3: 300 });
    expect(namesOf(result)).toEqual(['a', 'a@found-1', 'found-3']);
    expect(result.catalog.find('found-3').sizeBytes).toBe(300 * CHUNK_BYTES);
    expect(result.catalog.tree.get(4)).toMatchObject({ hidden: 60 });
    expect([...result.catalog.pending]).toEqual([4]);
  });

  it('gives versions without a name that others without a name stand below, one each', () => {
    const result = mended(
      {
        versions: [
          [1, 0, 1],
          [2, 1, 5],
          [3, 2, 6],
          [4, 1, 7],
        ],
      },
      { 3: 5, 4: 5 },
    );
    expect(namesOf(result).sort()).toEqual(['found-3', 'found-3@found-1', 'found-3@found-2', 'found-4']);
  });

  it('freezes heads that versions stand below', () => {
    const part: CatalogPart = {
      versions: [
        [1, 0, 1],
        [2, 1, 5],
      ],
      volumes: [volume('v', 'a', 1), volume('w', 'b', 2)],
    };
    const result = mended(part);
    expect(namesOf(result)).toEqual(['a', 'a@found-1', 'b']);
    expect(result.catalog.find('a').label).toBe(100);
    expect(result.catalog.tree.get(100)).toMatchObject({ parent: 1, birth: 60 });
  });

  it('has no name twice, and loses none of those that had', () => {
    const part: CatalogPart = {
      versions: [
        [1, 0, 1],
        [2, 0, 5],
        [3, 0, 6],
      ],
      volumes: [volume('v', 'a', 1), volume('w', 'a', 2), volume('v', 'c', 3)],
    };
    const result = mended(part, { 1: 1, 2: 1, 3: 1 });
    expect(
      result.catalog
        .volumes()
        .map(({ label }) => label)
        .sort((a, b) => a - b),
    ).toEqual([1, 2, 3]);
    expect(new Set(namesOf(result)).size).toBe(3);
  });

  it('forgets who took over whom where that cannot be', () => {
    const part: CatalogPart = {
      versions: [[2, 0, 1]],
      volumes: [volume('v', 'a', 2)],
      pending: [2],
      merged: [
        [1, 2, 9],
        [2, 9, 9],
        [5, 2, 9],
      ],
    };
    const { catalog } = mended(part);
    expect([...catalog.merged.keys()]).toEqual([1]);
    expect([...catalog.pending]).toEqual([]);
  });
});

describe('a catalog in a segment of its own', () => {
  it('is read back from many records, and is part of no chain', async () => {
    const versions: [number, number, number][] = [];
    const volumes = [];
    for (let label = 1; label <= 4000; label++) {
      versions.push([label, 0, label]);
      volumes.push(volume(`uuid-${label}`, `volume-${label}`, label));
    }
    const catalog = decodeCatalog([JSON.stringify({ versions, volumes })], 5000);
    const storage = new MemoryStorage();
    const texts = [...encodeCatalog(catalog, new SegmentLedger([9]))];
    const identity = { uuid: UUID, segment: 9, epoch: 1, append: 30, sequence: 6000 };
    const base = await writeCatalogSegment(storage, identity, texts);
    const end = await readEndOfLog({ storage, uuid: UUID }, base);
    expect(end.newest).toEqual(base);
    expect(end.catalog.volumes().length).toBe(4000);
    expect(end.catalog.sequence).toBe(6000);
    expect([...end.stated!.segments]).toEqual([9]);
    expect((await readEndOfLog({ storage, uuid: UUID }, undefined)).newest).toBeUndefined();
  });
});
