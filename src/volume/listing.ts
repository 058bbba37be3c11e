/** Volumes and snapshots as they are told to people and programs. Pure. */

import type { VersionLabel } from '../base/units.ts';
import { type Catalog, fullName, type Snapshot, type Volume } from './catalog.ts';
import type { VersionSummary } from './summary.ts';
import { activeHolds } from './version-changes.ts';

/** All volumes by name, each followed by its snapshots, oldest first. */
export function listVersions(catalog: Catalog, now: number): VersionSummary[] {
  return versionsOf(catalog).map((version) => summarize(catalog, version, now));
}

const namesBySequence = new WeakMap<
  Catalog,
  { readonly sequence: number; readonly names: readonly string[] }
>();

/** The names of all of them. Made anew only after a change: whoever knocks at a door asks for them. */
export function namesOf(catalog: Catalog): readonly string[] {
  const { sequence } = catalog;
  const known = namesBySequence.get(catalog);
  if (known?.sequence === sequence) return known.names;
  const names = versionsOf(catalog).map(fullName);
  namesBySequence.set(catalog, { sequence, names });
  return names;
}

/** The same with ghosts: versions that were deleted and that others inherit from. Parents may be ghosts then. */
export function listWithGhosts(catalog: Catalog, now: number): VersionSummary[] {
  const named = versionsOf(catalog).map((version) => {
    return { ...summarize(catalog, version, now), parent: parentOf(catalog, version.label) };
  });
  const ghosts: VersionSummary[] = [];
  for (const { label, hidden } of catalog.tree.nodes()) {
    if (hidden === 0) continue;
    ghosts.push({
      name: ghostName(label),
      kind: 'ghost',
      uuid: '',
      size: 0,
      created: '',
      parent: parentOf(catalog, label),
      origin: null,
      replica: false,
      automatic: false,
      madeBy: null,
      priority: 0,
      holds: [],
    });
  }
  return [...named, ...ghosts];
}

function versionsOf(catalog: Catalog): (Volume | Snapshot)[] {
  const volumes = catalog.volumes().sort((a, b) => (a.name < b.name ? -1 : 1));
  return volumes.flatMap((volume) => [volume, ...volume.snapshots.values()]);
}

/** The label of each version that is told, by its name. */
export function labelsByName(catalog: Catalog): Map<string, VersionLabel> {
  const labels = new Map(versionsOf(catalog).map((version) => [fullName(version), version.label]));
  for (const { label, hidden } of catalog.tree.nodes()) if (hidden > 0) labels.set(ghostName(label), label);
  return labels;
}

function parentOf(catalog: Catalog, label: VersionLabel): string | null {
  const parent = catalog.tree.get(label)!.parent;
  if (parent === 0) return null;
  const named = catalog.at(parent);
  return named === undefined ? ghostName(parent) : fullName(named);
}

/** `#` is in no name that anybody can give. */
function ghostName(label: VersionLabel): string {
  return `#${label}`;
}

export function summarize(catalog: Catalog, version: Volume | Snapshot, now: number): VersionSummary {
  const above = catalog.snapshotAbove(version.label);
  const isSnapshot = 'volume' in version;
  return {
    name: fullName(version),
    kind: isSnapshot ? 'snapshot' : 'volume',
    uuid: version.uuid,
    size: version.sizeBytes,
    created: isoTime(version.created),
    parent: above === undefined ? null : fullName(above),
    origin: version.origin,
    replica: !isSnapshot && version.isReplica,
    automatic: isSnapshot && version.isAutomatic,
    madeBy: isSnapshot ? version.madeBy : null,
    priority: isSnapshot ? version.priority : 0,
    holds: !isSnapshot
      ? []
      : activeHolds(version, now).map(({ owner, reason, until, at }) => {
          return { owner, reason, until: until === null ? null : isoTime(until), since: isoTime(at) };
        }),
  };
}

export function isoTime(ms: number): string {
  return new Date(ms).toISOString();
}

export function formatUuid(uuid: Buffer): string {
  const hex = uuid.toString('hex');
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join('-');
}
