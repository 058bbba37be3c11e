/** The log read past its gaps: what is left of it comes in order, and what is lost is told. */

import { describe, expect, it } from 'vitest';
import { COPY_TAIL_BYTES, RECORD_HEADER_BYTES, segmentPath } from '../../src/log/format.ts';
import { inferHeader } from '../../src/log/headerless.ts';
import { entriesOf, recordEnd, type ScannedRecord } from '../../src/log/scan.ts';
import { type LogPosition, LogTail } from '../../src/log/tail.ts';
import { CHUNK, LogRig, readLog, segmentFiles, UUID } from './rig.ts';

interface PastGaps {
  tail: LogTail;
  records: ScannedRecord[];
  sequences: number[];
}

async function readPastGaps(rig: LogRig, durable = 0, start?: LogPosition): Promise<PastGaps> {
  const tail = new LogTail(rig.storage, UUID, durable, { passesGaps: true });
  const records: ScannedRecord[] = [];
  for await (const record of tail.records(start)) records.push(record);
  const sequences = records.flatMap((record) => entriesOf(record).map(({ sequence }) => sequence));
  return { tail, records, sequences };
}

/** A log of five segments and more, synced and closed. */
async function fiveSegments(): Promise<LogRig> {
  const rig = await LogRig.begin();
  while ((await segmentFiles(rig.storage)).length < 6) {
    await Promise.all([rig.write(1, Buffer.alloc(20 * CHUNK, 7)), rig.zeros(5, 1)]);
    await rig.log.flush();
  }
  await rig.log.close();
  return rig;
}

const appendsOf = (records: readonly ScannedRecord[]): number[] => records.map(({ header }) => header.append);

const behead = (rig: LogRig, segment: number): void =>
  rig.storage.edit(segmentPath(segment), (file) => file.fill(0xff, 0, 4096));

describe('a log that is whole', () => {
  it('is read the same', async () => {
    const rig = await fiveSegments();
    const usual = await readLog(rig.storage);
    const found = await readPastGaps(rig);
    expect(found.sequences).toEqual(usual.sequences);
    expect(found.tail.end).toEqual(usual.tail.end);
    expect(found.tail.segments).toEqual(usual.tail.segments);
    expect(found.tail).toMatchObject({ damage: [], strays: [], lacksRecords: false, torn: false });
  });

  it('ends where it does when an append was interrupted', async () => {
    const rig = await fiveSegments();
    const { tail } = await readLog(rig.storage);
    const { segment, offset } = tail.end!;
    rig.storage.edit(segmentPath(segment), (file) => file.fill(0x11, offset, offset + 100));
    const found = await readPastGaps(rig);
    expect(found.tail).toMatchObject({ damage: [], torn: true, end: tail.end });
  });
});

describe('a log that has lost a segment', () => {
  it('goes on behind it, whichever it is, and says so', async () => {
    for (const lost of [1, 2, 3, 4]) {
      const rig = await fiveSegments();
      const whole = await readLog(rig.storage);
      const left = whole.records.filter(({ header }) => header.segment !== lost);
      await rig.storage.remove(segmentPath(lost));
      const { tail, records } = await readPastGaps(rig);
      expect(appendsOf(records), `segment ${lost}`).toEqual(appendsOf(left));
      expect(tail.damage, `segment ${lost}`).toMatchObject([{ code: 'LOG_SEGMENT_LOST', segment: lost }]);
      expect(tail).toMatchObject({ lacksRecords: true, torn: false, strays: [] });
      expect(tail.end).toEqual(whole.tail.end);
    }
  });

  it('goes on behind two gaps, and behind several segments in a row', async () => {
    for (const lost of [
      [2, 4],
      [1, 2, 3],
    ]) {
      const rig = await fiveSegments();
      const { segments } = (await readLog(rig.storage)).tail;
      for (const each of lost) await rig.storage.remove(segmentPath(each));
      const { tail } = await readPastGaps(rig);
      expect(tail.segments).toEqual(segments.filter((each) => !lost.includes(each)));
      expect(tail.damage).toHaveLength(lost.length === 2 ? 2 : 1);
    }
  });

  it('goes on from a place in it that is lost', async () => {
    const rig = await fiveSegments();
    const whole = await readLog(rig.storage);
    const start = whole.records.find(({ header }) => header.segment === 3)!.header;
    await rig.storage.remove(segmentPath(3));
    const { tail, records } = await readPastGaps(rig, start.append, start);
    expect(records.every(({ header }) => header.segment > 3)).toBe(true);
    expect(tail.end).toEqual(whole.tail.end);
    expect(tail.damage).toMatchObject([{ code: 'LOG_SEGMENT_LOST', segment: 3 }]);
  });

  it('keeps what only a record behind the gap proves', async () => {
    const rig = await fiveSegments();
    const whole = await readLog(rig.storage);
    await rig.storage.remove(segmentPath(3));
    // The last records of the segment before: one is damaged, those behind it are whole.
    const inSecond = whole.records.filter(({ header }) => header.segment === 2);
    const damaged = inSecond.at(-3)!.header;
    const copy = recordEnd(damaged) - COPY_TAIL_BYTES - RECORD_HEADER_BYTES - damaged.tableBytes;
    for (const at of [damaged.offset, copy])
      rig.storage.edit(segmentPath(2), (file) => file.fill(0xa5, at + 20, at + 36));
    const { tail, records } = await readPastGaps(rig);
    const appends = appendsOf(records);
    expect(appends).not.toContain(damaged.append);
    expect(appends).toContain(inSecond.at(-1)!.header.append);
    expect(tail.damage.map(({ code }) => code)).toEqual(['LOG_RECORD_DAMAGED', 'LOG_SEGMENT_LOST']);
  });
});

describe('a log in which the header of a segment is lost', () => {
  it('has all records all the same, and says so', async () => {
    for (const lost of [1, 2, 3, 4, 5]) {
      const rig = await fiveSegments();
      const whole = await readLog(rig.storage);
      behead(rig, lost);
      const { tail, sequences } = await readPastGaps(rig);
      expect(sequences, `segment ${lost}`).toEqual(whole.sequences);
      expect(tail.damage, `segment ${lost}`).toMatchObject([{ code: 'LOG_HEADER_LOST', segment: lost }]);
      expect(tail.lacksRecords).toBe(false);
      expect(tail.end).toEqual(whole.tail.end);
    }
  });

  it('lacks it where no record of it is whole', async () => {
    const rig = await fiveSegments();
    rig.storage.edit(segmentPath(3), (file) => file.fill(0));
    const { tail } = await readPastGaps(rig);
    expect(tail.damage).toMatchObject([{ code: 'LOG_SEGMENT_LOST', segment: 3 }]);
    expect(await inferHeader(rig.storage, UUID, 3)).toBeUndefined();
    expect(await inferHeader(rig.storage, UUID, 999)).toBeUndefined();
  });
});
