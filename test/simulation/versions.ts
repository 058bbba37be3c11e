/**
 * The specification: every version is a flat map of chunks, and a snapshot is a copy of one. Entries are applied in
 * the order of their sequences; a state at any cut is what is left when those behind it are not applied.
 */

import { CHUNK_BYTES } from '../../src/base/units.ts';
import { ENTRY_CATALOG, ENTRY_CHANGE, ENTRY_CHUNKS, ENTRY_ZEROS } from '../../src/log/entries.ts';
import type { Change } from '../../src/volume/change.ts';

/** An entry as it was handed to the disk. */
export interface WrittenEntry {
  sequence: number;
  kind: typeof ENTRY_CHUNKS | typeof ENTRY_ZEROS | typeof ENTRY_CHANGE | typeof ENTRY_CATALOG;
  label: number;
  first: number;
  count: number;
  /** Of chunks: their bytes. */
  chunks: Buffer[];
  text: string;
}

export interface Version {
  /** Full name; a head has that of its volume. */
  name: string;
  label: number;
  /** The volume it is the head of; undefined once it is frozen. */
  volume: string | undefined;
  sizeBytes: number;
  chunks: Map<number, Buffer>;
}

/** What the name of a version begins with that is being received. */
const HIDDEN = '#receiving ';
export const ZEROS = Buffer.alloc(CHUNK_BYTES);

/** A change of what there is not: what is assumed to have happened before cannot have. */
export class Contradiction extends Error {}

export class Versions {
  readonly byLabel = new Map<number, Version>();
  /** Heads by UUID of the volume. */
  readonly heads = new Map<string, Version>();

  copy(): Versions {
    const copy = new Versions();
    for (const version of this.byLabel.values()) {
      const twin = { ...version, chunks: new Map(version.chunks) };
      copy.byLabel.set(twin.label, twin);
      if (twin.volume !== undefined) copy.heads.set(twin.volume, twin);
    }
    return copy;
  }

  get all(): Version[] {
    return [...this.byLabel.values()];
  }

  get snapshots(): Version[] {
    return this.all.filter((version) => version.volume === undefined);
  }

  apply(entry: WrittenEntry): void {
    if (entry.kind === ENTRY_CATALOG) return;
    if (entry.kind === ENTRY_CHANGE) {
      this.#change(JSON.parse(entry.text) as Change);
      return;
    }
    const { chunks } = this.byLabel.get(entry.label)!;
    for (let i = 0; i < entry.count; i++) {
      if (entry.kind === ENTRY_CHUNKS) chunks.set(entry.first + i, entry.chunks[i]!);
      else chunks.delete(entry.first + i);
    }
  }

  #head(volume: string): Version {
    const head = this.heads.get(volume);
    if (head === undefined) throw new Contradiction(`there is no volume ${volume}`);
    return head;
  }

  #at(label: number): Version {
    const version = this.byLabel.get(label);
    if (version === undefined) throw new Contradiction(`there is no version ${label}`);
    return version;
  }

  #change(change: Change): void {
    switch (change.op) {
      case 'create':
        this.#addHead(change.volume, change.name, change.size, change.label, new Map());
        return;
      case 'clone': {
        const { chunks } = this.#at(change.from);
        this.#addHead(change.volume, change.name, change.size, change.label, new Map(chunks));
        return;
      }
      case 'snapshot':
        for (const cut of change.cuts) {
          const head = this.#head(cut.volume);
          const volumeName = head.name;
          head.name = `${volumeName}@${cut.name}`;
          head.volume = undefined;
          this.#addHead(cut.volume, volumeName, head.sizeBytes, cut.label, new Map(head.chunks));
        }
        return;
      case 'delete':
        for (const volume of change.volumes) this.#removeVolume(volume);
        for (const label of change.snapshots) this.byLabel.delete(label);
        return;
      case 'rollback': {
        const head = this.#head(change.volume);
        const { name } = head;
        if (change.saved === null) this.byLabel.delete(head.label);
        else head.name = `${name}@${change.saved.name}`;
        head.volume = undefined;
        const { chunks } = this.#at(change.to);
        this.#addHead(change.volume, name, change.size, change.label, new Map(chunks));
        return;
      }
      case 'resize': {
        const head = this.#head(change.volume);
        head.sizeBytes = change.size;
        const end = Math.ceil(change.size / CHUNK_BYTES);
        for (const chunk of head.chunks.keys()) if (chunk >= end) head.chunks.delete(chunk);
        return;
      }
      case 'receive': {
        const chunks = change.from === 0 ? new Map<number, Buffer>() : new Map(this.#at(change.from).chunks);
        this.#addHead(
          change.receive,
          `${HIDDEN}${change.volumeName}@${change.name}`,
          change.size,
          change.label,
          chunks,
        );
        return;
      }
      case 'received':
        return;
      case 'publish': {
        const { volume: uuid, label } = change;
        const received = this.#head(change.receive);
        this.heads.delete(change.receive);
        const name = received.name.slice(HIDDEN.length);
        const before = this.heads.get(uuid);
        if (before !== undefined) this.byLabel.delete(before.label);
        received.name = name;
        received.volume = undefined;
        this.#addHead(uuid, name.split('@')[0]!, received.sizeBytes, label, new Map(received.chunks));
        return;
      }
      case 'abort':
        this.byLabel.delete(this.#head(change.receive).label);
        this.heads.delete(change.receive);
        return;
      case 'promote':
        return;
      case 'demote': {
        if (change.saved === null) return;
        const head = this.#head(change.volume);
        const { name } = head;
        head.name = `${name}@${change.saved.name}`;
        head.volume = undefined;
        this.#addHead(change.volume, name, head.sizeBytes, change.saved.label, new Map(head.chunks));
        return;
      }
      case 'rename':
      case 'hold':
      case 'release':
      case 'priority':
      case 'schedule':
      case 'feed':
      case 'feed-end':
      case 'feed-pause':
      case 'feed-success':
        throw new Error(`the specification does not know ${change.op}`);
    }
  }

  /** With all its snapshots. */
  #removeVolume(volume: string): void {
    const head = this.#head(volume);
    this.heads.delete(volume);
    for (const { label, name } of this.all)
      if (label === head.label || name.startsWith(`${head.name}@`)) this.byLabel.delete(label);
  }

  #addHead(
    volume: string,
    name: string,
    sizeBytes: number,
    label: number,
    chunks: Map<number, Buffer>,
  ): void {
    const version = { name, label, volume, sizeBytes, chunks };
    this.byLabel.set(label, version);
    this.heads.set(volume, version);
  }
}

/** What a version was found to hold: chunks that are not zeros, those at the end filled up with zeros. */
export interface Found {
  sizeBytes: number;
  chunks: Map<number, Buffer>;
}

/** How what a store holds differs from these versions; undefined if it does not. */
export function differenceFrom(versions: Versions, found: ReadonlyMap<string, Found>): string | undefined {
  const visible = versions.all.filter(({ name }) => !name.startsWith(HIDDEN));
  for (const version of visible) {
    const { sizeBytes, chunks } = found.get(version.name) ?? {};
    if (chunks === undefined) return `${version.name} is not there`;
    if (sizeBytes !== version.sizeBytes) return `${version.name} has ${sizeBytes} bytes`;
    for (const chunk of new Set([...chunks.keys(), ...version.chunks.keys()])) {
      const used = Math.min(CHUNK_BYTES, version.sizeBytes - chunk * CHUNK_BYTES);
      const [is, shouldBe] = [chunks.get(chunk) ?? ZEROS, version.chunks.get(chunk) ?? ZEROS];
      if (is.compare(shouldBe, 0, used, 0, used) !== 0) return `chunk ${chunk} of ${version.name} differs`;
    }
  }
  if (found.size > visible.length) return 'there are versions that nobody made';
  return undefined;
}
