/** What the store in memory tells of receives, schedules and feeds. */

import { StoreError } from '../../src/base/errors.ts';
import type { PruneDecision, ReceiveSummary, ScheduleSummary } from '../../src/volume/summary.ts';

export const RECEIVE: ReceiveSummary = {
  receive: '00000000-0000-4000-8000-0000000000aa',
  name: 'disk@received',
  target: '00000000-0000-4000-8000-0000000000bb',
  base: null,
  size: 4096,
  position: 512,
  began: '2020-01-01T00:00:00.000Z',
  token: '00000000-0000-4000-8000-0000000000bb:nothing:512',
  volumeGone: false,
};

export const SCHEDULE: ScheduleSummary = {
  volume: 'disk',
  uuid: '00000000-0000-4000-8000-0000000000cc',
  timeZone: 'Europe/Berlin',
  rules: [{ name: 'daily', cron: '0 0 * * *', keep: 7 }],
  hookBefore: 'freeze',
  hookAfter: null,
  since: '2020-01-01T00:00:00.000Z',
  replica: false,
  last: 'disk@auto-20200101T230000Z',
  nextDue: '2020-01-02T23:00:00.000Z',
  error: null,
};

export const DECISION: PruneDecision = {
  volume: 'disk',
  snapshot: 'disk@auto-20200101T230000Z',
  created: '2020-01-01T23:00:00.000Z',
  verdict: 'kept',
  why: ['daily, up to 2020-01-02T23:00:00.000Z'],
};

async function refuse(): Promise<never> {
  throw new StoreError('NOT_FOUND', 'there is no target in memory');
}

export const NO_FEEDS = { list: () => [], add: refuse, remove: refuse, pause: refuse, run: refuse };
