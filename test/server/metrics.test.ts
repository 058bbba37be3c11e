/** What a status is as metrics: the text is read back by a parser of its own, line by line. */

import { describe, expect, it } from 'vitest';
import { renderMetrics } from '../../src/server/metrics.ts';
import type { FeedSummary, StoreStatus } from '../../src/volume/summary.ts';
import { MemoryStore } from './memory-store.ts';
import { samplesOf } from './samples.ts';

const FEED: FeedSummary = {
  id: 'disk-1',
  direction: 'push',
  volume: 'disk',
  peerVolume: 'copy',
  address: 'host-b:10900',
  everyMs: 300_000,
  rate: null,
  snapshots: 'made',
  state: 'idle',
  last: {
    at: '2020-01-01T00:00:01.500Z',
    snapshot: '00000000-0000-4000-8000-0000000000dd',
    name: 'repl-20200101T000000Z',
    created: '2020-01-01T00:00:00.000Z',
    bytes: 8192,
  },
  lagMs: 61_500,
  doneBytes: 0,
  totalBytes: null,
  error: null,
  next: '2020-01-01T00:05:00.000Z',
  holding: null,
};
const LABELS = 'feed="disk-1",direction="push",volume="disk",peer="host-b:10900"';

async function samples(changes: Partial<StoreStatus> = {}): Promise<Map<string, number>> {
  return samplesOf(await renderMetrics({ ...(await new MemoryStore().status()), ...changes }));
}

describe('the metrics of a store', () => {
  it('are the numbers of its status', async () => {
    const compaction = {
      state: 'working',
      rounds: 3,
      movedBytes: 10,
      writtenBytes: 20,
      freedBytes: 30,
    } as const;
    const told = await samples({
      volumes: 2,
      snapshots: 5,
      deleting: 1,
      capacityBytes: 2 ** 40,
      logBytes: 4096,
      liveBytes: 1024,
      room: { state: 'enough', freeBytes: 2 ** 30 },
      compaction,
      damage: [{ severity: 'damage', code: 'CHUNK_DAMAGED', message: 'one' }],
    });
    expect(Object.fromEntries(told)).toEqual({
      'coppice_store_state{state="open"}': 1,
      'coppice_store_state{state="poisoned"}': 0,
      'coppice_store_state{state="read-only"}': 0,
      coppice_damage_findings: 1,
      coppice_volumes: 2,
      coppice_snapshots: 5,
      coppice_deleting_versions: 1,
      coppice_free_bytes: 2 ** 30,
      coppice_used_bytes: 4096,
      coppice_live_bytes: 1024,
      coppice_capacity_bytes: 2 ** 40,
      'coppice_room_state{state="enough"}': 1,
      'coppice_room_state{state="low"}': 0,
      'coppice_room_state{state="full"}': 0,
      'coppice_compaction_state{state="idle"}': 0,
      'coppice_compaction_state{state="working"}': 1,
      'coppice_compaction_state{state="paused"}': 0,
      'coppice_compaction_state{state="failing"}': 0,
      coppice_compaction_rounds_total: 3,
      coppice_compaction_moved_bytes_total: 10,
      coppice_compaction_written_bytes_total: 20,
      coppice_compaction_freed_bytes_total: 30,
    });
  });

  it.each(['enough', 'low', 'full'] as const)('say that its room is %s, and nothing else', async (state) => {
    const told = await samples({ room: { state, freeBytes: 0 } });
    const states = ['enough', 'low', 'full'].map((each) => told.get(`coppice_room_state{state="${each}"}`));
    expect(states).toEqual(['enough', 'low', 'full'].map((each) => (each === state ? 1 : 0)));
  });

  it('say nothing of a capacity that nobody has set', async () => {
    expect((await samples({ capacityBytes: null })).has('coppice_capacity_bytes')).toBe(false);
  });

  it('are made anew each time: what is gone from the status is gone from them', async () => {
    expect([...(await samples({ feeds: [FEED] })).keys()].some((name) => name.includes('disk-1'))).toBe(true);
    expect([...(await samples()).keys()].some((name) => name.includes('disk-1'))).toBe(false);
  });
});

describe('the metrics of a feed', () => {
  it('tell lag, last success, bytes and when it goes on, in seconds and bytes', async () => {
    const told = await samples({ feeds: [FEED] });
    const of = (name: string): number | undefined => told.get(`coppice_feed_${name}{${LABELS}}`);
    expect(of('lag_seconds')).toBe(61.5);
    expect(of('last_success_timestamp_seconds')).toBe(1_577_836_801.5);
    expect(of('last_bytes')).toBe(8192);
    expect(of('next_run_timestamp_seconds')).toBe(1_577_837_100);
    expect(of('failing')).toBe(0);
  });

  it('say nothing where nothing has arrived yet, and no run is planned', async () => {
    const told = await samples({ feeds: [{ ...FEED, last: null, lagMs: null, next: null }] });
    const unlabelled = [...told.keys()].map((name) => name.split('{')[0]);
    for (const name of [
      'lag_seconds',
      'last_success_timestamp_seconds',
      'last_bytes',
      'next_run_timestamp_seconds',
    ])
      expect(unlabelled).not.toContain(`coppice_feed_${name}`);
    expect(told.get(`coppice_feed_failing{${LABELS}}`)).toBe(0);
  });

  it('say that the last run failed, also while the next one is under way, but not why', async () => {
    const feed: FeedSummary = { ...FEED, state: 'connecting', error: 'connect ECONNREFUSED host-b' };
    const text = await renderMetrics({ ...(await new MemoryStore().status()), feeds: [feed] });
    const told = samplesOf(text);
    expect(told.get(`coppice_feed_failing{${LABELS}}`)).toBe(1);
    expect(text).not.toContain('ECONNREFUSED');
    const states = [...told].filter(([name]) => name.startsWith('coppice_feed_state{'));
    expect(states).toHaveLength(6);
    expect(states.filter(([, value]) => value !== 0)).toEqual([
      [`coppice_feed_state{${LABELS},state="connecting"}`, 1],
    ]);
  });

  it('keep several apart, whatever their addresses hold', async () => {
    const path = '/run/a "quoted" \\ path\nof two lines';
    const second: FeedSummary = { ...FEED, id: 'disk-2', direction: 'pull', address: path, lagMs: 1000 };
    const told = await samples({ feeds: [FEED, second] });
    const labels =
      'feed="disk-2",direction="pull",volume="disk",peer="/run/a \\"quoted\\" \\\\ path\\nof two lines"';
    expect(told.get(`coppice_feed_lag_seconds{${labels}}`)).toBe(1);
    expect(told.get(`coppice_feed_lag_seconds{${LABELS}}`)).toBe(61.5);
  });
});
