/**
 * Versions that are received: begun below their base, filled, and published by one change.
 *
 * A receive is a volume that nobody can name (`Catalog.receives`). What has come of it is told by a change behind the chunks
 * (`advance`): the log is a prefix after any crash, so the position that is found then never promises what is not there. The
 * change `publish` stands behind all of them too, so a version that can be named is whole.
 *
 * Invariants: a position goes into the log, and a version is published, when no write of its session is under way; both are
 * answered when the disk has them. Of the sessions of a receive the last one counts: a sender that comes back need not wait
 * until it is noticed that its old connection is dead. What the old one still writes is of the same version, and so the same.
 */

import { randomUUID } from 'node:crypto';
import type { Clock } from '../base/clock.ts';
import { StoreError } from '../base/errors.ts';
import { Changes } from '../delta/changes.ts';
import { checkHead, encodeToken, type StreamHead } from '../delta/head.ts';
import { type Catalog, fullName, originOf, type Receive, type Snapshot, type Volume } from './catalog.ts';
import type { ChangeWriter } from './change-writer.ts';
import type { BlockDevice } from './device.ts';
import type { Fence } from './fence.ts';
import { isoTime } from './listing.ts';
import { checkName, splitSnapshotName } from './names.ts';
import type { OpenDisks } from './open-disks.ts';
import type { ReceiveSummary } from './summary.ts';

/** Receives that are not finished: a catalog must fit into the log. */
const RECEIVES_MAX = 64;

export interface ReceivesNeeds {
  readonly catalog: Catalog;
  readonly writer: ChangeWriter;
  readonly fence: Fence;
  readonly disks: OpenDisks;
  readonly clock: Clock;
  readonly flush: () => Promise<void>;
  /** Something was deleted. */
  readonly onHidden: () => void;
}

/** `there`: the store has the version already, under this name. */
export type ReceiveBegun =
  | { readonly state: 'there'; readonly name: string }
  | { readonly state: 'begun'; readonly session: string; readonly position: number };

interface Names {
  readonly volume: string;
  readonly snapshot: string;
}

interface Session {
  readonly id: string;
  readonly receive: Receive;
  readonly device: BlockDevice;
  /** Frames whose changes are under way. */
  running: number;
}

export class Receives {
  readonly #needs: ReceivesNeeds;
  /** By UUID of the receive. */
  readonly #sessions = new Map<string, Session>();

  constructor(needs: ReceivesNeeds) {
    this.#needs = needs;
  }

  /**
   * Begins to receive, or goes on, as `name`: VOLUME, or VOLUME@NAME for another name than the version has.
   * @throws WRONG_BASE, ALREADY_EXISTS, INVALID_ARGUMENT, CORRUPTION (a head that cannot be), NO_SPACE, IO, POISONED
   */
  async begin(stated: StreamHead, name: string): Promise<ReceiveBegun> {
    const { catalog, writer } = this.#needs;
    const head = checkHead(stated);
    const names = namesFor(name, head);
    const found = await writer.run(1, async () => {
      const existing = catalog.hasVolume(names.volume) ? (catalog.find(names.volume) as Volume) : undefined;
      const there = existing === undefined ? undefined : withOrigin(existing, head.target.uuid);
      if (there !== undefined) return there;
      if (existing !== undefined) checkFollows(existing, head, names.snapshot);
      const begun = this.#unfinished(head, names);
      checkPosition(head, begun?.position ?? 0);
      // What was begun has its base, even if that was deleted meanwhile.
      return begun ?? (await this.#make(head, names, existing, this.#baseFor(head, existing)));
    });
    if ('volume' in found) return { state: 'there', name: fullName(found) };
    return await this.#open(found);
  }

  async #make(
    { store, volume, target, base: stated }: StreamHead,
    names: Names,
    existing: Volume | undefined,
    base: Snapshot | undefined,
  ): Promise<Receive> {
    const { catalog, writer, clock } = this.#needs;
    if (catalog.receives.size >= RECEIVES_MAX)
      throw new StoreError(
        'INVALID_ARGUMENT',
        `${RECEIVES_MAX} receives are unfinished; \`coppice receive --status\` shows them, --abort ends one`,
      );
    const { uuid, size, created, by } = target;
    const receive = randomUUID();
    await writer.append({
      op: 'receive',
      at: clock.now(),
      receive,
      label: writer.takeLabel(),
      from: base?.label ?? 0,
      size: Math.max(size, base?.sizeBytes ?? 0),
      volume: existing?.uuid ?? null,
      volumeName: names.volume,
      name: names.snapshot,
      source: {
        store,
        volume: volume.uuid,
        target: { uuid, size, created, ...(by === undefined ? {} : { by }) },
        base: stated?.uuid ?? null,
      },
    });
    return catalog.receives.get(receive)!;
  }

  async #open(receive: Receive): Promise<ReceiveBegun> {
    const { disks } = this.#needs;
    const session = { id: randomUUID(), receive, device: disks.open(receive), running: 0 };
    this.#sessions.get(receive.uuid)?.device.release();
    this.#sessions.set(receive.uuid, session);
    const { position, sizeBytes, source } = receive;
    const cutBytes = sizeBytes - source.target.size;
    // Of a base that is longer nothing may come back when the disk grows again.
    if (position === 0 && cutBytes > 0)
      await this.#using(session, () => zero(session, source.target.size, cutBytes));
    return { state: 'begun', session: session.id, position };
  }

  /** The base in the volume, or anywhere: a clone is received below what it is a clone of. @throws WRONG_BASE */
  #baseFor({ base }: StreamHead, existing: Volume | undefined): Snapshot | undefined {
    if (base === null) return undefined;
    const { catalog } = this.#needs;
    const volumes = existing === undefined ? catalog.volumes() : [existing, ...catalog.volumes()];
    for (const volume of volumes) {
      const found = withOrigin(volume, base.uuid);
      if (found?.sizeBytes === base.size) return found;
    }
    throw new StoreError(
      'WRONG_BASE',
      `the stream builds on ${base.name} (${base.uuid}), which this store does not have; send from another base, all of it, ` +
        'or what differs by `coppice hashes` of a snapshot of here',
    );
  }

  /** What has come of the same version before. @throws WRONG_BASE if it was begun from another base */
  #unfinished(head: StreamHead, { volume, snapshot }: Names): Receive | undefined {
    for (const receive of this.#needs.catalog.receives.values()) {
      if (receive.volumeName !== volume || receive.snapshotName !== snapshot) continue;
      if (receive.source.target.uuid !== head.target.uuid) continue;
      if (receive.source.base === (head.base?.uuid ?? null)) return receive;
      throw new StoreError(
        'WRONG_BASE',
        `${head.target.name} is received from another base already; go on with that, or end it: coppice receive --abort ${receive.uuid}`,
      );
    }
    return undefined;
  }

  /** Takes the changes of a frame: its unpacked body. Frames of a session may overtake each other. */
  async apply(id: string, body: Buffer): Promise<void> {
    const session = this.#session(id);
    const changes = new Changes(body);
    if (changes.end > session.receive.source.target.size)
      throw new StoreError('CORRUPTION', 'a frame changes what lies behind the end of the disk');
    await this.#using(session, () => takeChanges(session.device, changes));
  }

  /** All of the stream up to `position` has been answered: kept, so that the stream can go on there. */
  async advance(id: string, position: number): Promise<void> {
    const { receive } = this.#idleSession(id);
    if (
      !(
        Number.isSafeInteger(position) &&
        position >= receive.position &&
        position <= receive.source.target.size
      )
    )
      throw new StoreError('INVALID_ARGUMENT', `a receive does not go on to ${position}`);
    await this.#needs.writer.run(0, async () => {
      this.#idleSession(id);
      if (position === receive.position) return;
      await this.#needs.writer.append({ op: 'received', receive: receive.uuid, position });
    });
    await this.#needs.flush();
  }

  /**
   * Gives what was received its name, by one change; on the disk when this resolves. Who reads the head of the volume is
   * disconnected. Answers the full name. @throws NOT_FOUND, ALREADY_EXISTS, NO_SPACE, IO, POISONED
   */
  async publish(id: string): Promise<string> {
    const { catalog, writer, fence, disks, clock, onHidden } = this.#needs;
    const { receive } = this.#idleSession(id);
    const find = (): Volume[] => {
      const volume = this.#volumeOf(receive);
      return volume === undefined ? [receive] : [receive, volume];
    };
    const name = await fence.run(find, true, async (isFenced) => {
      this.#idleSession(id);
      if (!find().every(isFenced)) return undefined;
      const { into, snapshotName, uuid } = receive;
      const existing = this.#volumeOf(receive);
      if (existing !== undefined) {
        checkIsReplica(existing, snapshotName); // it may have been promoted meanwhile
        checkNewSnapshot(existing, snapshotName);
      }
      if (existing === undefined && catalog.hasVolume(receive.volumeName))
        throw nameTaken(receive.volumeName);
      const volume = into ?? randomUUID();
      const [snapshot, label] = [randomUUID(), writer.takeLabel()];
      await writer.append({ op: 'publish', at: clock.now(), receive: uuid, volume, snapshot, label });
      this.#forget(receive);
      disks.forget(volume);
      return fullName(catalog.withUuid(snapshot)!);
    });
    onHidden();
    await this.#needs.flush();
    return name;
  }

  /** Ends a receive; what has come of it goes. @throws NOT_FOUND */
  async abort(uuid: string): Promise<void> {
    const { catalog, writer, fence, clock, onHidden } = this.#needs;
    const find = (): Receive[] => {
      const receive = catalog.receives.get(uuid);
      if (receive === undefined)
        throw new StoreError(
          'NOT_FOUND',
          `there is no receive ${JSON.stringify(uuid.slice(0, 100))}; \`coppice receive --status\` shows those that there are`,
        );
      return [receive];
    };
    await fence.run(find, true, async () => {
      const [receive] = find();
      await writer.append({ op: 'abort', at: clock.now(), receive: uuid });
      this.#forget(receive!);
      return true;
    });
    onHidden();
  }

  list(): ReceiveSummary[] {
    return listReceives(this.#needs.catalog);
  }

  /** Requires: its devices are taken back. */
  #forget({ uuid }: Receive): void {
    this.#sessions.delete(uuid);
    this.#needs.disks.forget(uuid);
  }

  /** @throws NOT_FOUND if it was deleted meanwhile */
  #volumeOf({ into, volumeName, uuid }: Receive): Volume | undefined {
    if (into === null) return undefined;
    const volume = this.#needs.catalog.withUuid(into);
    if (volume !== undefined && !('volume' in volume)) return volume;
    throw new StoreError(
      'NOT_FOUND',
      `${volumeName} was deleted while a snapshot of it was received; end that: coppice receive --abort ${uuid}`,
    );
  }

  #session(id: string): Session {
    for (const session of this.#sessions.values()) if (session.id === id) return session;
    throw new StoreError('IN_USE', 'another sender goes on with this receive, or it is over');
  }

  /** One whose changes are all in. */
  #idleSession(id: string): Session {
    const session = this.#session(id);
    if (session.running === 0) return session;
    throw new StoreError('INVALID_ARGUMENT', 'changes of this receive are still under way; wait for them');
  }

  async #using<T>(session: Session, work: () => Promise<T>): Promise<T> {
    session.running += 1;
    try {
      return await work();
    } finally {
      session.running -= 1;
    }
  }
}

/** Those that are not finished, the oldest first. */
export function listReceives(catalog: Catalog): ReceiveSummary[] {
  return [...catalog.receives.values()].map((receive) => {
    const { uuid, volumeName, snapshotName, source, position, created, into } = receive;
    return {
      receive: uuid,
      name: `${volumeName}@${snapshotName}`,
      target: source.target.uuid,
      base: source.base,
      size: source.target.size,
      position,
      began: isoTime(created),
      token: encodeToken(source.target.uuid, source.base, position),
      volumeGone: into !== null && catalog.withUuid(into) === undefined,
    };
  });
}

/** @throws INVALID_ARGUMENT */
function namesFor(name: string, head: StreamHead): Names {
  if (name.includes('@')) return splitSnapshotName(name);
  checkName(name, 'volume');
  return { volume: name, snapshot: head.target.name };
}

function withOrigin(volume: Volume, uuid: string): Snapshot | undefined {
  for (const snapshot of volume.snapshots.values()) if (originOf(snapshot) === uuid) return snapshot;
  return undefined;
}

/** Whether a volume that there is may become what a stream makes of it. @throws WRONG_BASE, ALREADY_EXISTS */
function checkFollows(existing: Volume, { base, volume, target }: StreamHead, name: string): void {
  if (base === null)
    throw new StoreError(
      'ALREADY_EXISTS',
      `there is a volume ${existing.name}, and the stream is of a whole one; receive it under another name`,
    );
  checkIsReplica(existing, target.name, withOrigin(existing, base.uuid));
  if (originOf(existing) !== volume.uuid)
    throw new StoreError(
      'WRONG_BASE',
      `${existing.name} is a replica of another volume than ${volume.name} (${volume.uuid}); receive it under another name, or, ` +
        `if it is a copy of that one: coppice demote ${existing.name} --replica-of ${volume.uuid}`,
    );
  checkNewSnapshot(existing, name);
}

/** `common`: what both stores have, as far as that is known. @throws WRONG_BASE */
function checkIsReplica({ name, isReplica }: Volume, target: string, common?: Snapshot): void {
  if (isReplica) return;
  const since = common === undefined ? '' : ` since ${fullName(common)}, which both have`;
  throw new StoreError(
    'WRONG_BASE',
    `${name} goes its own way${since}: it is no replica, and ${target} would take its place; make it one with ` +
      `\`coppice demote ${name}\`, which keeps what it has as a snapshot, or receive under another name`,
  );
}

function checkNewSnapshot(volume: Volume, name: string): void {
  if (volume.snapshots.has(name)) throw nameTaken(`${volume.name}@${name}`);
}

function nameTaken(name: string): StoreError {
  return new StoreError(
    'ALREADY_EXISTS',
    `there is another ${name} already; rename that one, or receive as VOLUME@OTHER`,
  );
}

function checkPosition({ position }: StreamHead, there: number): void {
  if (position <= there) return;
  throw new StoreError(
    'WRONG_BASE',
    `the stream goes on at byte ${position}, and what came before has only been received up to ${there}; send it from there`,
  );
}

async function takeChanges(device: BlockDevice, changes: Changes): Promise<void> {
  const { body, count } = changes;
  const zeros: Promise<void>[] = [];
  const writes = new Promise<void>((resolve, reject) => {
    let left = 1;
    let failure: StoreError | undefined;
    const complete = (error: StoreError | undefined): void => {
      failure ??= error;
      left -= 1;
      if (left > 0) return;
      if (failure === undefined) resolve();
      else reject(failure);
    };
    let at = changes.payloadStart;
    for (let i = 0; i < count; i++) {
      const [offset, lengthBytes] = [changes.offset(i), changes.length(i)];
      if (changes.isZeros(i)) {
        zeros.push(device.zero(offset, lengthBytes, false));
        continue;
      }
      const slices = [body.subarray(at, at + lengthBytes)];
      at += lengthBytes;
      left += 1;
      device.write({ offset, lengthBytes, slices, forceUnitAccess: false, complete });
    }
    complete(undefined);
  });
  const ends = await Promise.allSettled([writes, ...zeros]);
  for (const end of ends) if (end.status === 'rejected') throw end.reason;
}

async function zero({ device }: Session, offset: number, lengthBytes: number): Promise<void> {
  await device.zero(offset, lengthBytes, false);
}
