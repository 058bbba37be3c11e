/** Segment files around the log: the one made ahead, zeros that are filled in, files that readers share and pin. */

import { randomBytes } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import type { Storage, StorageFile } from '../../src/base/storage.ts';
import {
  encodeEmptyRecord,
  encodeRecordHeader,
  encodeSegmentHeader,
  RECORD_HEADER_BYTES,
  SEGMENT_REWRITES_TAIL,
  segmentPath,
} from '../../src/log/format.ts';
import { recordEnd } from '../../src/log/scan.ts';
import { SegmentFiles } from '../../src/log/segment-files.ts';
import { CHUNK, LogRig, MIB, readLog, UUID } from './rig.ts';

/** More than are kept open. */
const MANY = 600;

describe('the segment made ahead', () => {
  it('is filled with zeros, and on the disk, before anybody waits for it', async () => {
    const rig = await LogRig.begin();
    rig.supply.prepare(true);
    await rig.rest();
    const machine = rig.storage.copy();
    machine.crash();
    expect(machine.bytes(segmentPath(1)).equals(Buffer.alloc(MIB))).toBe(true);
    const segment = await rig.supply.take();
    expect([segment.segment, segment.isFilled]).toEqual([1, true]);
  });

  it('has a reserved number, however many were taken', async () => {
    const rig = await LogRig.begin();
    const { numbers } = rig;
    while (numbers.peek('segments') < numbers.superblock.segments) numbers.take('segments');
    const next = numbers.peek('segments');
    expect((await rig.supply.take()).segment).toBe(next);
  });
});

describe('the segment that is written', () => {
  it('is filled with zeros behind its last record, and over none', async () => {
    const rig = await LogRig.begin();
    const written: [number, Buffer][] = [];
    for (const chunks of [1, 3, 16]) {
      const bytes = randomBytes(chunks * CHUNK);
      written.push([(await rig.write(0, bytes)).offset, bytes]);
      await rig.log.flush();
    }
    rig.storage.trace.length = 0;
    rig.clock.advance(100);
    await rig.rest(200);
    const fills = rig.storage.trace.filter(
      (each) => each.operation === 'write' && each.lengthBytes > 100_000,
    );
    expect(fills.length).toBeGreaterThan(0);
    const file = rig.storage.bytes(segmentPath(1));
    for (const [offset, bytes] of written) {
      expect(file.subarray(offset, offset + bytes.length).equals(bytes)).toBe(true);
    }
    // The closing record too.
    const { tail } = await readLog(rig.storage);
    expect(tail).toMatchObject({ closedCleanly: true, torn: false });
    await rig.log.close();
  });

  it('is not synced while a record is on its way: the block that it shares would be written after the sync', async () => {
    const rig = await LogRig.begin();
    await rig.zeros(0, 1);
    let isWriting = false;
    let flush: Promise<void> = Promise.resolve();
    const syncsMeanwhile: boolean[] = [];
    rig.storage.gate = async ({ operation, position }) => {
      if (operation === 'datasync') syncsMeanwhile.push(isWriting);
      if (operation !== 'write' || position === 0) return;
      isWriting = true;
      flush = rig.log.flush();
      await rig.rest(10);
      isWriting = false;
    };
    await rig.zeros(1, 1);
    await flush;
    expect(syncsMeanwhile).toEqual([false]);
    expect(rig.log.durableAppend).toBe(2);
  });

  it('ends where no record is chained to the last one, whatever stands there', async () => {
    const rig = await LogRig.begin();
    for (let i = 0; i < 2; i++) await rig.zeros(i, 1);
    const [first, last] = await rig.records(1);
    const offset = recordEnd(last!.header);
    const stranger = Buffer.alloc(512);
    first!.table.copy(stranger, RECORD_HEADER_BYTES);
    const header = { ...first!.header, offset, append: 3 };
    for (const previousChecksum of [last!.header.checksum, first!.header.checksum]) {
      encodeRecordHeader(stranger, { ...header, previousChecksum }, UUID);
      rig.storage.edit(segmentPath(1), (file) => stranger.copy(file, offset));
      const { records } = await readLog(rig.storage);
      expect(records).toHaveLength(previousChecksum === last!.header.checksum ? 3 : 2);
    }
  });
});

describe('a record whose beginning is damaged', () => {
  it('is known by the copy at its end only if that is whole, and chained to the record before', async () => {
    const rig = await LogRig.begin();
    for (let i = 0; i < 2; i++) await rig.zeros(i, 1);
    const [first, last] = await rig.records(1);
    const { offset } = last!.header;
    const end = recordEnd(last!.header);
    const read = async (): Promise<number[]> => (await readLog(rig.storage)).sequences;
    rig.storage.edit(segmentPath(1), (file) => file.fill(0x55, offset, offset + 64));
    expect(await read()).toEqual([1, 2]);
    // The last bit of the copy's table, in front of its 8 bytes of tail.
    rig.storage.edit(segmentPath(1), (file) => {
      file[end - 9]! ^= 1;
    });
    expect(await read()).toEqual([1]);
    for (const previousChecksum of [first!.header.checksum, first!.header.checksum ^ 1]) {
      const header = {
        ...last!.header,
        tableBytes: 0,
        entryCount: 0,
        previousChecksum: previousChecksum >>> 0,
      };
      const stranger = encodeEmptyRecord(header, UUID);
      stranger.fill(0x55, 0, 64);
      rig.storage.edit(segmentPath(1), (file) => stranger.copy(file, offset));
      const { records } = await readLog(rig.storage);
      expect(records).toHaveLength(previousChecksum === first!.header.checksum ? 2 : 1);
    }
  });
});

/** Files that say when they are closed; a read of one waits for `gate`. */
class NotedStorage {
  readonly closed = new Set<string>();
  gate: Promise<void> = Promise.resolve();

  async open(path: string): Promise<StorageFile> {
    const read = async (_target: Buffer, _start: number, length: number): Promise<number> => {
      await this.gate;
      if (this.closed.has(path)) throw new Error(`${path} is closed`);
      return length;
    };
    const close = async (): Promise<void> => void this.closed.add(path);
    return { read, close } as Partial<StorageFile> as StorageFile;
  }
}

function notedFiles(): { storage: NotedStorage; files: SegmentFiles; readMany: () => Promise<void> } {
  const storage = new NotedStorage();
  const files = new SegmentFiles(storage as Partial<Storage> as Storage);
  const readMany = async (): Promise<void> => {
    for (let segment = 1000; segment < 1000 + MANY; segment++) {
      await files.read(segment, Buffer.alloc(1), 0, 1, 0);
    }
  };
  return { storage, files, readMany };
}

describe('open files of segments', () => {
  it('are bounded; one that is read from stays open until it has been read', async () => {
    const { storage, files, readMany } = notedFiles();
    let release: () => void = () => undefined;
    storage.gate = new Promise((resolve) => {
      release = resolve;
    });
    const reading = files.read(1, Buffer.alloc(1), 0, 1, 0);
    await new Promise((resolve) => setImmediate(resolve)); // it has begun
    storage.gate = Promise.resolve();
    await readMany();
    expect(storage.closed.size).toBeGreaterThan(50);
    expect(storage.closed).not.toContain(segmentPath(1));
    release();
    await reading;
    await files.read(5000, Buffer.alloc(1), 0, 1, 0);
    expect(storage.closed).toContain(segmentPath(1));
  });

  it('that are written are not closed by readers, until they are given up', async () => {
    const { storage, files, readMany } = notedFiles();
    files.adopt(1, await storage.open(segmentPath(1)));
    await readMany();
    expect(storage.closed).not.toContain(segmentPath(1));
    files.unpin(1);
    await files.read(5000, Buffer.alloc(1), 0, 1, 0);
    expect(storage.closed).toContain(segmentPath(1));
  });

  it('of sealed segments stay open until they are synced', async () => {
    const rig = await LogRig.begin();
    for (let i = 0; i < 4; i++) await rig.write(64 * i, Buffer.alloc(64 * CHUNK, i));
    for (let segment = 1000; segment < 1000 + MANY; segment++) {
      await (await rig.storage.open(segmentPath(segment), 'create')).close();
      await rig.files.read(segment, Buffer.alloc(0), 0, 0, 0);
    }
    await rig.log.flush();
    expect(rig.log.poison).toBeUndefined();
    expect(rig.log.durableAppend).toBe(4);
  });

  it('that end before what is asked for are damaged, and so are those that are missing', async () => {
    const rig = await LogRig.begin();
    await rig.write(0);
    const target = Buffer.alloc(CHUNK);
    const damaged = expect.objectContaining({ code: 'CORRUPTION' });
    await expect(rig.files.read(1, target, 0, CHUNK, MIB - 512)).rejects.toEqual(damaged);
    await expect(rig.files.read(9, target, 0, CHUNK, 4096)).rejects.toEqual(damaged);
    await rig.files.read(1, target, 0, CHUNK, MIB - CHUNK);
  });
});

describe('a file that is removed while the log is read', () => {
  // As the log in use does with a segment that it could not make or begin.
  const GONE = segmentPath(2);

  async function withNext(flags: number | undefined): Promise<LogRig> {
    const rig = await LogRig.begin();
    await rig.write(0);
    await rig.log.flush();
    const end = (await readLog(rig.storage)).tail.end!;
    const file = await rig.storage.open(GONE, 'create');
    await file.allocate(MIB);
    const { segment: predecessor, offset: predecessorEnd, checksum: predecessorChecksum } = end;
    const chain = { predecessor, predecessorEnd, predecessorChecksum, firstAppend: end.append + 1 };
    const rest = { uuid: UUID, segment: 2, segmentBytes: MIB, epoch: 0, durable: 0 };
    if (flags !== undefined) await file.write([encodeSegmentHeader({ flags, ...chain, ...rest })], 0);
    await file.close();
    return rig;
  }

  for (const [what, flags] of [
    ['nothing yet', undefined],
    ['its header', 0],
    ['the header of a tail that is written again', SEGMENT_REWRITES_TAIL],
  ] as const) {
    it(`and held ${what} is no part of it, and no error`, async () => {
      for (let opens = 0; opens < 4; opens++) {
        const rig = await withNext(flags);
        const open = rig.storage.open.bind(rig.storage);
        let left = opens;
        rig.storage.open = async (path, mode) => {
          if (path === GONE && left-- === 0) await rig.storage.remove(path);
          return await open(path, mode);
        };
        const read = await readLog(rig.storage);
        expect([read.entries.length, read.tail.damage], `gone after ${opens}`).toEqual([1, []]);
      }
    });
  }
});
