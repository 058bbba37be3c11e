/** Trims that come while a round copies, and a checkpoint that takes them and fails. */

import { describe, expect, it } from 'vitest';
import { Aged } from './aged.ts';

const MIB = 1 << 20;

describe('what is trimmed while a round copies it', () => {
  it('reads as zeros for ever, though a checkpoint that has the trim failed before pointers followed', async () => {
    const aged = await Aged.begin();
    const { rig } = aged;
    await aged.writeOver();
    await rig.store.checkpoint();
    const copy = aged.stopAt(aged.isNew());
    const round = rig.store.compactOnce();
    await copy.come();
    await aged.trim(100, 300);
    // There is room for the catalog, and none for the index.
    const { storage } = rig;
    const freeBytes = storage.freeBytes.bind(storage);
    storage.freeBytes = async () => 16 * MIB;
    await expect(rig.store.checkpoint()).rejects.toMatchObject({ code: 'NO_SPACE' });
    storage.freeBytes = freeBytes;
    copy.goOn();
    expect((await round)?.victims).toBeGreaterThan(1);
    await aged.readAll();
    await aged.end();
  });
});
