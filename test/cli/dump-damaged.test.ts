/** `coppice dump` of damaged stores: what is damaged is said to be, and ends nothing. */

import fs from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import {
  CHUNK,
  closedStore,
  damageFile,
  DISK_BYTES,
  dump,
  entries,
  filesUnder,
  pointers,
  records,
  sealedSegment,
  SEGMENT_BYTES,
  segmentFile,
  segments,
  superblock,
  versions,
} from './dumped-store.ts';

const CHUNKS = DISK_BYTES / CHUNK;
/** Where the second copy of a segment's header begins. */
const HEADER_COPY = 2048;

describe('a dump of a damaged store', () => {
  it('goes on with one slot of the superblock, and without any', async () => {
    const { directory } = await closedStore();
    const whole = (await dump(directory, versions)).rows;
    const counting = (await dump(directory, superblock)).rows.findIndex(({ counts }) => counts === true);
    damageFile(path.join(directory, 'superblock'), counting * 4096 + 20);
    const { rows } = await dump(directory, superblock);
    expect(rows[counting]).toMatchObject({ state: 'damaged', counts: false, generation: null });
    expect(rows[1 - counting]).toMatchObject({ state: 'whole', counts: true });
    expect((await dump(directory, versions)).rows).toEqual(whole);

    damageFile(path.join(directory, 'superblock'), (1 - counting) * 4096 + 20);
    const { rows: told, complaints } = await dump(directory, versions);
    expect(told).toEqual(whole);
    expect(complaints).toEqual([expect.stringMatching('both copies of the superblock are damaged')]);

    fs.rmSync(path.join(directory, 'superblock'));
    expect((await dump(directory, superblock)).rows.map(({ state }) => state)).toEqual([
      'missing',
      'missing',
    ]);
    expect((await dump(directory, versions)).rows).toEqual(whole);
  });

  it('tells a damaged header of a segment, and reads its records all the same', async () => {
    const { directory } = await closedStore();
    const { segment, rows } = await sealedSegment(directory);
    damageFile(segmentFile(directory, segment), 30);
    const row = async () => (await dump(directory, segments)).rows.find((each) => each.segment === segment)!;
    expect(await row()).toMatchObject({ header: 'copy', kind: 'log', epoch: 1 });
    damageFile(segmentFile(directory, segment), HEADER_COPY + 30);
    expect(await row()).toMatchObject({ header: 'damaged', kind: 'unknown', epoch: null, stated: 'log' });
    expect((await row()).records).toBe(rows.length - 1);
    expect((await dump(directory, records(segment))).rows).toEqual(rows);
  });

  it('still has the versions where the log is cut off, and says where', async () => {
    const { directory } = await closedStore();
    const whole = (await dump(directory, versions)).rows;
    const { rows } = await dump(directory, segments);
    const cut = rows[1]!.segment as number;
    damageFile(segmentFile(directory, cut), 30, HEADER_COPY + 30);
    const { rows: told, complaints } = await dump(directory, versions);
    expect(told).toEqual(whole);
    expect(complaints.join('\n')).toMatch('is cut off from the log');
  });

  it('says what a missing file was to the newest catalog', async () => {
    const { directory } = await closedStore();
    fs.rmSync(segmentFile(directory, 2));
    const { rows } = await dump(directory, segments);
    expect(rows.find(({ segment }) => segment === 2)).toMatchObject({
      kind: 'missing',
      stated: 'log',
      bytes: null,
    });
    await expect(dump(directory, records(2))).rejects.toMatchObject({ code: 'NOT_FOUND' });
  });

  it('tells which of the records cannot be read, and why, and prints all others', async () => {
    const { directory } = await closedStore();
    const { segment, rows } = await sealedSegment(directory);
    const file = segmentFile(directory, segment);
    const [first, second, third] = rows as { offset: number; tableBytes: number; payloadBytes: number }[];
    const states = async (): Promise<unknown[]> =>
      (await dump(directory, records(segment))).rows.map(({ state }) => state);
    const others = (await states()).slice(3);
    expect(second!.payloadBytes + third!.payloadBytes).toBeGreaterThan(0);

    damageFile(file, first!.offset + 10);
    expect(await states()).toEqual(['start damaged, read from its copy', 'whole', 'whole', ...others]);
    damageFile(file, second!.offset - 20);
    const [lost, ...rest] = await states();
    expect(lost).toMatch(/damaged, the footer knows it/);
    expect(rest).toEqual(['whole', 'whole', ...others]);
    const withPayload = rows.findIndex(({ payloadBytes }, i) => i > 0 && (payloadBytes as number) > 0);
    const { offset, tableBytes } = rows[withPayload] as typeof first & object;
    damageFile(file, offset + 80 + tableBytes + 5);
    expect((await states())[withPayload]).toBe('payload damaged');
    expect((await dump(directory, entries(segment))).rows[0]).toMatchObject({
      kind: 'damaged',
      record: 4096,
    });
  });

  it('tells where nothing whole stands in a segment without a footer', async () => {
    const { directory } = await closedStore();
    const last = (await dump(directory, segments)).rows.at(-1)!.segment as number;
    const { rows } = await dump(directory, records(last));
    const [, second, third] = rows as { offset: number }[];
    const file = segmentFile(directory, last);
    damageFile(file, second!.offset + 10, third!.offset - 4); // its copy ends with the record
    const { rows: damaged } = await dump(directory, records(last));
    expect(damaged.length).toBe(rows.length);
    expect(damaged[1]).toMatchObject({
      append: null,
      state: expect.stringMatching(/^nothing whole/) as string,
    });
    expect([damaged[0], ...damaged.slice(2)]).toEqual([rows[0], ...rows.slice(2)]);
    expect((await dump(directory, segments)).rows.at(-1)).toMatchObject({
      lost: 1,
      records: rows.length - 1,
    });
  });

  it('prints what is left of a file that was cut short, at any length', async () => {
    const { directory } = await closedStore();
    const { segment, rows } = await sealedSegment(directory);
    for (const bytes of [SEGMENT_BYTES - 512, SEGMENT_BYTES / 2, 5000, 4096, 2000, 511, 0]) {
      fs.truncateSync(segmentFile(directory, segment), bytes);
      const found = (await dump(directory, segments)).rows.find((each) => each.segment === segment);
      expect(found).toMatchObject({ bytes, sealed: 'no' });
      const left = (await dump(directory, records(segment))).rows;
      expect(left.length).toBeLessThanOrEqual(rows.length);
      expect((await dump(directory, versions)).rows.length).toBeGreaterThan(0);
    }
  });

  it('says where a pointer leads to something else', async () => {
    const { directory } = await closedStore();
    const data = (await dump(directory, pointers('a', 0, CHUNKS))).rows.filter(({ kind }) => kind === 'data');
    const row = data[0]!;
    const chunk = row.chunk as number;
    const file = segmentFile(directory, row.segment as number);
    damageFile(file, (row.offset as number) + 100);
    const now = async () => (await dump(directory, pointers('a', chunk))).rows[0];
    expect(await now()).toEqual({ ...row, matches: 'the bytes are damaged' });
    fs.rmSync(file);
    expect((await now())!.matches).toBe(`no segment ${row.segment as number}`);
  });

  it('says what to do where the index is missing or damaged', async () => {
    const { directory } = await closedStore();
    const index = path.join(directory, 'index');
    const tables = fs.readdirSync(index).filter((name) => /\.(ldb|log)$/.test(name));
    for (const name of tables) fs.truncateSync(path.join(index, name), 0);
    await expect(dump(directory, pointers('a', 0))).rejects.toMatchObject({
      code: 'IO',
      message: expect.stringContaining('rebuild-index') as string,
    });
    fs.rmSync(index, { recursive: true });
    await expect(dump(directory, pointers('a', 0))).rejects.toMatchObject({
      code: 'NOT_FOUND',
      message: expect.stringContaining('rebuild-index') as string,
    });
  });

  it('of random damage never ends in a mistake', async () => {
    const { directory, random } = await closedStore();
    const files = [...filesUnder(path.join(directory, 'log')).keys(), path.join(directory, 'superblock')];
    for (let round = 0; round < 12; round++) {
      for (let i = 0; i < 10; i++) {
        const file = random.pick(files);
        const { size } = fs.statSync(file);
        if (size > 0)
          damageFile(file, random.chance(50) ? random.below(Math.min(size, 9000)) : random.below(size));
      }
      for (const subject of [superblock, segments, records(1), entries(2), versions, pointers('a', 0, 300)]) {
        await dump(directory, subject).catch((error: unknown) => {
          expect(error).toMatchObject({ name: 'StoreError' });
        });
      }
    }
  });
});
