/** A scrub through both doors: what it is told, and that it ends where nobody waits for it any more. */

import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { StoreError } from '../../src/base/errors.ts';
import type { Door } from '../../src/server/door.ts';
import { collect, DOORS, refusal } from './both-doors.ts';
import { MemoryStore } from './memory-store.ts';

/** So slow that the store in memory waits for its end. */
const ENDLESS = { bytesPerSecond: 1 };

describe.each(DOORS)('a scrub through %s', (kind, open) => {
  let store: MemoryStore;
  let door: Door;
  let end: () => Promise<void>;

  beforeEach(async () => {
    store = new MemoryStore();
    ({ door, end } = await open(store));
  });
  afterEach(async () => await end());

  it('tells each step and what was found, at the rate that is asked for', async () => {
    store.findings = [{ severity: 'damage', code: 'CHUNK_DAMAGED', message: 'a chunk' }];
    expect(await collect(door.scrub({ bytesPerSecond: 4096 }))).toEqual([
      { readBytes: 0, totalBytes: 8192, findings: store.findings },
      { readBytes: 8192, totalBytes: 8192, findings: [] },
    ]);
    await collect(door.scrub({ bytesPerSecond: undefined }));
    const rates = store.calls.map(([, options]) => (options as { bytesPerSecond?: number }).bytesPerSecond);
    expect(rates).toEqual([4096, undefined]);
    expect(store.scrubEnd).toBe('whole');
  });

  it('hands on what it is refused with', async () => {
    store.failure = new StoreError('IN_USE', 'one is running');
    expect(await refusal(collect(door.scrub(ENDLESS)))).toMatchObject({
      code: 'IN_USE',
      message: 'one is running',
    });
  });

  it('ends everywhere with the reason that it is ended with', async () => {
    const ending = new AbortController();
    const steps = door.scrub(ENDLESS, ending.signal);
    await steps.next();
    const next = steps.next();
    setTimeout(() => ending.abort(new Error('enough')), 30);
    await expect(next).rejects.toThrow('enough');
    await vi.waitFor(() => expect(store.scrubEnd).toBe('stopped'));
    await expect(door.scrub(ENDLESS, ending.signal).next()).rejects.toThrow('enough');
  });

  it('ends at the server too when nobody reads on', async () => {
    if (kind !== 'a control client') return; // here it is the generator itself that is left
    const steps = door.scrub(ENDLESS);
    await steps.next();
    await steps.return(undefined);
    await vi.waitFor(() => expect(store.scrubEnd).toBe('stopped'));
  });
});
