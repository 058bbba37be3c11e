/**
 * Sends snapshots of a volume over a channel: offers one, streams what the other end lacks of it, and takes note of what has
 * arrived.
 *
 * Invariants:
 * - What is sent is held from before its first byte on, and what both ends have until something newer has arrived: so there
 *   is a common base, whatever fails in between.
 * - Only what a target made is deleted, and only what is older than what has arrived and nobody holds.
 */

import { setTimeout as sleep } from 'node:timers/promises';
import { hasCode, StoreError } from '../base/errors.ts';
import { Rate } from '../base/rate.ts';
import type { StreamHead, StreamVersion } from '../delta/head.ts';
import { StreamWriter } from '../delta/stream-writer.ts';
import { bodiesOf, extentsOf, type Sent, sentDisk } from '../volume/changes-source.ts';
import type { FeedSuccess } from '../volume/feeds.ts';
import type { Store } from '../volume/store.ts';
import type { VersionSummary } from '../volume/summary.ts';
import type { Channel } from './channel.ts';
import { ANSWER, DONE, garbled, KEPT, OFFER, PUBLISHED } from './messages.ts';
import { HAVE_MAX, originOf } from './negotiation.ts';

/** What is written at once where there is a rate. */
const PACED_BYTES = 16 << 10;

export interface Sending {
  /** UUID of the volume. */
  readonly volume: string;
  /** What it is called at the other end. */
  readonly as: string;
  /** Who holds what is sent. */
  readonly owner: string;
  /** What it is held for. */
  readonly reason: string;
  readonly rate: number | null;
  readonly snapshots: 'made' | 'all';
  /** UUID of the snapshot that the run before has made; if nobody has taken it, it goes as soon as there is a newer one. */
  readonly refused?: string | undefined;
}

export interface SendingProgress {
  /** Bytes of the disk, of the snapshot that is being sent. */
  sending(doneBytes: number, totalBytes: number): void;
  /** A snapshot has arrived, or was there. */
  arrived(success: FeedSuccess): Promise<void>;
}

interface Contents {
  readonly volume: VersionSummary;
  /** Oldest first. */
  readonly snapshots: readonly VersionSummary[];
}

export class Sender {
  readonly #store: Store;
  readonly #channel: Channel;
  readonly #sending: Sending;
  readonly #progress: SendingProgress;
  readonly #now: () => number;
  readonly #pace: Rate | undefined;
  /** UUID of the snapshot that was made to be sent. */
  made: string | undefined;
  /** UUID in this store of the last one that has arrived in this session. */
  #arrived: string | undefined;

  constructor(
    store: Store,
    channel: Channel,
    sending: Sending,
    progress: SendingProgress,
    now: () => number,
  ) {
    this.#store = store;
    this.#channel = channel;
    this.#sending = sending;
    this.#progress = progress;
    this.#now = now;
    this.#pace = sending.rate === null ? undefined : new Rate(sending.rate);
  }

  /** Sends what there is to send. @throws what either end is refused with */
  async run(): Promise<void> {
    await this.#makeSnapshot();
    for (let target = this.#next(); target !== undefined; target = this.#next()) await this.#offer(target);
    await this.#channel.say(DONE, {});
  }

  async #makeSnapshot(): Promise<void> {
    const { volume, snapshots } = this.#contents();
    if (volume.replica || !this.#store.feeds.hasChanged(this.#sending.volume)) return;
    const time = new Date(this.#now()).toISOString().replace(/[-:]|\.\d+/g, '');
    const taken = new Set(snapshots.map(({ name }) => name));
    const base = `${volume.name}@repl-${time}`;
    let name = base;
    for (let n = 2; taken.has(name); n++) name = `${base}-${n}`;
    const made = await this.#store.snapshot([name], 'target').catch((error: unknown) => {
      // Another target has been faster by a moment: what it has made will do.
      if (!hasCode(error, 'ALREADY_EXISTS')) throw error;
      return [];
    });
    this.made = made[0]?.uuid;
    const { refused } = this.#sending;
    // The new one has all that it has.
    await deleteMade(
      this.#store,
      snapshots.filter(({ uuid }) => uuid === refused),
    );
  }

  #contents(): Contents {
    const found = this.#store.feeds.volumeWith(this.#sending.volume);
    if (found !== undefined) return found;
    throw new StoreError('NOT_FOUND', 'the volume was deleted meanwhile');
  }

  /** What is to be sent next: the newest, or the oldest of all that are newer than what has arrived. */
  #next(): VersionSummary | undefined {
    const { snapshots } = this.#contents();
    const newer = behind(snapshots, this.#arrived ?? this.#heldBefore(snapshots)).filter(isSent);
    if (newer.length === 0 && this.#arrived === undefined) {
      // Nothing new: whether the other end has it still is to be seen all the same.
      return snapshots.filter(isSent).at(-1);
    }
    if (this.#sending.snapshots === 'made') return newer.at(-1);
    // Of those that were made to be sent only the newest is of use.
    return newer.find((each, i) => each.madeBy !== 'target' || i === newer.length - 1);
  }

  #heldBefore(snapshots: readonly VersionSummary[]): string | undefined {
    return snapshots.find(({ holds }) => holds.some(({ owner }) => owner === this.#sending.owner))?.uuid;
  }

  async #offer(newest: VersionSummary): Promise<void> {
    const { volume, snapshots } = this.#contents();
    const kept = snapshots.filter(
      (each, i) =>
        i >= snapshots.length - HAVE_MAX / 2 ||
        each.uuid === newest.uuid ||
        each.holds.some(({ owner }) => owner === this.#sending.owner),
    );
    await this.#channel.say(OFFER, {
      volume: { uuid: originOf(volume), name: volume.name },
      as: this.#sending.as,
      target: { uuid: originOf(newest), name: nameAlone(newest.name) },
      have: kept.slice(-HAVE_MAX).map((each) => [originOf(each), each.size]),
    });
    const answer = await this.#channel.expect(ANSWER);
    const find = (uuid: unknown): VersionSummary => {
      const found = kept.find((each) => originOf(each) === uuid);
      if (found !== undefined) return found;
      throw garbled('it wants a snapshot that was not offered');
    };
    const target = find(answer.state === 'there' ? answer.snapshot : answer.target);
    // So that whoever answers cannot make it go on for ever.
    if (!behind(kept, this.#arrived).includes(target)) throw garbled('it wants what has arrived before');
    if (answer.state === 'there') return await this.#hasArrived(target, 0);
    const base = answer.base === null ? null : find(answer.base);
    const { state, position } = answer;
    const isPlace =
      Number.isSafeInteger(position) && (position as number) >= 0 && (position as number) <= target.size;
    if (state !== 'send' || !isPlace || base === target) throw garbled('it wants what it cannot have');
    await this.#hold(target.uuid);
    const sentBytes = await this.#stream(volume, target, base, position as number);
    await this.#hasArrived(target, sentBytes);
  }

  async #stream(
    volume: VersionSummary,
    target: VersionSummary,
    base: VersionSummary | null,
    position: number,
  ): Promise<number> {
    const channel = this.#channel;
    const by = target.madeBy === null ? {} : { by: target.madeBy };
    const head: StreamHead = {
      store: this.#store.feeds.storeUuid,
      volume: { uuid: originOf(volume), name: volume.name },
      target: { ...streamVersion(target), created: Date.parse(target.created), ...by },
      base: base === null ? null : streamVersion(base),
      position,
    };
    const published = this.#published();
    // Who is refused has to stop: the reader of the answer ends the channel, and writing fails.
    published.catch((error: unknown) => channel.destroy(error as StoreError));
    const device = this.#store.device(target.name);
    // Nobody deletes it from here on.
    device.attach(() => channel.destroy(new StoreError('IN_USE', `${target.name} was taken away`)));
    try {
      const disk = sentDisk(device);
      const sent: Sent = { target: target.name, base: base?.name ?? null, size: target.size, position };
      let totalBytes = 0;
      for await (const { length } of extentsOf(this.#store, disk, sent)) totalBytes += length;
      const writer = new StreamWriter();
      let doneBytes = 0;
      this.#progress.sending(doneBytes, totalBytes);
      await this.#write(writer.begin(head));
      for await (const { extentBytes, body } of bodiesOf(
        extentsOf(this.#store, disk, sent),
        disk,
        base !== null,
        false,
      )) {
        if (body !== undefined) await this.#write(writer.changes(body));
        doneBytes += extentBytes;
        this.#progress.sending(doneBytes, totalBytes);
      }
      await this.#write(writer.end());
      await published;
      return doneBytes;
    } finally {
      device.release();
    }
  }

  /** No more than so many bytes a second, in small parts: a connection that is gone is noticed in between. */
  async #write(slices: readonly Buffer[]): Promise<void> {
    const pace = this.#pace;
    if (pace === undefined) return await this.#channel.stream(slices);
    for (const slice of slices) {
      for (let at = 0; at < slice.length; ) {
        const part = slice.subarray(at, at + PACED_BYTES);
        at += part.length;
        const waitMs = pace.take(part.length, performance.now());
        const signal = this.#channel.over;
        if (waitMs > 0) await sleep(waitMs, undefined, { signal }).catch(() => undefined);
        await this.#channel.stream([part]);
      }
    }
  }

  /** Resolves when the other end has published it. */
  async #published(): Promise<void> {
    for (;;) {
      const message = await this.#channel.next();
      if (message.kind === PUBLISHED) return;
      if (message.kind !== KEPT) throw garbled(`a message of kind ${message.kind} came amid a stream`);
    }
  }

  async #hasArrived(target: VersionSummary, bytes: number): Promise<void> {
    const { volume, owner } = this.#sending;
    await this.#hold(target.uuid);
    await this.#store.feeds.releaseOthers(volume, target.uuid, owner);
    this.#arrived = target.uuid;
    const { name, created } = target;
    const success = {
      snapshot: originOf(target),
      name: nameAlone(name),
      created: Date.parse(created),
      bytes,
    };
    await this.#progress.arrived({ at: this.#now(), ...success });
    await this.#deleteSuperseded(target);
  }

  async #hold(snapshot: string): Promise<void> {
    await this.#store.feeds.hold(snapshot, this.#sending.owner, this.#sending.reason);
  }

  /** A replica's are kept by who has received them. */
  async #deleteSuperseded(arrived: VersionSummary): Promise<void> {
    const { volume, snapshots } = this.#contents();
    if (volume.replica) return;
    const at = snapshots.findIndex(({ uuid }) => uuid === arrived.uuid);
    await deleteMade(this.#store, snapshots.slice(0, Math.max(0, at)));
  }
}

/** Deletes those that a target made and nobody holds. */
export async function deleteMade(store: Store, snapshots: readonly VersionSummary[]): Promise<void> {
  for (const { name, madeBy, holds } of snapshots) {
    if (madeBy !== 'target' || holds.length > 0) continue;
    await store.delete([name]).catch((error: unknown) => {
      // Somebody holds it, works on it, or was faster.
      if (!(['HELD', 'IN_USE', 'NOT_FOUND'] as const).some((code) => hasCode(error, code))) throw error;
    });
  }
}

/** What a rollback has saved is not what the volume was next. */
function isSent({ automatic }: VersionSummary): boolean {
  return !automatic;
}

function behind(snapshots: readonly VersionSummary[], uuid: string | undefined): readonly VersionSummary[] {
  return snapshots.slice(snapshots.findIndex((each) => each.uuid === uuid) + 1);
}

function nameAlone(name: string): string {
  return name.slice(name.indexOf('@') + 1);
}

function streamVersion(version: VersionSummary): StreamVersion {
  return { uuid: originOf(version), name: nameAlone(version.name), size: version.size };
}
