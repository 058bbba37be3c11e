/**
 * The checker about a store whose index was made anew and that had no room for its first checkpoint: rows have any part of
 * the log then, memory the rest. There is nothing to compare, and all of the log to check.
 */

import { expect, it } from 'vitest';
import { segmentPath } from '../../src/log/format.ts';
import { readSuperblock } from '../../src/log/superblock.ts';
import { checkClosedStore } from '../../src/volume/check-offline.ts';
import type { Finding } from '../../src/volume/summary.ts';
import { closedEnvironment } from './checked-closed.ts';
import { CrashRig } from './crash-rig.ts';

const CHUNK = 4096;
const CHUNKS = 256;

/** Full, and its index lost: open, after compaction has removed the beginning of its log, or with all of it. */
async function openWithoutCheckpoint(isCompacted: boolean): Promise<CrashRig> {
  const rig = await CrashRig.begin();
  await rig.open();
  await rig.store.createVolume('a', CHUNKS * CHUNK);
  // Every other chunk is written over: what is left of the segments is worth moving.
  for (const step of [1, 2, 2, 2]) {
    for (let chunk = 0; chunk < CHUNKS; chunk += step)
      await rig.write('a', chunk * CHUNK, Buffer.alloc(CHUNK, `chunk ${chunk} `));
  }
  if (isCompacted) for (let i = 0; i < 2; i++) await rig.store.compactOnce();
  // Behind the base.
  await rig.write('a', 7 * CHUNK, Buffer.alloc(CHUNK, 'known'));
  await rig.close();
  expect((await readSuperblock(rig.storage)).base !== undefined).toBe(isCompacted);
  await rig.storage.remove('index');
  rig.storage.free = 0;
  await rig.open();
  expect(rig.messages).toContain('the store is full: no room for a checkpoint');
  return rig;
}

async function findingsOf(findings: AsyncGenerator<Finding>): Promise<string[]> {
  const found: string[] = [];
  for await (const { severity, code } of findings) found.push(`${severity} ${code}`);
  return found.filter((each) => each !== 'note NO_FOOTER');
}

for (const isCompacted of [false, true]) {
  const which = isCompacted ? 'whose beginning compaction has removed' : 'that has all of its log';

  it(`a store ${which} has no damage, open and closed`, async () => {
    const rig = await openWithoutCheckpoint(isCompacted);
    expect(await findingsOf(rig.store.check())).toEqual(['note INDEX_NOT_COMPARED']);
    await rig.close();
    const environment = closedEnvironment(rig.storage);
    const superblock = await readSuperblock(rig.storage);
    expect(await findingsOf(checkClosedStore(environment, superblock, superblock.base))).toContain(
      'note INDEX_NOT_COMPARED',
    );
  });

  it(`a damaged chunk of a store ${which} is found`, async () => {
    const rig = await openWithoutCheckpoint(isCompacted);
    for (const segment of rig.segments()) {
      rig.storage.edit(segmentPath(segment), (bytes) => {
        const at = bytes.indexOf(Buffer.alloc(CHUNK, 'known'));
        if (at >= 0) bytes[at + 1000]! ^= 4;
      });
    }
    expect(await findingsOf(rig.store.check())).toEqual(['note INDEX_NOT_COMPARED', 'damage CHUNK_DAMAGED']);
    await rig.close();
  });
}
