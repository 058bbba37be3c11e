/**
 * The catalog as texts for the log, and back. Pure.
 *
 * A catalog has one or several parts, JSON each, that follow each other in the log. Fields that are missing have the
 * value that they had before there was such a field: what an earlier release wrote is read for ever.
 */

import { StoreError } from '../base/errors.ts';
import type { SegmentNumber, Sequence, SnapshotMaker, VersionLabel } from '../base/units.ts';
import { CATALOG_FIRST, CATALOG_LAST, type TextEntry } from '../log/entries.ts';
import { inRanges, SegmentLedger, type SegmentRange } from '../log/segment-ledger.ts';
import type { Schedule } from '../schedule/schedule.ts';
import { treeProblems } from './catalog-audit.ts';
import {
  Catalog,
  type Hold,
  parseJson,
  type Receive,
  receiveOf,
  type Snapshot,
  type Volume,
} from './catalog.ts';
import type { ReceiveChange } from './change.ts';
import type { Feed } from './feeds.ts';

/** A version: who is above it, since when there is it; and if it is hidden, since when, if its root is gone, its tree. */
export type VersionPart = [
  label: VersionLabel,
  parent: VersionLabel,
  birth: Sequence,
  hidden?: Sequence,
  tree?: number,
];

export interface VolumePart {
  uuid: string;
  name: string;
  size: number;
  created: number;
  label: VersionLabel;
  origin?: string;
  replica?: true;
  schedule?: Schedule;
}

export interface SnapshotPart extends VolumePart {
  volume: string;
  automatic?: true;
  by?: SnapshotMaker;
  priority?: number;
  holds?: readonly Hold[];
}

/** As the change that began it, with how far it has come. */
export type ReceivePart = Omit<ReceiveChange, 'op' | 'from'> & { position: number };

export interface CatalogPart {
  versions?: VersionPart[];
  volumes?: VolumePart[];
  snapshots?: SnapshotPart[];
  receives?: ReceivePart[];
  /** What is to be replicated, and when that was done last. */
  feeds?: Feed[];
  /** Hidden versions whose pointers are still to be taken out. */
  pending?: VersionLabel[];
  /** Versions that are gone: label, who took over, and the last segment that may have anything under the label. */
  merged?: [label: VersionLabel, heir: VersionLabel, until: SegmentNumber][];
  /** Segments that hold the log up to this catalog. */
  segments?: SegmentRange[];
  /** Segments that are of no use any more; their files may still be there. */
  retired?: SegmentRange[];
}

/** What a catalog says about segments. */
export interface StatedSegments {
  readonly segments: ReadonlySet<SegmentNumber>;
  readonly retired: ReadonlySet<SegmentNumber>;
}

/** Length of a part at which the next one is begun: well under the longest text of an entry, and made in a moment. */
const PART_CHARACTERS = 32 << 10;

/** Puts the parts of a catalog together as they come. */
export class CatalogParts {
  #texts: string[] = [];

  /** The texts of a catalog that is whole with this part; undefined if more have to come. */
  take({ flags, text }: TextEntry): string[] | undefined {
    if ((flags & CATALOG_FIRST) !== 0) this.#texts = []; // what is there is of one that a full log did not take whole
    this.#texts.push(text);
    if ((flags & CATALOG_LAST) === 0) return undefined;
    const texts = this.#texts;
    this.#texts = [];
    return texts;
  }
}

/** The texts of a catalog that does not change meanwhile; what it says about segments comes first. */
export function* encodeCatalog(catalog: Catalog, ledger: SegmentLedger): Generator<string> {
  if (ledger.segments.size === 0) yield '{"segments":[]}';
  yield* inParts('segments', ledger.ranges());
  yield* inParts('retired', new SegmentLedger(ledger.retired).ranges());
  yield* inParts('versions', versionParts(catalog));
  yield* inParts('volumes', volumeParts(catalog));
  yield* inParts('snapshots', snapshotParts(catalog));
  yield* inParts('receives', receiveParts(catalog));
  yield* inParts('feeds', catalog.feeds.all());
  yield* inParts('pending', catalog.pending);
  yield* inParts('merged', mergedParts(catalog));
}

function* inParts(field: keyof CatalogPart, items: Iterable<unknown>): Generator<string> {
  let part: string[] = [];
  let characters = 0;
  for (const item of items) {
    const text = JSON.stringify(item);
    part.push(text);
    characters += text.length;
    if (characters < PART_CHARACTERS) continue;
    yield `{"${field}":[${part.join(',')}]}`;
    part = [];
    characters = 0;
  }
  if (part.length > 0) yield `{"${field}":[${part.join(',')}]}`;
}

function* versionParts(catalog: Catalog): Generator<VersionPart> {
  for (const { label, parent, birth, hidden, tree } of catalog.tree.nodes()) {
    if (parent === 0 && tree !== label) yield [label, parent, birth, hidden, tree];
    else if (hidden > 0) yield [label, parent, birth, hidden];
    else yield [label, parent, birth];
  }
}

function* mergedParts(catalog: Catalog): Generator<[VersionLabel, VersionLabel, SegmentNumber]> {
  for (const [label, { heir, until }] of catalog.merged) yield [label, heir, until];
}

function* volumeParts(catalog: Catalog): Generator<VolumePart> {
  for (const volume of catalog.volumes()) yield volumePart(volume);
}

function volumePart(version: Volume | Snapshot): VolumePart {
  const { uuid, name, sizeBytes: size, created, label, origin } = version;
  const part: VolumePart = { uuid, name, size, created, label };
  if (origin !== null) part.origin = origin;
  if ('volume' in version) return part;
  if (version.isReplica) part.replica = true;
  if (version.schedule !== null) part.schedule = version.schedule;
  return part;
}

function* receiveParts(catalog: Catalog): Generator<ReceivePart> {
  for (const receive of catalog.receives.values()) yield receivePart(receive);
}

function receivePart(receive: Receive): ReceivePart {
  const { uuid, label, sizeBytes: size, created: at, into: volume, volumeName, source, position } = receive;
  return { at, receive: uuid, label, size, volume, volumeName, name: receive.snapshotName, source, position };
}

function* snapshotParts(catalog: Catalog): Generator<SnapshotPart> {
  for (const volume of catalog.volumes()) {
    for (const snapshot of volume.snapshots.values()) {
      const part: SnapshotPart = { ...volumePart(snapshot), volume: volume.uuid };
      if (snapshot.isAutomatic) part.automatic = true;
      if (snapshot.madeBy !== null) part.by = snapshot.madeBy;
      if (snapshot.priority !== 0) part.priority = snapshot.priority;
      if (snapshot.holds.length > 0) part.holds = snapshot.holds;
      yield part;
    }
  }
}

/** A catalog from its texts, as it stood at `sequence`. @throws CORRUPTION */
export function decodeCatalog(texts: readonly string[], sequence: Sequence): Catalog {
  const catalog = new Catalog();
  const parts = texts.map((text) => parseJson<CatalogPart>(text));
  for (const problem of treeProblems(parts))
    throw new StoreError('CORRUPTION', `a catalog of the log does not hold together: ${problem}`);
  // Children come after their parents: labels only grow.
  const versions = parts.flatMap((part) => part.versions ?? []).sort((a, b) => a[0] - b[0]);
  for (const [label, parent, birth, hidden, tree] of versions) {
    catalog.tree.add(label, parent, birth, tree);
    if (hidden !== undefined && hidden > 0) catalog.tree.hide(label, hidden);
  }
  const volumes = new Map<string, Volume>();
  for (const part of parts) {
    for (const each of part.volumes ?? []) {
      const { uuid, name, size: sizeBytes, created, label, origin = null, replica, schedule = null } = each;
      const more = { origin, isReplica: replica === true, schedule, snapshots: new Map<string, Snapshot>() };
      const volume = { uuid, name, sizeBytes, created, label, ...more };
      volumes.set(uuid, volume);
      catalog.addVolume(volume);
    }
  }
  for (const part of parts) {
    for (const each of part.snapshots ?? []) {
      const volume = volumes.get(each.volume);
      if (volume === undefined) throw new StoreError('CORRUPTION', `snapshot ${each.name} has no volume`);
      const { uuid, name, size: sizeBytes, created, label, origin = null, priority = 0, holds = [] } = each;
      const made = { isAutomatic: each.automatic === true, madeBy: each.by ?? null };
      const more = { ...made, priority, holds, origin };
      catalog.addSnapshot({ uuid, volume, name, sizeBytes, created, label, ...more });
    }
    for (const receive of part.receives ?? []) catalog.addReceive(receiveOf(receive));
    for (const feed of part.feeds ?? []) catalog.feeds.put(feed);
    for (const label of part.pending ?? []) catalog.pending.add(label);
    for (const [label, heir, until] of part.merged ?? []) catalog.merged.set(label, { heir, until });
  }
  catalog.sequence = sequence;
  return catalog;
}

/** What the texts of a catalog say about segments; undefined if it is of a release that said nothing. @throws CORRUPTION */
export function decodeSegments(texts: readonly string[]): StatedSegments | undefined {
  // These parts come first: the rest need not be parsed.
  const parts: CatalogPart[] = [];
  for (const text of texts) {
    if (!text.startsWith('{"segments"') && !text.startsWith('{"retired"')) break;
    parts.push(parseJson<CatalogPart>(text));
  }
  if (parts.length === 0) return undefined;
  return {
    segments: new Set(inRanges(parts.flatMap((part) => part.segments ?? []))),
    retired: new Set(inRanges(parts.flatMap((part) => part.retired ?? []))),
  };
}
