/** A full store that is killed again and again while it is being written: it takes no more room, and heals. SEED replays. */

import { describe, expect, it } from 'vitest';
import { hasCode } from '../../src/base/errors.ts';
import { Random, seeds } from '../support/random.ts';
import { damageIn } from '../support/stores.ts';
import { CrashRig } from './crash-rig.ts';

const MIB = 2 ** 20;
const CHUNK = 4096;
const CAPACITY_SEGMENTS = 12;
/** What recovery and what makes room may take beyond. */
const BEYOND_SEGMENTS = 2;

describe('a full store', () => {
  it.each(seeds(4))('is healed by a delete, however often it was killed (SEED=%i)', async (seed) => {
    const random = new Random(seed);
    const rig = await CrashRig.begin({ segmentBytes: MIB, capacityBytes: CAPACITY_SEGMENTS * MIB });
    const content = Buffer.alloc(16 * MIB);
    /** Answers whether there was room. */
    const write = async (bytes: number): Promise<boolean> => {
      const at = CHUNK * random.below((content.length - bytes) / CHUNK);
      const some = random.bytes(bytes);
      try {
        await rig.write('a', at, some);
      } catch (error) {
        if (!hasCode(error, 'NO_SPACE')) throw error;
        return false;
      }
      some.copy(content, at);
      return true;
    };
    await rig.open();
    await rig.store.createVolume('a', content.length);
    for (let i = 0; i < 40; i++) await write(16 * CHUNK);
    await rig.store.snapshot(['a@s']);
    for (let kills = 0; kills < 8; kills++) {
      const bytes = CHUNK * random.pick([1, 1, 16]);
      while (await write(bytes));
      if (random.chance(70)) await rig.store.flush();
      rig.kill();
      await rig.open();
      expect(rig.segments().length).toBeLessThanOrEqual(CAPACITY_SEGMENTS + BEYOND_SEGMENTS);
    }
    await rig.store.delete(['a@s']);
    for (let rounds = 0; rounds < 20; rounds++) {
      await rig.store.checkpoint();
      await rig.store.compactOnce();
    }
    expect(rig.segments().length).toBeLessThanOrEqual(CAPACITY_SEGMENTS);
    for (let i = 0; i < 50; i++) expect(await write(CHUNK)).toBe(true);
    expect((await rig.read('a', 0, content.length)).equals(content)).toBe(true);
    expect(await damageIn(rig.store.check())).toEqual([]);
    await rig.close();
  });
});
