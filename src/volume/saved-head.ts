/** The head of a volume that another one takes the place of: what it has that no snapshot has is kept as one. */

import type { Catalog, Volume } from './catalog.ts';
import type { IndexKeeper } from './index-keeper.ts';

/**
 * Whether a volume is what the snapshot right above it is, and that one stays until a person deletes it: what a target or a
 * schedule has made, and what is expendable, goes by itself.
 */
export function isAsSnapshot(catalog: Catalog, keeper: IndexKeeper, volume: Volume): boolean {
  const above = catalog.at(catalog.tree.get(volume.label)!.parent);
  if (above === undefined || !('volume' in above) || above.madeBy !== null || above.priority < 0)
    return false;
  return above.sizeBytes === volume.sizeBytes && !keeper.hasPointers(volume.label);
}

/** A free name of a snapshot, with the time in UTC: `before-rollback-20270131T120000Z`. */
export function nameBefore(volume: Volume, what: 'rollback' | 'demote', at: number): string {
  const time = new Date(at).toISOString().replace(/[-:]|\.\d+/g, '');
  const base = `before-${what}-${time}`;
  let name = base;
  for (let n = 2; volume.snapshots.has(name); n++) name = `${base}-${n}`;
  return name;
}
