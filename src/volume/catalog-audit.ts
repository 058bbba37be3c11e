/**
 * Whether a catalog holds together: as the texts of the log that it comes from, and as the tree and the names that become
 * of it. Pure.
 *
 * A catalog whose tree does not hold together is refused by whoever reads one (`treeProblems`); what else may be wrong does
 * no harm until somebody relies on it, and is for a check to find.
 */

import { type Finding, finding, type FindingCode } from '../check/finding.ts';
import type { Catalog, Hold, Receive } from './catalog.ts';
import type { CatalogPart, ReceivePart, SnapshotPart, VersionPart, VolumePart } from './catalog-parts.ts';
import { isSchedule } from '../schedule/schedule.ts';
import { isFeed } from './feeds.ts';
import { isName, isVolumeSize } from './names.ts';

const HOLDS_MAX = 64;
const OWNER_CHARACTERS_MAX = 128;
const REASON_CHARACTERS_MAX = 512;

/** What keeps versions from becoming a tree, and volumes and snapshots from being found in it. */
export function* treeProblems(parts: readonly CatalogPart[]): Generator<string> {
  const labels = new Set<number>();
  const versions = all(parts, 'versions').sort((a, b) => a[0] - b[0]);
  for (const [label, parent] of versions) {
    if (!isLabel(label)) yield `${JSON.stringify(label)} is no label of a version`;
    else if (labels.has(label)) yield `there are two versions ${label}`;
    else if (parent !== 0 && !(parent < label))
      yield `version ${label} stands below ${parent}, which is younger`;
    else if (parent !== 0 && !labels.has(parent))
      yield `version ${label} stands below ${parent}, which there is not`;
    labels.add(label);
  }
  const uuids = new Set(all(parts, 'volumes').map(({ uuid }) => uuid));
  for (const { uuid, name, label } of all(parts, 'volumes'))
    if (!labels.has(label)) yield `volume ${name} (${uuid}) is version ${label}, which there is not`;
  for (const { name, label, volume } of all(parts, 'snapshots')) {
    if (!labels.has(label)) yield `snapshot ${name} is version ${label}, which there is not`;
    if (!uuids.has(volume)) yield `snapshot ${name} is of a volume ${volume}, which there is not`;
  }
  for (const { receive, label, source } of all(parts, 'receives')) {
    if (source?.target === undefined) yield `receive ${receive} does not say what of`;
    if (!labels.has(label)) yield `receive ${receive} is version ${label}, which there is not`;
  }
}

/** All that texts of a catalog say that cannot be, but for what `treeProblems` finds. */
export function* auditParts(parts: readonly CatalogPart[]): Generator<Finding> {
  const hidden = new Map<number, boolean>();
  for (const [label, , , at = 0] of all(parts, 'versions')) hidden.set(label, at > 0);
  const volumes = all(parts, 'volumes');
  const snapshots = all(parts, 'snapshots');
  yield* twice('NAME_DAMAGED', 'the name of two volumes', volumes.map(nameOf));
  const receives = all(parts, 'receives');
  const uuids = [...[...volumes, ...snapshots].map(uuidOf), ...receives.map(receiveOf)];
  const labels = [...volumes, ...snapshots, ...receives].map(labelOf);
  yield* twice('NAME_DAMAGED', 'the UUID of two', uuids);
  yield* twice('NAME_DAMAGED', 'the version of two', labels);
  const full = snapshots.map(({ volume, name }) => `${volume}@${name}`);
  yield* twice('NAME_DAMAGED', 'the name of two snapshots', full);
  for (const label of labels)
    if (hidden.get(label) === true)
      yield damage('TREE_DAMAGED', `version ${label} can be named, and is said to be deleted`);
  for (const label of all(parts, 'pending'))
    if (hidden.get(label) !== true)
      yield damage('DELETE_DAMAGED', `version ${label} waits for the end of its delete, and is not deleted`);
  yield* twice(
    'FEED_DAMAGED',
    'the id of two feeds',
    all(parts, 'feeds').map(({ id }) => id),
  );
  yield* auditMerged(parts, hidden);
  yield* auditLedger(parts);
}

function* auditMerged(parts: readonly CatalogPart[], tree: ReadonlyMap<number, boolean>): Generator<Finding> {
  const heirs = new Map(all(parts, 'merged').map(([label, heir]) => [label, heir]));
  for (const [label, heir] of heirs) {
    if (tree.has(label))
      yield damage('MERGE_DAMAGED', `version ${label} was taken over by ${heir}, and is there`);
    // An heir is younger: so nobody is taken over by whom he took over.
    if (!isLabel(heir) || heir <= label)
      yield damage(
        'MERGE_DAMAGED',
        `version ${label} is said to have been taken over by ${heir}, which is older`,
      );
  }
}

function* auditLedger(parts: readonly CatalogPart[]): Generator<Finding> {
  const segments = all(parts, 'segments');
  for (const [first, last] of all(parts, 'retired')) {
    const both = segments.find((range) => range[0] <= last && first <= range[1]);
    if (both !== undefined)
      yield damage(
        'LEDGER_DAMAGED',
        `segment ${Math.max(both[0], first)} is stated as in use, and as retired`,
      );
  }
}

/** Tree, names and holds as they are at the end of the log. */
export function* auditCatalog(catalog: Catalog): Generator<Finding> {
  for (const volume of catalog.volumes()) {
    const { name, label, sizeBytes, snapshots, schedule } = volume;
    if (!isName(name)) yield damage('NAME_DAMAGED', `${shown(name)} is no name of a volume`);
    if (!isVolumeSize(sizeBytes)) yield damage('NAME_DAMAGED', `${shown(name)} has the size ${sizeBytes}`);
    if (catalog.tree.children(label).size > 0)
      yield damage('TREE_DAMAGED', `the head of ${shown(name)}, version ${label}, has versions below it`);
    if (schedule !== null && !isSchedule(schedule))
      yield damage('SCHEDULE_DAMAGED', `the schedule of ${shown(name)} is none`);
    for (const snapshot of snapshots.values()) {
      const of = `${name}@${snapshot.name}`;
      if (!isName(snapshot.name)) yield damage('NAME_DAMAGED', `${shown(of)} is no name of a snapshot`);
      if (!isVolumeSize(snapshot.sizeBytes))
        yield damage('NAME_DAMAGED', `${shown(of)} has the size ${snapshot.sizeBytes}`);
      if (!Number.isInteger(snapshot.priority) || Math.abs(snapshot.priority + 0.5) > 127.5)
        yield damage('HOLD_DAMAGED', `${shown(of)} has the priority ${snapshot.priority}`);
      for (const problem of holdProblems(snapshot.holds))
        yield damage('HOLD_DAMAGED', `${shown(of)}: ${problem}`);
    }
  }
  for (const receive of catalog.receives.values()) {
    const { name, label } = receive;
    if (!isReceive(receive)) yield damage('NAME_DAMAGED', `${shown(name)} cannot be received`);
    if (catalog.tree.children(label).size > 0)
      yield damage('TREE_DAMAGED', `${shown(name)}, version ${label}, has versions below it`);
  }
  for (const feed of catalog.feeds.all()) {
    const { id, direction, volume } = feed;
    if (!isFeed(feed)) yield damage('FEED_DAMAGED', `feed ${shown(id)} cannot be`);
    else if (direction === 'push' && catalog.withUuid(volume) === undefined)
      yield damage('FEED_DAMAGED', `feed ${shown(id)} is of a volume ${volume}, which there is not`);
  }
  for (const { label, hidden } of catalog.tree.nodes()) {
    if (hidden === 0) {
      if (catalog.at(label) === undefined)
        yield damage('VERSION_UNNAMED', `version ${label} is neither deleted nor a volume or snapshot`);
      continue;
    }
    const below = catalog.tree.children(label);
    const isWaiting = catalog.pending.has(label) || [...below].some((each) => catalog.pending.has(each));
    if (below.size < 2 && !isWaiting)
      yield damage(
        'GHOST_IDLE',
        `version ${label} is deleted, and nothing keeps it: its space does not come back`,
      );
  }
}

/** Whether it may become what it says. */
export function isReceive(receive: Receive): boolean {
  const { volumeName, snapshotName, sizeBytes, source, position } = receive;
  const areNames = isName(volumeName) && isName(snapshotName);
  const areSizes = isVolumeSize(sizeBytes) && isVolumeSize(source?.target?.size);
  return areNames && areSizes && source.target.size <= sizeBytes && isTime(position);
}

/** What cannot be of the holds of a snapshot, as the rest of a sentence. */
export function* holdProblems(holds: readonly Hold[]): Generator<string> {
  if (holds.length > HOLDS_MAX) yield `it has ${holds.length} holds`;
  const owners = new Set<string>();
  for (const { owner, reason, until, at } of holds) {
    if (!isText(owner, OWNER_CHARACTERS_MAX)) yield `a hold has the owner ${shown(owner)}`;
    else if (owners.has(owner)) yield `${shown(owner)} holds it twice`;
    if (reason !== null && !isText(reason, REASON_CHARACTERS_MAX))
      yield `the hold of ${shown(owner)} has no reason`;
    if (!isTime(at) || (until !== null && !isTime(until))) yield `the hold of ${shown(owner)} has no time`;
    owners.add(owner);
  }
}

/**
 * Where two catalogs of the same moment differ in what can be named: volumes, snapshots, sizes, versions, holds. What has
 * been finished of deletes may differ.
 */
export function* catalogDifferences(says: Catalog, made: Catalog): Generator<string> {
  const [stated, expected] = [named(says), named(made)];
  for (const name of new Set([...stated.keys(), ...expected.keys()])) {
    const [is, should] = [stated.get(name), expected.get(name)];
    if (is === should) continue;
    if (is === undefined) yield `${name} is missing in the catalog`;
    else if (should === undefined) yield `${name} is in the catalog, and no change has made it`;
    else yield `${name} is not in the catalog as changes have made it`;
  }
}

function named(catalog: Catalog): Map<string, string> {
  const found = new Map<string, string>();
  for (const volume of catalog.volumes()) {
    for (const each of [volume, ...volume.snapshots.values()]) {
      const { uuid, sizeBytes, label, created, origin } = each;
      const above = ancestorOf(catalog, label);
      const own =
        'volume' in each
          ? [each.isAutomatic, each.madeBy, each.priority, each.holds]
          : [each.isReplica, each.schedule];
      const name = 'volume' in each ? `snapshot ${volume.name}@${each.name}` : `volume ${each.name}`;
      found.set(name, JSON.stringify([uuid, sizeBytes, label, created, above, own, origin]));
    }
  }
  for (const { uuid, label, into, volumeName, snapshotName, source, position } of catalog.receives.values()) {
    const text = JSON.stringify([label, into, volumeName, snapshotName, source, position]);
    found.set(`receive ${uuid}`, text);
  }
  for (const { id, ...feed } of catalog.feeds.all()) found.set(`feed ${id}`, JSON.stringify(feed));
  return found;
}

/** The nearest version above that is not deleted: what has been finished of deletes makes no difference. */
function ancestorOf({ tree }: Catalog, label: number): number {
  let at = tree.get(label)?.parent ?? 0;
  while ((tree.get(at)?.hidden ?? 0) > 0) at = tree.get(at)!.parent;
  return at;
}

function all<F extends keyof CatalogPart>(
  parts: readonly CatalogPart[],
  field: F,
): NonNullable<CatalogPart[F]> {
  return parts.flatMap((part) => (part[field] ?? []) as unknown[]) as NonNullable<CatalogPart[F]>;
}

function* twice(code: FindingCode, what: string, items: readonly (string | number)[]): Generator<Finding> {
  const seen = new Set<string | number>();
  for (const item of items) {
    if (seen.has(item)) yield damage(code, `${shown(item)} is ${what}`);
    seen.add(item);
  }
}

function damage(code: FindingCode, message: string): Finding {
  return finding(code, message, { mend: 'repair' });
}

const nameOf = ({ name }: VolumePart): string => name;
const uuidOf = ({ uuid }: VolumePart | SnapshotPart): string => uuid;
const receiveOf = ({ receive }: ReceivePart): string => receive;
const labelOf = ({ label }: VolumePart | ReceivePart): VersionPart[0] => label;
const shown = (value: unknown): string => JSON.stringify(value)?.slice(0, 300) ?? 'nothing';
const isLabel = (value: unknown): value is number => Number.isInteger(value) && (value as number) > 0;
const isTime = (value: unknown): boolean => Number.isSafeInteger(value) && (value as number) >= 0;
const isText = (value: unknown, charactersMax: number): boolean =>
  typeof value === 'string' && value.length <= charactersMax && /^\P{Cc}+$/u.test(value);
