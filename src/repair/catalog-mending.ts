/**
 * Puts a catalog right that does not hold together, so that nothing of it is lost that has data: names are made unique, versions
 * that nobody can name get one, and what cannot be (holds, priorities, schedules, receives, feeds, ends of deletes, who took over whom) is
 * dropped. Pure.
 *
 * What is found is called `found-` and the label of its version.
 */

import { CHUNK_BYTES, roundUp, SECTOR_BYTES, VOLUME_BYTES_MAX } from '../base/units.ts';
import { SegmentLedger } from '../log/segment-ledger.ts';
import { Catalog, type Hold, receiveOf } from '../volume/catalog.ts';
import { holdProblems, isReceive } from '../volume/catalog-audit.ts';
import {
  type CatalogPart,
  decodeCatalog,
  encodeCatalog,
  type SnapshotPart,
  type VersionPart,
  type VolumePart,
} from '../volume/catalog-parts.ts';
import { isSchedule } from '../schedule/schedule.ts';
import { isFeed } from '../volume/feeds.ts';
import { isName, isVolumeSize } from '../volume/names.ts';

export interface MendingNeeds {
  /** Chunks that a version has pointers of its own for: the highest and one; 0 if it has none. */
  readonly extentOf: (label: number) => number;
  /** A label that nobody has used. */
  readonly freshLabel: () => number;
  /** A UUID. */
  readonly freshUuid: () => string;
  readonly now: number;
}

export interface MendedCatalog {
  readonly catalog: Catalog;
  /** What was changed, a sentence each. */
  readonly changes: readonly string[];
}

/** As it stood at `sequence`. */
export function mendCatalog(catalog: Catalog, sequence: number, needs: MendingNeeds): MendedCatalog {
  const mending = new CatalogMending(partsOf(catalog), needs, sequence);
  mending.run();
  const mended = decodeCatalog([JSON.stringify(mending.parts)], sequence);
  return { catalog: mended, changes: mending.changes };
}

type Parts = Required<Omit<CatalogPart, 'segments' | 'retired'>>;

function partsOf(catalog: Catalog): Parts {
  const texts = [...encodeCatalog(catalog, new SegmentLedger())];
  const parts = texts.map((text) => JSON.parse(text) as CatalogPart);
  const all = <F extends keyof Parts>(field: F): Parts[F] =>
    parts.flatMap((part) => (part[field] ?? []) as unknown[]) as unknown as Parts[F];
  return {
    versions: all('versions'),
    volumes: all('volumes'),
    snapshots: all('snapshots'),
    receives: all('receives'),
    feeds: all('feeds'),
    pending: all('pending'),
    merged: all('merged'),
  };
}

class CatalogMending {
  readonly parts: Parts;
  readonly changes: string[] = [];
  readonly #needs: MendingNeeds;
  readonly #sequence: number;
  readonly #versions = new Map<number, VersionPart>();
  /** By label, those that were there. */
  readonly #children = new Map<number, number[]>();
  /** By label. */
  readonly #named = new Map<number, VolumePart | SnapshotPart>();
  /** Labels of versions that are being received. */
  readonly #received = new Set<number>();

  constructor(parts: Parts, needs: MendingNeeds, sequence: number) {
    this.parts = parts;
    this.#needs = needs;
    this.#sequence = sequence;
    for (const version of parts.versions) {
      const [label, parent] = version;
      this.#versions.set(label, version);
      const siblings = this.#children.get(parent);
      if (siblings === undefined) this.#children.set(parent, [label]);
      else siblings.push(label);
    }
  }

  run(): void {
    this.#dropSecondNames();
    for (const volume of this.parts.volumes) {
      this.#mendNamed(volume, `volume ${volume.name}`);
      this.#mendSchedule(volume);
    }
    for (const snapshot of this.parts.snapshots) {
      this.#mendNamed(snapshot, `snapshot ${snapshot.name}`);
      this.#mendHolds(snapshot);
    }
    this.#dropReceives();
    this.#dropFeeds();
    this.#nameUnnamed();
    this.#freezeHeads();
    this.#makeNamesUnique();
    this.#mendDeletes();
  }

  /** A version has one name. */
  #dropSecondNames(): void {
    const isFirst = (part: VolumePart): boolean => {
      if (this.#named.has(part.label)) {
        this.changes.push(`${part.name} is dropped: version ${part.label} has another name`);
        return false;
      }
      this.#named.set(part.label, part);
      return true;
    };
    this.parts.volumes = this.parts.volumes.filter(isFirst);
    this.parts.snapshots = this.parts.snapshots.filter(isFirst);
  }

  #mendNamed(part: VolumePart, was: string): void {
    const version = this.#versions.get(part.label)!;
    if ((version[3] ?? 0) > 0) {
      version[3] = 0;
      this.changes.push(`${was} is not deleted, as its version was said to be`);
    }
    if (!isName(part.name)) {
      part.name = `found-${part.label}`;
      this.changes.push(`${was} is called ${part.name} now: that was no name`);
    }
    if (isVolumeSize(part.size)) return;
    const before = part.size;
    part.size = this.#sizeFor(part.label, Math.max(part.size, this.#nearestSize(part.label) ?? 0));
    this.changes.push(`${was} has ${part.size} bytes now, in the place of ${before}`);
  }

  #mendSchedule(volume: VolumePart): void {
    if (volume.schedule === undefined || isSchedule(volume.schedule)) return;
    delete volume.schedule;
    this.changes.push(`volume ${volume.name} has no schedule any more: it was none`);
  }

  /** At least so many bytes, and room for all that the version has. */
  #sizeFor(label: number, bytes: number): number {
    const least = Number.isSafeInteger(bytes) && bytes > 0 ? bytes : SECTOR_BYTES;
    const needed = Math.max(roundUp(least, SECTOR_BYTES), this.#needs.extentOf(label) * CHUNK_BYTES);
    return Math.min(needed, VOLUME_BYTES_MAX);
  }

  #mendHolds(snapshot: SnapshotPart): void {
    const { priority = 0, holds = [], name } = snapshot;
    if (!Number.isInteger(priority) || Math.abs(priority + 0.5) > 127.5) {
      delete snapshot.priority;
      this.changes.push(`snapshot ${name} has no priority any more: it was none`);
    }
    const right: Hold[] = [];
    for (const hold of holds) if ([...holdProblems([...right, hold])].length === 0) right.push(hold);
    if (right.length === holds.length) return;
    snapshot.holds = right;
    this.changes.push(`snapshot ${name} has lost ${holds.length - right.length} holds that cannot be`);
  }

  /** Of a receive that cannot be, what has come goes: it is sent again. */
  #dropReceives(): void {
    const uuids = new Set<string>();
    this.parts.receives = this.parts.receives.filter((part) => {
      const { label, receive } = part;
      const version = this.#versions.get(label)!;
      const isTaken = this.#named.has(label) || this.#received.has(label) || uuids.has(receive);
      const isHead = this.#childrenOf(label).length === 0;
      uuids.add(receive);
      if (!isTaken && isHead && (version[3] ?? 0) === 0 && isReceive(receiveOf(part))) {
        this.#received.add(label);
        return true;
      }
      if (!isTaken && isHead) version[3] ||= this.#sequence;
      this.changes.push(`receive ${receive}, version ${label}, is dropped: it cannot be`);
      return false;
    });
  }

  #dropFeeds(): void {
    const ids = new Set<string>();
    const volumes = new Set(this.parts.volumes.map(({ uuid }) => uuid));
    this.parts.feeds = this.parts.feeds.filter((feed) => {
      const { id, direction, volume } = feed;
      const isRight = !ids.has(id) && isFeed(feed) && (direction === 'pull' || volumes.has(volume));
      ids.add(id);
      if (!isRight) this.changes.push(`feed ${id} is dropped: it cannot be; add it again`);
      return isRight;
    });
  }

  #childrenOf(label: number): readonly number[] {
    return this.#children.get(label) ?? [];
  }

  /** Versions that are neither deleted nor have a name. Those that nobody needs are deleted. Children first: a snapshot needs a volume. */
  #nameUnnamed(): void {
    const unnamed = this.parts.versions
      .filter(
        ([label, , , hidden = 0]) => hidden === 0 && !this.#named.has(label) && !this.#received.has(label),
      )
      .sort((a, b) => b[0] - a[0]);
    for (const version of unnamed) {
      const [label] = version;
      const children = this.#childrenOf(label);
      const extent = this.#needs.extentOf(label);
      if (children.length === 0 && extent === 0) {
        version[3] = this.#sequence;
        this.changes.push(`version ${label}, which had no name and no data, is deleted`);
        continue;
      }
      const below = children.map((child) => this.#volumeBelow(child)).find((volume) => volume !== undefined);
      const size = this.#sizeFor(label, this.#nearestSize(label) ?? below?.size ?? 0);
      const { freshUuid, now: created } = this.#needs;
      const part: VolumePart = { uuid: freshUuid(), name: `found-${label}`, size, created, label };
      if (below === undefined) {
        this.#named.set(label, part);
        this.parts.volumes.push(part);
        this.changes.push(`version ${label}, which had no name, is the volume ${part.name} now`);
      } else {
        const snapshot = { ...part, volume: below.uuid };
        this.#named.set(label, snapshot);
        this.parts.snapshots.push(snapshot);
        this.changes.push(
          `version ${label}, which had no name, is the snapshot ${below.name}@${part.name} now`,
        );
      }
    }
  }

  /** The volume of a version or of one below it. */
  #volumeBelow(label: number): VolumePart | undefined {
    const named = this.#named.get(label);
    if (named !== undefined)
      return 'volume' in named ? this.parts.volumes.find(({ uuid }) => uuid === named.volume) : named;
    for (const child of this.#childrenOf(label)) {
      const found = this.#volumeBelow(child);
      if (found !== undefined) return found;
    }
    return undefined;
  }

  #nearestSize(label: number): number | undefined {
    for (let at = this.#versions.get(label)![1]; at !== 0; at = this.#versions.get(at)![1]) {
      const named = this.#named.get(at);
      if (named !== undefined) return named.size;
    }
    return undefined;
  }

  /** A head with versions below it freezes: they inherit from it, and it must not be written any more. */
  #freezeHeads(): void {
    for (const volume of this.parts.volumes) {
      const { label } = volume;
      if (this.#childrenOf(label).length === 0) continue;
      const { freshLabel, freshUuid, now: created } = this.#needs;
      const head = freshLabel();
      this.parts.versions.push([head, label, this.#sequence]);
      const name = `found-${label}`;
      this.parts.snapshots.push({
        uuid: freshUuid(),
        name,
        size: volume.size,
        created,
        label,
        volume: volume.uuid,
      });
      volume.label = head;
      this.#named.set(head, volume);
      const why = 'there are versions below what it wrote to';
      this.changes.push(`volume ${volume.name} goes on behind its snapshot ${name}: ${why}`);
    }
  }

  #makeNamesUnique(): void {
    const uuids = new Set<string>();
    for (const part of [...this.parts.volumes, ...this.parts.snapshots]) {
      if (uuids.has(part.uuid)) {
        const isVolume = !('volume' in part);
        part.uuid = this.#needs.freshUuid();
        this.changes.push(
          `${isVolume ? 'volume' : 'snapshot'} ${part.name} has another UUID: there were two`,
        );
      }
      uuids.add(part.uuid);
    }
    makeUnique(this.parts.volumes, 'volume', this.changes);
    const byVolume = new Map<string, SnapshotPart[]>();
    for (const snapshot of this.parts.snapshots) {
      const of = byVolume.get(snapshot.volume);
      if (of === undefined) byVolume.set(snapshot.volume, [snapshot]);
      else of.push(snapshot);
    }
    for (const snapshots of byVolume.values()) makeUnique(snapshots, 'snapshot', this.changes);
  }

  #mendDeletes(): void {
    const isHidden = (label: number): boolean => (this.#versions.get(label)?.[3] ?? 0) > 0;
    const waiting = this.parts.pending.length;
    this.parts.pending = this.parts.pending.filter(isHidden);
    const dropped = waiting - this.parts.pending.length;
    if (dropped > 0) this.changes.push(`${dropped} deletes are not finished: the versions are not deleted`);
    // What nothing keeps is found when deletes are finished.
    const hidden = this.parts.versions.map(([label]) => label).filter(isHidden);
    this.parts.pending = [...new Set([...this.parts.pending, ...hidden])];
    const merged = this.parts.merged.length;
    this.parts.merged = this.parts.merged.filter(
      ([label, heir]) => !this.#versions.has(label) && Number.isInteger(heir) && heir > label,
    );
    const wrong = merged - this.parts.merged.length;
    if (wrong > 0) this.changes.push(`${wrong} entries of who took over whom are dropped: they cannot be`);
  }
}

/** The first one keeps its name. */
function makeUnique(parts: readonly VolumePart[], what: string, changes: string[]): void {
  const names = new Set(parts.map(({ name }) => name));
  const seen = new Set<string>();
  for (const part of parts) {
    const was = part.name;
    if (seen.has(was)) {
      for (let i = 0; names.has(part.name); i++) part.name = `found-${part.label}${i === 0 ? '' : `-${i}`}`;
      names.add(part.name);
      changes.push(`the second ${what} ${was} is called ${part.name} now`);
    }
    seen.add(part.name);
  }
}
