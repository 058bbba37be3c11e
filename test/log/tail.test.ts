/** Where the log ends: torn tails at every byte, corruption told apart from them, links, and what may be removed. */

import { randomBytes } from 'node:crypto';
import { describe, expect, it, vi } from 'vitest';
import {
  COPY_TAIL_BYTES,
  FIRST_RECORD_OFFSET,
  RECORD_HEADER_BYTES,
  RECORD_TAIL_REWRITTEN,
  SEGMENT_REWRITES_TAIL,
  encodeRecordHeader,
  encodeSegmentHeader,
  segmentPath,
} from '../../src/log/format.ts';
import { entriesOf, recordEnd, type ScannedRecord, SegmentScanner } from '../../src/log/scan.ts';
import { MemoryStorage } from '../support/memory-storage.ts';
import { Random, seeds } from '../support/random.ts';
import { CHUNK, LogRig, readLog, recordsOf, UUID } from './rig.ts';

const BIG = 64 * CHUNK;

vi.setConfig({ testTimeout: 60_000 });

const damageOf = (read: { tail: { damage: readonly { code: string }[] } }): string[] =>
  read.tail.damage.map(({ code }) => code);

/** Where header and table of a record stand again. */
const copyOf = ({ header }: ScannedRecord): number =>
  recordEnd(header) - COPY_TAIL_BYTES - RECORD_HEADER_BYTES - header.tableBytes;

/** Overwrites bytes of a record's header, in both its places. */
function damageRecord(storage: MemoryStorage, record: ScannedRecord): void {
  for (const at of [record.header.offset, copyOf(record)])
    storage.edit(segmentPath(record.header.segment), (file) => file.fill(0xa5, at + 20, at + 36));
}

/** Three records, all flushed but the last `unflushed`. */
async function threeRecords(unflushed: number): Promise<{ rig: LogRig; records: ScannedRecord[] }> {
  const rig = await LogRig.begin();
  for (let i = 0; i < 3; i++) {
    if (i === 3 - unflushed) await rig.log.flush();
    // A table of two entries, and payload that no zeros could replace.
    await Promise.all([rig.write(i, Buffer.alloc(CHUNK, 0x41 + i)), rig.zeros(1000 + i, 5)]);
  }
  if (unflushed === 0) await rig.log.flush();
  return { rig, records: await rig.records(1) };
}

describe('a torn tail', () => {
  it('is cut at the last whole record, wherever the write broke off', async () => {
    const { rig, records } = await threeRecords(2);
    const [, second, third] = records;
    const whole = Buffer.from(rig.storage.bytes(segmentPath(1)));
    const from = second!.header.offset;
    const end = recordEnd(third!.header);
    // Every byte of headers and tables, and of payloads the edges of sectors and chunks.
    const cuts: number[] = [];
    for (let at = from; at <= end; at++) {
      const inTable = [second!, third!].some(({ header }) => {
        return at >= header.offset && at <= header.offset + RECORD_HEADER_BYTES + header.tableBytes + 2;
      });
      if (inTable || at % 512 < 2 || at % 97 === 0) cuts.push(at);
    }
    const payloadEnd = ({ header }: ScannedRecord): number =>
      header.offset + RECORD_HEADER_BYTES + header.tableBytes + header.payloadBytes;
    for (const cut of cuts) {
      rig.storage.edit(segmentPath(1), (file) => {
        whole.copy(file);
        file.fill(0, cut, end);
      });
      const read = await readLog(rig.storage);
      const kept = [second!, third!].filter((record) => cut >= payloadEnd(record)).length;
      expect(read.sequences, `cut at ${cut}`).toHaveLength(2 + 2 * kept);
      expect(damageOf(read), `cut at ${cut}`).toEqual([]);
      const last = records[kept]!;
      expect(read.tail.end, `cut at ${cut}`).toMatchObject({
        segment: 1,
        offset: recordEnd(last.header),
        checksum: last.header.checksum,
        append: last.header.append,
      });
    }
  });

  it('is seen as torn when bytes of it are there, and not when none are', async () => {
    const { rig, records } = await threeRecords(1);
    const third = records[2]!;
    expect((await readLog(rig.storage)).tail).toMatchObject({ torn: false, durable: 2 });
    rig.storage.edit(segmentPath(1), (file) =>
      file.fill(0, third.header.offset + 40, recordEnd(third.header)),
    );
    expect((await readLog(rig.storage)).tail).toMatchObject({ torn: true, closedCleanly: false });
    rig.storage.edit(segmentPath(1), (file) => file.fill(0, third.header.offset, recordEnd(third.header)));
    expect((await readLog(rig.storage)).tail.torn).toBe(false);
  });

  it('with a whole header and table, but payload of before, is cut as well', async () => {
    const { rig, records } = await threeRecords(1);
    const [entry] = entriesOf(records[2]!);
    if (entry?.kind !== 1) throw new Error('no chunks');
    rig.storage.edit(segmentPath(1), (file) => file.fill(0x77, entry.offset + 512, entry.offset + 1024));
    const read = await readLog(rig.storage);
    expect(read.sequences).toEqual([1, 2, 3, 4]);
    expect(read.tail).toMatchObject({ torn: true, damage: [] });
  });

  it('does not bring back what lies behind it, however whole: the loss is a prefix', async () => {
    const { rig, records } = await threeRecords(2);
    damageRecord(rig.storage, records[1]!);
    const read = await readLog(rig.storage);
    expect(read.sequences).toEqual([1, 2]);
    expect(damageOf(read)).toEqual([]);
  });

  it('cuts later segments too, whatever of them reached the disk', async () => {
    const rig = await LogRig.begin();
    await rig.write(0);
    await rig.log.flush();
    for (let i = 0; i < 8; i++) await rig.write(64 * i, randomBytes(BIG));
    const [, second] = await rig.records(1);
    rig.storage.edit(segmentPath(1), (file) => file.fill(0, second!.header.offset, 1 << 20));
    const read = await readLog(rig.storage);
    expect(read.sequences).toEqual([1]);
    expect(damageOf(read)).toEqual([]);
    expect(read.tail.segments).toEqual([1]);
    expect(read.tail.strays.toSorted((a, b) => a - b)).toEqual([2, 3, 4]);
  });

  it('leaves nothing but what was whole, whichever sectors a power cut keeps', async () => {
    for (const seed of seeds(60)) {
      const random = new Random(seed);
      const rig = await LogRig.begin();
      let flushed = 0;
      const written: Buffer[] = [];
      const operations = random.between(1, 25);
      for (let i = 0; i < operations; i++) {
        const bytes = randomBytes(CHUNK * random.pick([1, 1, 2, 16, 64]));
        await rig.write(1000 * i, bytes);
        written.push(bytes);
        if (random.chance(20)) {
          await rig.log.flush();
          flushed = written.length;
        }
      }
      const percent = random.pick([0, 10, 50, 90, 99, 100]);
      rig.storage.crash(() => random.chance(percent));
      const read = await readLog(rig.storage);
      expect(damageOf(read), `SEED=${seed}`).toEqual([]);
      expect(read.entries.length, `SEED=${seed}`).toBeGreaterThanOrEqual(flushed);
      expect(read.sequences, `SEED=${seed}`).toEqual(read.sequences.map((_, i) => i + 1));
      for (const record of read.records) {
        const scanner = (await SegmentScanner.open(rig.storage, UUID, record.header.segment))!;
        for (const entry of entriesOf(record)) {
          if (entry.kind !== 1) continue;
          const bytes = await scanner.payload(entry);
          expect(bytes.equals(written[entry.sequence - 1]!), `SEED=${seed}`).toBe(true);
        }
        await scanner.close();
      }
    }
  });
});

describe('corruption', () => {
  it('below the watermark is reported and skipped; later records stay', async () => {
    const { rig, records } = await threeRecords(1);
    damageRecord(rig.storage, records[1]!);
    const read = await readLog(rig.storage);
    expect(read.sequences).toEqual([1, 2, 5, 6]);
    expect(damageOf(read)).toEqual(['LOG_RECORD_DAMAGED']);
    expect(read.tail.damage[0]).toMatchObject({ segment: 1, offset: recordEnd(records[0]!.header) });
  });

  it('of any bit of a header, a table, or their copy loses nothing', async () => {
    const { rig, records } = await threeRecords(0);
    await rig.log.close();
    const { offset, tableBytes } = records[1]!.header;
    const headBytes = RECORD_HEADER_BYTES + tableBytes;
    const copyAt = copyOf(records[1]!);
    for (let bit = 0; bit < (2 * headBytes + COPY_TAIL_BYTES) * 8; bit++) {
      const byte = bit >> 3;
      const at = byte < headBytes ? offset + byte : copyAt + byte - headBytes;
      const flip = (file: Buffer): void => {
        file[at]! ^= 1 << (bit & 7);
      };
      rig.storage.edit(segmentPath(1), flip);
      const read = await readLog(rig.storage);
      expect(read.sequences, `bit ${bit}`).toEqual([1, 2, 3, 4, 5, 6]);
      expect(damageOf(read), `bit ${bit}`).toEqual([]);
      expect(read.tail.closedCleanly, `bit ${bit}`).toBe(true);
      rig.storage.edit(segmentPath(1), flip);
    }
  });

  it('of both copies is noticed, never taken for the end of a log that was closed', async () => {
    const { rig, records } = await threeRecords(0);
    await rig.log.close();
    damageRecord(rig.storage, records[1]!);
    const read = await readLog(rig.storage);
    expect(read.sequences).toEqual([1, 2, 5, 6]);
    expect(damageOf(read)).toEqual(['LOG_RECORD_DAMAGED']);
    expect(read.tail.closedCleanly).toBe(true);
  });

  it('of the very last record before the closing one is told apart too', async () => {
    const { rig, records } = await threeRecords(0);
    await rig.log.close();
    damageRecord(rig.storage, records[2]!);
    const read = await readLog(rig.storage);
    expect(read.sequences).toEqual([1, 2, 3, 4]);
    expect(damageOf(read)).toEqual(['LOG_RECORD_DAMAGED']);
  });

  it('of a watermark that a caller knows is enough, without any later record', async () => {
    const { rig, records } = await threeRecords(1);
    damageRecord(rig.storage, records[0]!);
    expect((await readLog(rig.storage)).sequences).toEqual([3, 4, 5, 6]);
  });

  it('of several records in a row, and of all of a segment, costs only them', async () => {
    const rig = await LogRig.begin();
    for (let i = 0; i < 9; i++) {
      await rig.write(64 * i, Buffer.alloc(BIG, i));
      await rig.log.flush();
    }
    await rig.log.close();
    const inFirst = await rig.records(1);
    const inSecond = await rig.records(2);
    // A sealed segment is read from its footer: damage of its records is found by who reads them.
    damageRecord(rig.storage, inFirst[1]!);
    expect((await readLog(rig.storage)).sequences).toHaveLength(9);
    // Without its footer, record by record.
    rig.storage.edit(segmentPath(1), (file) => file.fill(0, (1 << 20) - 512));
    let read = await readLog(rig.storage);
    expect(read.sequences).toEqual([1, 3, 4, 5, 6, 7, 8, 9]);
    damageRecord(rig.storage, inFirst[2]!);
    read = await readLog(rig.storage);
    expect(read.sequences).toEqual([1, 4, 5, 6, 7, 8, 9]);
    rig.storage.edit(segmentPath(2), (file) => file.fill(0x5a, FIRST_RECORD_OFFSET));
    read = await readLog(rig.storage);
    for (const record of inSecond) expect(read.sequences).not.toContain(entriesOf(record)[0]!.sequence);
    expect(read.sequences).toEqual([1, 7, 8, 9]);
    expect(new Set(damageOf(read))).toEqual(new Set(['LOG_RECORD_DAMAGED']));
  });

  it('never makes a record of payload that looks like one, as long as the chain holds', async () => {
    const rig = await LogRig.begin();
    await rig.zeros(1, 1);
    const [record] = await rig.records(1);
    const copy = Buffer.from(rig.storage.bytes(segmentPath(1)).subarray(record!.header.offset, 4608));
    const payload = Buffer.alloc(BIG);
    for (let at = 0; at + 512 <= BIG; at += 512) copy.copy(payload, at);
    await rig.write(0, payload);
    await rig.log.close();
    const read = await readLog(rig.storage);
    expect(read.sequences).toEqual([1, 2]);
    // Even when a scan has to search its way through it.
    damageRecord(rig.storage, (await rig.records(1))[1]!);
    expect((await readLog(rig.storage)).sequences).toEqual([1]);
  });

  it('does not bring back what an earlier cut left in a gap between records', async () => {
    const rig = await LogRig.begin();
    for (let i = 0; i < 3; i++) {
      await rig.zeros(i, 1);
      await rig.log.flush();
    }
    await rig.log.close();
    const [first, second] = await rig.records(1);
    // A whole record of before, in its right place, as the tail of an earlier life leaves it.
    const leftover = Buffer.alloc(512);
    const { tableBytes } = first!.header;
    first!.table.copy(leftover, RECORD_HEADER_BYTES);
    leftover.writeUInt32BE(77, RECORD_HEADER_BYTES + 6); // its sequence
    encodeRecordHeader(leftover, { ...first!.header, offset: 5120, previousChecksum: 1 }, UUID);
    rig.storage.edit(segmentPath(1), (file) => leftover.copy(file, 5120));
    const scanner = (await SegmentScanner.open(rig.storage, UUID, 1))!;
    expect((await scanner.recordAt(5120))!.header.tableBytes).toBe(tableBytes);
    expect((await readLog(rig.storage)).sequences).toEqual([1, 2, 3]);
    damageRecord(rig.storage, second!);
    const read = await readLog(rig.storage);
    expect(read.sequences).toEqual([1, 3]);
    expect(damageOf(read)).toEqual(['LOG_RECORD_DAMAGED']);
  });

  it('is searched past in one pass, however many records there are', async () => {
    const rig = await LogRig.begin({ segmentBytes: 4 << 20 });
    for (let i = 0; i < 600; i++) {
      await rig.zeros(i, 1);
      if (i % 8 === 0) await rig.log.flush();
    }
    await rig.log.close();
    damageRecord(rig.storage, (await rig.records(1))[0]!);
    rig.storage.readBytes = 0;
    const read = await readLog(rig.storage);
    expect(read.sequences).toHaveLength(599);
    expect(rig.storage.readBytes).toBeLessThan(24 << 20);
  });
});

describe('links between segments', () => {
  /** Three segments, flushed and closed. */
  async function segments(): Promise<LogRig> {
    const rig = await LogRig.begin();
    for (let i = 0; i < 9; i++) {
      await rig.write(64 * i, Buffer.alloc(BIG, i));
      if (i % 2 === 0) await rig.log.flush();
    }
    await rig.log.close();
    return rig;
  }

  it('are followed from the beginning or from any record', async () => {
    const rig = await segments();
    const all = await readLog(rig.storage);
    expect(all.sequences).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9]);
    expect(all.tail.segments).toEqual([1, 2, 3]);
    for (let i = 0; i < all.records.length - 1; i++) {
      const { segment, offset } = all.records[i]!.header;
      const read = await readLog(rig.storage, all.records[i]!.header.append, { segment, offset });
      expect(read.sequences).toEqual(all.sequences.slice(i));
      expect(read.tail.end).toEqual(all.tail.end);
      expect(read.tail.closedCleanly).toBe(true);
    }
  });

  it('a segment header vouches for the records before it, even if nothing follows', async () => {
    const rig = await LogRig.begin();
    for (let i = 0; i < 3; i++) await rig.write(64 * i, Buffer.alloc(BIG, i));
    await rig.log.flush();
    rig.storage.fail('write', { path: /2.seg/, position: FIRST_RECORD_OFFSET, lands: false, sticky: true });
    await expect(rig.write(0, Buffer.alloc(BIG))).rejects.toThrow();
    const read = await readLog(rig.storage);
    expect(read.sequences).toEqual([1, 2, 3]);
    expect(read.tail.durable).toBe(3);
    expect(read.tail.provenEnd).toMatchObject({ segment: 1, append: 3 });
    expect(read.tail.strays).toContain(2);
  });

  it('one copy of a segment header is enough', async () => {
    for (const at of [0, 2048]) {
      const rig = await segments();
      for (const segment of [1, 2, 3]) {
        rig.storage.edit(segmentPath(segment), (file) => file.fill(0xff, at, at + 68));
      }
      const read = await readLog(rig.storage);
      expect(read.sequences).toHaveLength(9);
      expect(damageOf(read)).toEqual([]);
    }
  });

  it('without a header, any segment is lost, and that is said: nothing may be thrown away', async () => {
    for (const segment of [1, 2, 3]) {
      const rig = await segments();
      rig.storage.edit(segmentPath(segment), (file) => file.fill(0, 0, 4096));
      expect(damageOf(await readLog(rig.storage)), `segment ${segment}`).toContain('LOG_SEGMENT_LOST');
    }
  });

  it('without the file, the rest is cut off, and that is said', async () => {
    for (const segment of [1, 2]) {
      const rig = await segments();
      await rig.storage.remove(segmentPath(segment));
      expect(damageOf(await readLog(rig.storage)), `segment ${segment}`).toContain('LOG_SEGMENT_LOST');
    }
  });

  it('a file without a header that proves nothing is a leftover, in the middle too', async () => {
    // A power cut may keep the header of a later segment, and lose that of one before it.
    const rig = await LogRig.begin();
    await rig.write(0);
    await rig.log.flush();
    for (let i = 0; i < 8; i++) await rig.write(64 * i, randomBytes(BIG));
    rig.storage.edit(segmentPath(2), (file) => file.fill(0, 0, 4096));
    const read = await readLog(rig.storage);
    expect(damageOf(read)).toEqual([]);
    expect(read.sequences).toEqual([1, 2, 3, 4].slice(0, read.sequences.length));
    expect(read.tail.segments).toEqual([1]);
    expect(read.tail.strays.toSorted((a, b) => a - b)).toEqual([2, 3, 4]);
  });

  it('an empty segment in between, which a failed write left, is passed', async () => {
    const rig = await LogRig.begin();
    await rig.write(0);
    rig.storage.fail('write', { path: /1.seg/ });
    await expect(rig.write(1)).rejects.toThrow();
    rig.storage.fail('write', { path: /2.seg/, position: FIRST_RECORD_OFFSET });
    await expect(rig.write(2)).rejects.toThrow();
    await rig.write(3);
    await rig.log.close();
    const read = await readLog(rig.storage);
    expect(read.tail.segments).toEqual([1, 2, 3]);
    expect(read.entries.map((entry) => ('first' in entry ? entry.first : -1))).toEqual([0, 3]);
  });
});

describe('a tail that is written again', () => {
  /** A log whose records 3 and 4 are written again, by hand, behind record 2, by a log that ends before the mark. */
  async function rewriting(): Promise<LogRig> {
    const rig = await LogRig.begin();
    for (let i = 0; i < 2; i++) await rig.write(i);
    await rig.log.flush();
    rig.log.beginRewrite();
    rig.storage.fail('write', { path: /1.seg/ });
    await expect(rig.write(2)).rejects.toThrow(); // ends the segment
    for (let i = 0; i < 6; i++) await rig.write(64 * i, Buffer.alloc(BIG, i));
    return rig;
  }

  it('counts from its mark on', async () => {
    const rig = await rewriting();
    expect((await readLog(rig.storage)).entries).toHaveLength(2);
    await rig.log.markTailRewritten();
    expect((await readLog(rig.storage)).entries).toHaveLength(8);
  });

  it('without a mark is a leftover, even if parts of it were synced', async () => {
    const rig = await rewriting();
    await rig.log.flush();
    for (let i = 6; i < 12; i++) await rig.write(64 * i, Buffer.alloc(BIG, i));
    await rig.log.flush();
    const read = await readLog(rig.storage);
    expect(read.entries).toHaveLength(2);
    expect(damageOf(read)).toEqual([]);
    expect(read.tail.strays.length).toBeGreaterThan(2);
  });

  it('is known to be whole by what a later recovery began, if a power cut then took the mark', async () => {
    const rig = await rewriting();
    await rig.log.markTailRewritten();
    await rig.log.close();
    const { segments } = (await readLog(rig.storage)).tail;
    const last = segments.at(-1)!;
    const { header: mark } = (await recordsOf(rig.storage, last)).find(
      ({ header }) => (header.flags & RECORD_TAIL_REWRITTEN) !== 0,
    )!;
    // Killed behind the mark, which nothing had proven: the next recovery begins to write it again, and loses its power.
    const before = (await readLog(rig.storage)).records.findLast(
      ({ header }) => header.append < mark.append,
    )!;
    rig.storage.edit(segmentPath(last), (file) => file.fill(0, mark.offset));
    await rig.storage.remove(segmentPath(last + 1));
    const later = await rig.storage.open(segmentPath(last + 1), 'create');
    const header = encodeSegmentHeader({
      flags: SEGMENT_REWRITES_TAIL,
      uuid: UUID,
      segment: last + 1,
      segmentBytes: 1 << 20,
      epoch: 9,
      predecessor: last,
      predecessorEnd: recordEnd(before.header),
      predecessorChecksum: before.header.checksum,
      firstAppend: 1000,
      durable: mark.durable,
    });
    await later.allocate(1 << 20);
    await later.write([header], 0);
    await later.close();
    const read = await readLog(rig.storage);
    expect(read.entries).toHaveLength(8);
    expect(damageOf(read)).toEqual([]);
  });

  it('is not lost with its mark, or with a record before it', async () => {
    for (const damaged of ['mark', 'record'] as const) {
      const rig = await rewriting();
      await rig.log.markTailRewritten();
      await rig.write(100);
      await rig.log.close();
      const { segments } = (await readLog(rig.storage)).tail;
      const records = await recordsOf(rig.storage, segments.at(-1)!);
      const mark = records.findIndex((record) => (record.header.flags & RECORD_TAIL_REWRITTEN) !== 0);
      damageRecord(rig.storage, damaged === 'mark' ? records[mark]! : records[mark - 1]!);
      const read = await readLog(rig.storage);
      expect(read.tail.segments).toEqual(segments);
      expect(read.entries).toHaveLength(damaged === 'mark' ? 9 : 8);
      expect(damageOf(read)).toEqual(['LOG_RECORD_DAMAGED']);
    }
  });
});
