/**
 * Changes of what is to be replicated, and what a feed does with snapshots: it makes some, and holds the newest that both ends
 * have. Who does the work (`FeedRunner`) is told of each change, and says how far it is.
 *
 * Invariants: a hold goes on before the one that it supersedes is released, so that both ends have one in common at any
 * moment; a feed that was ended holds nothing.
 */

import type { Clock } from '../base/clock.ts';
import { StoreError } from '../base/errors.ts';
import { type Catalog, fullName, type Snapshot, type Volume } from './catalog.ts';
import type { ChangeWriter } from './change-writer.ts';
import { type Feed, feedOwner, feedProblem, FEEDS_MAX, type FeedSuccess, type FeedTerms } from './feeds.ts';
import type { IndexKeeper } from './index-keeper.ts';
import { isoTime, summarize } from './listing.ts';
import type { FeedProgress, FeedSummary, VersionSummary } from './summary.ts';
import { HOLDS_MAX } from './version-changes.ts';

/** As somebody asks for it: `volume` is the name of a volume here; an id is made if it is missing. */
export type FeedRequest = Omit<FeedTerms, 'id'> & { readonly id?: string | undefined };

export interface FeedRunner {
  progressOf(id: string): FeedProgress | undefined;
  /** Feeds were added, ended, paused or resumed. */
  feedsChanged(): void;
  /** A run begins now, if none is under way. */
  runNow(id: string): void;
}

export interface FeedNeeds {
  readonly catalog: Catalog;
  readonly writer: ChangeWriter;
  readonly keeper: Pick<IndexKeeper, 'hasPointers'>;
  readonly clock: Clock;
  readonly flush: () => Promise<void>;
  readonly storeUuid: string;
}

/** Of a feed that has not run. */
export const IDLE: FeedProgress = {
  state: 'idle',
  doneBytes: 0,
  totalBytes: null,
  error: null,
  currentAt: null,
  nextAt: null,
};

export class FeedChanges {
  readonly #needs: FeedNeeds;
  /** Undefined where nobody serves the store. */
  runner: FeedRunner | undefined;

  constructor(needs: FeedNeeds) {
    this.#needs = needs;
  }

  /** Of the store that this is. */
  get storeUuid(): string {
    return this.#needs.storeUuid;
  }

  /** @throws INVALID_ARGUMENT, NOT_FOUND, ALREADY_EXISTS, NO_SPACE, IO, POISONED */
  async add({ id: wanted, ...request }: FeedRequest): Promise<FeedSummary> {
    const { catalog, writer, clock } = this.#needs;
    const id = await writer.run(0, async () => {
      const feeds = catalog.feeds.all();
      if (feeds.length >= FEEDS_MAX)
        throw new StoreError('INVALID_ARGUMENT', `there are ${FEEDS_MAX} feeds already; remove one`);
      const volume = request.direction === 'push' ? this.#volume(request.volume).uuid : request.volume;
      const feed: FeedTerms = { ...request, id: wanted ?? this.#freeId(request.volume), volume };
      const problem = feedProblem(feed);
      if (problem !== undefined) throw new StoreError('INVALID_ARGUMENT', problem);
      if (catalog.feeds.get(feed.id) !== undefined)
        throw new StoreError('ALREADY_EXISTS', `there is a feed ${feed.id} already; choose another --name`);
      const isTaken = (each: Feed): boolean => each.direction === 'pull' && each.volume === volume;
      if (feed.direction === 'pull' && feeds.some(isTaken))
        throw new StoreError(
          'ALREADY_EXISTS',
          `${volume} is filled from another source already; remove that`,
        );
      await writer.append({ op: 'feed', at: clock.now(), feed });
      return feed.id;
    });
    this.runner?.feedsChanged();
    return this.show(id);
  }

  // Who says which direction is meant gets no other: ids are one list, and a target is not ended by who meant a source.

  /** What it holds is released. @throws NOT_FOUND */
  async remove(id: string, direction?: Feed['direction']): Promise<void> {
    await this.#change(id, direction, (at) => ({ op: 'feed-end', at, id }));
  }

  /** @throws NOT_FOUND */
  async pause(id: string, isPaused: boolean, direction?: Feed['direction']): Promise<FeedSummary> {
    await this.#change(id, direction, (at) => ({ op: 'feed-pause', at, id, isPaused }));
    return this.show(id);
  }

  /** @throws NOT_FOUND, INVALID_ARGUMENT where nobody serves the store */
  run(id: string, direction?: Feed['direction']): FeedSummary {
    this.#feed(id, direction);
    if (this.runner === undefined)
      throw new StoreError(
        'INVALID_ARGUMENT',
        'nobody serves this store; replication is work of the server: coppice serve',
      );
    this.runner.runNow(id);
    return this.show(id);
  }

  list(): FeedSummary[] {
    return listFeeds(this.#needs.catalog, this.#needs.clock.now(), this.runner);
  }

  /** @throws NOT_FOUND */
  show(id: string): FeedSummary {
    return summarizeFeed(this.#needs.catalog, this.#feed(id), this.#needs.clock.now(), this.runner);
  }

  /** Those that are to be worked on. */
  all(): Feed[] {
    return this.#needs.catalog.feeds.all();
  }

  // --- for who does the work ---

  /** A volume with its snapshots, oldest first; undefined if there is none of that name. */
  volumeNamed(name: string): { volume: VersionSummary; snapshots: VersionSummary[] } | undefined {
    const { catalog } = this.#needs;
    return catalog.hasVolume(name) ? this.#summaries(catalog.find(name) as Volume) : undefined;
  }

  /** The same by UUID. */
  volumeWith(uuid: string): { volume: VersionSummary; snapshots: VersionSummary[] } | undefined {
    const found = this.#needs.catalog.withUuid(uuid);
    return found === undefined || 'volume' in found ? undefined : this.#summaries(found);
  }

  #summaries(volume: Volume): { volume: VersionSummary; snapshots: VersionSummary[] } {
    const { catalog, clock } = this.#needs;
    const now = clock.now();
    const snapshots = [...volume.snapshots.values()].map((each) => summarize(catalog, each, now));
    return { volume: summarize(catalog, volume, now), snapshots };
  }

  /** Whether a volume may be other than its newest snapshot. */
  hasChanged(uuid: string): boolean {
    const { catalog, keeper } = this.#needs;
    const volume = catalog.withUuid(uuid);
    if (volume === undefined || 'volume' in volume) return false;
    const newest = [...volume.snapshots.values()].at(-1);
    const isBelow = newest !== undefined && catalog.tree.get(volume.label)!.parent === newest.label;
    return !isBelow || newest.sizeBytes !== volume.sizeBytes || keeper.hasPointers(volume.label);
  }

  /** A hold of `owner`, on the disk when this resolves. @throws NOT_FOUND, NO_SPACE, IO, POISONED */
  async hold(snapshot: string, owner: string, reason: string): Promise<void> {
    const { catalog, writer, clock, flush } = this.#needs;
    await writer.run(0, async () => {
      const found = catalog.withUuid(snapshot);
      if (found === undefined || !('volume' in found))
        throw new StoreError('NOT_FOUND', 'the snapshot was deleted meanwhile');
      if (found.holds.some((hold) => hold.owner === owner)) return;
      if (found.holds.length >= HOLDS_MAX)
        throw new StoreError(
          'INVALID_ARGUMENT',
          `${fullName(found)} has ${HOLDS_MAX} holds already; release one`,
        );
      await writer.append({ op: 'hold', at: clock.now(), snapshot, owner, reason, until: null });
    });
    await flush();
  }

  /** Ends the holds of `owner` on all snapshots of a volume but one. Requires: that one is held, and on the disk. */
  async releaseOthers(volume: string, kept: string, owner: string): Promise<void> {
    for (const { uuid } of this.volumeWith(volume)?.snapshots ?? []) {
      if (uuid !== kept) await this.#release(uuid, owner);
    }
  }

  async #release(snapshot: string, owner: string): Promise<void> {
    const { catalog, writer, clock } = this.#needs;
    const isHeld = (): boolean => {
      const found = catalog.withUuid(snapshot) as Snapshot | undefined;
      return found?.holds.some((hold) => hold.owner === owner) === true;
    };
    if (!isHeld()) return;
    await writer.run(0, async () => {
      if (isHeld()) await writer.append({ op: 'release', at: clock.now(), snapshot, owner });
    });
  }

  /** A run has come to its end. One of a feed that was removed meanwhile is forgotten. */
  async succeeded(id: string, success: FeedSuccess): Promise<void> {
    const { catalog, writer } = this.#needs;
    await writer.run(0, async () => {
      if (catalog.feeds.get(id) !== undefined) await writer.append({ op: 'feed-success', id, ...success });
    });
  }

  async #change(
    id: string,
    direction: Feed['direction'] | undefined,
    make: (at: number) => Parameters<ChangeWriter['append']>[0],
  ): Promise<void> {
    const { writer, clock } = this.#needs;
    await writer.run(0, async () => {
      this.#feed(id, direction);
      await writer.append(make(clock.now()));
    });
    this.runner?.feedsChanged();
  }

  #feed(id: string, direction?: Feed['direction']): Feed {
    const feed = this.#needs.catalog.feeds.get(id);
    if (feed !== undefined && (direction ?? feed.direction) === feed.direction) return feed;
    if (feed !== undefined) {
      const [is, isNot] = feed.direction === 'push' ? ['target', 'source'] : ['source', 'target'];
      throw new StoreError(
        'NOT_FOUND',
        `there is no ${isNot} ${JSON.stringify(id)}: that is a ${is}; \`coppice ${is}\` is for it`,
      );
    }
    throw new StoreError(
      'NOT_FOUND',
      `there is no target or source ${JSON.stringify(id.slice(0, 100))}; \`coppice target list\` and \`coppice source list\` show them`,
    );
  }

  #volume(name: string): Volume {
    const found = this.#needs.catalog.find(name);
    if (!('volume' in found)) return found;
    throw new StoreError('INVALID_ARGUMENT', `${fullName(found)} is a snapshot; name its volume`);
  }

  #freeId(name: string): string {
    const base = name.slice(0, 40);
    for (let n = 1; ; n++)
      if (this.#needs.catalog.feeds.get(`${base}-${n}`) === undefined) return `${base}-${n}`;
  }
}

/** All of them, as they are told; without a runner as they were left. */
export function listFeeds(catalog: Catalog, now: number, runner?: FeedRunner): FeedSummary[] {
  return catalog.feeds.all().map((feed) => summarizeFeed(catalog, feed, now, runner));
}

function summarizeFeed(catalog: Catalog, feed: Feed, now: number, runner?: FeedRunner): FeedSummary {
  const { id, direction, address, peerVolume, everyMs, rate, snapshots, isPaused, last } = feed;
  const volume = direction === 'push' ? catalog.withUuid(feed.volume)?.name : feed.volume;
  const { state, doneBytes, totalBytes, error, currentAt, nextAt } = runner?.progressOf(id) ?? IDLE;
  return {
    id,
    direction,
    volume: volume ?? feed.volume,
    address,
    peerVolume,
    everyMs,
    rate,
    snapshots,
    // A run that is being cut off is told of as long as it lasts.
    state: isPaused && (state === 'idle' || state === 'failing') ? 'paused' : state,
    last: last === null ? null : { ...last, at: isoTime(last.at), created: isoTime(last.created) },
    lagMs: last === null ? null : Math.max(0, now - Math.max(last.created, currentAt ?? 0)),
    doneBytes,
    totalBytes,
    error,
    next: nextAt === null || isPaused ? null : isoTime(nextAt),
    holding: heldBy(catalog, feed),
  };
}

/** The snapshot that it holds here, by its full name. */
function heldBy(catalog: Catalog, { id, direction, volume }: Feed): string | null {
  const found = direction === 'push' ? catalog.withUuid(volume) : undefined;
  if (found === undefined || 'volume' in found) return null;
  const owner = feedOwner(id);
  const held = [...found.snapshots.values()].filter(({ holds }) =>
    holds.some((hold) => hold.owner === owner),
  );
  return held.length === 0 ? null : fullName(held[0]!);
}
