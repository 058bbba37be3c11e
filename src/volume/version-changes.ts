/**
 * The changes of volumes and snapshots that move no data and disturb nobody: create, snapshot, clone, rename, hold,
 * release, priority. What takes something away is in version-removal.ts.
 */

import { randomUUID } from 'node:crypto';
import type { Clock } from '../base/clock.ts';
import { StoreError } from '../base/errors.ts';
import type { SnapshotMaker } from '../base/units.ts';
import { type Catalog, fullName, type Hold, type Snapshot, type Volume } from './catalog.ts';
import type { ChangeWriter } from './change-writer.ts';
import { checkName, checkVolumeSize, splitSnapshotName } from './names.ts';

export const PRIORITY_MIN = -128;
/** Never deleted automatically. */
export const PRIORITY_MAX = 127;
/** Holds of one snapshot, and characters of their texts: a catalog must fit into entries of the log. */
export const HOLDS_MAX = 64;
const OWNER_CHARACTERS_MAX = 128;
const REASON_CHARACTERS_MAX = 512;
/** The last moment that a date can be. */
const TIME_MS_MAX = 8.64e15;

export interface HoldOptions {
  owner: string;
  reason?: string | undefined;
  /** Milliseconds since 1970; the hold lasts until it is released if this is missing. */
  until?: number | undefined;
}

/** Holds of a snapshot that have not expired. */
export function activeHolds(snapshot: Snapshot, now: number): Hold[] {
  return snapshot.holds.filter(({ until }) => until === null || until > now);
}

export class VersionChanges {
  readonly #catalog: Catalog;
  readonly #writer: ChangeWriter;
  readonly #clock: Clock;

  constructor(catalog: Catalog, writer: ChangeWriter, clock: Clock) {
    this.#catalog = catalog;
    this.#writer = writer;
    this.#clock = clock;
  }

  async create(name: string, sizeBytes: number): Promise<void> {
    checkName(name, 'volume');
    checkVolumeSize(sizeBytes);
    await this.#writer.run(1, async () => {
      this.#checkNewVolume(name);
      const [volume, at, label] = [randomUUID(), this.#clock.now(), this.#writer.takeLabel()];
      await this.#writer.append({ op: 'create', at, volume, name, size: sizeBytes, label });
    });
  }

  async snapshot(names: readonly string[], by?: SnapshotMaker): Promise<void> {
    const wanted = names.map(splitSnapshotName);
    if (wanted.length === 0) throw new StoreError('INVALID_ARGUMENT', 'name at least one VOLUME@NAME');
    await this.#writer.run(wanted.length, async () => {
      const volumes = wanted.map(({ volume }) => this.#catalog.find(volume) as Volume);
      if (new Set(volumes).size < volumes.length) {
        throw new StoreError('INVALID_ARGUMENT', 'a volume can be named only once in a snapshot');
      }
      wanted.forEach(({ snapshot }, i) => checkNewSnapshot(volumes[i]!, snapshot));
      const cuts = wanted.map(({ snapshot: name }, i) => {
        return { volume: volumes[i]!.uuid, snapshot: randomUUID(), name, label: this.#writer.takeLabel() };
      });
      const made = by === undefined ? {} : { by };
      await this.#writer.append({ op: 'snapshot', at: this.#clock.now(), ...made, cuts });
    });
  }

  async clone(source: string, name: string): Promise<void> {
    splitSnapshotName(source);
    checkName(name, 'volume');
    await this.#writer.run(1, async () => {
      const snapshot = this.#catalog.find(source) as Snapshot;
      this.#checkNewVolume(name);
      const { label: from, sizeBytes: size } = snapshot;
      const [volume, at, label] = [randomUUID(), this.#clock.now(), this.#writer.takeLabel()];
      await this.#writer.append({ op: 'clone', at, from, volume, name, size, label });
    });
  }

  /** Answers the new full name. */
  async rename(from: string, to: string): Promise<string> {
    return await this.#writer.run(0, async () => {
      const found = this.#catalog.find(from);
      const name = newNameOf(found, to);
      if (name !== found.name) {
        if ('volume' in found) checkNewSnapshot(found.volume, name);
        else this.#checkNewVolume(name);
        await this.#writer.append({ op: 'rename', at: this.#clock.now(), of: found.uuid, name });
      }
      return fullName(found);
    });
  }

  async hold(name: string, options: HoldOptions): Promise<void> {
    splitSnapshotName(name);
    const { owner, reason = null, until = null } = options;
    checkText('owner of a hold', owner, OWNER_CHARACTERS_MAX);
    if (reason !== null) checkText('reason of a hold', reason, REASON_CHARACTERS_MAX);
    const now = this.#clock.now();
    if (until !== null && !(Number.isSafeInteger(until) && until > now && until <= TIME_MS_MAX))
      throw new StoreError('INVALID_ARGUMENT', 'a hold must end in the future; choose a later time');
    await this.#writer.run(0, async () => {
      const snapshot = this.#catalog.find(name) as Snapshot;
      const others = snapshot.holds.filter((hold) => hold.owner !== owner);
      if (others.length >= HOLDS_MAX)
        throw new StoreError('INVALID_ARGUMENT', `${name} has ${HOLDS_MAX} holds already; release one`);
      const { uuid } = snapshot;
      await this.#writer.append({ op: 'hold', at: now, snapshot: uuid, owner, reason, until });
    });
  }

  async release(name: string, owner: string): Promise<void> {
    splitSnapshotName(name);
    await this.#writer.run(0, async () => {
      const snapshot = this.#catalog.find(name) as Snapshot;
      if (!snapshot.holds.some((hold) => hold.owner === owner)) {
        const owners = snapshot.holds.map((hold) => JSON.stringify(hold.owner)).join(', ') || 'nobody';
        throw new StoreError(
          'NOT_FOUND',
          `${JSON.stringify(owner)} does not hold ${name}; held by ${owners}`,
        );
      }
      await this.#writer.append({ op: 'release', at: this.#clock.now(), snapshot: snapshot.uuid, owner });
    });
  }

  async setPriority(name: string, priority: number): Promise<void> {
    splitSnapshotName(name);
    if (!Number.isInteger(priority) || priority < PRIORITY_MIN || priority > PRIORITY_MAX) {
      throw new StoreError(
        'INVALID_ARGUMENT',
        `a priority is a whole number from ${PRIORITY_MIN} to ${PRIORITY_MAX}`,
      );
    }
    await this.#writer.run(0, async () => {
      const snapshot = this.#catalog.find(name) as Snapshot;
      const at = this.#clock.now();
      await this.#writer.append({ op: 'priority', at, snapshot: snapshot.uuid, priority });
    });
  }

  #checkNewVolume(name: string): void {
    if (!this.#catalog.hasVolume(name)) return;
    throw new StoreError(
      'ALREADY_EXISTS',
      `there is a volume ${JSON.stringify(name)} already; choose another name`,
    );
  }
}

function checkNewSnapshot(volume: Volume, name: string): void {
  if (!volume.snapshots.has(name)) return;
  const full = JSON.stringify(`${volume.name}@${name}`);
  throw new StoreError('ALREADY_EXISTS', `there is a snapshot ${full} already; choose another name`);
}

/** A snapshot's new name may be given in full, but it stays with its volume. @throws INVALID_ARGUMENT */
function newNameOf(found: Volume | Snapshot, to: string): string {
  if (!('volume' in found)) {
    checkName(to, 'volume');
    return to;
  }
  if (!to.includes('@')) {
    checkName(to, 'snapshot');
    return to;
  }
  const { volume, snapshot } = splitSnapshotName(to);
  if (volume === found.volume.name) return snapshot;
  throw new StoreError(
    'INVALID_ARGUMENT',
    `a snapshot stays with its volume; name it ${found.volume.name}@${snapshot}`,
  );
}

function checkText(what: string, text: string, charactersMax: number): void {
  if (text.length <= charactersMax && /^\P{Cc}+$/u.test(text)) return;
  throw new StoreError('INVALID_ARGUMENT', `the ${what} must be 1 to ${charactersMax} printable characters`);
}
