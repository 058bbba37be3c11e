/**
 * What a store tells about itself, as metrics in the text format of Prometheus. Pure: a status in, a text out.
 *
 * Invariants:
 * - what is not known has no sample: a zero would be an answer;
 * - of a state each value that it can have has a sample, 1 for the one that it has, so that an alert need not know the others;
 * - texts of errors stay in `status`: each would be a series of its own, for ever.
 */

import { Counter, Gauge, Registry } from 'prom-client';
import type { FeedSummary, StoreStatus } from '../volume/summary.ts';

export const METRICS_CONTENT_TYPE = Registry.PROMETHEUS_CONTENT_TYPE;

/** All that a state can be; one that is missing here does not compile. */
type States<T extends string> = Record<T, true>;

const STORE_STATES: States<StoreStatus['state']> = { open: true, poisoned: true, 'read-only': true };
const ROOM_STATES: States<StoreStatus['room']['state']> = { enough: true, low: true, full: true };
const COMPACTION_STATES: States<StoreStatus['compaction']['state']> = {
  idle: true,
  working: true,
  paused: true,
  failing: true,
};
const FEED_STATES: States<FeedSummary['state']> = {
  idle: true,
  connecting: true,
  sending: true,
  receiving: true,
  failing: true,
  paused: true,
};

const FEED_LABELS = ['feed', 'direction', 'volume', 'peer'] as const;

export async function renderMetrics(status: StoreStatus): Promise<string> {
  const sheet = new Sheet();
  addStore(sheet, status);
  addCompaction(sheet, status.compaction);
  addFeeds(sheet, status.feeds);
  return await sheet.text();
}

function addStore(sheet: Sheet, status: StoreStatus): void {
  const { room } = status;
  sheet.state('coppice_store_state', 'Whether the store is written.', STORE_STATES, status.state);
  sheet.gauge('coppice_damage_findings', 'Damage that was found when it was opened.', status.damage.length);
  sheet.gauge('coppice_volumes', 'Volumes that there are.', status.volumes);
  sheet.gauge('coppice_snapshots', 'Snapshots that there are.', status.snapshots);
  sheet.gauge(
    'coppice_deleting_versions',
    'Deleted versions whose space is still being given back.',
    status.deleting,
  );
  sheet.gauge('coppice_free_bytes', 'Bytes that the log may still take.', room.freeBytes);
  sheet.gauge('coppice_used_bytes', 'Bytes of the log.', status.logBytes);
  sheet.gauge(
    'coppice_live_bytes',
    'Bytes of chunks that some version reads, at the last checkpoint.',
    status.liveBytes,
  );
  sheet.gauge(
    'coppice_capacity_bytes',
    'The most that the store may take up; none if that is the file system.',
    status.capacityBytes,
  );
  sheet.state(
    'coppice_room_state',
    'Whether there is room: writes of a full store get no space.',
    ROOM_STATES,
    room.state,
  );
}

function addCompaction(sheet: Sheet, compaction: StoreStatus['compaction']): void {
  const { state, rounds, movedBytes, writtenBytes, freedBytes } = compaction;
  sheet.state('coppice_compaction_state', 'What compaction does.', COMPACTION_STATES, state);
  sheet.counter('coppice_compaction_rounds_total', 'Rounds since the store was opened.', rounds);
  sheet.counter('coppice_compaction_moved_bytes_total', 'Bytes of chunks that it copied.', movedBytes);
  sheet.counter('coppice_compaction_written_bytes_total', 'Bytes that it wrote for that.', writtenBytes);
  sheet.counter('coppice_compaction_freed_bytes_total', 'Bytes that it gave back.', freedBytes);
}

function addFeeds(sheet: Sheet, feeds: readonly FeedSummary[]): void {
  const add = (name: string, help: string, valueOf: (feed: FeedSummary) => number | null): void =>
    sheet.gaugeOfFeeds(`coppice_feed_${name}`, help, feeds, valueOf);
  add('lag_seconds', 'Time since the replica was known to have all that there was.', ({ lagMs }) =>
    lagMs === null ? null : lagMs / 1000,
  );
  add(
    'last_success_timestamp_seconds',
    'When a run last brought a snapshot, or found that the newest was there.',
    ({ last }) => secondsOf(last?.at),
  );
  add('last_bytes', 'Bytes of the disk that this run brought.', ({ last }) => last?.bytes ?? null);
  add('failing', 'Whether the last run failed: status says why.', ({ error }) => (error === null ? 0 : 1));
  add('next_run_timestamp_seconds', 'When the next run begins.', ({ next }) => secondsOf(next));
  sheet.stateOfFeeds('coppice_feed_state', 'What is done for it.', feeds);
}

/** Of a time in ISO 8601. */
function secondsOf(time: string | null | undefined): number | null {
  return time === null || time === undefined ? null : Date.parse(time) / 1000;
}

function labelsOf({ id, direction, volume, address }: FeedSummary): Record<string, string> {
  return { feed: id, direction, volume, peer: address };
}

/** Metrics that are made for one text: a registry that lived longer would go on to tell of feeds that are gone. */
class Sheet {
  readonly #registry = new Registry();

  async text(): Promise<string> {
    return await this.#registry.metrics();
  }

  gauge(name: string, help: string, value: number | null): void {
    if (value !== null) this.#add(name, help, []).set(value);
  }

  counter(name: string, help: string, value: number): void {
    new Counter({ name, help, registers: [this.#registry] }).inc(value);
  }

  state<T extends string>(name: string, help: string, states: States<T>, now: T): void {
    this.#setStates(this.#add(name, help, ['state']), {}, states, now);
  }

  gaugeOfFeeds(
    name: string,
    help: string,
    feeds: readonly FeedSummary[],
    valueOf: (feed: FeedSummary) => number | null,
  ): void {
    const gauge = this.#add(name, help, FEED_LABELS);
    for (const feed of feeds) {
      const value = valueOf(feed);
      if (value !== null) gauge.set(labelsOf(feed), value);
    }
  }

  stateOfFeeds(name: string, help: string, feeds: readonly FeedSummary[]): void {
    const gauge = this.#add(name, help, [...FEED_LABELS, 'state']);
    for (const feed of feeds) this.#setStates(gauge, labelsOf(feed), FEED_STATES, feed.state);
  }

  #add(name: string, help: string, labelNames: readonly string[]): Gauge {
    return new Gauge({ name, help, labelNames, registers: [this.#registry] });
  }

  #setStates<T extends string>(
    gauge: Gauge,
    labels: Record<string, string>,
    states: States<T>,
    now: T,
  ): void {
    for (const state of Object.keys(states)) gauge.set({ ...labels, state }, state === now ? 1 : 0);
  }
}
