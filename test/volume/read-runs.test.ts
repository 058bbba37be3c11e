/** Several ranges read at once, for who reads each but once: the same bytes as one by one, and nothing kept of them. */

import { describe, expect, it } from 'vitest';
import type { BlockDevice, Run } from '../../src/volume/device.ts';
import { CHUNK, MIB } from '../log/rig.ts';
import { segmentPath } from '../../src/log/format.ts';
import { Random, seeds } from '../support/random.ts';
import { CrashRig } from './crash-rig.ts';

const SIZE = 6 * MIB + 3 * 512;

async function readRuns(device: BlockDevice, runs: readonly Run[]): Promise<Buffer> {
  const target = Buffer.alloc(
    runs.reduce((sum, [, length]) => sum + length, 0),
    0xee,
  );
  await device.readRuns(target, runs);
  return target;
}

/** In order, of any alignment, close together and far apart. */
function randomRuns(random: Random): Run[] {
  const runs: Run[] = [];
  const isOdd = random.chance(30);
  const unit = isOdd ? 512 : CHUNK;
  for (let at = unit * random.below(40); at < SIZE; at += unit * random.below(random.pick([2, 60, 400]))) {
    const length = Math.min(unit * random.between(1, random.pick([2, 30, 600])), SIZE - at);
    runs.push([at, length - (isOdd ? 0 : length % CHUNK)]);
    at += length;
  }
  return runs.filter(([, length]) => length > 0);
}

describe('ranges that are read together', () => {
  it.each(seeds(6))('have what the disk has, in rows or not, moved or not (seed %i)', async (seed) => {
    const random = new Random(seed);
    const rig = await CrashRig.begin({ segmentBytes: MIB });
    await rig.open();
    await rig.store.createVolume('disk', SIZE);
    const contents = new Map<string, Buffer>();
    const compare = async (): Promise<void> => {
      contents.set('disk', await rig.read('disk', 0, SIZE));
      for (const [name, whole] of contents) {
        const runs = randomRuns(random);
        const expected = Buffer.concat(
          runs.map(([offset, length]) => whole.subarray(offset, offset + length)),
        );
        expect((await readRuns(rig.device(name), runs)).equals(expected), name).toBe(true);
      }
    };
    for (let step = 0; step < 40; step++) {
      const offset = 512 * random.below(SIZE / 512);
      const length = Math.min(SIZE - offset, 512 * random.between(1, random.pick([8, 300])));
      if (random.chance(20)) await rig.device('disk').zero(offset, length, false);
      else await rig.write('disk', offset, random.bytes(length));
      if (random.chance(15)) {
        await rig.store.snapshot([`disk@s${step}`]);
        contents.set(`disk@s${step}`, await rig.read('disk', 0, SIZE));
      }
      if (random.chance(20)) await rig.store.checkpoint();
      if (random.chance(15)) await rig.store.compactOnce();
      if (random.chance(10)) {
        await rig.close();
        await rig.open();
      }
      if (random.chance(30)) await compare();
    }
    await compare();
    await rig.close();
  });

  it('leave no pages, which others would have to make room for', async () => {
    const rig = await CrashRig.begin();
    await rig.open();
    await rig.store.createVolume('disk', SIZE);
    await rig.write('disk', 0, Buffer.alloc(6 * MIB, 1));
    await rig.store.snapshot(['disk@a']);
    const used = async (): Promise<number> => (await rig.store.status()).cache.usedBytes;
    await readRuns(rig.device('disk@a'), [[0, 6 * MIB]]);
    const before = await used();
    await readRuns(rig.device('disk@a'), [[0, 6 * MIB]]);
    expect(await used()).toBe(before);
    await rig.read('disk@a', 0, 6 * MIB);
    expect(await used()).toBeGreaterThan(before + 6 * 5000);
    await rig.close();
  });

  it('are not handed out with damage in any of them', async () => {
    const rig = await CrashRig.begin();
    await rig.open();
    await rig.store.createVolume('disk', SIZE);
    const chunk = new Random(1).bytes(CHUNK);
    await rig.write('disk', 0, Buffer.concat([Buffer.alloc(CHUNK, 1), chunk, Buffer.alloc(CHUNK, 2)]));
    for (const segment of rig.segments()) {
      const at = rig.storage.bytes(segmentPath(segment)).indexOf(chunk);
      if (at < 0) continue;
      rig.storage.edit(segmentPath(segment), (file) => {
        file[at + 1000]! ^= 4;
      });
    }
    await expect(readRuns(rig.device('disk'), [[0, 3 * CHUNK]])).rejects.toMatchObject({
      code: 'CORRUPTION',
    });
    const right = await readRuns(rig.device('disk'), [
      [0, CHUNK],
      [2 * CHUNK, CHUNK],
    ]);
    expect(right.equals(Buffer.concat([Buffer.alloc(CHUNK, 1), Buffer.alloc(CHUNK, 2)]))).toBe(true);
    await rig.close();
  });
});
