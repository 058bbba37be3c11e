/**
 * The catalog: volumes, snapshots and the version tree, as a state that changes of the log are applied to. Pure.
 *
 * A change and a catalog part are JSON in the log: rarely written, readable when something is wrong, and extended by
 * later kinds without a new layout. What a change needs (labels, UUIDs, times) is in it: applying it decides nothing.
 *
 * Invariants: every volume's head is a leaf of the version tree; a snapshot's version is never written again.
 */

import { StoreError } from '../base/errors.ts';
import type { Sequence, VersionLabel } from '../base/units.ts';
import { VersionTree } from '../index/version-tree.ts';

export interface Volume {
  readonly uuid: string;
  readonly name: string;
  readonly sizeBytes: number;
  /** Milliseconds since 1970. */
  readonly created: number;
  /** The head: what writes are labelled with. */
  label: VersionLabel;
  readonly snapshots: Map<string, Snapshot>;
}

export interface Snapshot {
  readonly uuid: string;
  readonly volume: Volume;
  readonly name: string;
  readonly sizeBytes: number;
  readonly created: number;
  readonly label: VersionLabel;
}

interface CreateChange {
  op: 'create';
  at: number;
  volume: string;
  name: string;
  size: number;
  label: VersionLabel;
}

/** The head of each volume freezes under the name, and the volume goes on in a child with the label. */
interface SnapshotChange {
  op: 'snapshot';
  at: number;
  cuts: { volume: string; snapshot: string; name: string; label: VersionLabel }[];
}

interface CloneChange {
  op: 'clone';
  at: number;
  /** Label of the snapshot. */
  from: VersionLabel;
  volume: string;
  name: string;
  size: number;
  label: VersionLabel;
}

export type Change = CreateChange | SnapshotChange | CloneChange;

/** A part of a catalog in the log; the parts of one follow each other. */
interface CatalogPart {
  versions?: [label: number, parent: number, birth: number][];
  volumes?: { uuid: string; name: string; size: number; created: number; label: number }[];
  snapshots?: { uuid: string; volume: string; name: string; size: number; created: number; label: number }[];
}

/** Items in a part: well under the longest text of an entry. */
const PART_ITEMS = 256;

export class Catalog {
  readonly tree = new VersionTree();
  readonly #volumes = new Map<string, Volume>();
  readonly #byUuid = new Map<string, Volume>();
  readonly #byLabel = new Map<VersionLabel, Volume | Snapshot>();
  snapshotCount = 0;
  /** Sequence of the last change. */
  sequence: Sequence = 0;

  volumes(): Volume[] {
    return [...this.#volumes.values()];
  }

  /** Volume or snapshot by its full name. @throws NOT_FOUND */
  find(name: string): Volume | Snapshot {
    const at = name.indexOf('@');
    const volume = this.#volumes.get(at < 0 ? name : name.slice(0, at));
    if (volume === undefined)
      throw new StoreError('NOT_FOUND', `there is no volume ${quoted(name.split('@')[0]!)}`);
    if (at < 0) return volume;
    const snapshot = volume.snapshots.get(name.slice(at + 1));
    if (snapshot === undefined) throw new StoreError('NOT_FOUND', `there is no snapshot ${quoted(name)}`);
    return snapshot;
  }

  hasVolume(name: string): boolean {
    return this.#volumes.has(name);
  }

  /** The nearest snapshot above a version, or undefined. */
  snapshotAbove(label: VersionLabel): Snapshot | undefined {
    for (let at = this.tree.get(label)!.parent; at !== 0; at = this.tree.get(at)!.parent) {
      const found = this.#byLabel.get(at);
      if (found !== undefined && 'volume' in found) return found;
    }
    return undefined;
  }

  /** For messages: the full name of what a version is. */
  describe(label: VersionLabel): string {
    const found = this.#byLabel.get(label);
    return found === undefined ? `version ${label}` : fullName(found);
  }

  /** Applies a change that the log holds under `sequence`. */
  apply(change: Change, sequence: Sequence): void {
    if (sequence <= this.sequence) return; // read again on replay
    this.sequence = sequence;
    switch (change.op) {
      case 'create':
        this.tree.add(change.label, 0, sequence);
        this.#addVolume(change.volume, change.name, change.size, change.at, change.label);
        return;
      case 'clone':
        this.tree.add(change.label, change.from, sequence);
        this.#addVolume(change.volume, change.name, change.size, change.at, change.label);
        return;
      case 'snapshot':
        for (const cut of change.cuts) {
          const volume = this.#byUuid.get(cut.volume)!;
          const frozen = volume.label;
          this.tree.add(cut.label, frozen, sequence);
          this.#addSnapshot(cut.snapshot, volume, cut.name, volume.sizeBytes, change.at, frozen);
          volume.label = cut.label;
          this.#byLabel.set(cut.label, volume);
        }
        return;
      default:
        throw new StoreError('CORRUPTION', `the log holds an unknown change ${JSON.stringify(change)}`);
    }
  }

  #addVolume(uuid: string, name: string, sizeBytes: number, created: number, label: VersionLabel): void {
    const volume: Volume = { uuid, name, sizeBytes, created, label, snapshots: new Map() };
    this.#volumes.set(name, volume);
    this.#byUuid.set(uuid, volume);
    this.#byLabel.set(label, volume);
  }

  #addSnapshot(
    uuid: string,
    volume: Volume,
    name: string,
    sizeBytes: number,
    created: number,
    label: number,
  ): void {
    const snapshot: Snapshot = { uuid, volume, name, sizeBytes, created, label };
    volume.snapshots.set(name, snapshot);
    this.#byLabel.set(label, snapshot);
    this.snapshotCount += 1;
  }

  /** The whole catalog as texts for the log; at least one. */
  encode(): string[] {
    const versions: CatalogPart['versions'] = [];
    for (const node of this.tree.nodes()) versions.push([node.label, node.parent, node.birth]);
    const volumes: CatalogPart['volumes'] = [];
    const snapshots: CatalogPart['snapshots'] = [];
    for (const volume of this.#volumes.values()) {
      const { uuid, name, sizeBytes: size, created, label } = volume;
      volumes.push({ uuid, name, size, created, label });
      for (const snapshot of volume.snapshots.values()) {
        snapshots.push({
          uuid: snapshot.uuid,
          volume: uuid,
          name: snapshot.name,
          size: snapshot.sizeBytes,
          created: snapshot.created,
          label: snapshot.label,
        });
      }
    }
    const parts: CatalogPart[] = [];
    for (let i = 0; i < versions.length; i += PART_ITEMS)
      parts.push({ versions: versions.slice(i, i + PART_ITEMS) });
    for (let i = 0; i < volumes.length; i += PART_ITEMS)
      parts.push({ volumes: volumes.slice(i, i + PART_ITEMS) });
    for (let i = 0; i < snapshots.length; i += PART_ITEMS)
      parts.push({ snapshots: snapshots.slice(i, i + PART_ITEMS) });
    if (parts.length === 0) parts.push({});
    return parts.map((part) => JSON.stringify(part));
  }

  /** A catalog from its texts, as it stood at `sequence`. @throws CORRUPTION */
  static decode(texts: readonly string[], sequence: Sequence): Catalog {
    const catalog = new Catalog();
    const parts = texts.map((text) => parseJson<CatalogPart>(text));
    // Children come after their parents: labels only grow.
    const versions = parts.flatMap((part) => part.versions ?? []).sort((a, b) => a[0] - b[0]);
    for (const [label, parent, birth] of versions) catalog.tree.add(label, parent, birth);
    for (const part of parts) {
      for (const v of part.volumes ?? []) catalog.#addVolume(v.uuid, v.name, v.size, v.created, v.label);
    }
    for (const part of parts) {
      for (const s of part.snapshots ?? []) {
        const volume = catalog.#byUuid.get(s.volume);
        if (volume === undefined) throw new StoreError('CORRUPTION', `snapshot ${s.name} has no volume`);
        catalog.#addSnapshot(s.uuid, volume, s.name, s.size, s.created, s.label);
      }
    }
    catalog.sequence = sequence;
    return catalog;
  }
}

export function fullName(of: Volume | Snapshot): string {
  return 'volume' in of ? `${of.volume.name}@${of.name}` : of.name;
}

/** @throws CORRUPTION */
export function parseJson<T>(text: string): T {
  try {
    return JSON.parse(text) as T;
  } catch (error) {
    throw new StoreError('CORRUPTION', 'a text of the log is no JSON', error);
  }
}

function quoted(name: string): string {
  return JSON.stringify(name.length > 200 ? `${name.slice(0, 200)}...` : name);
}
