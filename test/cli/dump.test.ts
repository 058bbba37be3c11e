/** `coppice dump`: what it says of whole stores is what the store says; what is damaged is said to be, and ends nothing. */

import fs from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { crc32c } from '../../src/base/crc.ts';
import { Output } from '../../src/cli/output.ts';
import { RowStream } from '../../src/cli/row-stream.ts';
import { Store } from '../../src/volume/store.ts';
import {
  CHUNK,
  damageFile,
  DISK_BYTES,
  draw,
  dump,
  DumpedStore,
  entries,
  filesUnder,
  newDirectory,
  pointers,
  records,
  SEGMENT_BYTES,
  segmentFile,
  segments,
  superblock,
  versions,
} from './dumped-store.ts';

const CHUNKS = DISK_BYTES / CHUNK;
/** Where the second copy of a segment's header begins. */
const HEADER_COPY = 2048;

async function closedStore(): Promise<DumpedStore> {
  const made = await DumpedStore.make();
  await made.store.close();
  return made;
}

/** The first segment with a footer, and its records. */
async function sealedSegment(directory: string) {
  const { rows } = await dump(directory, segments);
  const sealed = rows.find((row) => row.sealed === 'yes')!;
  const segment = sealed.segment as number;
  return { segment, rows: (await dump(directory, records(segment))).rows };
}

describe('a dump of a whole store', () => {
  it('changes no file, takes no lock, and complains about nothing', async () => {
    const { directory } = await closedStore();
    const before = filesUnder(directory);
    for (const subject of [
      superblock,
      segments,
      records(1),
      entries(1),
      versions,
      pointers('a', 0, CHUNKS),
    ]) {
      const { rows, complaints } = await dump(directory, subject);
      expect(rows.length).toBeGreaterThan(0);
      expect(complaints).toEqual([]);
    }
    expect(filesUnder(directory)).toEqual(before);
  });

  it('says of the superblock which slot counts', async () => {
    const { directory } = await closedStore();
    const { rows } = await dump(directory, superblock);
    expect(rows.map(({ slot, state }) => [slot, state])).toEqual([
      [1, 'whole'],
      [2, 'whole'],
    ]);
    const [one, two] = rows as { generation: number; counts: boolean }[];
    expect(one!.counts).toBe(one!.generation > two!.generation);
    expect(two!.counts).toBe(!one!.counts);
    expect(rows[0]).toMatchObject({ segmentBytes: SEGMENT_BYTES, revision: 1, base: null });
  });

  it('has every segment file, chained to the one before, stated by the newest catalog', async () => {
    const { directory } = await closedStore();
    const { rows } = await dump(directory, segments);
    const files = fs.readdirSync(path.join(directory, 'log'));
    expect(rows.map(({ segment }) => path.basename(segmentFile('', segment as number)))).toEqual(files);
    expect(files.length).toBeGreaterThan(4);
    let before: number | undefined;
    for (const row of rows) {
      expect(row).toMatchObject({ kind: 'log', header: 'whole', bytes: SEGMENT_BYTES });
      expect((row.predecessor as { segment: number } | null)?.segment).toBe(before);
      before = row.segment as number;
      const found = (await dump(directory, records(before))).rows.filter(
        ({ flags }) => !(flags as string[]).includes('footer'),
      );
      expect(row.records).toBe(found.length);
      expect(row.entries).toBe(found.reduce((sum, { entries: count }) => sum + (count as number), 0));
      expect(row.firstAppend).toBe(found.at(0)?.append);
      expect(row.lastAppend).toBe(found.at(-1)?.append);
    }
    const [first, last] = [rows[0]!, rows.at(-1)!];
    expect(first).toMatchObject({ sealed: 'yes', stated: 'log', lost: null });
    expect(last).toMatchObject({ sealed: 'no', lost: 0 });
  });

  it('has records that are whole, numbered without a gap', async () => {
    const { directory } = await closedStore();
    let append = 0;
    for (const { segment } of (await dump(directory, segments)).rows) {
      for (const row of (await dump(directory, records(segment as number))).rows) {
        expect(row.state).toBe('whole');
        if (!(row.flags as string[]).includes('footer')) expect(row.append).toBe(++append);
      }
    }
    expect(append).toBeGreaterThan(50);
  });

  it('has entries whose checksums are those of the bytes, and changes as text', async () => {
    const { directory } = await closedStore();
    const seen: Record<string, number> = {};
    const names: string[] = [];
    for (const { segment } of (await dump(directory, segments)).rows) {
      const bytes = fs.readFileSync(segmentFile(directory, segment as number));
      for (const row of (await dump(directory, entries(segment as number))).rows) {
        seen[row.kind as string] = (seen[row.kind as string] ?? 0) + 1;
        if (row.kind === 'change') {
          const change = JSON.parse(row.text as string) as { op: string; name?: string };
          names.push(`${change.op} ${change.name ?? ''}`.trim());
        }
        if (row.kind !== 'chunks') continue;
        const found = (row.checksums as string[]).map((_, i) => {
          const at = (row.offset as number) + i * CHUNK;
          return crc32c(bytes.subarray(at, at + CHUNK))
            .toString(16)
            .padStart(8, '0');
        });
        expect(found).toEqual(row.checksums);
        expect(found.length).toBe(row.count);
      }
    }
    expect(Object.keys(seen).sort()).toEqual(['catalog', 'change', 'chunks', 'zeros']);
    expect(names).toEqual(['create a', 'snapshot', 'snapshot', 'clone b']);
  });

  it('has only the entries of one record where an offset is given', async () => {
    const { directory } = await closedStore();
    const { segment, rows } = await sealedSegment(directory);
    const all = (await dump(directory, entries(segment))).rows;
    const [, second] = rows;
    const some = (await dump(directory, entries(segment, second!.offset as number))).rows;
    expect(some).toEqual(all.filter(({ record }) => record === second!.offset));
    expect(some.length).toBe(second!.entries);
    for (const offset of [0, 4097, (second!.offset as number) + 512]) {
      await expect(dump(directory, entries(segment, offset))).rejects.toMatchObject({
        code: 'NOT_FOUND',
        message: expect.stringContaining('dump records') as string,
      });
    }
  });

  it('has the versions of the store, and those that were deleted', async () => {
    const made = await DumpedStore.make();
    await made.store.delete(['a@1']);
    await made.store.pruned();
    await made.store.close();
    const { rows } = await dump(made.directory, versions);
    expect(rows.map(({ kind, name }) => [kind, name])).toEqual([
      ['hidden', null], // a@1: a and b inherit from it
      ['snapshot', 'a@2'],
      ['volume', 'a'],
      ['volume', 'b'],
    ]);
    const [ghost, second, head, clone] = rows;
    expect([second!.parent, head!.parent, clone!.parent]).toEqual([
      ghost!.label,
      second!.label,
      ghost!.label,
    ]);
    expect(ghost!.hidden).toBeGreaterThan(ghost!.birth as number);
    expect(rows.map(({ tree }) => tree)).toEqual(rows.map(() => ghost!.label));
  });

  it('has versions that no catalog has yet, as they are replayed', async () => {
    const made = await DumpedStore.make();
    await made.store.checkpoint();
    await made.store.snapshot(['b@late']);
    await made.store.rename('a', 'renamed');
    await made.store.delete(['renamed@2']);
    await made.store.flush();
    const { rows, complaints } = await dump(made.killed(), versions);
    expect(complaints).toEqual([]);
    expect(rows.map(({ kind, name, pending }) => [kind, name, pending])).toEqual([
      ['snapshot', 'renamed@1', false],
      ['hidden', null, true],
      ['volume', 'renamed', false],
      ['snapshot', 'b@late', false],
      ['volume', 'b', false],
    ]);
    await made.store.close();
  });

  it('leads every chunk of every version to what it reads', async () => {
    const made = await closedStore();
    for (const [name, content] of made.contents) {
      const { rows, complaints } = await dump(made.directory, pointers(name, 0, CHUNKS));
      expect(complaints).toEqual([]);
      expect(rows.map(({ chunk }) => chunk)).toEqual(Array.from({ length: CHUNKS }, (_, i) => i));
      expectToRead(made.directory, rows, content);
    }
  });

  it('has pointers that are only in the log yet, and says whose they are', async () => {
    const made = await DumpedStore.make();
    await made.store.checkpoint();
    const before = await made.content('b');
    await made.writeSome('b', 3);
    await made.store.flush();
    const after = await made.content('b');
    const directory = made.killed();
    const { rows } = await dump(directory, pointers('b', 0, CHUNKS));
    expectToRead(directory, rows, after);
    for (const row of rows) {
      const at = (row.chunk as number) * CHUNK;
      const differs = !before.subarray(at, at + CHUNK).equals(after.subarray(at, at + CHUNK));
      if (differs) expect(row).toMatchObject({ source: 'log', version: 'b' });
    }
    expect(new Set(rows.map(({ source }) => source))).toEqual(new Set(['index', 'log', null]));
    expect(new Set(rows.map(({ version }) => version))).toEqual(new Set(['b', 'a@1', null]));
    await made.store.close();
  });

  it('stops at the end of the disk, and refuses what is behind it', async () => {
    const { directory } = await closedStore();
    expect((await dump(directory, pointers('a', CHUNKS - 2, 100))).rows.length).toBe(2);
    await expect(dump(directory, pointers('a', CHUNKS))).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: expect.stringContaining(`from 0 to ${CHUNKS - 1}`) as string,
    });
    await expect(dump(directory, pointers('nobody', 0))).rejects.toMatchObject({ code: 'NOT_FOUND' });
  });
});

/** Pointers that match must lead to what the version reads. */
function expectToRead(directory: string, rows: Record<string, unknown>[], content: Buffer): void {
  for (const row of rows) {
    const at = (row.chunk as number) * CHUNK;
    const expected = content.subarray(at, at + CHUNK);
    if (row.kind !== 'data') {
      expect(expected.every((byte) => byte === 0)).toBe(true);
      continue;
    }
    expect(row.matches).toBe('yes');
    const file = fs.openSync(segmentFile(directory, row.segment as number), 'r');
    const bytes = Buffer.alloc(CHUNK);
    fs.readSync(file, bytes, 0, CHUNK, row.offset as number);
    fs.closeSync(file);
    expect(bytes.equals(expected)).toBe(true);
  }
}

describe('a dump of a store in use', () => {
  it('names the owner, and goes on', async () => {
    const made = await DumpedStore.make();
    const { rows, complaints } = await dump(made.directory, versions);
    expect(complaints).toEqual([expect.stringMatching(`in use by process ${process.pid} since`)]);
    expect(rows.map(({ name }) => name)).toContain('a@2');
    expect((await dump(made.directory, segments)).rows.length).toBeGreaterThan(4);
    await made.store.close();
    expect((await dump(made.directory, versions)).complaints).toEqual([]);
  });

  it('does not keep anybody from opening it', async () => {
    const made = await closedStore();
    let opened: Promise<Store> | undefined;
    await dump(made.directory, async (output, log, complain) => {
      opened = Store.open(made.directory, { compacts: false });
      await (await opened).flush();
      await versions(output, log, complain);
    });
    await (await opened!).close();
  });

  it('has no pointers, and says what to do', async () => {
    const made = await DumpedStore.make();
    await expect(dump(made.directory, pointers('a', 0))).rejects.toMatchObject({
      code: 'LOCKED',
      message: expect.stringMatching(`process ${process.pid} .*stop that one`) as string,
    });
    await made.store.close();
  });
});

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

describe('a dump of what is no store', () => {
  it('says so', async () => {
    const directory = newDirectory();
    fs.mkdirSync(directory);
    await expect(dump(directory, segments)).rejects.toMatchObject({ code: 'NOT_A_STORE' });
    await Store.init(directory, { segmentBytes: SEGMENT_BYTES });
    expect((await dump(directory, segments)).rows).toEqual([]);
    expect(await draw(directory, segments)).toBe('the log has no segments yet\n');
    expect(await draw(directory, versions)).toBe('no versions\n');
  });
});

describe('rows that come as a stream', () => {
  it('stand in columns', async () => {
    const { directory } = await closedStore();
    const lines = (await draw(directory, segments)).trimEnd().split('\n');
    const at = lines[0]!.indexOf('RECORDS');
    expect(lines.length).toBeGreaterThan(4);
    for (const line of lines.slice(1)) expect(line.slice(at - 2, at + 1)).toMatch(/^ {2}\d$/);
  });

  it('are not kept beyond those that are measured', async () => {
    let printed = '';
    const output = new Output(false, (text) => {
      printed += text;
    });
    const stream = new RowStream<number>(output, [
      ['A', (row) => String(row)],
      ['B', () => 'b'],
    ]);
    for (let row = 0; row < 199; row++) await stream.add(row);
    expect(printed).toBe('');
    await stream.add(199);
    expect(printed.split('\n').length).toBe(202);
    await stream.add(123_456);
    stream.end();
    expect(printed.split('\n').slice(-3)).toEqual(['199  b', '123456  b', '']);
    expect(printed.startsWith('A    B\n0    b\n')).toBe(true);
  });
});
