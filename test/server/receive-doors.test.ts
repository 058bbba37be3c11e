/** A receive, and ranges read at once: what goes through a door passes unchanged, over both. */

import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { StoreError } from '../../src/base/errors.ts';
import { RUNS_MAX } from '../../src/server/door.ts';
import type { Door } from '../../src/server/door.ts';
import { bodyOf, headOf } from '../delta/streams.ts';
import { DOORS, refusal } from './both-doors.ts';
import { MemoryStore } from './memory-store.ts';
import { RECEIVE } from './summaries.ts';

describe.each(DOORS)('%s', (_kind, open) => {
  let store: MemoryStore;
  let door: Door;
  let end: () => Promise<void>;

  beforeEach(async () => {
    store = new MemoryStore();
    ({ door, end } = await open(store));
    await door.create('disk', 1 << 20);
  });
  afterEach(async () => await end());

  it('carries a receive from its head to its name', async () => {
    const head = headOf(8192, headOf(4096).target);
    const body = bodyOf([{ offset: 512, bytes: Buffer.alloc(70_144, 7) }]);
    const begun = await door.receives.begin(head, 'disk@received');
    expect(begun).toEqual({ state: 'begun', session: 'session', position: 512 });
    await door.receives.apply('session', body);
    await door.receives.advance('session', 4096);
    expect(await door.receives.publish('session')).toBe('disk@received');
    await door.receives.abort(RECEIVE.receive);
    expect(await door.receives.list()).toEqual([RECEIVE]);
    expect(store.calls).toEqual([
      ['begin', head, 'disk@received'],
      ['apply', 'session', body.toString('hex')],
      ['advance', 'session', 4096],
      ['publish', 'session'],
      ['abort', RECEIVE.receive],
    ]);
  });

  it('answers what a receive is refused with', async () => {
    store.failure = new StoreError('WRONG_BASE', 'the stream builds on nothing');
    const refused = await refusal(door.receives.begin(headOf(4096), 'disk'));
    expect([refused.code, refused.message]).toEqual(['WRONG_BASE', 'the stream builds on nothing']);
    store.failure = new StoreError('NO_SPACE', 'it is full');
    expect((await refusal(door.receives.apply('session', Buffer.alloc(100)))).code).toBe('NO_SPACE');
  });

  it('reads many ranges at once, and refuses those outside the disk and too many', async () => {
    const disk = await door.disk('disk');
    await disk.write(4096, [Buffer.alloc(4096, 1)]);
    await disk.write(12_288, [Buffer.alloc(4096, 2)]);
    const bytes = await disk.readRuns([
      [4096, 512],
      [8192, 512],
      [12_288, 1024],
    ]);
    expect(bytes).toEqual(Buffer.concat([Buffer.alloc(512, 1), Buffer.alloc(512), Buffer.alloc(1024, 2)]));
    expect(await disk.readRuns([])).toEqual(Buffer.alloc(0));
    expect((await refusal(disk.readRuns([[1 << 20, 512]]))).code).toBe('INVALID_ARGUMENT');
    const many = Array.from({ length: RUNS_MAX + 1 }, () => [0, 0] as const);
    expect((await refusal(disk.readRuns(many))).code).toBe('INVALID_ARGUMENT');
    disk.release();
  });
});
