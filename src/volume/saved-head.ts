/** The head of a volume that another one takes the place of: what it has that no snapshot has is kept as one. */

import type { Catalog, Volume } from './catalog.ts';
import type { IndexKeeper } from './index-keeper.ts';

/** Whether a volume is what the snapshot right above it is. */
export function isAsSnapshot(catalog: Catalog, keeper: IndexKeeper, volume: Volume): boolean {
  const above = catalog.at(catalog.tree.get(volume.label)!.parent);
  return above?.sizeBytes === volume.sizeBytes && !keeper.hasPointers(volume.label);
}

/** A free name of a snapshot, with the time in UTC: `before-rollback-20270131T120000Z`. */
export function nameBefore(volume: Volume, what: 'rollback' | 'demote', at: number): string {
  const time = new Date(at).toISOString().replace(/[-:]|\.\d+/g, '');
  const base = `before-${what}-${time}`;
  let name = base;
  for (let n = 2; volume.snapshots.has(name); n++) name = `${base}-${n}`;
  return name;
}
