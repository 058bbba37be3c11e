/** The rows of the index byte by byte: keys that sort as they are meant to, layouts that never change by accident. */

import { describe, expect, it } from 'vitest';
import { crc32c } from '../../src/base/crc.ts';
import { hasCode } from '../../src/base/errors.ts';
import { CHUNK_BYTES } from '../../src/base/units.ts';
import { HOLE, PointerBlock, REGION_CHUNKS } from '../../src/index/pointers.ts';
import {
  CHECKPOINT_KEY,
  decodeCheckpoint,
  decodeUsage,
  directoryKey,
  encodeCheckpoint,
  encodePointers,
  encodeUsage,
  listKey,
  mergePointerRow,
  openRow,
  openStatedRow,
  pointerKey,
  sealRow,
  usageKey,
} from '../../src/index/rows.ts';
import { Random, seeds } from '../support/random.ts';
import { IndexRig, pointerAt, UUID } from './rig.ts';

const hex = (bytes: Buffer): string => bytes.toString('hex');

function codeOf(action: () => unknown): string {
  try {
    action();
  } catch (error) {
    if (hasCode(error, 'INDEX_DAMAGED')) return 'INDEX_DAMAGED';
    throw error;
  }
  return 'nothing';
}

/** Rows of every kind, from a small history: runs, holes, several rows in a region. */
async function everyKindOfRow(): Promise<Map<string, Buffer>> {
  const rig = await IndexRig.begin();
  rig.apply({ op: 'create' });
  rig.apply({ op: 'write', label: 1, first: 0, count: 3 });
  rig.apply({ op: 'snapshot', label: 1 });
  rig.apply({ op: 'write', label: 2, first: 2, count: 1 });
  rig.apply({ op: 'zero', label: 2, first: 0, count: 1 });
  rig.apply({ op: 'write', label: 2, first: 300 * REGION_CHUNKS, count: 1 });
  await rig.commit();
  return await rig.rows();
}

describe('keys of the index', () => {
  it('are these bytes', () => {
    expect(hex(CHECKPOINT_KEY)).toBe('63');
    expect(hex(pointerKey(1, 2, 3, 4))).toBe('700000000100000002fffffffc00000004');
    expect(hex(listKey(0x01020304, 0x05060708))).toBe('6c0102030405060708');
    expect(hex(directoryKey(7, 1, 9))).toBe('64010000000700000009');
    expect(hex(usageKey(0xfffffffe))).toBe('75fffffffe');
  });

  it('sort by tree, region, newest version, generation', () => {
    const sorted: [number, number, number, number][] = [
      [1, 0, 900, 7],
      [1, 0, 900, 8],
      [1, 0, 2, 1],
      [1, 0, 1, 0xffffffff],
      [1, 255, 1, 1],
      [1, 256, 0xfffffffe, 1],
      [1, 256, 256, 1],
      [1, 256, 255, 1],
      [1, 0x3ffffff, 1, 1],
      [2, 0, 2, 1],
      [256, 0, 256, 1],
    ];
    const keys = sorted.map((parts) => pointerKey(...parts));
    expect([...keys].sort((a, b) => Buffer.compare(a, b))).toEqual(keys);
    const regions = [0, 1, 255, 256, 65_535, 65_536, 0x3ffffff].map((region) => listKey(5, region));
    expect([...regions].sort((a, b) => Buffer.compare(a, b))).toEqual(regions);
    const segments = [1, 255, 256, 0x10000, 0xfffffffe].map(usageKey);
    expect([...segments].sort((a, b) => Buffer.compare(a, b))).toEqual(segments);
  });
});

describe('values of the index', () => {
  it('a pointer row with a run, a single chunk and a run of holes is these bytes', () => {
    const block = new PointerBlock();
    for (let i = 0; i < 3; i++) block.put(4 + i, 9, 8192 + i * CHUNK_BYTES, 0xa0 + i, 0x1_0000_0002);
    block.put(7, 9, 8192 + 3 * CHUNK_BYTES, 0xa3, 0x1_0000_0003);
    for (let i = 250; i < 256; i++) block.put(i, HOLE, 0, 0, 5);
    const value = encodePointers(block);
    const key = pointerKey(1, 2, 3, 4);
    expect(sealRow(key, value)).toBe(crc32c(value.subarray(4), crc32c(key)));
    expect(hex(value)).toBe(
      [
        '86849c480003',
        '0402000000090000200000010000' + '0002',
        '07000000000900005000000100000003',
        'fa05ffffffff00000000000000000005',
        '000000a0000000a1000000a2000000a3',
      ].join(''),
    );
  });

  it('a small index is these rows', async () => {
    const rows = [...(await everyKindOfRow())].map(([key, value]) => `${key} ${hex(value)}`);
    expect(rows).toMatchInlineSnapshot(`
      [
        "63 72874d54000200112233445566778899aabbccddeeff00000001000000010000100000000000000000015bd38a6df48b6d6cdfb3e90c00000000000f4240",
        "64010000000100000000 67dbf8d08000000000000000000000000000000000000000000000000000000000000000ffffffff000000017084d072",
        "64010000000100000001 e0a066870000000000080000000000000000000000000000000000000000000000000000000000020000000107bde807",
        "64020000000100000000 0a1f8b3fc000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000067dbf8d0e0a06687",
        "64030000000100000000 5bd38a6d800000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000a1f8b3f",
        "6c0000000100000000 7084d0720000000200000001bfa8736e0000000100000001719789a1",
        "700000000100000000fffffffd00000001 bfa8736e00020000ffffffff000000000000000000050200000000050000400000000000000478dde6c4",
        "700000000100000000fffffffe00000001 719789a10001000200000003000020000000000000023c6ef3623c6ef3633c6ef364",
        "70000000010000012cfffffffd00000001 07bde807000100000000000700006000000000000006b54cda26",
        "7500000003 84a9b23400000003",
        "7500000005 f5f5a32b00000001",
        "7500000007 85d77c7300000001",
        "760000000100000000 f39f443e0001000201",
        "760000000200000000 233330b60002000002020001",
        "760000000200000001 5d76e5a12c01000001",
        "770000000100000000 f892db8900000001f39f443e",
        "770000000200000000 27213285000000027e45d517",
      ]
    `);
  });

  it('a checkpoint row is these bytes, and another revision is none', () => {
    const row = {
      uuid: UUID,
      generation: 0x01020304,
      segment: 5,
      offset: 6,
      append: 2 ** 52 + 7,
      rootsDigest: 0x0a0b0c0d,
      usageDigest: 0x0e0f1011,
      windowsDigest: 0x12131415,
      at: 1_700_000_000_000,
    };
    const value = encodeCheckpoint(row);
    sealRow(CHECKPOINT_KEY, value);
    expect(hex(value)).toBe(
      '7e786f610002' +
        '00112233445566778899aabbccddeeff' +
        '010203040000000500000006' +
        '0010000000000007' +
        '0a0b0c0d0e0f101112131415' +
        '0000018bcfe56800',
    );
    expect(decodeCheckpoint(value)).toEqual(row);
    value.writeUInt16BE(3, 4);
    expect(decodeCheckpoint(value)).toBeUndefined();
    expect(decodeCheckpoint(Buffer.concat([encodeCheckpoint(row), Buffer.alloc(1)]))).toBeUndefined();
  });

  it('a usage row holds its figure', () => {
    const key = usageKey(0x01020304);
    const value = encodeUsage(0xfffffffe);
    sealRow(key, value);
    expect(hex(value).slice(8)).toBe('fffffffe');
    expect(decodeUsage(key, value)).toEqual({ segment: 0x01020304, liveChunks: 0xfffffffe });
  });

  it('every flipped bit of every row is noticed, and so is a row under the key of another', async () => {
    const rows = await everyKindOfRow();
    const kinds = new Set([...rows.keys()].map((key) => key.slice(0, 4)));
    // A checkpoint, a leaf, a middle node, a root, a list, pointers, usage, extents, a window.
    expect(
      [...kinds]
        .map((kind) => kind.slice(0, 2))
        .sort()
        .join(' '),
    ).toBe('63 64 64 64 6c 70 75 76 77');
    for (const [name, value] of rows) {
      const key = Buffer.from(name, 'hex');
      const checksum = openRow(key, value);
      expect(openStatedRow(key, value, checksum)).toBe(value);
      for (let bit = 0; bit < value.length * 8; bit++) {
        value[bit >> 3]! ^= 1 << (bit & 7);
        if (codeOf(() => openRow(key, value)) !== 'INDEX_DAMAGED') throw new Error(`bit ${bit} of ${name}`);
        value[bit >> 3]! ^= 1 << (bit & 7);
      }
      for (const [otherName, other] of rows) {
        if (otherName === name) continue;
        expect(codeOf(() => openRow(key, other))).toBe('INDEX_DAMAGED');
      }
    }
  });

  it('a missing row, an empty one, a short one and one that is not stated are noticed', () => {
    const key = usageKey(1);
    const value = encodeUsage(5);
    const checksum = sealRow(key, value);
    expect(codeOf(() => openRow(key, undefined))).toBe('INDEX_DAMAGED');
    for (let length = 0; length < value.length; length++) {
      expect(codeOf(() => openRow(key, value.subarray(0, length)))).toBe('INDEX_DAMAGED');
    }
    expect(codeOf(() => openStatedRow(key, value, checksum ^ 1))).toBe('INDEX_DAMAGED');
    expect(codeOf(() => openStatedRow(key, value, checksum))).toBe('nothing');
  });
});

/** All that a block says, of chunks without a pointer too. */
const contentOf = (block: PointerBlock): string =>
  JSON.stringify(Array.from({ length: REGION_CHUNKS }, (_, i) => pointerAt(block, i)));

/** A block with runs, holes, single chunks and gaps, of any sequence below 2^48. */
function randomBlock(random: Random): PointerBlock {
  const block = new PointerBlock();
  let at = random.below(3);
  while (at < REGION_CHUNKS) {
    const count = Math.min(random.pick([1, 1, 2, 7, 256]), REGION_CHUNKS - at);
    const sequence = random.below(2 ** 16) * 2 ** 32 + random.next();
    const isHole = random.chance(30);
    const segment = isHole ? HOLE : random.between(1, 3);
    const offset = CHUNK_BYTES * random.below(2 ** 18 - 256);
    for (let i = 0; i < count; i++) {
      if (isHole) block.put(at + i, HOLE, 0, 0, sequence);
      else block.put(at + i, segment, offset + i * CHUNK_BYTES, random.next(), sequence);
    }
    at += count + random.pick([0, 0, 1, 30]);
  }
  return block;
}

describe('pointer rows', () => {
  for (const seed of seeds(1)) {
    it(`give back every block that was put in (SEED=${seed})`, () => {
      const random = new Random(seed);
      for (let round = 0; round < 500; round++) {
        const block = round === 0 ? new PointerBlock() : randomBlock(random);
        const back = new PointerBlock();
        mergePointerRow(encodePointers(block), back);
        expect(contentOf(back)).toBe(contentOf(block));
      }
    });

    it(`merge so that the higher sequence counts, in any order (SEED=${seed})`, () => {
      const random = new Random(seed);
      for (let round = 0; round < 200; round++) {
        const blocks = [randomBlock(random), randomBlock(random), randomBlock(random)];
        const rows = blocks.map(encodePointers);
        const [forward, backward] = [new PointerBlock(), new PointerBlock()];
        for (const row of rows) mergePointerRow(row, forward);
        for (const row of rows.toReversed()) mergePointerRow(row, backward);
        expect(contentOf(forward)).toBe(contentOf(backward));
        for (let i = 0; i < REGION_CHUNKS; i++) {
          const all = blocks.filter((block) => block.segment(i) !== 0).map((block) => pointerAt(block, i));
          const newest = all.sort((a, b) => b.sequence - a.sequence)[0];
          const found = forward.segment(i) === 0 ? undefined : pointerAt(forward, i);
          if (JSON.stringify(found) !== JSON.stringify(newest)) throw new Error(`chunk ${i}`);
        }
      }
    });
  }

  it('1 MiB written in one go is one run: 16 bytes and a checksum a chunk', () => {
    const block = new PointerBlock();
    for (let i = 0; i < REGION_CHUNKS; i++) block.put(i, 3, 4096 + i * CHUNK_BYTES, i, 77);
    expect(encodePointers(block).length).toBe(4 + 2 + 16 + 4 * REGION_CHUNKS);
  });

  it('256 chunks without a run still fit a row', () => {
    const block = new PointerBlock();
    for (let i = 0; i < REGION_CHUNKS; i++) block.put(i, 3, 8192 * i, 0xffffffff - i, 1000 - i);
    const value = encodePointers(block);
    expect(value.length).toBe(4 + 2 + REGION_CHUNKS * 20);
    const back = new PointerBlock();
    mergePointerRow(value, back);
    expect(contentOf(back)).toBe(contentOf(block));
  });
});
