/** Recoveries that build on each other, each of them ended before it was done. */

import { describe, expect, it } from 'vitest';
import type { MemoryStorage } from '../support/memory-storage.ts';
import { Random, seeds } from '../support/random.ts';
import { LogRig, readLog } from './rig.ts';

/** A log of two synced writes and one that was written again behind them; the mark is in the page cache only. */
async function killedBehindMark(): Promise<MemoryStorage> {
  const first = await LogRig.begin();
  const { storage } = first;
  for (let i = 0; i < 2; i++) {
    await first.write(i);
    await first.log.flush();
  }
  await first.write(2);
  storage.kill();
  const second = await LogRig.goOn(storage, (await readLog(storage)).tail);
  second.log.beginRewrite();
  await second.write(2);
  await second.log.flush();
  storage.fail('datasync', { path: /log/ });
  await expect(second.log.markTailRewritten()).rejects.toThrow('syncing the log failed');
  storage.kill();
  return storage;
}

describe('a tail that is written again behind a mark which nothing proves', () => {
  it('leads to every watermark that a power cut leaves of it', async () => {
    const killed = await killedBehindMark();
    for (const seed of seeds(300)) {
      const random = new Random(seed);
      const storage = killed.copy();
      const recovery = await LogRig.goOn(storage, (await readLog(storage)).tail);
      recovery.log.beginRewrite();
      storage.turnOffAt(random.between(4, 7));
      const isDone = await recovery.log.markTailRewritten().then(
        () => true,
        () => false,
      );
      const percent = random.pick([10, 50, 90]);
      storage.crash(() => random.chance(percent));
      const { tail, entries } = await readLog(storage);
      expect(tail.damage, `SEED=${seed}`).toEqual([]);
      expect(isDone ? [3] : [2, 3], `SEED=${seed}`).toContain(entries.length);
    }
  });
});
