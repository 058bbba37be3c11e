/** The superblock: its bytes, its two slots, and the numbers that it reserves. */

import { beforeEach, describe, expect, it } from 'vitest';
import { Numbers } from '../../src/log/numbers.ts';
import {
  createSuperblock,
  decodeSuperblock,
  encodeSuperblock,
  readSuperblock,
  SLOT_BYTES,
  SUPERBLOCK_BYTES,
  SUPERBLOCK_BYTES_FIRST,
  SUPERBLOCK_PATH,
  SUPERBLOCK_REVISION,
  type Superblock,
  writeSuperblock,
} from '../../src/log/superblock.ts';
import { MemoryStorage } from '../support/memory-storage.ts';
import { freshSuperblock } from './rig.ts';

const NEWER = SUPERBLOCK_REVISION + 1;
const SUPERBLOCK = freshSuperblock({
  generation: 2 ** 33 + 1,
  segmentBytes: 1 << 26,
  epoch: 5,
  capacityBytes: 2 ** 40,
  sequences: 2 ** 41,
  appends: 2 ** 42 + 1,
  labels: 4097,
  segments: 4098,
  created: 1_700_000_000_000,
  base: undefined,
});
const SUPERBLOCK_HEX = [
  '434f50504943450a 0005 000000000000 0000000200000001 00112233445566778899aabbccddeeff',
  '04000000 00000005 0000010000000000 0000020000000000 0000040000000001',
  '00001001 00001002 0000018bcfe56800 5f28c5e9',
  '00000000 00000000 0000000000000000 a2d8f6d6',
].join('');

const NONE = { sequences: 0, appends: 0, labels: 0, segments: 0 };
const isCode = (code: string): unknown => expect.objectContaining({ code });

let storage: MemoryStorage;

beforeEach(async () => {
  storage = new MemoryStorage();
  await createSuperblock(storage, freshSuperblock());
  await storage.syncDirectory('.');
});

const slotOf = (generation: number): number => (generation % 2) * SLOT_BYTES;

/** Sets the revision of a slot, with the checksum that belongs to it. */
function setRevision(slot: Buffer, revision: number): void {
  const block = Buffer.from(slot.subarray(0, SUPERBLOCK_BYTES_FIRST));
  block.writeUInt16BE(revision, 8);
  // CRC-32C over the changed bytes, taken from a block that encodes to them would need a newer program: by hand.
  let crc = 0xffffffff;
  for (const byte of block.subarray(0, SUPERBLOCK_BYTES_FIRST - 4)) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0x82f63b78 : 0);
  }
  block.writeUInt32BE((crc ^ 0xffffffff) >>> 0, SUPERBLOCK_BYTES_FIRST - 4);
  block.copy(slot);
}

const WITH_BASE: Superblock = { ...SUPERBLOCK, base: { segment: 7, offset: 0x23000, append: 42 } };

describe('the superblock', () => {
  it('has these bytes, and is read back', () => {
    expect(encodeSuperblock(SUPERBLOCK).toString('hex')).toBe(SUPERBLOCK_HEX.replaceAll(' ', ''));
    expect(decodeSuperblock(encodeSuperblock(SUPERBLOCK))).toEqual(SUPERBLOCK);
  });

  it('has behind them where a rebuild begins, if the log does not begin with its first segment', () => {
    const encoded = encodeSuperblock(WITH_BASE);
    expect(encoded.subarray(92, 108).toString('hex')).toBe('0000000700023000000000000000002a');
    expect(decodeSuperblock(encoded)).toEqual(WITH_BASE);
    expect(decodeSuperblock(encoded.subarray(0, 111))).toBeUndefined();
  });

  it.each([
    ['without a base', SUPERBLOCK],
    ['with one', WITH_BASE],
  ])('%s is not accepted with any flipped bit', (_, block) => {
    for (let bit = 0; bit < encodeSuperblock(block).length * 8; bit++) {
      const flipped = encodeSuperblock(block);
      flipped[bit >> 3]! ^= 1 << (bit & 7);
      expect(decodeSuperblock(flipped), `bit ${bit}`).toBeUndefined();
    }
    expect(decodeSuperblock(encodeSuperblock(SUPERBLOCK).subarray(0, 111))).toBeUndefined();
  });

  it('the newer of two valid slots counts, whichever it is', async () => {
    const block = freshSuperblock();
    for (let epoch = 1; epoch <= 4; epoch++) {
      block.epoch = epoch;
      await writeSuperblock(storage, block);
      expect(await readSuperblock(storage)).toMatchObject({ epoch, generation: epoch + 1 });
    }
  });

  it('a write never touches the slot of the newest, and is synced', async () => {
    const block = freshSuperblock();
    for (let i = 0; i < 4; i++) {
      const newest = slotOf(block.generation);
      storage.trace.length = 0;
      await writeSuperblock(storage, block);
      const [write, sync] = storage.trace;
      expect(write).toMatchObject({ operation: 'write', position: SLOT_BYTES - newest });
      expect(write!.lengthBytes).toBeLessThanOrEqual(SLOT_BYTES);
      expect(sync).toMatchObject({ operation: 'datasync', path: SUPERBLOCK_PATH });
    }
  });

  it('of a new store is on the disk when it is made', async () => {
    const fresh = new MemoryStorage();
    await createSuperblock(fresh, freshSuperblock({ epoch: 7 }));
    await fresh.syncDirectory('.');
    fresh.crash();
    expect(await readSuperblock(fresh)).toMatchObject({ epoch: 7, generation: 1 });
  });

  it('a write that fails or tears leaves the one before, and the next try goes to the same slot', async () => {
    const block = freshSuperblock({ epoch: 1 });
    await writeSuperblock(storage, block);
    for (const operation of ['write', 'datasync'] as const) {
      storage.fail(operation);
      const next = { ...block, epoch: 2 };
      await expect(writeSuperblock(storage, next)).rejects.toThrow(/made to fail/);
      const powerless = storage.copy();
      powerless.crash();
      expect((await readSuperblock(powerless)).epoch).toBe(1);
    }
    await writeSuperblock(storage, { ...block, epoch: 3 });
    storage.crash();
    expect((await readSuperblock(storage)).epoch).toBe(3);
  });

  it('one damaged slot costs nothing but what was new in it, whatever bit of it is damaged', async () => {
    const block = freshSuperblock();
    block.epoch = 1;
    await writeSuperblock(storage, block);
    const newest = slotOf(block.generation);
    for (let bit = 0; bit < SUPERBLOCK_BYTES * 8; bit++) {
      const flip = (bytes: Buffer): void => {
        bytes[newest + (bit >> 3)]! ^= 1 << (bit & 7);
      };
      storage.edit(SUPERBLOCK_PATH, flip);
      expect((await readSuperblock(storage)).epoch, `bit ${bit}`).toBe(0);
      storage.edit(SUPERBLOCK_PATH, flip);
    }
    storage.edit(SUPERBLOCK_PATH, (bytes) => bytes.fill(0xff, SLOT_BYTES - newest, 2 * SLOT_BYTES - newest));
    expect((await readSuperblock(storage)).epoch).toBe(1);
  });

  it('two damaged slots are CORRUPTION, and no file is NOT_A_STORE', async () => {
    storage.edit(SUPERBLOCK_PATH, (bytes) => bytes.fill(0xff));
    await expect(readSuperblock(storage)).rejects.toThrow(isCode('CORRUPTION'));
    await expect(readSuperblock(new MemoryStorage())).rejects.toThrow(isCode('NOT_A_STORE'));
  });

  it('a file that was cut off has the slot that is left', async () => {
    await writeSuperblock(storage, freshSuperblock({ generation: 2 }));
    await writeSuperblock(storage, freshSuperblock({ generation: 3, epoch: 9 }));
    const whole = Buffer.from(storage.bytes(SUPERBLOCK_PATH));
    for (const length of [0, 111, 112, 4095, 4096, 4096 + 111, 4096 + 112]) {
      const short = new MemoryStorage();
      const file = await short.open(SUPERBLOCK_PATH, 'create');
      await file.write([whole.subarray(0, length)], 0);
      await file.close();
      if (length < 112) await expect(readSuperblock(short)).rejects.toThrow(isCode('CORRUPTION'));
      else expect(await readSuperblock(short)).toMatchObject({ epoch: 9 });
    }
  });

  it('of a newer format revision is refused with UNSUPPORTED_FORMAT, in one slot or in both', async () => {
    const block = freshSuperblock();
    await writeSuperblock(storage, block);
    const one = storage.copy();
    one.edit(SUPERBLOCK_PATH, (bytes) => setRevision(bytes.subarray(slotOf(block.generation)), NEWER));
    await expect(readSuperblock(one)).rejects.toThrow(isCode('UNSUPPORTED_FORMAT'));
    const older = storage.copy();
    older.edit(SUPERBLOCK_PATH, (bytes) => setRevision(bytes.subarray(slotOf(block.generation + 1)), NEWER));
    await expect(readSuperblock(older)).rejects.toThrow(isCode('UNSUPPORTED_FORMAT'));
    // With a layout that this program does not know, checksum and all.
    storage.edit(SUPERBLOCK_PATH, (bytes) => {
      bytes.writeUInt16BE(NEWER, 8);
      bytes.writeUInt16BE(NEWER, SLOT_BYTES + 8);
    });
    await expect(readSuperblock(storage)).rejects.toThrow(isCode('UNSUPPORTED_FORMAT'));
  });
});

describe('numbers', () => {
  it('are handed out only below what the superblock on the disk reserves', async () => {
    const numbers = await Numbers.begin(storage, await readSuperblock(storage), NONE);
    const taken = [numbers.take('labels'), numbers.take('labels'), numbers.take('segments')];
    expect(taken).toEqual([1, 2, 1]);
    storage.crash();
    const found = await readSuperblock(storage);
    expect(found.labels).toBeGreaterThan(2);
    expect(found.segments).toBeGreaterThan(1);
    expect(found.sequences).toBeGreaterThan(2 ** 20);
  });

  it('begin in a file of their own: neither copy is touched while the newest may be in memory only', async () => {
    const block = await readSuperblock(storage);
    storage.trace.length = 0;
    await Numbers.begin(storage, { ...block }, NONE);
    expect(storage.trace.map(({ operation, path }) => `${operation} ${path}`)).toEqual([
      'remove superblock.new',
      'create superblock.new',
      'write superblock.new',
      'datasync superblock.new',
      'rename superblock.new',
      'syncDirectory .',
    ]);
  });

  it('survive a power cut at any step of their beginning, with what was read and with what is written', async () => {
    for (let step = 1; step <= 7; step++) {
      const machine = storage.copy();
      machine.turnOffAt(step);
      const block = await readSuperblock(machine);
      await Numbers.begin(machine, { ...block }, NONE).catch(() => undefined);
      machine.crash();
      const { generation } = await readSuperblock(machine);
      expect(generation - block.generation, `step ${step}`).toBe(step <= 6 ? 0 : 1);
    }
  });

  it('go on above everything that was reserved, after any number of crashes', async () => {
    let last = 0;
    for (let life = 0; life < 5; life++) {
      const numbers = await Numbers.begin(storage, await readSuperblock(storage), NONE);
      expect(numbers.epoch).toBe(life + 1);
      for (let i = 0; i < 3; i++) {
        const label = numbers.take('labels');
        expect(label).toBeGreaterThan(last);
        last = label;
      }
      storage.crash();
    }
  });

  it('go on above what the log shows, should the superblock be an old one', async () => {
    const seen = { sequences: 2 ** 40, appends: 2 ** 41, labels: 10 ** 6, segments: 10 ** 5 };
    const numbers = await Numbers.begin(storage, await readSuperblock(storage), seen);
    expect(numbers.take('sequences')).toBe(2 ** 40 + 1);
    expect(numbers.take('appends')).toBe(2 ** 41 + 1);
    expect(numbers.take('labels')).toBe(10 ** 6 + 1);
    expect(numbers.take('segments')).toBe(10 ** 5 + 1);
  });

  it('that are not reserved are never handed out, and a reservation that fails changes nothing', async () => {
    const numbers = await Numbers.begin(storage, await readSuperblock(storage), NONE);
    while (numbers.superblock.labels > numbers.peek('labels')) numbers.take('labels');
    const next = numbers.peek('labels');
    storage.fail('datasync');
    await expect(numbers.reserve('labels', 1)).rejects.toThrow(/made to fail/);
    expect(() => numbers.take('labels')).toThrow(/reserved before/);
    await Promise.all([numbers.reserve('labels', 5), numbers.reserve('labels', 5)]);
    storage.crash();
    expect((await readSuperblock(storage)).labels).toBeGreaterThan(next + 10);
  });

  it('are reserved however many are asked for: a compaction of small segments takes tens of thousands', async () => {
    const numbers = await Numbers.begin(storage, await readSuperblock(storage), NONE);
    await numbers.reserve('segments', 50_000);
    for (let i = 0; i < 50_000; i++) numbers.take('segments');
    await numbers.reserve('segments', 1); // and who needs one meanwhile gets it
    numbers.take('segments');
    storage.crash();
    expect((await readSuperblock(storage)).segments).toBeGreaterThan(numbers.peek('segments'));
  });

  it('that were reserved stay so, whoever asks for others before they are taken', async () => {
    const numbers = await Numbers.begin(storage, await readSuperblock(storage), NONE);
    for (let i = 0; i < 3000; i++) numbers.take('segments'); // few are left
    const many = numbers.reserve('segments', 17_000).then(() => {
      for (let i = 0; i < 17_000; i++) numbers.take('segments');
    });
    await Promise.all([many, numbers.reserve('segments', 1).then(() => numbers.take('segments'))]);
    storage.crash();
    expect((await readSuperblock(storage)).segments).toBeGreaterThanOrEqual(numbers.peek('segments'));
  });

  it('stand beside the base, which moves when it is on the disk, and stays there', async () => {
    const numbers = await Numbers.begin(storage, await readSuperblock(storage), NONE);
    const { base } = WITH_BASE;
    storage.fail('datasync');
    await expect(numbers.moveBase(base!)).rejects.toThrow(/made to fail/);
    expect(numbers.superblock.base).toBeUndefined();
    await numbers.moveBase(base!);
    storage.crash();
    expect((await readSuperblock(storage)).base).toEqual(base);
    const again = await Numbers.begin(storage, await readSuperblock(storage), NONE);
    again.take('labels');
    await again.giveBack();
    storage.crash();
    expect(await readSuperblock(storage)).toMatchObject({ base, labels: again.peek('labels') });
  });

  it('are given back at a clean close: the next life goes on without a gap', async () => {
    const numbers = await Numbers.begin(storage, await readSuperblock(storage), NONE);
    for (let i = 0; i < 3; i++) numbers.take('labels');
    await numbers.giveBack();
    storage.crash();
    const again = await Numbers.begin(storage, await readSuperblock(storage), NONE);
    expect(again.take('labels')).toBe(4);
    expect(again.take('appends')).toBe(1);
  });
});
