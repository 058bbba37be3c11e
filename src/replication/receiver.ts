/**
 * Receives snapshots over a channel: chooses the base of what is offered, takes the stream in, publishes it, and holds it.
 *
 * Invariants: nothing of a stream is used before it is verified, and nothing can be named before all of it is on the disk; what
 * is published is held before what it supersedes is released; what has come of a stream that is cut off is kept.
 */

import { hasCode, StoreError } from '../base/errors.ts';
import type { StreamHead } from '../delta/head.ts';
import { type Frame, StreamReader } from '../delta/stream-reader.ts';
import type { FeedSuccess } from '../volume/feeds.ts';
import { Reception } from '../volume/reception.ts';
import type { Store } from '../volume/store.ts';
import type { VersionSummary } from '../volume/summary.ts';
import type { Channel } from './channel.ts';
import { ANSWER, DONE, garbled, KEPT, OFFER, PUBLISHED, STREAM } from './messages.ts';
import { checkOffer, choose, freeName, type Holdings, type Offer, originOf } from './negotiation.ts';
import { deleteMade } from './sender.ts';

/**
 * Of the snapshots that a target made and that were received, a replica keeps so many, unless a schedule says which. What was made
 * here before it became a replica may have what no other store has.
 */
const KEPT_MADE = 2;

export interface ReceivingProgress {
  receiving(doneBytes: number, totalBytes: number): void;
  arrived(success: FeedSuccess): Promise<void>;
}

export class Receiver {
  readonly #store: Store;
  readonly #channel: Channel;
  /** UUID of the store at the other end. */
  readonly #peer: string;
  /** The only name that is received under; undefined if the other end chooses. */
  readonly #as: string | undefined;
  readonly #progress: ReceivingProgress;
  readonly #now: () => number;

  constructor(
    store: Store,
    channel: Channel,
    { peer, as }: { peer: string; as: string | undefined },
    progress: ReceivingProgress,
    now: () => number,
  ) {
    this.#store = store;
    this.#channel = channel;
    this.#peer = peer;
    this.#as = as;
    this.#progress = progress;
    this.#now = now;
  }

  /** Takes what is offered until there is nothing more. @throws what either end is refused with */
  async run(): Promise<void> {
    for (;;) {
      const message = await this.#channel.next();
      if (message.kind === DONE) return;
      if (message.kind !== OFFER || !('fields' in message))
        throw garbled('there is no offer where one should be');
      await this.#take(checkOffer(message.fields));
    }
  }

  async #take(offer: Offer): Promise<void> {
    const { as, target } = offer;
    if (this.#as !== undefined && as !== this.#as) throw garbled(`it sends ${as}, and ${this.#as} is wanted`);
    const holdings = this.#holdings(offer);
    const choice = choose(offer, holdings);
    for (const useless of choice.useless)
      await this.#store.receives.abort(useless).catch((error: unknown) => {
        if (!hasCode(error, 'NOT_FOUND')) throw error;
      });
    if ('there' in choice) {
      const there = holdings.snapshots.find((each) => originOf(each) === choice.there)!;
      await this.#channel.say(ANSWER, { state: 'there', snapshot: choice.there });
      await this.#hasArrived(there, 0);
      return;
    }
    const { goesOn, base } = choice;
    const position = goesOn?.position ?? 0;
    await this.#channel.say(ANSWER, { state: 'send', target: choice.target, base, position });
    const name = goesOn?.name ?? `${as}@${freeName(target, holdings.snapshots)}`;
    const reception = new Reception(this.#store.receives, name);
    try {
      await this.#takeStream(reception, choice.target, base);
    } catch (error) {
      // What has come is kept where it can be: the next run goes on behind it.
      if (reception.isUnderWay) await reception.keepPosition().catch(() => undefined);
      throw error;
    }
    const { name: published, dataBytes } = await reception.finish();
    const there = this.#store.show(published);
    await this.#holdNewest(there);
    await this.#channel.say(PUBLISHED, { name: published });
    await this.#hasArrived(there, dataBytes);
  }

  #holdings({ as, volume, target }: Offer): Holdings {
    const { feeds } = this.#store;
    const found = feeds.volumeNamed(as);
    const isOfIt = (name: string): boolean => name.startsWith(`${as}@`);
    const receives = this.#store.receives.list().filter(({ name }) => isOfIt(name));
    if (found !== undefined) this.#checkReplica(found.volume, volume, target.name);
    const others = found === undefined ? this.#store.list().filter(({ kind }) => kind === 'snapshot') : [];
    return { volume: found?.volume, snapshots: found?.snapshots ?? [], others, receives };
  }

  /** The store judges this again when it begins; here it is said before anything is sent. @throws WRONG_BASE */
  #checkReplica(there: VersionSummary, { uuid, name }: Offer['volume'], snapshot: string): void {
    if (!there.replica)
      throw new StoreError(
        'WRONG_BASE',
        `${there.name} is no replica (any more): it goes its own way, and ${snapshot} would take that away; make it one again with \`coppice demote ${there.name}\`, or receive under another name`,
      );
    if (originOf(there) !== uuid)
      throw new StoreError(
        'WRONG_BASE',
        `${there.name} is a replica of another volume than ${name}; receive it under another name`,
      );
  }

  async #takeStream(reception: Reception, target: string, base: string | null): Promise<void> {
    const reader = new StreamReader();
    let isWhole = false;
    let kept = reception.keptPosition;
    const take = async (frame: Frame): Promise<void> => {
      if (frame.kind === 'head') checkExpected(frame.head, target, base);
      if (frame.kind === 'end') isWhole = true;
      await reception.take(frame);
      if (frame.kind !== 'changes' || !reception.isUnderWay) return;
      this.#progress.receiving(frame.changes.end, reception.sizeBytes);
      if (reception.keptPosition === kept) return;
      kept = reception.keptPosition;
      await this.#channel.say(KEPT, { position: kept });
    };
    while (!isWhole) {
      const message = await this.#channel.next();
      if (message.kind !== STREAM || !('bytes' in message))
        throw garbled(`a message of kind ${message.kind} came amid a stream`);
      for (const frame of reader.push(message.bytes)) await take(frame);
    }
    reader.close();
  }

  async #holdNewest(newest: VersionSummary): Promise<void> {
    const { feeds } = this.#store;
    const owner = `source:${this.#peer}`;
    await feeds.hold(newest.uuid, owner, 'the newest that the store it came from has too');
    const found = feeds.volumeNamed(volumeOf(newest));
    if (found?.snapshots.some(({ uuid }) => uuid === newest.uuid) === true)
      await feeds.releaseOthers(found.volume.uuid, newest.uuid, owner);
  }

  /** The volume may have another name than it was offered under by now: it goes by that of the snapshot. */
  async #hasArrived(there: VersionSummary, bytes: number): Promise<void> {
    await this.#holdNewest(there);
    const success = { snapshot: originOf(there), created: Date.parse(there.created), bytes };
    const name = there.name.slice(there.name.indexOf('@') + 1);
    await this.#progress.arrived({ at: this.#now(), name, ...success });
    const volume = volumeOf(there);
    if (this.#store.schedules.scheduled().some(({ name: scheduled }) => scheduled === volume)) return;
    const snapshots = this.#store.feeds.volumeNamed(volume)?.snapshots ?? [];
    // Renamed just now: whoever comes next thins.
    if (!snapshots.some(({ uuid }) => uuid === there.uuid)) return;
    const received = snapshots.filter(({ madeBy, origin }) => madeBy === 'target' && origin !== null);
    await deleteMade(this.#store, received.slice(0, -KEPT_MADE));
  }
}

function checkExpected({ target, base }: StreamHead, wanted: string, wantedBase: string | null): void {
  if (target.uuid !== wanted || (base?.uuid ?? null) !== wantedBase)
    throw garbled('it sends another snapshot than was agreed on');
}

function volumeOf({ name }: VersionSummary): string {
  return name.slice(0, name.indexOf('@'));
}
