/** Chunks on their way from segment to segment: verified when read and when written, on the disk when it is said so. */

import { describe, expect, it } from 'vitest';
import { crc32c } from '../../src/base/crc.ts';
import { CHUNK_BYTES } from '../../src/base/units.ts';
import type { Moved, MoveRequest } from '../../src/compaction/mover.ts';
import {
  FIRST_RECORD_OFFSET,
  SEGMENT_HEADER_COPY_OFFSET,
  SEGMENT_MOVES,
  segmentPath,
  TRAILER_ROOM_BYTES,
} from '../../src/log/format.ts';
import { recordEnd } from '../../src/log/scan.ts';
import type { FailureOptions, Operation, TraceEntry } from '../support/memory-storage.ts';
import { Random, seeds } from '../support/random.ts';
import { type Chunk, chunksOf, nameOf, readMoved, readSegment, Sources } from './rig.ts';

const MOVED_PATH = /^log\/0+[1-9]\d{3,}\.seg/;

function changed(random: Random, found: readonly Chunk[]): Chunk[] {
  return found
    .filter(() => random.chance(60))
    .map((chunk) => (chunk.label === 1 ? chunk : { ...chunk, label: 7 }));
}

/** All of the source chunks that `expected` names are where `moved` says, and the new segments say so themselves. */
async function checkMoved(
  sources: Sources,
  request: MoveRequest,
  expected: readonly Chunk[],
  origins: readonly Chunk[],
  moved: Moved,
): Promise<void> {
  const read = await readMoved(sources.storage, moved);
  const stated = new Map<string, Chunk>();
  for (const { chunks } of read) {
    for (const chunk of chunks) {
      expect(stated.has(nameOf(chunk))).toBe(false);
      stated.set(nameOf(chunk), chunk);
    }
  }
  expect(stated.size).toBe(expected.length);
  expected.forEach((chunk, i) => {
    const [segment, offset] = [moved.toSegments[i]!, moved.toOffsets[i]!];
    expect(stated.get(nameOf(chunk))).toEqual({ ...chunk, segment, offset });
    const there = sources.storage.bytes(segmentPath(segment)).subarray(offset, offset + CHUNK_BYTES);
    expect(there.equals(sources.bytes.get(nameOf(origins[i]!))!)).toBe(true);
  });
  expect(read.flatMap(({ zeros }) => zeros)).toEqual(request.zeros);
  moved.segments.forEach(({ segment, bytes, age }, i) => {
    const { header, chunks } = read[i]!;
    const from = expected.filter((_, at) => moved.toSegments[at] === segment);
    expect(from.length).toBe(chunks.length);
    expect(age).toBe(from.reduce((youngest, chunk) => Math.max(youngest, chunk.segment), 0));
    expect(header).toMatchObject({
      flags: SEGMENT_MOVES,
      segment: request.segments[i]!,
      segmentBytes: bytes,
      epoch: request.epoch,
      predecessor: 0,
      firstAppend: request.appends[i]!,
      durable: age,
    });
    expect(sources.storage.bytes(segmentPath(segment)).length).toBe(bytes);
  });
}

describe('what a mover finds', () => {
  for (const seed of seeds(2)) {
    it(`is all that was written, alive or dead, in order (SEED=${seed})`, async () => {
      const random = new Random(seed);
      const sources = await Sources.begin();
      await sources.fill(random);
      const shrunk = await sources.log.change(
        '{"op":"resize","cut":{"label":4,"tree":1,"first":9,"count":3}}',
      );
      await sources.log.change('{"op":"create","cut":null}');
      // The change may have begun a segment of its own.
      const found = await sources.findAll([...new Set([...sources.segments, shrunk.segment])]);
      const chunks = chunksOf(found.chunks);
      expect(new Set(chunks.map(nameOf))).toEqual(new Set(sources.bytes.keys()));
      expect(chunks.length).toBe(sources.bytes.size);
      for (const { segment, offset, ...chunk } of chunks) {
        const there = sources.storage.bytes(segmentPath(segment)).subarray(offset, offset + CHUNK_BYTES);
        expect(there.equals(sources.bytes.get(nameOf(chunk))!)).toBe(true);
      }
      const ordered = [...chunks].sort(
        (a, b) => a.label - b.label || a.chunk - b.chunk || a.sequence - b.sequence,
      );
      expect(chunks).toEqual(ordered);
      const cut = { label: 4, first: 9, count: 3, sequence: shrunk.sequence };
      const bySequence = [...found.zeros].sort((a, b) => a.sequence - b.sequence);
      expect(bySequence).toEqual([...sources.zeros, cut]);
    });
  }

  it('ends where the log does, in a segment with a footer and in one without', async () => {
    const sources = await Sources.begin();
    const random = new Random(2);
    await sources.fill(random);
    for (let i = 0; i < 6; i++) await sources.write(random, 1, i, 1);
    const { segments } = sources;
    expect(segments.length).toBeGreaterThan(2);
    for (const segment of [segments[0]!, segments.at(-1)!]) {
      const records = await sources.log.records(segment);
      const last = records.at(-2)!.header;
      const upTo = chunksOf((await sources.mover.find([{ segment, end: last.offset }])).chunks);
      const all = chunksOf((await sources.findAll([segment])).chunks);
      expect(upTo.length).toBeGreaterThan(0);
      expect(upTo).toEqual(all.filter(({ offset }) => offset < last.offset));
    }
  });

  it('is an error where a segment without a footer does not reach its end', async () => {
    const sources = await Sources.begin();
    const random = new Random(3);
    for (let i = 0; i < 6; i++) await sources.write(random, 1, i, 1);
    await sources.log.log.flush();
    await sources.log.rest();
    const open = sources.storage.openFiles;
    const headers = (await sources.log.records(1)).map(({ header }) => header);
    const end = recordEnd(headers.at(-1)!);
    const find = (to: number): Promise<unknown> => sources.mover.find([{ segment: 1, end: to }]);
    await find(end);
    for (const wrong of [end + 512, end - 512, Number.POSITIVE_INFINITY])
      await expect(find(wrong)).rejects.toMatchObject({ code: 'CORRUPTION' });
    // The third record, header and copy.
    const { offset } = headers[2]!;
    sources.storage.edit(segmentPath(1), (bytes) => bytes.fill(0x55, offset, recordEnd(headers[2]!)));
    await expect(find(end)).rejects.toMatchObject({
      code: 'CORRUPTION',
      message: expect.stringContaining(`${offset}`),
    });
    await find(offset);
    await expect(sources.mover.find([{ segment: 77, end: 4096 }])).rejects.toMatchObject({
      code: 'CORRUPTION',
    });
    expect(sources.storage.openFiles).toBe(open);
  });

  it('is an error where a file cannot be read, and no file stays open', async () => {
    const sources = await Sources.begin();
    await sources.fill(new Random(4));
    const before = sources.storage.openFiles;
    const find = sources.segments.map((segment) => ({ segment, end: 2 ** 20 }));
    for (const after of [0, 1, 2]) {
      sources.storage.fail('read', { after });
      await expect(sources.mover.find(find.slice(0, 2))).rejects.toMatchObject({ code: 'IO' });
    }
    expect(sources.storage.openFiles).toBe(before);
  });
});

describe('what a mover moves', () => {
  for (const seed of seeds(3)) {
    it(`is on the disk and can be read again when it says so (SEED=${seed})`, async () => {
      const random = new Random(seed);
      const sources = await Sources.begin();
      await sources.fill(random);
      const found = await sources.findAll(sources.segments);
      let origins = chunksOf(found.chunks);
      let zeros = found.zeros;
      // What has been moved is moved again.
      for (const order of ['age', 'disk', 'age'] as const) {
        origins = origins.filter(() => random.chance(80));
        const expected = changed(random, origins).filter(
          (chunk, i, all) => all.findIndex((each) => nameOf(each) === nameOf(chunk)) === i,
        );
        origins = expected.map((chunk) => origins.find((each) => same(each, chunk))!);
        const request = sources.request(expected, zeros, order);
        const moved = await sources.mover.move(request);
        sources.storage.crash();
        await checkMoved(sources, request, expected, origins, moved);
        for (const [i, chunk] of expected.entries())
          sources.bytes.set(nameOf(chunk), sources.bytes.get(nameOf(origins[i]!))!);
        const again = await sources.mover.find(
          moved.segments.map(({ segment }) => ({ segment, end: Number.POSITIVE_INFINITY })),
        );
        origins = chunksOf(again.chunks);
        zeros = again.zeros;
        expect(origins.map(nameOf).sort()).toEqual(expected.map(nameOf).sort());
      }
    });
  }

  it('may be nothing, or zeros alone', async () => {
    const sources = await Sources.begin();
    const before = sources.storage.changes;
    expect((await sources.mover.move(sources.request([]))).segments).toEqual([]);
    expect(sources.storage.changes).toBe(before);
    const zeros = [{ label: 5, first: 1, count: 2 ** 33, sequence: 9 }];
    const { segments } = await sources.mover.move(sources.request([], zeros));
    sources.storage.crash();
    expect(segments.map(({ age }) => age)).toEqual([0]);
    expect((await readSegment(sources.storage, segments[0]!.segment)).zeros).toEqual(zeros);
  });

  it('survives any one flipped bit beside its chunks', async () => {
    const sources = await Sources.begin();
    await sources.fill(new Random(6), 20);
    const all = chunksOf((await sources.findAll([1])).chunks);
    const { segments } = await sources.mover.move(sources.request(all));
    const { segment, bytes } = segments[0]!;
    const whole = chunksOf((await sources.mover.find([{ segment, end: bytes }])).chunks);
    for (const at of [
      10,
      SEGMENT_HEADER_COPY_OFFSET + 10,
      FIRST_RECORD_OFFSET + 40,
      FIRST_RECORD_OFFSET + 90,
    ]) {
      const flip = (content: Buffer): void => void (content[at]! ^= 4);
      sources.storage.edit(segmentPath(segment), flip);
      expect(chunksOf((await sources.mover.find([{ segment, end: bytes }])).chunks)).toEqual(whole);
      sources.storage.edit(segmentPath(segment), flip);
    }
    // Without footer or trailer its records are there, and that they are all nobody says.
    sources.storage.edit(segmentPath(segment), (content) => void (content[bytes - TRAILER_ROOM_BYTES]! ^= 4));
    expect((await sources.log.records(segment)).length).toBeGreaterThan(1);
    await expect(sources.mover.find([{ segment, end: bytes }])).rejects.toMatchObject({ code: 'CORRUPTION' });
  });
});

function same(a: Chunk, b: Chunk): boolean {
  return a.segment === b.segment && a.offset === b.offset;
}

describe('a mover of chunks from a thousand segments', () => {
  it('does not keep all of them open', async () => {
    const sources = await Sources.begin();
    const { storage } = sources;
    const chunks: Chunk[] = [];
    for (let i = 0; i < 1000; i++) {
      const bytes = Buffer.alloc(CHUNK_BYTES, `chunk ${i}`);
      const segment = 5000 + i;
      const file = await storage.open(segmentPath(segment), 'create');
      await file.write([bytes], 0);
      await file.close();
      const chunk = { label: 1, chunk: i, sequence: 1, segment, offset: 0, checksum: crc32c(bytes) };
      sources.bytes.set(nameOf(chunk), bytes);
      chunks.push(chunk);
    }
    const before = storage.openFiles;
    let most = 0;
    const open = storage.open.bind(storage);
    storage.open = async (path, mode) => {
      most = Math.max(most, storage.openFiles - before);
      return await open(path, mode);
    };
    const request = sources.request(chunks);
    await checkMoved(sources, request, chunks, chunks, await sources.mover.move(request));
    // What stays open between two records, and what one record is read from.
    expect(most).toBeLessThanOrEqual(256 + 256);
    expect(storage.openFiles).toBe(before);
  });
});

describe('a mover that meets damage or failures', () => {
  async function prepared(): Promise<{ sources: Sources; all: Chunk[] }> {
    const sources = await Sources.begin();
    await sources.fill(new Random(7));
    return { sources, all: chunksOf((await sources.findAll(sources.segments)).chunks) };
  }

  it('does not move a chunk of which a bit has flipped', async () => {
    const { sources, all } = await prepared();
    const open = sources.storage.openFiles;
    for (const chunk of [all[0]!, all[Math.floor(all.length / 2)]!, all.at(-1)!]) {
      const flip = (bytes: Buffer): void => void (bytes[chunk.offset + 4095]! ^= 1);
      sources.storage.edit(segmentPath(chunk.segment), flip);
      const moving = sources.mover.move(sources.request(all));
      await expect(moving).rejects.toMatchObject({
        code: 'CORRUPTION',
        message: expect.stringContaining(`segment ${chunk.segment}, offset ${chunk.offset}`),
      });
      sources.storage.edit(segmentPath(chunk.segment), flip);
      expect(sources.storage.openFiles).toBe(open);
    }
    await sources.mover.move(sources.request(all));
  });

  it('does not move a chunk that is cut off by the end of its file', async () => {
    const { sources, all } = await prepared();
    const { segment } = all.at(-1)!;
    const beyond = { ...all[0]!, segment, offset: sources.storage.bytes(segmentPath(segment)).length - 2048 };
    await expect(sources.mover.move(sources.request([beyond]))).rejects.toMatchObject({ code: 'CORRUPTION' });
  });

  it('notices a chunk that did not get to the disk as it was', async () => {
    const { sources, all } = await prepared();
    const { storage } = sources;
    const spoiled = new Set<string>();
    // A record each time: its first or its last chunk, between the write and the sync.
    for (let nth = 0; nth < 12; nth++) {
      let records = 0;
      let spoil: TraceEntry | undefined;
      storage.beforeChange = (entry) => {
        if (!MOVED_PATH.test(entry.path)) return;
        const isRecord = entry.operation === 'write' && entry.lengthBytes > 3 * CHUNK_BYTES;
        if (isRecord && records++ === nth) spoil = entry;
        if (entry.operation !== 'datasync' || spoil?.path !== entry.path) return;
        const { position, lengthBytes } = spoil;
        const at = nth % 2 === 0 ? position + lengthBytes - 600 : position + 2000;
        storage.edit(entry.path, (bytes) => void (bytes[at]! ^= 1));
        spoiled.add(`${records} ${position}`);
      };
      await expect(sources.mover.move(sources.request(all))).rejects.toMatchObject({
        code: 'CORRUPTION',
        message: expect.stringContaining('does not hold what was moved into it'),
      });
    }
    expect(spoiled.size).toBe(12);
    storage.beforeChange = undefined;
    await sources.mover.move(sources.request(all));
  });

  const failures: [Operation, number, FailureOptions][] = [
    ['create', 2, { code: 'IO' }],
    ['create', 1, { code: 'NO_SPACE' }],
    ['allocate', 2, { code: 'NO_SPACE' }],
    ['allocate', 1, { code: 'IO' }],
    ['write', 20, { code: 'IO' }],
    ['write', 20, { code: 'NO_SPACE', lands: false }],
    ['datasync', 2, { code: 'IO' }],
    ['syncDirectory', 1, { code: 'IO' }],
  ];
  for (const [operation, count, options] of failures) {
    it(`says so if a ${operation} fails with ${options.code}, whichever it is, and leaves no file open`, async () => {
      const { sources, all } = await prepared();
      const { storage } = sources;
      const open = storage.openFiles;
      for (let after = 0; after < count; after++) {
        storage.fail(operation, {
          ...options,
          after,
          path: operation === 'syncDirectory' ? /^log$/ : MOVED_PATH,
        });
        const moving = sources.mover.move(sources.request(all, sources.zeros));
        await expect(moving).rejects.toMatchObject({ code: options.code });
        expect(storage.openFiles).toBe(open);
      }
      // It is of use afterwards.
      const { segments } = await sources.mover.move(sources.request(all));
      expect(segments.length).toBeGreaterThan(1);
    });
  }

  it('says so if a chunk cannot be read, or read back', async () => {
    const { sources, all } = await prepared();
    const { storage } = sources;
    const open = storage.openFiles;
    for (const after of [0, 1, 7]) {
      for (const path of [/^log\/0000000001/, MOVED_PATH]) {
        storage.fail('read', { after, path });
        await expect(sources.mover.move(sources.request(all))).rejects.toMatchObject({ code: 'IO' });
        expect(storage.openFiles).toBe(open);
        storage.clearFailures();
      }
    }
  });

  it('has synced every byte, and the names behind them, before it answers', async () => {
    const { sources, all } = await prepared();
    const { storage } = sources;
    const from = storage.trace.length;
    const moved = await sources.mover.move(sources.request(all, sources.zeros));
    const trace = storage.trace.slice(from);
    for (const { segment } of moved.segments) {
      const own = trace.filter(({ path }) => path === segmentPath(segment));
      expect(own.at(-1)!.operation).toBe('datasync');
      expect(own.filter(({ operation }) => operation === 'datasync').length).toBe(1);
      expect(own[1]).toMatchObject({
        operation: 'allocate',
        lengthBytes: storage.bytes(segmentPath(segment)).length,
      });
    }
    expect(trace.at(-1)).toMatchObject({ operation: 'syncDirectory', path: 'log' });
  });
});
