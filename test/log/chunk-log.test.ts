/** The log as its users see it: what is packed together, who is told what and when, what a flush waits for. */

import { randomBytes } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { Append } from '../../src/log/append.ts';
import { RECORD_CLOSING, RECORD_COPIED, segmentPath } from '../../src/log/format.ts';
import { entriesOf, recordEnd, SegmentScanner } from '../../src/log/scan.ts';
import { CHUNK, LogRig, MIB, readLog, segmentFiles, UUID } from './rig.ts';

const isCode = (code: string): unknown => expect.objectContaining({ code });
const BIG = 64 * CHUNK;

describe('appending', () => {
  it('packs everything that waits into one record, whoever it is from', async () => {
    const rig = await LogRig.begin();
    const appends = await Promise.all([
      rig.write(0),
      rig.write(5, randomBytes(2 * CHUNK), 2),
      rig.zeros(9, 1000),
    ]);
    const records = await rig.records(1);
    expect(records).toHaveLength(1);
    expect(entriesOf(records[0]!)).toMatchObject([
      { kind: 1, sequence: 1, label: 1, first: 0, count: 1 },
      { kind: 1, sequence: 2, label: 2, first: 5, count: 2 },
      { kind: 2, sequence: 3, label: 1, first: 9, count: 1000 },
    ]);
    expect(appends.map((append) => append.record)).toEqual([1, 1, 1]);
  });

  it('what comes while a record is written goes into the next one, all together', async () => {
    const rig = await LogRig.begin();
    const first = rig.write(0);
    let rest: Promise<unknown> = Promise.resolve();
    rig.storage.gate = async ({ operation, path, position }) => {
      if (operation !== 'write' || path !== segmentPath(1) || position !== CHUNK) return;
      rig.storage.gate = undefined;
      rest = Promise.all([1, 2, 3, 4, 5].map((chunk) => rig.write(chunk)));
      await rig.rest(5);
    };
    await first;
    await rest;
    const counts = (await rig.records(1)).map((record) => record.header.entryCount);
    expect(counts).toEqual([1, 5]);
  });

  it('puts every chunk where it says, with its checksum', async () => {
    const rig = await LogRig.begin();
    const payload = randomBytes(3 * CHUNK);
    const [append] = await Promise.all([rig.write(7, payload), rig.write(1)]);
    const scanner = (await SegmentScanner.open(rig.storage, UUID, 1))!;
    const [record] = await rig.records(1);
    const [entry] = entriesOf(record!);
    if (entry?.kind !== 1) throw new Error('no chunks');
    expect(entry.offset).toBe(append!.offset);
    expect((await scanner.payload(entry)).equals(payload)).toBe(true);
    expect(await scanner.badChunk(entry)).toBe(-1);
    rig.storage.edit(segmentPath(1), (bytes) => {
      bytes[entry.offset + 2 * CHUNK]! ^= 1;
    });
    const damaged = (await SegmentScanner.open(rig.storage, UUID, 1))!;
    expect(await damaged.badChunk(entry)).toBe(2);
    expect(await damaged.payloadIsWhole([entry])).toBe(false);
  });

  it('tells owners in the order of the log, each before what is behind its record is packed', async () => {
    const rig = await LogRig.begin();
    const told: number[] = [];
    const target = { label: 1 };
    const owner = {
      appended(append: Append): void {
        told.push(append.sequence);
        if (append.first === 3) target.label = 2; // as a snapshot does it
      },
    };
    for (let i = 0; i < 3; i++) rig.log.submit(Append.zeros(owner, target, i, 1));
    rig.log.submit(Append.change({ appended: () => (target.label = 9) }, '{}'));
    for (let i = 4; i < 8; i++) rig.log.submit(Append.zeros(owner, target, i, 1));
    await rig.log.settled();
    expect(told).toEqual([1, 2, 3, 5, 6, 7, 8]);
    const records = await rig.records(1);
    const labels = records.map((record) =>
      entriesOf(record).map((entry) => ('label' in entry ? entry.label : 'change')),
    );
    // A change ends its record; what waited behind it belongs to the version that it made.
    expect(labels).toEqual([
      [1, 1, 1, 'change'],
      [9, 9, 9, 9],
    ]);
  });

  it('records of one segment are chained, numbered without a gap, and start at multiples of 512', async () => {
    const rig = await LogRig.begin();
    for (let i = 0; i < 10; i++) await rig.zeros(i, 1);
    const records = await rig.records(1);
    expect(records.map((record) => record.header.append)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    expect(records.map((record) => record.header.offset)).toEqual(
      Array.from({ length: 10 }, (_, i) => 4096 + 512 * i),
    );
    for (let i = 1; i < 10; i++) {
      expect(records[i]!.header.previousChecksum).toBe(records[i - 1]!.header.checksum);
    }
  });

  it('rolls to a new segment that names where the one before ends, and seals that with a footer', async () => {
    const rig = await LogRig.begin();
    for (let i = 0; i < 10; i++) await rig.write(i * 64, Buffer.alloc(BIG, i));
    expect((await segmentFiles(rig.storage)).length).toBeGreaterThanOrEqual(4);
    for (const segment of [1, 2, 3]) {
      const scanner = (await SegmentScanner.open(rig.storage, UUID, segment))!;
      const next = (await SegmentScanner.open(rig.storage, UUID, segment + 1))!;
      const records = await rig.records(segment);
      expect(next.header).toMatchObject({
        predecessor: segment,
        predecessorEnd: recordEnd(records.at(-1)!.header),
        predecessorChecksum: records.at(-1)!.header.checksum,
      });
      const footer = (await scanner.footer())!;
      expect(footer.map((record) => record.table)).toEqual(records.map((record) => record.table));
      expect(footer.map((record) => record.header.offset)).toEqual(
        records.map((record) => record.header.offset),
      );
    }
    expect(await (await SegmentScanner.open(rig.storage, UUID, 4))!.footer()).toBeUndefined();
  });

  it('any number of writes that wait fit into small segments', async () => {
    for (const count of [240, 250, 251, 252, 260, 700]) {
      const rig = await LogRig.begin({ capacityBytes: 16 * MIB });
      await Promise.all(Array.from({ length: count }, (_, i) => rig.write(i, Buffer.alloc(CHUNK, i))));
      const { entries } = await readLog(rig.storage);
      expect(entries).toHaveLength(count);
      expect((await segmentFiles(rig.storage)).length).toBeLessThanOrEqual(3 + count / 200);
    }
  });
});

describe('flushing', () => {
  it('is served by a sync that is issued after the call', async () => {
    const rig = await LogRig.begin();
    await rig.write(0);
    const second: { written: boolean; flushed: boolean } = { written: false, flushed: false };
    let syncs = 0;
    let later: Promise<void> = Promise.resolve();
    rig.storage.gate = async ({ operation }) => {
      if (operation !== 'datasync') return;
      syncs += 1;
      if (syncs > 1) return;
      // While the first sync is under way: this write may not be in it.
      await rig.write(1);
      second.written = true;
      later = rig.log.flush().then(() => {
        second.flushed = true;
      });
      await rig.rest(5);
    };
    await rig.log.flush();
    expect(second).toEqual({ written: true, flushed: false });
    expect([rig.log.durableAppend, rig.log.writtenAppend]).toEqual([1, 2]);
    await later;
    expect(rig.log.durableAppend).toBe(2);
    expect(syncs).toBe(2);
    rig.storage.crash();
    expect((await readLog(rig.storage)).sequences).toEqual([1, 2]);
  });

  it('many at once cost one sync, and one right behind another is answered', async () => {
    const rig = await LogRig.begin();
    await rig.write(0);
    rig.storage.trace.length = 0;
    await Promise.all([rig.log.flush(), rig.log.flush(), rig.log.flush()]);
    // The first may have begun alone; the others share the next.
    expect(rig.storage.trace.filter(({ operation }) => operation === 'datasync').length).toBeLessThanOrEqual(
      2,
    );
    await rig.log.flush().then(() => rig.log.flush());
    await rig.write(1);
    await rig.log.flush();
    await rig.log.flush();
  });

  it('syncs every segment that has unsynced records, sealed ones too', async () => {
    const rig = await LogRig.begin();
    for (let i = 0; i < 10; i++) await rig.write(i * 64, Buffer.alloc(BIG, i));
    rig.storage.trace.length = 0;
    await rig.log.flush();
    const synced = rig.storage.trace
      .filter(({ operation }) => operation === 'datasync')
      .map(({ path }) => path);
    expect(new Set(synced)).toEqual(new Set([1, 2, 3, 4].map(segmentPath)));
    rig.storage.crash();
    expect((await readLog(rig.storage)).sequences).toHaveLength(10);
  });

  it('what is flushed survives, and nothing else is promised: a loss is a prefix', async () => {
    const rig = await LogRig.begin();
    for (let i = 0; i < 5; i++) await rig.write(i);
    await rig.log.flush();
    for (let i = 5; i < 9; i++) await rig.write(i);
    rig.storage.crash();
    const { sequences, tail } = await readLog(rig.storage);
    expect(sequences).toEqual([1, 2, 3, 4, 5]);
    expect(tail.damage).toEqual([]);
  });

  it('the first record behind a sync starts at a multiple of 4096, so that flushed bytes are never written again', async () => {
    const rig = await LogRig.begin();
    const synced = new Map<string, number>();
    let end = 0;
    rig.storage.gate = async ({ operation, path, position, lengthBytes }) => {
      if (operation === 'datasync') synced.set(path, end);
      if (operation !== 'write' || !path.startsWith('log/')) return;
      expect(position).toBeGreaterThanOrEqual(synced.get(path) ?? 0);
      end = position + lengthBytes;
    };
    const starts: number[] = [];
    for (let i = 0; i < 20; i++) {
      await rig.zeros(i, 1);
      if (i % 3 === 0) await rig.log.flush();
      if (i % 3 === 1) starts.push(i);
    }
    const records = await rig.records(1);
    for (const i of starts) expect(records[i]!.header.offset % 4096).toBe(0);
    expect(records[2]!.header.offset % 4096).toBe(512);
  });

  it('states in each record what is durable', async () => {
    const rig = await LogRig.begin();
    for (let i = 0; i < 3; i++) await rig.zeros(i, 1);
    await rig.log.flush();
    expect(rig.log.durableAppend).toBe(3);
    await rig.zeros(3, 1);
    const stated = (await rig.records(1)).map((record) => record.header.durable);
    expect(stated).toEqual([0, 0, 0, 3]);
  });

  it('that fails poisons the log: nothing is taken any more, nothing is synced again', async () => {
    const rig = await LogRig.begin();
    await rig.write(0);
    rig.storage.fail('datasync');
    const flushes = [rig.log.flush(), rig.log.flush()].map((flush) =>
      expect(flush).rejects.toEqual(isCode('POISONED')),
    );
    await Promise.all(flushes);
    rig.storage.trace.length = 0;
    await expect(rig.write(1)).rejects.toEqual(isCode('POISONED'));
    await expect(rig.log.flush()).rejects.toEqual(isCode('POISONED'));
    rig.clock.advance(1000);
    await rig.log.close();
    expect(rig.storage.trace.filter(({ path }) => path === segmentPath(1))).toEqual([]);
  });
});

describe('the closing record', () => {
  const lastFlags = async (rig: LogRig): Promise<number> =>
    (await rig.records(1)).at(-1)!.header.flags & ~RECORD_COPIED;

  it('is written and synced 100 ms after a flush, once, if nothing comes', async () => {
    const rig = await LogRig.begin();
    await rig.write(0);
    await rig.log.flush();
    rig.clock.advance(99);
    await rig.rest();
    expect(await lastFlags(rig)).toBe(0);
    rig.clock.advance(1);
    await rig.rest();
    expect(await lastFlags(rig)).toBe(RECORD_CLOSING);
    rig.clock.advance(1000);
    await rig.rest();
    expect(await rig.records(1)).toHaveLength(2);
    rig.storage.crash();
    const { tail } = await readLog(rig.storage);
    expect(tail).toMatchObject({ closedCleanly: true, torn: false, durable: 1 });
  });

  it('with bytes of an interrupted append behind it does not make a clean close', async () => {
    const rig = await LogRig.begin();
    await rig.write(0);
    await rig.log.flush();
    rig.clock.advance(100);
    await rig.rest();
    const at = Math.ceil(rig.log.position.offset / 4096) * 4096;
    rig.storage.edit(segmentPath(1), (file) => file.fill(0x5a, at + 40, at + 80));
    const { tail, sequences } = await readLog(rig.storage);
    expect(sequences).toEqual([1]);
    expect(tail).toMatchObject({ torn: true, closedCleanly: false, durable: 1, damage: [] });
  });

  it('is not written while writes are unsynced, nor when one came in time', async () => {
    const rig = await LogRig.begin();
    await rig.write(0);
    await rig.log.flush();
    rig.clock.advance(50);
    await rig.write(1);
    rig.clock.advance(60);
    await rig.rest();
    expect(await rig.records(1)).toHaveLength(2);
  });

  it('is written when the log is closed, and what comes then is refused', async () => {
    const rig = await LogRig.begin();
    const write = rig.write(0);
    await rig.log.close();
    await write;
    expect(await lastFlags(rig)).toBe(RECORD_CLOSING);
    await expect(rig.write(1)).rejects.toEqual(isCode('CLOSED'));
    rig.storage.crash();
    const { tail, sequences } = await readLog(rig.storage);
    expect(sequences).toEqual([1]);
    expect(tail.closedCleanly).toBe(true);
  });

  it('is not written to a log without records', async () => {
    const rig = await LogRig.begin();
    await rig.log.close();
    expect(await segmentFiles(rig.storage)).toEqual([]);
  });

  it('that cannot be written takes nothing away', async () => {
    const rig = await LogRig.begin();
    await rig.write(0);
    await rig.log.flush();
    rig.storage.fail('write', { path: /1.seg/ });
    rig.clock.advance(100);
    await rig.rest();
    await rig.write(1);
    await rig.log.close();
    expect((await readLog(rig.storage)).sequences).toEqual([1, 2]);
  });

  it('whose sync fails poisons', async () => {
    const rig = await LogRig.begin();
    await rig.write(0);
    await rig.log.flush();
    rig.storage.fail('datasync');
    rig.clock.advance(100);
    await rig.rest();
    await expect(rig.write(1)).rejects.toEqual(isCode('POISONED'));
  });
});

describe('a write that fails', () => {
  it('ends the segment: later ones go to a new one that says where the good part ended', async () => {
    const rig = await LogRig.begin();
    await rig.write(0);
    const end = rig.log.position.offset;
    rig.storage.fail('write', { path: /1.seg/ });
    await expect(rig.write(1)).rejects.toEqual(isCode('IO'));
    rig.storage.trace.length = 0;
    await rig.write(2);
    await rig.write(3);
    expect(rig.storage.trace.some((each) => each.operation === 'write' && each.path === segmentPath(1))).toBe(
      false,
    );
    const next = (await SegmentScanner.open(rig.storage, UUID, 2))!;
    expect(next.header).toMatchObject({ predecessor: 1, predecessorEnd: end });
    const { tail, entries } = await readLog(rig.storage);
    expect(tail.damage).toEqual([]);
    // What failed took its numbers with it.
    expect(entries.map((entry) => ('first' in entry ? entry.first : -1))).toEqual([0, 2, 3]);
    expect(entries.map((entry) => entry.sequence)).toEqual([1, 3, 4]);
  });

  it('is told to all who wait, in order, and only to them', async () => {
    const rig = await LogRig.begin();
    await rig.write(0);
    rig.storage.fail('write', { code: 'NO_SPACE', path: /1.seg/ });
    const results = await Promise.allSettled([rig.write(1), rig.write(2), rig.write(3)]);
    expect(results.map((result) => result.status)).toEqual(['rejected', 'rejected', 'rejected']);
    expect((results[0] as PromiseRejectedResult).reason).toEqual(isCode('NO_SPACE'));
    await rig.write(4);
  });

  it('still has its segment synced by the next flush', async () => {
    const rig = await LogRig.begin();
    await rig.write(0);
    rig.storage.fail('write', { path: /1.seg/ });
    await expect(rig.write(1)).rejects.toEqual(isCode('IO'));
    await rig.log.flush();
    rig.storage.crash();
    expect((await readLog(rig.storage)).sequences[0]).toBe(1);
  });

  it('of a segment header leaves no file behind, and none open', async () => {
    const rig = await LogRig.begin();
    await rig.write(0);
    await rig.rest();
    rig.storage.fail('write', { path: /1.seg/ });
    await expect(rig.write(1)).rejects.toEqual(isCode('IO'));
    const { openFiles } = rig.storage;
    for (const lands of [true, false, true, false]) {
      rig.storage.fail('write', { position: 0, lands });
      await expect(rig.write(1)).rejects.toEqual(isCode('IO'));
      expect(await segmentFiles(rig.storage)).toEqual([1]);
      expect(rig.storage.openFiles).toBe(openFiles);
    }
    await rig.write(2);
    const { tail, entries } = await readLog(rig.storage);
    expect(tail.damage).toEqual([]);
    expect(entries.map((entry) => ('first' in entry ? entry.first : -1))).toEqual([0, 2]);
  });

  it('of a footer costs the footer only', async () => {
    const rig = await LogRig.begin();
    for (let i = 0; i < 3; i++) await rig.write(i * 64, Buffer.alloc(BIG, i));
    rig.storage.fail('write', { path: /1.seg/ });
    await expect(rig.write(0, Buffer.alloc(BIG))).rejects.toEqual(isCode('IO'));
    await rig.write(1);
    expect(await (await SegmentScanner.open(rig.storage, UUID, 1))!.footer()).toBeUndefined();
    const { tail, sequences } = await readLog(rig.storage);
    expect(sequences).toEqual([1, 2, 3, 4]);
    expect(tail.damage).toEqual([]);
  });
});
