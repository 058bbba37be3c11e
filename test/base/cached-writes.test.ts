/** Writes on the event loop: what is taken at once, and when that stops. */

import { describe, expect, it } from 'vitest';
import { NodeStorage } from '../../src/base/node-storage.ts';
import { WritePace } from '../../src/base/write-pace.ts';
import { scratchDirectory } from '../support/stores.ts';

describe('a write to the page cache', () => {
  it('is done when the call returns, from any number of buffers', async () => {
    const storage = new NodeStorage(scratchDirectory());
    const file = await storage.open('file', 'create');
    const buffers = Array.from({ length: 3000 }, (_, i) => Buffer.from([i % 251]));
    expect(file.writeCached(buffers, 100)).toBe(true);
    const found = Buffer.alloc(3000);
    expect(await file.read(found, 0, 3000, 100)).toBe(3000);
    expect(found.equals(Buffer.concat(buffers))).toBe(true);
    await file.close();
  });

  it('is left to the thread pool when it is long, and nothing is written', async () => {
    const storage = new NodeStorage(scratchDirectory());
    const file = await storage.open('file', 'create');
    expect(file.writeCached([Buffer.alloc((256 << 10) + 1)], 0)).toBe(false);
    expect(await file.sizeBytes()).toBe(0);
    await file.close();
  });

  it('fails with a code, like the long way', async () => {
    const storage = new NodeStorage(scratchDirectory());
    await (await storage.open('file', 'create')).close();
    const file = await storage.open('file', 'read');
    expect(() => file.writeCached([Buffer.alloc(10)], 0)).toThrow(
      expect.objectContaining({ code: 'IO' }) as Error,
    );
    await file.close();
  });
});

describe('the pace of writes', () => {
  it('is prompt until a write is slow, then not for a tenth of a second', () => {
    const pace = new WritePace();
    pace.note(0, 4);
    expect(pace.isPrompt(4)).toBe(true);
    pace.note(10, 15);
    expect(pace.isPrompt(16)).toBe(false);
    expect(pace.isPrompt(114)).toBe(false);
    expect(pace.isPrompt(115)).toBe(true);
  });

  it('is given up for longer each time that the next write is slow again, up to a minute', () => {
    const pace = new WritePace();
    let now = 0;
    const pauses: number[] = [];
    for (let i = 0; i < 12; i++) {
      pace.note(now, now + 20);
      const from = now + 20;
      while (!pace.isPrompt(now)) now += 10;
      pauses.push(now - from);
    }
    expect(pauses).toEqual([100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 51_200, 60_000, 60_000]);
  });

  it('forgets what was long ago', () => {
    const pace = new WritePace();
    pace.note(0, 10);
    pace.note(110, 120);
    pace.note(100_000, 100_010);
    expect(pace.isPrompt(100_110)).toBe(true);
  });
});
