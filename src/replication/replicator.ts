/**
 * Does what the feeds of a store ask for: each at its time, one run at a time, again after a while if it failed.
 *
 * Invariants: one feed's failure holds up no other; a run is due when its time has come, whatever clocks did meanwhile: never
 * later than one interval from now. When it is stopped nothing runs.
 */

import type { Duplex } from 'node:stream';
import type { Clock } from '../base/clock.ts';
import { StoreError } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import { type FeedRunner, IDLE } from '../volume/feed-changes.ts';
import { type Feed, feedOwner, type FeedSuccess } from '../volume/feeds.ts';
import type { Store } from '../volume/store.ts';
import type { FeedProgress } from '../volume/summary.ts';
import { waitMs } from './back-off.ts';
import { Channel } from './channel.ts';
import { Receiver } from './receiver.ts';
import { Sender } from './sender.ts';
import { greet } from './session.ts';
import { whyGone } from './tls-problems.ts';

/** A timer that is set for longer is set again: clocks are put forward and back. */
const TIMER_MS_MAX = 60_000;
/** A success that tells of nothing new goes into the log this often. */
const SAME_SUCCESS_MS = 3_600_000;

export interface ReplicatorNeeds {
  readonly store: Store;
  readonly clock: Clock;
  readonly logger: Logger;
  /** From 0 to 1. */
  readonly chance: () => number;
  readonly dial: (address: string, signal: AbortSignal) => Promise<Duplex>;
}

interface Work {
  feed: Feed;
  progress: FeedProgress;
  failures: number;
  /** When the next run is due, and the longest that may be away. */
  dueAt: number;
  waitMs: number;
  cancelTimer: () => void;
  running: { readonly ending: AbortController; readonly ended: Promise<void> } | undefined;
  isWantedAgain: boolean;
  /** UUID of the snapshot that a run has made last. */
  made: string | undefined;
}

export class Replicator implements FeedRunner {
  readonly #needs: ReplicatorNeeds;
  readonly #work = new Map<string, Work>();
  #isStopped = false;

  constructor(needs: ReplicatorNeeds) {
    this.#needs = needs;
  }

  start(): void {
    this.#needs.store.feeds.runner = this;
    this.feedsChanged();
  }

  /** What is under way is cut off; resolves when it has ended. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    this.#needs.store.feeds.runner = undefined;
    const ended = [...this.#work.values()].map((work) => this.#cut(work));
    await Promise.all(ended);
  }

  progressOf(id: string): FeedProgress | undefined {
    const work = this.#work.get(id);
    return work === undefined ? undefined : { ...work.progress, nextAt: work.dueAt };
  }

  runNow(id: string): void {
    const work = this.#work.get(id);
    if (work === undefined) return;
    if (work.running !== undefined) work.isWantedAgain = true;
    else this.#begin(work);
  }

  feedsChanged(): void {
    if (this.#isStopped) return;
    const feeds = new Map(this.#needs.store.feeds.all().map((feed) => [feed.id, feed]));
    for (const [id, work] of this.#work) {
      const feed = feeds.get(id);
      // One that was removed and added again is another one.
      if (feed !== undefined && feed.volume === work.feed.volume && feed.address === work.feed.address)
        continue;
      void this.#cut(work);
      this.#work.delete(id);
    }
    for (const feed of feeds.values()) {
      const work = this.#work.get(feed.id) ?? this.#newWork(feed);
      work.feed = feed;
      this.#work.set(feed.id, work);
      if (feed.isPaused) void this.#cut(work);
      else if (work.running === undefined) this.#setTimer(work);
    }
  }

  #newWork(feed: Feed): Work {
    const dueAt = feed.last === null ? this.#needs.clock.now() : feed.last.at + feed.everyMs;
    return {
      feed,
      progress: IDLE,
      failures: 0,
      dueAt,
      waitMs: feed.everyMs,
      cancelTimer: () => undefined,
      running: undefined,
      isWantedAgain: false,
      made: undefined,
    };
  }

  async #cut(work: Work): Promise<void> {
    work.cancelTimer();
    work.isWantedAgain = false;
    work.running?.ending.abort();
    await work.running?.ended;
  }

  #setTimer(work: Work): void {
    work.cancelTimer();
    const { clock } = this.#needs;
    const now = clock.now();
    // A clock that was put back must not hold it up.
    work.dueAt = Math.min(work.dueAt, now + work.waitMs);
    const left = Math.max(0, work.dueAt - now);
    work.cancelTimer = clock.after(Math.min(left, TIMER_MS_MAX), () => {
      if (clock.now() >= work.dueAt) this.#begin(work);
      else this.#setTimer(work);
    });
  }

  #begin(work: Work): void {
    const { id } = work.feed;
    if (this.#isStopped || work.running !== undefined || this.#work.get(id) !== work) return;
    work.cancelTimer();
    const feed = this.#needs.store.feeds.all().find((each) => each.id === id);
    if (feed === undefined) {
      this.#work.delete(id); // it went with its volume
      return;
    }
    work.feed = feed; // its volume may have another name
    const ending = new AbortController();
    const ended = this.#run(work, ending.signal).finally(() => {
      work.running = undefined;
      const isOver = this.#isStopped || work.feed.isPaused || this.#work.get(work.feed.id) !== work;
      if (isOver) return;
      if (work.isWantedAgain) work.dueAt = this.#needs.clock.now();
      work.isWantedAgain = false;
      this.#setTimer(work);
    });
    work.running = { ending, ended };
  }

  async #run(work: Work, signal: AbortSignal): Promise<void> {
    const { clock, chance, logger } = this.#needs;
    const { id, address } = work.feed;
    const startedAt = clock.now();
    const { error: before } = work.progress;
    work.progress = { ...work.progress, state: 'connecting', doneBytes: 0, totalBytes: null };
    try {
      await this.#session(work, signal);
      work.failures = 0;
      work.progress = { ...work.progress, state: 'idle', error: null, currentAt: startedAt };
      work.waitMs = work.feed.everyMs;
      work.dueAt = startedAt + work.waitMs;
    } catch (error) {
      if (!(error instanceof StoreError)) throw error;
      if (signal.aborted) {
        work.progress = { ...work.progress, state: 'idle' };
        return;
      }
      work.failures += 1;
      work.progress = { ...work.progress, state: 'failing', error: error.message };
      work.waitMs = waitMs(work.failures, chance());
      work.dueAt = clock.now() + work.waitMs;
      const fields = { feed: id, address, code: error.code, failures: work.failures };
      // Told once, not every few minutes.
      if (before === error.message) logger.debug(fields, error.message);
      else logger.warn(fields, `replication: ${error.message}`);
    }
  }

  async #session(work: Work, signal: AbortSignal): Promise<void> {
    const { clock, dial } = this.#needs;
    const { feed } = work;
    const socket = await dial(feed.address, signal);
    const channel = new Channel(socket, clock, whyGone(socket));
    const cut = (): void => channel.destroy();
    signal.addEventListener('abort', cut);
    if (signal.aborted) cut();
    try {
      await this.#talk(work, channel);
      await channel.end();
    } catch (error) {
      if (error instanceof StoreError && !signal.aborted) await channel.refuse(error);
      throw error;
    } finally {
      signal.removeEventListener('abort', cut);
      channel.destroy();
    }
  }

  async #talk(work: Work, channel: Channel): Promise<void> {
    const { store, clock } = this.#needs;
    const { feed } = work;
    const { id, volume, peerVolume: as, rate, snapshots } = feed;
    const now = (): number => clock.now();
    const own = store.feeds.storeUuid;
    const arrived = (success: FeedSuccess): Promise<void> => this.#arrived(work, success);
    const tell = (state: FeedProgress['state'], doneBytes: number, totalBytes: number): void => {
      work.progress = { ...work.progress, state, doneBytes, totalBytes };
    };
    if (feed.direction === 'push') {
      await greet(channel, own, { role: 'push' });
      const sending = (done: number, total: number): void => tell('sending', done, total);
      const what = {
        volume,
        as,
        owner: feedOwner(id),
        rate,
        snapshots,
        reason: `the newest that ${feed.address} has too`,
        refused: work.made,
      };
      const sender = new Sender(store, channel, what, { sending, arrived }, now);
      try {
        await sender.run();
      } finally {
        work.made = sender.made ?? work.made;
      }
      return;
    }
    const peer = await greet(channel, own, { role: 'pull', volume: as, as: volume, id, rate, snapshots });
    const receiving = (done: number, total: number): void => tell('receiving', done, total);
    await new Receiver(store, channel, { peer, as: volume }, { receiving, arrived }, now).run();
  }

  async #arrived({ feed, progress }: Work, success: FeedSuccess): Promise<void> {
    const { store, logger } = this.#needs;
    const last = store.feeds.all().find(({ id }) => id === feed.id)?.last;
    const isNew = last?.snapshot !== success.snapshot;
    if (isNew) {
      const { name: snapshot, bytes } = success;
      logger.info({ feed: feed.id, snapshot, bytes, state: progress.state }, 'replicated');
    }
    // What was there already does not make the bytes of before untrue.
    const bytes = isNew ? success.bytes : (last?.bytes ?? 0);
    if (isNew || success.at - (last?.at ?? 0) >= SAME_SUCCESS_MS)
      await store.feeds.succeeded(feed.id, { ...success, bytes });
  }
}
