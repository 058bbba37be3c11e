/** An index that was made anew and could not be written yet: what rounds take for dead meanwhile. */

import fs from 'node:fs';
import { describe, expect, it, vi } from 'vitest';
import { type CompactionHost, Compactor } from '../../src/compaction/compactor.ts';
import { SegmentMover } from '../../src/compaction/mover.ts';
import { Store } from '../../src/volume/store.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { MemoryStorage } from '../support/memory-storage.ts';
import { Random } from '../support/random.ts';
import { damageIn, read, scratchDirectory, write } from '../support/stores.ts';
import { CrashRig } from '../volume/crash-rig.ts';

const CHUNK = 4096;
const MIB = 1 << 20;

describe('an index without a checkpoint', () => {
  it('makes no segment a victim: it counts what is in rows, and part is in memory only', () => {
    const index = { checkpoint: { segment: 0 } };
    const host = { index, ledger: {}, freezes: 0, committed: 0 } as unknown as CompactionHost;
    const compactor = new Compactor(host, new SegmentMover(new MemoryStorage(), Buffer.alloc(16)));
    vi.spyOn(compactor.table, 'get').mockReturnValue({
      isMoves: true,
      bytes: MIB,
      age: 1,
      predecessor: 0,
      predecessorEnd: 0,
    });
    expect(compactor.isEligible(3)).toBe(false);
    index.checkpoint.segment = 9;
    expect(compactor.isEligible(3)).toBe(true);
  });
});

describe('a store whose index has been made anew in a full file system', () => {
  it('loses nothing when there is room again, segments go, and the index is lost once more', async () => {
    const random = new Random(3);
    const rig = await CrashRig.begin();
    await rig.open();
    await rig.store.createVolume('v', 8 * MIB);
    const content = Buffer.alloc(8 * MIB);
    const writeAt = async (at: number): Promise<void> => {
      const bytes = random.bytes(CHUNK);
      await rig.write('v', at, bytes);
      bytes.copy(content, at);
    };
    for (let i = 0; i < 2500; i++) await writeAt(CHUNK * random.below(2047));
    for (let i = 0; i < 4; i++) await rig.store.compactOnce();
    // Of what was moved, segments with the first half of the disk are dead, others are not.
    for (let at = 0; at < 4 * MIB; at += CHUNK) await writeAt(at);
    await rig.close();
    const storage = rig.storage.copy(); // without the index
    storage.free = 20 * MIB;
    const directory = scratchDirectory();
    const clock = new ManualClock();
    const open = (on: MemoryStorage): Promise<Store> =>
      Store.open(directory, {
        storage: on,
        openDatabase: on.openDatabase,
        clock,
        compacts: true,
        cacheBytes: 1 << 20,
      });
    const readAll = async (store: Store): Promise<void> => {
      const device = store.device('v');
      for (let at = 0; at < content.length; at += MIB) {
        const found = await read(device, at, MIB);
        if (!found.equals(content.subarray(at, at + MIB)))
          throw new Error(`MiB ${at / MIB} is not what was written`);
      }
      device.release();
    };
    try {
      let store = await open(storage);
      const device = store.device('v');
      storage.free = 2 ** 40;
      await write(device, 0, content.subarray(0, CHUNK));
      storage.free = 20 * MIB;
      device.release();
      for (let i = 0; i < 20; i++) {
        clock.advance(5000);
        await rig.rest();
        if (i === 10) storage.free = 2 ** 40;
      }
      await readAll(store);
      expect(await damageIn(store.check())).toEqual([]);
      const other = storage.copy(); // without the index
      await store.close();
      store = await open(other);
      await readAll(store);
      await store.close();
    } finally {
      fs.rmSync(directory, { recursive: true });
    }
  });
});
