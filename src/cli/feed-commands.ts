/** What is replicated, as commands: added, listed, paused, ended. Whether it can be is for the store to say. */

import type { Door } from '../server/door.ts';
import type { FeedRequest } from '../volume/feed-changes.ts';
import type { FeedSummary } from '../volume/summary.ts';
import type { Output } from './output.ts';
import { formatSize } from './size.ts';
import { formatAge, formatSpan } from './span.ts';
import { drawTable } from './table.ts';

export async function addFeed(door: Door, output: Output, request: FeedRequest): Promise<void> {
  const feed = await door.feeds.add(request);
  output.print(feed, () => `${feed.id}: ${wayOf(feed)} every ${formatSpan(feed.everyMs)}\n`);
}

export async function listFeeds(
  door: Door,
  output: Output,
  direction: FeedSummary['direction'],
  now: number,
): Promise<void> {
  const feeds = (await door.feeds.list()).filter((feed) => feed.direction === direction);
  output.print(feeds, () => {
    if (feeds.length === 0)
      return direction === 'push'
        ? 'no target; add one with: coppice target add VOLUME HOST:PORT --every 5m\n'
        : 'no source; add one with: coppice source add NAME HOST:PORT VOLUME --every 5m\n';
    const rows = feeds.map((feed) => [
      feed.id,
      wayOf(feed),
      formatSpan(feed.everyMs),
      stateOf(feed),
      feed.lagMs === null ? '-' : formatAge(feed.lagMs),
      feed.last === null ? 'never' : `${feed.last.name}, ${formatSize(feed.last.bytes)}`,
      feed.next === null ? '-' : formatAge(Math.max(0, Date.parse(feed.next) - now)),
    ]);
    const errors = feeds.filter(({ error }) => error !== null).map(({ id, error }) => `${id}: ${error}\n`);
    return drawTable(['ID', 'WAY', 'EVERY', 'STATE', 'LAG', 'LAST', 'NEXT IN'], rows) + errors.join('');
  });
}

/** One of them: targets and sources have ids of one list, and a command is for its own direction. */
export interface NamedFeed {
  readonly id: string;
  readonly direction: FeedSummary['direction'];
}

export async function removeFeed(door: Door, output: Output, { id, direction }: NamedFeed): Promise<void> {
  await door.feeds.remove(id, direction);
  output.print({ id, removed: true }, () => `${id} is removed; what was replicated stays\n`);
}

export async function pauseFeed(
  door: Door,
  output: Output,
  { id, direction }: NamedFeed,
  isPaused: boolean,
): Promise<void> {
  const feed = await door.feeds.pause(id, isPaused, direction);
  output.print(feed, () => (isPaused ? `${id} is paused\n` : `${id} goes on\n`));
}

export async function runFeed(door: Door, output: Output, { id, direction }: NamedFeed): Promise<void> {
  const feed = await door.feeds.run(id, direction);
  output.print(feed, () => `${id}: ${stateOf(feed)}\n`);
}

function wayOf({ direction, volume, peerVolume, address }: FeedSummary): string {
  return direction === 'push'
    ? `${volume} to ${peerVolume} at ${address}`
    : `${volume} from ${peerVolume} at ${address}`;
}

/** In a word, and how far where it is under way. */
export function stateOf({ state, doneBytes, totalBytes }: FeedSummary): string {
  if (totalBytes === null || (state !== 'sending' && state !== 'receiving')) return state;
  return `${state}, ${formatSize(Math.max(0, totalBytes - doneBytes))} to go`;
}

/** For `status`: one line each. */
export function feedRows(feeds: readonly FeedSummary[]): [string, string][] {
  return feeds.map((feed) => {
    const lag = feed.lagMs === null ? 'nothing has arrived yet' : `${formatAge(feed.lagMs)} behind`;
    const error = feed.error === null ? '' : `: ${feed.error}`;
    return [
      feed.direction === 'push' ? 'target' : 'source',
      `${feed.id}: ${wayOf(feed)}, ${lag}, ${stateOf(feed)}${error}`,
    ];
  });
}
