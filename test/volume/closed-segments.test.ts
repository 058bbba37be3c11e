/** Segments that say by their footer where they end, so that compaction may remove what follows them. */

import { describe, expect, it } from 'vitest';
import { segmentOfName } from '../../src/log/format.ts';
import { Aged, CHUNKS } from './aged.ts';

const name = (path: string): number => segmentOfName(path.slice('log/'.length))!;

/** Writes and flushes up to the write that begins a segment; answers the one before it, whose footer nobody has synced. */
async function fillOne(aged: Aged, first: number): Promise<number> {
  const { storage, store } = aged.rig;
  await store.flush();
  for (let chunk = first; chunk < CHUNKS; chunk++) {
    const from = storage.trace.length;
    await aged.write(chunk);
    const writes = storage.trace
      .slice(from)
      .filter(({ operation, path }) => operation === 'write' && path.startsWith('log/'));
    if (writes.some(({ position }) => position === 0)) return name(writes[0]!.path);
    if (chunk - first > 180) await store.flush();
  }
  throw new Error('no segment was begun');
}

/** Empties segments of which two fifths are dead. */
async function compact({ rig }: Aged): Promise<void> {
  for await (const _ of rig.store.compact({ target: 0.6, purge: false, bytesPerSecond: undefined }));
}

describe('a segment whose footer an earlier process has left in the page cache', () => {
  it('is emptied like any other, though what followed it is gone, and its footer went with the power', async () => {
    const aged = await Aged.begin();
    const { rig } = aged;
    await fillOne(aged, 0);
    const closed = await fillOne(aged, CHUNKS / 4);
    rig.kill();
    await rig.open();
    for (let i = 0; i < 3; i++) await aged.writeOver(CHUNKS, CHUNKS / 2);
    const behind = rig.segments().find((segment) => segment > closed)!;
    await compact(aged);
    expect(rig.segments()).not.toContain(behind);
    expect(rig.segments()).toContain(closed);
    rig.crash(undefined, true);
    await rig.open();
    for (let chunk = 0; chunk < CHUNKS / 2; chunk++) await aged.write(chunk);
    await compact(aged);
    expect(rig.segments()).not.toContain(closed);
    await aged.end();
  });
});
