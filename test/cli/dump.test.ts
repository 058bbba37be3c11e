/** `coppice dump`: what it says of whole stores is what the store says. */

import fs from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { crc32c } from '../../src/base/crc.ts';
import { Output } from '../../src/cli/output.ts';
import { RowStream } from '../../src/cli/row-stream.ts';
import { Store } from '../../src/volume/store.ts';
import { ok, run, serve, stop } from './command.ts';
import {
  CHUNK,
  closedStore,
  DISK_BYTES,
  draw,
  dump,
  DumpedStore,
  entries,
  filesUnder,
  newDirectory,
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
    expect(rows[0]).toMatchObject({ segmentBytes: SEGMENT_BYTES, revision: 5, base: null });
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

describe('coppice dump, as users run it', () => {
  it('says on standard error that a server has the store, prints what it sees, and ends with 0', async () => {
    const { directory } = await closedStore();
    const server = await serve(directory);
    const names = ['superblock', 'segments', 'versions', 'records --segment 1', 'entries --segment 1'];
    for (const subject of ['', ...names]) {
      const ended = await run([
        '--store',
        directory,
        'dump',
        ...subject.split(' ').filter((word) => word !== ''),
      ]);
      expect(ended.err).toMatch(
        new RegExp(`^coppice: the store is in use by process ${server.child.pid} [^\\n]*\\n$`),
      );
      expect(ended.out.split('\n').length).toBeGreaterThan(2);
      expect(ended.code).toBe(0);
    }
    const refused = await run(['--store', directory, 'dump', 'pointers', 'a', '--chunk', '0']);
    expect(refused.err).toMatch(/stop that one, then try again\n$/);
    expect([refused.code, refused.out]).toEqual([1, '']);
    await stop(server);
    expect(await ok(directory, ['dump'])).toBe(await ok(directory, ['dump', 'segments']));
    const lines = (
      await ok(directory, ['dump', 'pointers', 'a', '--chunk', '0', '--count', '3', '--json'])
    ).trimEnd();
    expect(lines.split('\n').map((line) => (JSON.parse(line) as { chunk: number }).chunk)).toEqual([0, 1, 2]);
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
