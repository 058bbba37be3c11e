/** Where recovery cuts the log, and what of the part behind the cut could come back. */

import { describe, expect, it } from 'vitest';
import { segmentPath } from '../../src/log/format.ts';
import { CHUNK, MIB, readLog } from '../log/rig.ts';
import { CrashRig } from './crash-rig.ts';

const BIG = 64 * CHUNK;
const chunk = (text: string): Buffer => Buffer.alloc(CHUNK, `${text} `);

async function withVolume(): Promise<CrashRig> {
  const rig = await CrashRig.begin();
  await rig.open();
  await rig.store.createVolume('disk', 8 * MIB);
  await rig.write('disk', 0, chunk('flushed'));
  await rig.store.flush();
  return rig;
}

describe('a cut', () => {
  it('through a segment that was sealed holds for good, whatever its footer says', async () => {
    const rig = await withVolume();
    const writes = ['whole', 'torn', 'behind'];
    for (const [i, text] of writes.entries()) await rig.write('disk', (1 + i) * CHUNK, chunk(text));
    for (let i = 0; i < 4; i++) await rig.write('disk', MIB, Buffer.alloc(BIG, 'x'));
    expect(rig.segments().length).toBeGreaterThan(1);
    // A power cut that takes one sector, and leaves the footer.
    const [first] = rig.segments();
    const at = rig.storage.bytes(segmentPath(first!)).indexOf(chunk('torn'));
    rig.storage.edit(segmentPath(first!), (file) => file.fill(0, at + 512, at + 1024));
    rig.crash(() => true);
    for (let life = 0; life < 3; life++) {
      await rig.open();
      const found = await rig.read('disk', 0, 4 * CHUNK);
      const expected = Buffer.concat([chunk('flushed'), chunk('whole'), Buffer.alloc(2 * CHUNK)]);
      expect(found.equals(expected), `life ${life}`).toBe(true);
      expect((await rig.read('disk', MIB, BIG)).equals(Buffer.alloc(BIG))).toBe(true);
      await rig.close();
      rig.crash();
    }
  });

  it('before a record whose write failed holds for good, though the segment that says so is removed', async () => {
    const rig = await withVolume();
    await rig.close(); // so that the index has a checkpoint, and opening appends nothing
    await rig.open();
    // Half of the write fails, behind all of the record; of the next segment nothing but the header is written.
    rig.storage.fail('write', { path: /seg$/ });
    await expect(rig.store.createVolume('late', MIB)).rejects.toMatchObject({ code: 'IO' });
    rig.storage.fail('write', { path: /seg$/, position: 4096, lands: false });
    await expect(rig.store.createVolume('other', MIB)).rejects.toMatchObject({ code: 'IO' });
    expect(rig.segments().length).toBe(2);
    rig.crash(() => true, true);
    for (let life = 0; life < 4; life++) {
      await rig.open();
      expect(
        rig.store.list().map(({ name }) => name),
        `life ${life}`,
      ).toEqual(['disk']);
      expect(rig.segments().length).toBeLessThan(3);
      // What is written now and not synced may be lost, and with it the segment that it was written to.
      if (life === 1) await rig.write('disk', CHUNK, chunk('not flushed'));
      rig.crash(() => false, true);
    }
  });

  it('takes later segments away for good before anything is answered', async () => {
    const rig = await withVolume();
    for (let i = 0; i < 12; i++) await rig.write('disk', MIB, Buffer.alloc(BIG, i + 1));
    await rig.rest();
    const before = rig.segments();
    rig.crash();
    await rig.open();
    const { segments } = (await readLog(rig.storage)).tail;
    const machine = rig.fork();
    machine.crash();
    expect(machine.segments()).toEqual(segments);
    expect(before.filter((segment) => !segments.includes(segment)).length).toBeGreaterThan(1);
  });
});

describe('a segment without records', () => {
  it('is a link that nothing hangs on once the store was opened: it may be in the page cache only', async () => {
    const rig = await withVolume();
    // Its first record fails, and so does its sync, which calls it clean; the next segment has the closing record.
    for (const position of [undefined, 4096] as const) {
      rig.storage.fail('write', { lands: false, ...(position === undefined ? {} : { position }) });
      await rig.write('disk', CHUNK, chunk('failed')).catch(() => undefined);
    }
    const empty = rig.segments()[1]!;
    rig.storage.fail('datasync', { path: new RegExp(segmentPath(empty)), sticky: true });
    rig.storage.fail('write', { position: 4096, lands: false }); // the catalog of the last checkpoint
    await rig.close().catch(() => undefined);
    expect(rig.segments().length).toBe(4);
    rig.kill();
    await rig.open();
    await rig.write('disk', CHUNK, chunk('later'));
    await rig.store.flush();
    rig.crash();
    await rig.open();
    const found = await rig.read('disk', 0, 2 * CHUNK);
    expect(found.equals(Buffer.concat([chunk('flushed'), chunk('later')]))).toBe(true);
    await rig.close();
  });
});

describe('recovery that loses its power', () => {
  it('at any moment, with any one sector, keeps what was flushed', { timeout: 60_000 }, async () => {
    const rig = await withVolume();
    rig.kill();
    for (let change = 1; ; change++) {
      const interrupted = rig.fork();
      interrupted.storage.turnOffAt(change);
      await interrupted.open().catch(() => undefined);
      const isOver = !interrupted.storage.isOff;
      let sectors = Infinity;
      for (let lost = -1; lost < sectors; lost++) {
        const machine = interrupted.fork();
        let asked = 0;
        machine.crash(() => asked++ !== lost);
        sectors = asked;
        await machine.open();
        const found = await machine.read('disk', 0, CHUNK);
        expect(found.equals(chunk('flushed')), `change ${change}, without ${lost}`).toBe(true);
      }
      if (!isOver) continue;
      expect(change).toBeGreaterThan(10);
      return;
    }
  });
});

describe('a log that goes on behind its closing record', () => {
  it('is cut, and never called damaged, whichever sector of what was not flushed is lost', async () => {
    const rig = await withVolume();
    await rig.store.checkpoint(); // or opening would make one, and sync the log for that
    // The closing record is in the page cache, called clean by a sync that failed, and not on the disk.
    rig.storage.fail('datasync', { path: /seg$/ });
    rig.clock.advance(100);
    await rig.rest();
    rig.kill();
    await rig.open();
    await rig.write('disk', CHUNK, chunk('later'));
    for (let lost = 0; lost < 20; lost++) {
      const machine = rig.fork();
      let asked = 0;
      machine.crash(() => asked++ !== lost);
      await machine.open();
      expect(machine.messages, `without ${lost}`).not.toContain('part of the log is damaged');
      expect((await machine.read('disk', 0, CHUNK)).equals(chunk('flushed'))).toBe(true);
      if (lost >= asked) {
        expect((await machine.read('disk', CHUNK, CHUNK)).equals(chunk('later'))).toBe(true);
        expect(asked).toBeGreaterThan(5);
        return;
      }
    }
    throw new Error('there was always one more sector to lose');
  });
});
