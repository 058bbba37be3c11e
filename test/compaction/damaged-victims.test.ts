/** Compaction where a segment cannot be emptied, or nothing is known of what lives: it harms nothing, and goes on beside it. */

import fs from 'node:fs';
import { describe, expect, it } from 'vitest';
import { hasCode } from '../../src/base/errors.ts';
import { segmentPath } from '../../src/log/format.ts';
import { recordEnd, type ScannedRecord, SegmentScanner } from '../../src/log/scan.ts';
import { Store } from '../../src/volume/store.ts';
import { UUID } from '../log/rig.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { Random } from '../support/random.ts';
import { damageIn, read, scratchDirectory, write } from '../support/stores.ts';
import { CrashRig } from '../volume/crash-rig.ts';

const CHUNK = 4096;
const MIB = 1 << 20;

async function recordsOf({ storage }: CrashRig, segment: number): Promise<ScannedRecord[]> {
  const scanner = await SegmentScanner.open(storage, UUID, segment);
  const records: ScannedRecord[] = [];
  for await (const record of scanner!.walk()) records.push(record);
  await scanner!.close();
  return records;
}

/** The segment that is being written. */
async function current({
  storage,
  segments,
}: {
  storage: CrashRig['storage'];
  segments: number[];
}): Promise<number> {
  for (const segment of [...segments].reverse()) {
    const scanner = await SegmentScanner.open(storage, UUID, segment);
    await scanner?.close();
    if (scanner !== undefined) return segment;
  }
  return 0;
}

interface Crashed {
  rig: CrashRig;
  /** Ended by a crash, without a footer: only the one behind it says where. */
  cut: number;
  behind: number;
}

/** A store of segments in which hardly anything lives, and two in which so many chunks do. */
async function crashed(random: Random, liveInCut: number, liveBehind: number): Promise<Crashed> {
  const rig = await CrashRig.begin();
  await rig.open();
  await rig.store.createVolume('v', 8 * MIB);
  const fill = async (from: number, count: number): Promise<void> => {
    for (let chunk = from; chunk < from + count; chunk += 10)
      await rig.write('v', chunk * CHUNK, random.bytes(10 * CHUNK));
  };
  const now = (): Promise<number> => current({ storage: rig.storage, segments: rig.segments() });
  const nextSegment = async (): Promise<number> => {
    const before = await now();
    while ((await now()) === before) await fill(0, 10);
    return await now();
  };
  await fill(0, 900);
  const cut = await nextSegment();
  await fill(1000, liveInCut);
  await rig.store.checkpoint();
  // The second flush says of the first that it was one: what is before it is proven.
  for (let i = 0; i < 2; i++) {
    await fill(0, 10);
    await rig.store.flush();
  }
  rig.crash(undefined, true);
  await rig.open();
  await fill(1500, liveBehind);
  const behind = await now();
  for (let i = 0; i < 8; i++) await fill(0, 300);
  await rig.store.checkpoint();
  const scanner = await SegmentScanner.open(rig.storage, UUID, behind);
  expect(scanner!.header.predecessor).toBe(cut);
  await scanner!.close();
  return { rig, cut, behind };
}

/** Rounds, past those that damage ends; answers how many victims were emptied. */
async function compact({ store }: CrashRig, rounds: number): Promise<number> {
  let victims = 0;
  for (let i = 0; i < rounds; i++) {
    victims += await store.compactOnce().then(
      (result) => result?.victims ?? 0,
      (error: unknown) => {
        if (hasCode(error, 'CORRUPTION')) return 0;
        throw error;
      },
    );
  }
  return victims;
}

/** The third record of a segment is gone, header and copy. */
async function damage(rig: CrashRig, segment: number): Promise<void> {
  const { header } = (await recordsOf(rig, segment))[2]!;
  rig.storage.edit(segmentPath(segment), (bytes) => bytes.fill(0x55, header.offset, recordEnd(header)));
}

describe('a segment without a footer that a crash has ended', () => {
  it('is emptied, and what stands behind it not before', async () => {
    const { rig, cut, behind } = await crashed(new Random(1), 150, 10);
    expect(await compact(rig, 6)).toBeGreaterThan(2);
    expect(rig.segments()).not.toContain(cut);
    expect(rig.segments()).not.toContain(behind);
    expect(await damageIn(rig.store.check())).toEqual([]);
    await rig.close();
  });

  for (const [what, liveBefore, liveBehind] of [
    ['more lives than behind it', 150, 10],
    ['less lives than behind it', 10, 150],
  ] as const) {
    it(`and that is damaged, is left alone, with what says where it ends; the rest is compacted (${what})`, async () => {
      const { rig, cut, behind } = await crashed(new Random(2), liveBefore, liveBehind);
      await damage(rig, cut);
      const before = rig.segments();
      expect(await compact(rig, 25)).toBeGreaterThan(5);
      expect(rig.segments().filter((each) => before.includes(each)).length).toBeLessThan(before.length - 5);
      expect(rig.segments()).toEqual(expect.arrayContaining([cut, behind]));
      await rig.close();
    });
  }
});

describe('a store whose index has been made anew and could not be written', () => {
  it('takes nothing for dead that no checkpoint knows yet', async () => {
    const random = new Random(3);
    const rig = await CrashRig.begin();
    await rig.open();
    await rig.store.createVolume('v', 8 * MIB);
    const content = Buffer.alloc(8 * MIB);
    for (let i = 0; i < 2500; i++) {
      const at = CHUNK * random.below(2047);
      const bytes = random.bytes(CHUNK);
      await rig.write('v', at, bytes);
      bytes.copy(content, at);
    }
    for (let i = 0; i < 4; i++) await rig.store.compactOnce();
    await rig.close();
    const storage = rig.storage.copy(); // without the index
    storage.free = 20 * MIB;
    const directory = scratchDirectory();
    const clock = new ManualClock();
    const open = (): Promise<Store> =>
      Store.open(directory, {
        storage,
        openDatabase: storage.openDatabase,
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
      let store = await open();
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
      await store.close();
      store = await open();
      await readAll(store);
      await store.close();
      await storage.remove('index');
      store = await open();
      await readAll(store);
      await store.close();
    } finally {
      fs.rmSync(directory, { recursive: true });
    }
  });
});
