/**
 * What versions take up: read by each, read by nobody else, and what would come back if some were deleted. Counted from
 * the extents of the index when somebody asks, never while data is read or written.
 */

import { StoreError } from '../base/errors.ts';
import { CHUNK_BYTES } from '../base/units.ts';
import { othersFirst } from '../base/event-loop.ts';
import { byRegion, type LabelledRow } from '../index/extents.ts';
import { SpaceCount } from '../index/space-count.ts';
import type { Catalog } from './catalog.ts';
import type { IndexKeeper } from './index-keeper.ts';
import { labelsByName } from './listing.ts';
import type { SpaceUse, VersionSummary, VersionWithSpace } from './summary.ts';

/** Regions that are counted before requests have their turn. */
const REGIONS_AT_ONCE = 256;

export interface CountedSpace {
  /** By label. */
  versions: Map<number, SpaceUse>;
  /** Bytes that would come back if the versions that were asked for were all deleted. */
  reclaimableBytes: number;
}

/** Counts all versions; `set` has the labels of those that might be deleted. @throws IO, CORRUPTION */
export async function countSpace(
  keeper: IndexKeeper,
  catalog: Catalog,
  set: ReadonlySet<number>,
): Promise<CountedSpace> {
  return await keeper.holdingWhole(async (index) => {
    const trees = new Map<number, Map<number, LabelledRow[]>>();
    for await (const each of index.extents.readAll()) {
      const [label, row] = each;
      const node = catalog.tree.get(label);
      if (node === undefined) continue; // deleted, and hardly a moment ago
      const leaves = entryOf(trees, node.tree, () => new Map<number, LabelledRow[]>());
      entryOf(leaves, row.leaf, () => []).push(each);
    }
    // The tree is that of this moment: it may have become another one while rows were read.
    const count = new SpaceCount(catalog.tree, set);
    let regions = 0;
    for (const leaves of trees.values()) {
      for (const rows of leaves.values()) {
        for (const [, there] of byRegion(rows)) {
          count.add(there);
          if (++regions % REGIONS_AT_ONCE === 0) await othersFirst();
        }
      }
    }
    const versions = new Map<number, SpaceUse>();
    for (const [label, { readChunks, ownChunks }] of count.versions()) {
      versions.set(label, {
        referenced: readChunks * CHUNK_BYTES,
        exclusive: ownChunks * CHUNK_BYTES,
        shared: (readChunks - ownChunks) * CHUNK_BYTES,
      });
    }
    return { versions, reclaimableBytes: count.setChunks * CHUNK_BYTES };
  });
}

/** A list of versions, with what each takes up. @throws IO, CORRUPTION */
export async function withSpace(
  keeper: IndexKeeper,
  catalog: Catalog,
  list: readonly VersionSummary[],
): Promise<VersionWithSpace[]> {
  const { versions } = await countSpace(keeper, catalog, new Set());
  const labels = labelsByName(catalog);
  const none = { referenced: 0, exclusive: 0, shared: 0 };
  return list.map((version) => ({ ...version, ...(versions.get(labels.get(version.name)!) ?? none) }));
}

export interface SpaceOfVersions {
  versions: ({ name: string } & SpaceUse)[];
  reclaimable: number;
}

/** What versions take up, and what would come back if all of them were deleted. @throws NOT_FOUND, IO, CORRUPTION */
export async function spaceOf(
  keeper: IndexKeeper,
  catalog: Catalog,
  names: readonly string[],
): Promise<SpaceOfVersions> {
  const labels = names.map((name) => catalog.find(name).label);
  const counted = await countSpace(keeper, catalog, new Set(labels));
  const versions = names.map((name, i) => {
    const space = counted.versions.get(labels[i]!);
    // Deleted while it was counted.
    if (space === undefined) throw new StoreError('NOT_FOUND', `there is no ${name} any more`);
    return { name, ...space };
  });
  return { versions, reclaimable: counted.reclaimableBytes };
}

function entryOf<K, V>(map: Map<K, V>, key: K, make: () => V): V {
  let value = map.get(key);
  if (value === undefined) {
    value = make();
    map.set(key, value);
  }
  return value;
}
