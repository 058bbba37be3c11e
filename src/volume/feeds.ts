/**
 * What is to be replicated: feeds, as a state that changes of the log are applied to. A feed carries the snapshots of a volume
 * to a volume of another store (a push), or from one (a pull). Pure.
 *
 * Invariants: each has an id that no other has; a push goes with the volume that it is of, a pull with the volume that it
 * fills, if there is one by then.
 */

import { addressOf } from '../base/address.ts';
import { isUuid } from '../delta/head.ts';
import { isName } from './names.ts';

export const FEED_ID_CHARACTERS_MAX = 64;
export const FEEDS_MAX = 64;
export const EVERY_MS_MIN = 1000;
export const EVERY_MS_MAX = 30 * 86_400_000;
/** Bytes a second: less than a frame in five minutes is no use. */
export const RATE_MIN = 4096;

/** The last run that brought a snapshot, or found that the newest was there. */
export interface FeedSuccess {
  /** Milliseconds since 1970. */
  readonly at: number;
  /** UUID that the snapshot has in the first store that had it, its name, and when it was made. */
  readonly snapshot: string;
  readonly name: string;
  readonly created: number;
  /** Of the disk: what was sent of it. */
  readonly bytes: number;
}

/** As it was asked for. */
export interface FeedTerms {
  readonly id: string;
  readonly direction: 'push' | 'pull';
  /** Of a push: UUID of the volume that is sent. Of a pull: name of the one that is filled, which there may not be yet. */
  readonly volume: string;
  /** `HOST:PORT`, or the path of a Unix socket. */
  readonly address: string;
  /** Name of the volume at the other end. */
  readonly peerVolume: string;
  readonly everyMs: number;
  /** Bytes a second; null: no bound. */
  readonly rate: number | null;
  /** `made`: the newest, made for it if the volume has changed. `all`: each that there is, and that one. */
  readonly snapshots: 'made' | 'all';
}

export interface Feed extends FeedTerms {
  readonly isPaused: boolean;
  readonly last: FeedSuccess | null;
}

export type FeedChange =
  | { op: 'feed'; at: number; feed: FeedTerms }
  | { op: 'feed-end'; at: number; id: string }
  | { op: 'feed-pause'; at: number; id: string; isPaused: boolean }
  | ({ op: 'feed-success'; id: string } & FeedSuccess);

/** Who holds the newest snapshot that both ends have, where it is sent from. */
export function feedOwner(id: string): string {
  return `target:${id}`;
}

export class Feeds {
  readonly #byId = new Map<string, Feed>();

  all(): Feed[] {
    return [...this.#byId.values()];
  }

  get(id: string): Feed | undefined {
    return this.#byId.get(id);
  }

  put(feed: Feed): void {
    this.#byId.set(feed.id, feed);
  }

  /** Requires: the change has been checked. One of a feed that is gone changes nothing. */
  apply(change: FeedChange): void {
    if (change.op === 'feed') {
      this.put({ ...change.feed, isPaused: false, last: null });
      return;
    }
    const feed = this.#byId.get(change.id);
    if (feed === undefined) return;
    if (change.op === 'feed-end') this.#byId.delete(change.id);
    else if (change.op === 'feed-pause') this.put({ ...feed, isPaused: change.isPaused });
    else {
      const { at, snapshot, name, created, bytes } = change;
      this.put({ ...feed, last: { at, snapshot, name, created, bytes } });
    }
  }

  /** A volume is gone: so is what was to be done with it. */
  endOf(uuid: string, name: string): void {
    for (const { id, direction, volume } of this.all())
      if (volume === (direction === 'push' ? uuid : name)) this.#byId.delete(id);
  }

  /** A volume has another name: what fills it goes on. */
  renamed(from: string, to: string): void {
    for (const feed of this.all())
      if (feed.direction === 'pull' && feed.volume === from) this.put({ ...feed, volume: to });
  }
}

/** What cannot be of a feed, as the end of a sentence that says what to give; undefined if all of it can. */
export function feedProblem(feed: FeedTerms): string | undefined {
  const { id, direction, volume, address, peerVolume, everyMs, rate, snapshots } = feed;
  if (!isFeedId(id)) return `an id has 1 to ${FEED_ID_CHARACTERS_MAX} of the characters A-Z a-z 0-9 . _ -`;
  if (direction !== 'push' && direction !== 'pull') return 'a feed is a push or a pull';
  if (direction === 'push' ? !isUuid(volume) : !isText(volume) || !isName(volume))
    return 'a volume has 1 to 128 of the characters A-Z a-z 0-9 . _ -';
  if (!isText(address) || addressOf(address) === undefined)
    return 'an address is HOST:PORT, [IPV6]:PORT, or the absolute path of a socket';
  if (!isText(peerVolume) || !isName(peerVolume))
    return 'the name at the other end has 1 to 128 of the characters A-Z a-z 0-9 . _ -';
  if (!isWholeFrom(everyMs, EVERY_MS_MIN) || everyMs > EVERY_MS_MAX)
    return 'an interval is from one second to 30 days';
  if (rate !== null && !isWholeFrom(rate, RATE_MIN)) return `a rate is ${RATE_MIN} bytes a second or more`;
  if (snapshots !== 'made' && snapshots !== 'all') return 'snapshots are `made` or `all`';
  return undefined;
}

/** The same of one in a catalog. */
export function isFeed(feed: Feed): boolean {
  return feedProblem(feed) === undefined && typeof feed.isPaused === 'boolean' && isSuccess(feed.last);
}

function isSuccess(last: FeedSuccess | null): boolean {
  if (last === null) return true;
  const { at, snapshot, name, created, bytes } = last;
  return isUuid(snapshot) && isName(name) && [at, created, bytes].every((each) => isWholeFrom(each, 0));
}

const isText = (value: unknown): value is string => typeof value === 'string';
const isFeedId = (id: unknown): boolean => isText(id) && isName(id) && id.length <= FEED_ID_CHARACTERS_MAX;
const isWholeFrom = (value: unknown, least: number): boolean =>
  Number.isSafeInteger(value) && (value as number) >= least;
