/** When feeds run: on a clock that a test moves. */

import { Duplex, PassThrough } from 'node:stream';
import { afterEach, describe, expect, it } from 'vitest';
import { StoreError } from '../../src/base/errors.ts';
import { waitMs } from '../../src/replication/back-off.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { pause } from '../support/programs.ts';
import { Site } from './site.ts';

const sites: Site[] = [];
afterEach(async () => {
  for (const each of sites.splice(0)) await each.remove();
});

describe('what failed', () => {
  it('is tried again after one second, and then after ever longer times, up to five minutes', () => {
    const full = Array.from({ length: 12 }, (_, i) => waitMs(i + 1, 1));
    expect(full).toEqual([
      1000, 2000, 4000, 8000, 16_000, 32_000, 64_000, 128_000, 256_000, 300_000, 300_000, 300_000,
    ]);
    for (let failures = 1; failures < 2000; failures++) {
      const [least, most] = [waitMs(failures, 0), waitMs(failures, 1)];
      expect(least).toBeGreaterThanOrEqual(Math.max(1000, most / 2));
      expect(waitMs(failures, 0.5)).toBeGreaterThanOrEqual(least);
    }
  });
});

interface Observed {
  site: Site;
  clock: ManualClock;
  /** When connections were made, in seconds from the start. */
  at: number[];
  putBack: (ms: number) => void;
}

describe('a feed', () => {
  /** A site whose connections do what is said, and the times at which they were made, in seconds from the start. */
  async function observed(connect: () => Promise<Duplex>): Promise<Observed> {
    const clock = new ManualClock();
    const begun = clock.now();
    const at: number[] = [];
    const dial = (): Promise<Duplex> => {
      at.push((clock.now() - begun) / 1000);
      return connect();
    };
    let backMs = 0;
    const putBack = (ms: number): void => void (backMs = ms);
    // Timers do not care what time it is.
    const wall = { now: () => clock.now() - backMs, after: clock.after.bind(clock) };
    const site = await Site.make({ clock: wall, dial, chance: () => 1 });
    sites.push(site);
    await site.store.createVolume('disk', 1 << 20);
    return { site, clock, at, putBack };
  }

  async function pass(clock: ManualClock, seconds: number): Promise<void> {
    for (let left = seconds; left > 0; left--) {
      clock.advance(1000);
      await pause(0);
    }
  }

  const refused = async (): Promise<never> => {
    throw new StoreError('IO', 'nobody listens');
  };

  it('that fails waits longer each time, and says so', async () => {
    const { site, clock, at } = await observed(refused);
    const id = await site.push('disk', site, { everyMs: 5000 });
    await pass(clock, 40);
    expect(at).toEqual([1, 2, 4, 8, 16, 32].map((each) => at[0]! + each - 1));
    const feed = site.store.feeds.show(id);
    expect(feed).toMatchObject({ state: 'failing', error: 'nobody listens', last: null, lagMs: null });
    // Who asks for it does not wait.
    const before = at.length;
    site.store.feeds.run(id);
    await pause(1);
    expect(at.length).toBe(before + 1);
  });

  it('that is paused does nothing, and goes on when it is resumed', async () => {
    const { site, clock, at } = await observed(refused);
    const id = await site.push('disk', site, { everyMs: 5000 });
    await site.store.feeds.pause(id, true);
    await pass(clock, 100);
    expect(at).toEqual([]);
    expect(site.store.feeds.show(id).state).toBe('paused');
    await site.store.feeds.pause(id, false);
    await pass(clock, 2);
    expect(at.length).toBeGreaterThan(0);
  });

  it('does not wait for a clock that was put back', async () => {
    const { site, clock, at, putBack } = await observed(refused);
    await site.push('disk', site, { everyMs: 5000 });
    await pass(clock, 20);
    const before = at.length;
    putBack(86_400_000);
    await pass(clock, 400);
    expect(at.length).toBeGreaterThan(before);
  });

  it('that is removed while it connects is not heard of again', async () => {
    const { site, clock, at } = await observed(() => new Promise(() => undefined));
    const id = await site.push('disk', site, { everyMs: 5000 });
    await pass(clock, 2);
    expect(at.length).toBe(1);
    await site.store.feeds.remove(id);
    await pass(clock, 100);
    expect(at.length).toBe(1);
    expect(site.store.feeds.list()).toEqual([]);
  });

  it('whose other end says back what it is told fails', async () => {
    const { site, clock } = await observed(async () => new PassThrough());
    const id = await site.push('disk', site, { everyMs: 5000 });
    await pass(clock, 2);
    await pause(5);
    expect(site.store.feeds.show(id)).toMatchObject({ state: 'failing' });
  });

  it('whose other end says nothing fails after half a minute', async () => {
    const silent = (): Duplex =>
      new Duplex({ read: () => undefined, write: (_bytes, _encoding, done) => done() });
    const { site, clock } = await observed(async () => silent());
    const id = await site.push('disk', site, { everyMs: 5000 });
    await pass(clock, 29);
    expect(site.store.feeds.show(id).state).toBe('connecting');
    await pass(clock, 2);
    expect(site.store.feeds.show(id)).toMatchObject({
      error: expect.stringContaining('nothing for 30') as string,
    });
  });
});
