/** A disk in the cases that chance rarely meets: FUA of every kind, damaged chunks, pages, what runs at the same time. */

import { describe, expect, it } from 'vitest';
import { segmentPath } from '../../src/log/format.ts';
import { CHUNK, MIB } from '../log/rig.ts';
import { CrashRig } from './crash-rig.ts';

const SIZE = 8 * MIB;

async function withVolume(): Promise<CrashRig> {
  const rig = await CrashRig.begin();
  await rig.open();
  await rig.store.createVolume('disk', SIZE);
  await rig.store.flush();
  return rig;
}

const chunk = (text: string): Buffer => Buffer.alloc(CHUNK, `${text} `);

/** Flips a bit of the chunk with these bytes, wherever it lies in the log. */
function damage(rig: CrashRig, bytes: Buffer): void {
  for (const segment of rig.segments()) {
    const at = rig.storage.bytes(segmentPath(segment)).indexOf(bytes);
    if (at < 0) continue;
    rig.storage.edit(segmentPath(segment), (file) => {
      file[at + 1234]! ^= 8;
    });
    return;
  }
  throw new Error('the chunk is not in the log');
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

describe('an answer with FUA, or to a flush', () => {
  const empty = Buffer.alloc(0);
  const ways: [string, (rig: CrashRig) => Promise<void>][] = [
    ['a write of whole chunks', (rig) => rig.write('disk', 2 * CHUNK, chunk('fua'), true)],
    ['a write of many chunks', (rig) => rig.write('disk', MIB, Buffer.alloc(100 * CHUNK, 'x'), true)],
    ['a write of part of a chunk', (rig) => rig.write('disk', 2 * CHUNK + 7, Buffer.from('fua'), true)],
    ['an empty write', (rig) => rig.write('disk', 0, empty, true)],
    ['zeroes over whole chunks', (rig) => rig.device('disk').zero(2 * CHUNK, CHUNK, true)],
    ['zeroes over part of a chunk', (rig) => rig.device('disk').zero(2 * CHUNK + 7, 9, true)],
    ['a flush', (rig) => rig.device('disk').flush()],
  ];
  for (const [way, run] of ways) {
    it(`means that all before it, and ${way}, is on the disk`, async () => {
      const rig = await withVolume();
      await rig.write('disk', 0, chunk('first'));
      await run(rig);
      const all = await rig.read('disk', 0, SIZE);
      rig.crash();
      await rig.open();
      expect((await rig.read('disk', 0, SIZE)).equals(all)).toBe(true);
      expect(all.subarray(0, CHUNK).equals(chunk('first'))).toBe(true);
    });
  }
});

describe('a damaged chunk', () => {
  async function damaged(): Promise<CrashRig> {
    const rig = await withVolume();
    await rig.write('disk', 0, Buffer.concat([chunk('zero'), chunk('one'), chunk('two')]));
    damage(rig, chunk('one'));
    return rig;
  }

  it('is not handed out, from memory or from the disk, and its neighbours are', async () => {
    const rig = await damaged();
    const device = rig.device('disk');
    const target = Buffer.alloc(3 * CHUNK, 0xee);
    await device.read(target, 0, 2 * CHUNK, CHUNK); // the page is there now
    expect(device.tryRead(target, 0, 0, 3 * CHUNK)).toBe(false);
    expect(device.tryRead(target, 0, CHUNK + 100, 200)).toBe(false);
    for (const [offset, lengthBytes] of [
      [0, 3 * CHUNK],
      [CHUNK, CHUNK],
      [CHUNK + 100, 200],
    ] as const) {
      target.fill(0xee);
      await expect(device.read(target, 0, offset, lengthBytes)).rejects.toMatchObject({ code: 'CORRUPTION' });
      expect(target.includes('one')).toBe(false);
    }
    expect((await rig.read('disk', 2 * CHUNK, CHUNK)).equals(chunk('two'))).toBe(true);
  });

  it('makes a write of part of it fail, and one of all of it good again', async () => {
    const rig = await damaged();
    await expect(rig.write('disk', CHUNK + 10, Buffer.from('part'))).rejects.toMatchObject({
      code: 'CORRUPTION',
    });
    await expect(rig.read('disk', CHUNK, CHUNK)).rejects.toMatchObject({ code: 'CORRUPTION' });
    await rig.write('disk', CHUNK, chunk('new'));
    expect((await rig.read('disk', CHUNK, CHUNK)).equals(chunk('new'))).toBe(true);
  });
});

describe('a page in memory', () => {
  it('follows writes and zeros, of chunks and of whole regions', async () => {
    const rig = await withVolume();
    const device = rig.device('disk');
    const at = MIB + 5 * CHUNK;
    const read = (): Buffer => {
      const target = Buffer.alloc(CHUNK, 0xee);
      expect(device.tryRead(target, 0, at, CHUNK)).toBe(true);
      return target;
    };
    await rig.read('disk', at, CHUNK);
    expect(read().equals(Buffer.alloc(CHUNK))).toBe(true);
    for (const [text, zeroFrom, zeroBytes] of [
      ['one', at, CHUNK],
      ['two', MIB, MIB],
      ['three', 0, SIZE],
    ] as const) {
      await rig.write('disk', at, chunk(text));
      expect(read().equals(chunk(text))).toBe(true);
      await device.zero(zeroFrom, zeroBytes, false);
      expect(read().equals(Buffer.alloc(CHUNK))).toBe(true);
    }
  });

  it('is not left behind by a device that is given back while it writes', async () => {
    const rig = await withVolume();
    const first = rig.store.device('disk');
    const written = new Promise<void>((resolve, reject) => {
      first.write({
        offset: 0,
        lengthBytes: CHUNK,
        slices: [chunk('late')],
        forceUnitAccess: false,
        complete: (error) => (error ? reject(error) : resolve()),
      });
    });
    first.release();
    const second = rig.store.device('disk');
    const target = Buffer.alloc(CHUNK);
    await second.read(target, 0, 0, CHUNK);
    await written;
    await second.read(target, 0, 0, CHUNK);
    expect(target.equals(chunk('late'))).toBe(true);
    second.release();
  });
});

describe('at the same time', () => {
  it('a write of many entries is answered once, when all of it can be read', async () => {
    const rig = await withVolume();
    const bytes = Buffer.alloc(200 * CHUNK, 'many');
    let answers = 0;
    const content = await new Promise<Buffer>((resolve, reject) => {
      rig.device('disk').write({
        offset: 0,
        lengthBytes: bytes.length,
        slices: [bytes],
        forceUnitAccess: false,
        complete: () => {
          answers += 1;
          rig.read('disk', 0, bytes.length).then(resolve, reject);
        },
      });
    });
    expect(content.equals(bytes)).toBe(true);
    await rig.rest();
    expect(answers).toBe(1);
  });

  it('a write of a chunk and one of part of it leave one behind the other, whenever they meet', async () => {
    const rig = await withVolume();
    for (let delay = 0; delay < 60; delay++) {
      const offset = delay * 2 * CHUNK;
      await rig.write('disk', offset, chunk('old'));
      const part = rig.write('disk', offset + 100, Buffer.from('part'));
      for (let i = 0; i < delay; i++) await (delay % 2 === 0 ? turn() : Promise.resolve());
      await Promise.all([part, rig.write('disk', offset, chunk('new'))]);
      const merged = chunk('new');
      merged.write('part', 100);
      const found = await rig.read('disk', offset, CHUNK);
      expect(found.equals(merged) || found.equals(chunk('new')), `after ${delay}`).toBe(true);
    }
  });

  it('writes of parts of one chunk all stay', async () => {
    const rig = await withVolume();
    for (let round = 0; round < 10; round++) {
      const offset = round * CHUNK;
      const writes = Array.from({ length: 8 }, (_, i) =>
        rig.write('disk', offset + 512 * i, Buffer.alloc(512, 65 + i)),
      );
      await Promise.all(writes);
      const found = await rig.read('disk', offset, CHUNK);
      const expected = Buffer.concat(Array.from({ length: 8 }, (_, i) => Buffer.alloc(512, 65 + i)));
      expect(found.equals(expected), `round ${round}`).toBe(true);
    }
  });

  it('a write of part of a chunk keeps what a write right before it put there', async () => {
    const rig = await withVolume();
    for (let round = 0; round < 10; round++) {
      const whole = rig.write('disk', round * CHUNK, chunk('whole'));
      const part = rig.write('disk', round * CHUNK + 100, Buffer.from('part'));
      await Promise.all([whole, part]);
      const expected = chunk('whole');
      expected.write('part', 100);
      expect((await rig.read('disk', round * CHUNK, CHUNK)).equals(expected), `round ${round}`).toBe(true);
    }
  });

  it('what waits behind a snapshot is not in it, not even when the snapshot is answered first', async () => {
    const rig = await withVolume();
    let snapshot: Promise<unknown> = Promise.resolve();
    let write: Promise<void> = Promise.resolve();
    let records = 0;
    rig.storage.gate = async ({ operation, path }) => {
      if (operation !== 'write' || !path.startsWith('log/')) return;
      records += 1;
      // While the record of the snapshot is written, a write comes; while that is written, the snapshot is read.
      if (records === 1) write = rig.write('disk', 0, chunk('later'));
      if (records !== 2) return;
      await snapshot;
      expect((await rig.read('disk@s', 0, CHUNK)).equals(Buffer.alloc(CHUNK))).toBe(true);
    };
    snapshot = rig.store.snapshot(['disk@s']);
    await snapshot;
    await write;
    expect(records).toBe(2);
    rig.storage.gate = undefined;
    await rig.close();
    await rig.open();
    expect((await rig.read('disk@s', 0, CHUNK)).equals(Buffer.alloc(CHUNK))).toBe(true);
    expect((await rig.read('disk', 0, CHUNK)).equals(chunk('later'))).toBe(true);
  });
});

describe('a change that cannot be written', () => {
  it('has not happened, and can be made again', async () => {
    const rig = await withVolume();
    await rig.write('disk', 0, chunk('old'));
    rig.storage.fail('write', { path: /seg$/ });
    await expect(rig.store.snapshot(['disk@s'])).rejects.toMatchObject({ code: 'IO' });
    expect(() => rig.store.show('disk@s')).toThrow(/no snapshot/);
    await rig.write('disk', 0, chunk('new'));
    await rig.store.snapshot(['disk@s']);
    await rig.close();
    await rig.open();
    expect((await rig.read('disk@s', 0, CHUNK)).equals(chunk('new'))).toBe(true);
    expect(rig.store.list()).toHaveLength(2);
  });
});

describe('a store whose sync has failed', () => {
  it('says so when it is closed, and lets go of everything', async () => {
    const rig = await withVolume();
    await rig.write('disk', 0, chunk('answered'));
    rig.storage.fail('datasync', { path: /seg$/ });
    await expect(rig.store.flush()).rejects.toMatchObject({ code: 'POISONED' });
    await expect(rig.close()).rejects.toMatchObject({ code: 'POISONED' });
    expect(rig.storage.openFiles).toBe(0);
  });
});
