/** What the log does in a quiet moment besides its closing record: fill the segment, and sync that by the common way. */

import { describe, expect, it } from 'vitest';
import { LogRig } from './rig.ts';

describe('a quiet moment', () => {
  it('never syncs beside a flush: two syncs of one file might share one report of an error', async () => {
    const rig = await LogRig.begin();
    await rig.write(0);
    let active = 0;
    let most = 0;
    rig.storage.gate = async ({ operation, path }) => {
      if (operation !== 'datasync' || !/1.seg/.test(path)) return;
      active += 1;
      most = Math.max(most, active);
      for (let turn = 0; turn < 20; turn++) await new Promise(setImmediate);
      active -= 1;
    };
    await rig.log.idle();
    for (let turn = 0; turn < 5; turn++) await new Promise(setImmediate);
    rig.clock.advance(100);
    for (let turn = 0; turn < 1000 && active === 0; turn++) await new Promise(setImmediate);
    expect(active).toBe(1);
    await rig.log.flush();
    expect(most).toBe(1);
    expect(rig.log.durableAppend).toBe(1);
    await rig.log.close();
  });

  it('is over once a sync has failed: none that comes behind it, and no segment, says that it was done', async () => {
    const rig = await LogRig.begin();
    await rig.write(0);
    await rig.log.flush();
    await rig.log.idle();
    rig.storage.fail('datasync', { path: /1.seg/ });
    rig.clock.advance(100);
    await rig.rest(1000);
    expect(rig.log.poison).toMatchObject({ code: 'POISONED' });
    expect(rig.log.writtenAppend).toBe(2);
    expect(rig.log.durableAppend).toBe(1);
    await expect(rig.log.roll()).rejects.toMatchObject({ code: 'POISONED' });
  });
});
