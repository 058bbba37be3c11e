/**
 * A store of which compaction has removed the beginning: all that it holds comes from the log alone, and what is missing
 * of that is noticed before anything is removed.
 */

import { describe, expect, it } from 'vitest';
import { hasCode } from '../../src/base/errors.ts';
import { SegmentMover } from '../../src/compaction/mover.ts';
import { ENTRY_CHUNKS } from '../../src/log/entries.ts';
import { RECORD_HEADER_BYTES, type RecordHeader, segmentPath } from '../../src/log/format.ts';
import { entriesOf, recordEnd, SegmentScanner } from '../../src/log/scan.ts';
import type { LogBase } from '../../src/log/superblock.ts';
import { WholeLog } from '../../src/volume/whole-log.ts';
import { UUID } from '../log/rig.ts';
import { arraysOf, readSegment } from '../compaction/rig.ts';
import { seeds } from '../support/random.ts';
import { damageIn } from '../support/stores.ts';
import { Compacted } from './compacted.ts';

const CHUNK = 4096;

/** Where the first record of a catalog at the base ends. */
async function endOfBase({ storage }: Compacted, base: LogBase): Promise<number> {
  const scanner = await SegmentScanner.open(storage, UUID, base.segment);
  const record = await scanner!.recordAt(base.offset);
  await scanner!.close();
  return recordEnd(record!.header);
}

describe('a log whose beginning compaction has removed', () => {
  for (const seed of seeds(4)) {
    it(`holds all versions as they were (SEED=${seed})`, async () => {
      const made = await Compacted.make(seed);
      const base = await made.base();
      expect(base).toBeDefined();
      expect(made.rig.segments()).not.toContain(1);
      expect((await made.kept()).length).toBeGreaterThan(1);
      expect(await made.findings()).toEqual([]);
      for (const each of [made.fork(), made.fork()]) {
        const noIndex = await each.findings();
        expect(noIndex.filter((finding) => finding.startsWith('damage'))).toEqual([]);
        await each.rig.open();
        await each.readAll();
        expect(await damageIn(each.rig.store.check())).toEqual([]);
        // And it goes on from there.
        await each.work();
        await each.rig.store.compactOnce();
        await each.readAll();
        await each.rig.close();
        expect(await each.damage()).toEqual([]);
        const again = each.fork();
        await again.rig.open();
        await again.readAll();
        await again.rig.close();
      }
      await made.rig.open();
      await made.readAll();
      await made.rig.close();
    });
  }

  for (const seed of seeds(2)) {
    it(`holds them at any power cut of a round (SEED=${seed})`, async () => {
      const made = await Compacted.begin(seed);
      const { random, storage } = made;
      for (let i = 0; i < 5; i++) {
        await made.work();
        await made.rig.store.flush();
        storage.turnOffAt(random.between(1, 120));
        await made.rig.store.compactOnce().catch(() => undefined);
        made.rig.crash(() => random.chance(50), random.chance(50));
        expect(await made.damage()).toEqual([]);
        await made.rig.open();
        await made.readAll();
        expect(await damageIn(made.rig.store.check())).toEqual([]);
        await made.rig.store.compactOnce();
        await made.readAll();
      }
      await made.rig.close();
      expect(await made.damage()).toEqual([]);
      const other = made.fork();
      await other.rig.open();
      await other.readAll();
      await other.rig.close();
    });
  }

  it('says what it reads: a catalog, what stands before it, what was moved, each in its order', async () => {
    const made = await Compacted.make(5);
    // The segment of the base is sealed, and more is moved; what was emptied stays where it is.
    await made.rig.open();
    for (let i = 0; i < 3; i++) await made.work();
    made.storage.fail('remove', { path: /^log/ });
    await expect(made.rig.store.compactOnce()).rejects.toMatchObject({ code: 'IO' });
    await made.rig.close();
    const base = (await made.base())!;
    const whole = await WholeLog.open({ storage: made.storage, uuid: UUID }, base, base.append);
    const kept = new Set<number>();
    /** Chunks by the write that they are of. */
    const found = new Set<string>();
    for await (const record of whole.records()) {
      const { segment, offset } = record.header;
      const isOfBase = segment === base.segment;
      if (record.isKept) kept.add(segment);
      if (record.isKept && isOfBase) expect(offset).toBeLessThan(base.offset);
      if (!record.isKept) expect(segment > base.segment || (isOfBase && offset >= base.offset)).toBe(true);
      for (const entry of entriesOf(record)) {
        if (entry.kind !== ENTRY_CHUNKS) continue;
        for (let i = 0; i < entry.count; i++) {
          const name = `${whole.catalog.holderOf(entry.label)?.label} ${entry.first + i} ${entry.sequence}`;
          // What was moved is read where it is now, and only there.
          expect(found.has(name), name).toBe(false);
          found.add(name);
        }
      }
    }
    // What was emptied is still there, because it could not be removed, and is of no use.
    const { retired } = whole.newest!;
    expect(retired.size).toBeGreaterThan(0);
    const used = [...(await made.kept()), base.segment].filter((segment) => !retired.has(segment));
    expect(new Set(whole.keptEnds.keys())).toEqual(new Set(used));
    expect(kept.size).toBeGreaterThan(1);
    expect(whole.damage).toEqual([]);
    expect(whole.leftovers()).toEqual([]);
    // Who has an index that still leads there asks for them in vain: the segment that says where one ends may be gone.
    const place = { storage: made.storage, uuid: UUID };
    const asked = await WholeLog.open(place, base, base.append, undefined, retired);
    for await (const record of asked.records()) expect(retired).not.toContain(record.header.segment);
    expect(asked.keptEnds).toEqual(whole.keptEnds);
    expect(whole.catalog.volumes().map(({ name }) => name)).toEqual(expect.arrayContaining(['a', 'b']));
    expect(whole.reached).toBe(whole.tail.end!.append);
  });

  it('has what was moved behind the base among what was written then', async () => {
    const made = await Compacted.make(5);
    await made.rig.open();
    for (let i = 0; i < 3; i++) await made.work();
    // The base moves before the round, and not behind it.
    made.storage.fail('write', { path: /^superblock/, after: 1 });
    await expect(made.rig.store.compactOnce()).rejects.toMatchObject({ code: 'IO' });
    await made.rig.close();
    const base = (await made.base())!;
    const firstAppends = await made.firstAppends();
    const whole = await WholeLog.open({ storage: made.storage, uuid: UUID }, base, base.append);
    /** Of two places of one write the later one counts: segments come in the order in which they were begun. */
    let reached = 0;
    let behindBase = 0;
    for await (const { header, isKept } of whole.records()) {
      if (isKept && header.append > base.append) behindBase += 1;
      const begun = isKept ? firstAppends.get(header.segment)! : header.append;
      expect(begun).toBeGreaterThanOrEqual(reached);
      reached = begun;
    }
    expect(behindBase).toBeGreaterThan(0);
  });

  it('is missed in every part: each segment is reported, none is removed, and without an index it is not opened', async () => {
    const made = await Compacted.make(6);
    const kept = await made.kept();
    for (const segment of kept) {
      const other = made.fork();
      await other.storage.remove(segmentPath(segment));
      const lost = (await other.damage()).filter((each) => each.includes('SEGMENT_MISSING'));
      expect(lost).toEqual([expect.stringContaining(`segment ${segment} is missing`)]);
      await other.refuses(/the log is damaged: segment \d+ is missing.*fsck/);
      // A header that is gone is no better than a file that is.
      const headerless = made.fork();
      headerless.storage.edit(segmentPath(segment), (bytes) => bytes.fill(0, 0, 4096));
      expect(await headerless.damage()).toEqual(
        expect.arrayContaining([
          expect.stringContaining(`segment ${segment}: both copies of its header are damaged`),
        ]),
      );
      await headerless.refuses(/the log is damaged/);
    }
    // With an index too a check misses it.
    const segment = kept.at(-1)!;
    await made.storage.remove(segmentPath(segment));
    expect(
      (await made.damage()).filter((each) => each.includes(`segment ${segment} is missing`)).length,
    ).toBe(1);
  });

  it('is missed where a record before the base has rotted away in a segment without a footer', async () => {
    const made = await Compacted.make(7);
    const base = (await made.base())!;
    for (const segment of await made.kept()) {
      const { chunks, header } = await readSegment(made.storage, segment).catch(() => ({
        chunks: [],
        header: undefined,
      }));
      if (header === undefined || chunks.length < 10 || segment === base.segment) continue;
      const other = made.fork();
      // The trailer, and a record in the middle with its copy.
      const scanner = await SegmentScanner.open(other.storage, UUID, segment);
      const records: RecordHeader[] = [];
      for await (const record of scanner!.walk()) records.push(record.header);
      await scanner!.close();
      if (records.length < 3) continue;
      const { offset } = records[1]!;
      other.storage.edit(segmentPath(segment), (bytes) => {
        bytes.fill(0, bytes.length - 512);
        bytes.fill(0, offset, recordEnd(records[1]!));
      });
      expect(await other.damage()).toEqual(
        expect.arrayContaining([
          expect.stringContaining(`segment ${segment} has no valid record from ${offset}`),
        ]),
      );
    }
  });
});

describe('the catalog of the base', () => {
  async function spoiled(seed: number): Promise<{ made: Compacted; base: LogBase }> {
    const made = await Compacted.make(seed);
    // What stands behind the base is whole, and the index has a later checkpoint.
    await made.rig.open();
    await made.rig.write('a', 0, made.contents.get('a')!.subarray(0, CHUNK));
    await made.rig.close();
    const base = (await made.base())!;
    const end = await endOfBase(made, base);
    made.storage.edit(segmentPath(base.segment), (bytes) => bytes.fill(0x55, base.offset, end));
    return { made, base };
  }

  it('is what a rebuild begins with: where it cannot be read, a clear error, and all files stay', async () => {
    const { made, base } = await spoiled(8);
    const clear = new RegExp(
      `the catalog that the log begins with.*segment ${base.segment}, offset ${base.offset}`,
    );
    const other = made.fork();
    await other.refuses(clear);
    expect(await other.damage()).toContainEqual(expect.stringMatching(clear));
  });

  it('is not needed while there is an index', async () => {
    const { made, base } = await spoiled(9);
    await made.rig.open();
    await made.readAll();
    // The next base is another one.
    for (let i = 0; i < 6; i++) {
      await made.work();
      await made.rig.store.compactOnce().catch((error: unknown) => {
        if (!hasCode(error, 'CORRUPTION')) throw error; // the segment that it stood in cannot be emptied
      });
    }
    await made.rig.close();
    expect(await made.base()).not.toEqual(base);
    const other = made.fork();
    await other.rig.open();
    await other.readAll();
    await other.rig.close();
  });

  it('loses nothing by a flipped bit: its header and table stand twice', async () => {
    const made = await Compacted.make(10);
    const base = (await made.base())!;
    for (const at of [base.offset + 4, base.offset + RECORD_HEADER_BYTES + 20]) {
      const other = made.fork();
      other.storage.edit(segmentPath(base.segment), (bytes) => void (bytes[at]! ^= 8));
      await other.rig.open();
      await other.readAll();
      await other.rig.close();
    }
  });
});

describe('a segment of moves that no catalog states', () => {
  async function withLeftover(seed: number, rounds: number): Promise<{ made: Compacted; segment: number }> {
    const made = await Compacted.make(seed, rounds);
    await made.rig.open();
    await made.work();
    await made.rig.store.flush();
    await made.rig.store.checkpoint();
    const before = new Set(made.rig.segments());
    const { storage } = made;
    // The power goes right behind the sync of its name.
    let isNamed = false;
    storage.beforeChange = ({ operation, path }) => {
      const isOther = operation !== 'syncDirectory' || path !== 'log';
      if (isNamed && isOther) storage.turnOffAt(0);
      if (!isOther) isNamed = made.rig.segments().some((each) => !before.has(each));
    };
    await made.rig.store.compactOnce().catch(() => undefined);
    made.rig.crash(undefined, true);
    const found: number[] = [];
    for (const segment of await made.kept()) if (!before.has(segment)) found.push(segment);
    expect(found.length).toBeGreaterThan(0);
    return { made, segment: found[0]! };
  }

  for (const [what, rounds] of [
    ['before anything of the log has been removed', 0],
    ['behind a base', 6],
  ] as const) {
    it(`is noted by a check and removed at open, ${what}`, async () => {
      const { made, segment } = await withLeftoverOf(rounds);
      const findings = await made.findings();
      expect(findings.filter((each) => each.startsWith('damage'))).toEqual([]);
      expect(findings).toEqual(
        expect.arrayContaining([expect.stringMatching(`note LEFTOVER_SEGMENT segment ${segment} `)]),
      );
      const without = made.fork();
      await without.rig.open();
      await made.rig.open();
      for (const each of [made, without]) {
        expect(each.rig.segments()).not.toContain(segment);
        await each.readAll();
        await each.rig.store.compactOnce();
        await each.readAll();
        await each.rig.close();
        expect(await each.damage()).toEqual([]);
      }
    });
  }

  const withLeftoverOf = async (rounds: number): Promise<{ made: Compacted; segment: number }> => {
    if (rounds > 0) return await withLeftover(11, rounds);
    // No round has been: what is left over was made by hand.
    const made = await Compacted.make(11, 0);
    await made.rig.open();
    await made.work();
    await made.rig.close();
    const { chunks } = await readSegment(made.storage, 1);
    const segment = Math.max(...made.rig.segments()) + 1;
    await new SegmentMover(made.storage, UUID).move({
      chunks: arraysOf(chunks),
      ages: { ages: new Float64Array(chunks.length), now: 0, cutsMax: 0 },
      zeros: [],
      order: 'disk',
      segmentBytes: 1 << 20,
      epoch: 1,
      segments: [segment, segment + 1, segment + 2],
      appends: [2 ** 40, 2 ** 40 + 1, 2 ** 40 + 2],
    });
    return { made, segment };
  };
});
