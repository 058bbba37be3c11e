/** The bytes of the log, one by one: golden layouts, what decoding gives back, and that no flipped bit passes. */

import { describe, expect, it } from 'vitest';
import { ByteReader, ByteWriter } from '../../src/base/bytes.ts';
import { crc32c } from '../../src/base/crc.ts';
import { Append, AppendPromise, RANK_OF_DATA } from '../../src/log/append.ts';
import {
  CATALOG_LAST,
  ENTRY_CATALOG,
  ENTRY_CHANGE,
  ENTRY_CHUNKS,
  ENTRY_ZEROS,
  readEntries,
} from '../../src/log/entries.ts';
import {
  decodeFooterItem,
  decodeRecordHeader,
  decodeSegmentHeader,
  decodeTrailer,
  encodeFooterItem,
  encodeRecordHeader,
  encodeSegmentHeader,
  encodeTrailer,
  FOOTER_ITEM_BYTES,
  RECORD_HEADER_BYTES,
  RECORD_COPIED,
  RECORD_FOOTER,
  recordBytes,
  type RecordHeader,
  recordIsWhole,
  SEGMENT_REWRITES_TAIL,
  segmentOfName,
  segmentPath,
} from '../../src/log/format.ts';
import { RecordPacker } from '../../src/log/record-packer.ts';
import { UUID } from './rig.ts';

const OTHER_UUID = Buffer.from('00112233445566778899aabbccddeefe', 'hex');

const SEGMENT_HEADER = {
  flags: SEGMENT_REWRITES_TAIL,
  uuid: UUID,
  segment: 7,
  segmentBytes: 1 << 26,
  epoch: 3,
  predecessor: 6,
  predecessorEnd: 0x3fff000,
  predecessorChecksum: 0xdeadbeef,
  firstAppend: 2 ** 40 + 5,
  durable: 2 ** 40 + 4,
};
const SEGMENT_HEX = [
  '434f5053 0001 0001 00112233445566778899aabbccddeeff 00000007 04000000',
  '00000003 00000006 03fff000 deadbeef 0000010000000005 0000010000000004',
  '3b2efa4e',
];

const RECORD_HEX = [
  // header
  '434f5052 0001 0008 00112233445566778899aabbccddeeff 00000007 00002000',
  '0000010000000006 0000020000000000 0000010000000004 00000004 0000004b',
  '00002000 01020304 00000000 682f390a',
  // chunks: kind, sequence, label, first, count, two checksums
  '10 feffffffff7f 09 8280808040 02 26c74ca2 4c084549',
  // zeros, of the next sequence
  '13 0a fbffffff3f 8080808004',
  // catalog, the last part: kind, flags, sequence, bytes, text
  '05 01 0000020000000002 00000002 7b7d',
  // change
  '03 00 0000020000000003 0000000b 7b226f70223a22c3a9227d',
];
/** The same table as the first stores have it. */
const FIRST_TABLE_HEX = [
  // chunks: kind, flags, sequence, label, first, count, two checksums
  '01 00 0000020000000000 00000009 000200000001 000000000002 26c74ca2 4c084549',
  // zeros
  '02 00 0000020000000001 0000000a 000000000005 000040000000',
  '05 01 0000020000000002 00000002 7b7d',
  '03 00 0000020000000003 0000000b 7b226f70223a22c3a9227d',
];
const ITEM_HEX = ['00002000 0000010000000006 0000010000000004 0008 00000004 0000004b 00002000 682f390a'];
const TRAILER_HEX = ['434f5054 00112233445566778899aabbccddeeff 00000007 03ffe000 0000012c 97461bd0'];

const bytesOf = (lines: string[]): Buffer => Buffer.from(lines.join('').replaceAll(' ', ''), 'hex');

/** A record with an entry of each kind, packed. */
function packRecord(): { header: RecordHeader; head: Buffer; buffers: Uint8Array[]; next: number } {
  const owner = new AppendPromise();
  const payload = Buffer.alloc(8192, 'a');
  payload.fill('b', 4096);
  const packer = new RecordPacker(UUID);
  // Slices need not end where chunks end.
  const slices = [payload.subarray(0, 100), payload.subarray(100, 5000), payload.subarray(5000)];
  const entries = [
    Append.chunks(owner, { label: 9 }, 2 ** 33 + 1, 2, slices),
    Append.zeros(owner, { label: 10 }, 5, 2 ** 30),
    Append.catalog(owner, '{}', CATALOG_LAST),
    Append.change(owner, '{"op":"é"}'),
  ];
  expect(packer.choose(entries, 0, 1 << 20, RANK_OF_DATA)).toEqual(entries);
  const header: RecordHeader = {
    flags: 0,
    segment: 7,
    offset: 8192,
    append: 2 ** 40 + 6,
    firstSequence: 0,
    durable: 2 ** 40 + 4,
    entryCount: 0,
    tableBytes: 0,
    payloadBytes: 0,
    previousChecksum: 0x01020304,
    checksum: 0,
  };
  const next = packer.pack(header, 2 ** 41);
  return { header, head: Buffer.from(packer.head), buffers: packer.buffers, next };
}

/** CRC-32C by its definition, a bit at a time. */
function slowCrc32c(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0x82f63b78 : 0);
  }
  return (crc ^ 0xffffffff) >>> 0;
}

/** What the table of the record above holds, its payload at 9000. */
const ENTRIES = [
  {
    kind: ENTRY_CHUNKS,
    sequence: 2 ** 41,
    label: 9,
    first: 2 ** 33 + 1,
    count: 2,
    offset: 9000,
    checksums: Uint32Array.of(slowCrc32c(Buffer.alloc(4096, 'a')), slowCrc32c(Buffer.alloc(4096, 'b'))),
  },
  { kind: ENTRY_ZEROS, sequence: 2 ** 41 + 1, label: 10, first: 5, count: 2 ** 30 },
  { kind: ENTRY_CATALOG, flags: CATALOG_LAST, sequence: 2 ** 41 + 2, text: '{}' },
  { kind: ENTRY_CHANGE, flags: 0, sequence: 2 ** 41 + 3, text: '{"op":"é"}' },
];

/** Calls `check` with each copy of `bytes` that has one bit flipped. */
function withEachBitFlipped(bytes: Buffer, check: (flipped: Buffer, bit: number) => void): void {
  for (let bit = 0; bit < bytes.length * 8; bit++) {
    const flipped = Buffer.from(bytes);
    flipped[bit >> 3]! ^= 1 << (bit & 7);
    check(flipped, bit);
  }
}

describe('the layout of the log', () => {
  it('checksums are CRC-32C', () => {
    expect(crc32c(Buffer.from('123456789')).toString(16)).toBe('e3069283');
    const bytes = bytesOf(RECORD_HEX);
    expect(crc32c(bytes)).toBe(slowCrc32c(bytes));
    expect(crc32c(bytes.subarray(50), crc32c(bytes.subarray(0, 50)))).toBe(slowCrc32c(bytes));
  });

  it('a segment header has these bytes, and is read back', () => {
    const encoded = encodeSegmentHeader(SEGMENT_HEADER);
    expect(encoded.toString('hex')).toBe(bytesOf(SEGMENT_HEX).toString('hex'));
    expect(decodeSegmentHeader(encoded, UUID)).toEqual(SEGMENT_HEADER);
  });

  it('a record with an entry of every kind has these bytes', () => {
    const { header, head, buffers, next } = packRecord();
    expect(head.toString('hex')).toBe(bytesOf(RECORD_HEX).toString('hex'));
    expect(next).toBe(2 ** 41 + 4);
    expect(header).toMatchObject({
      entryCount: 4,
      tableBytes: 75,
      payloadBytes: 8192,
      firstSequence: 2 ** 41,
    });
    const bytes = buffers.reduce((sum, buffer) => sum + buffer.length, 0);
    // Whole blocks are written, whatever a record needs.
    expect(recordBytes(75, 8192, RECORD_FOOTER)).toBe(8704);
    expect(recordBytes(75, 8192, RECORD_COPIED)).toBe(8704);
    expect(bytes).toBeGreaterThanOrEqual(8704);
    const written = Buffer.concat(buffers);
    const copyAt = 8704 - 8 - head.length;
    expect(written.subarray(copyAt, 8696).equals(head)).toBe(true);
    expect(written.subarray(8696, 8704).toString('hex')).toBe('0000009b434f5043');
    for (const gap of [written.subarray(head.length + 8192, copyAt), written.subarray(8704)])
      expect(gap.every((byte) => byte === 0)).toBe(true);
  });

  it('a record header and its entries are read back', () => {
    const { header } = packRecord();
    const bytes = bytesOf(RECORD_HEX);
    const decoded = decodeRecordHeader(bytes, UUID, 7, 8192)!;
    expect(decoded).toEqual(header);
    const table = bytes.subarray(RECORD_HEADER_BYTES);
    expect(recordIsWhole(bytes, table, decoded)).toBe(true);
    expect(readEntries(table, 4, 9000)).toEqual(ENTRIES);
  });

  it('entries of the first stores are read as well', () => {
    expect(readEntries(bytesOf(FIRST_TABLE_HEX), 4, 9000)).toEqual(ENTRIES);
  });

  it('a footer item has these bytes, and is read back', () => {
    const { header } = packRecord();
    const out = new ByteWriter(Buffer.alloc(FOOTER_ITEM_BYTES));
    encodeFooterItem(out, header);
    expect(out.position).toBe(FOOTER_ITEM_BYTES);
    expect(out.buffer.toString('hex')).toBe(bytesOf(ITEM_HEX).toString('hex'));
    const kept = { ...header, firstSequence: 0, previousChecksum: 0 };
    expect(decodeFooterItem(new ByteReader(out.buffer), 7)).toEqual(kept);
  });

  it('a trailer has these bytes, and is read back', () => {
    const trailer = { segment: 7, footerOffset: 0x3ffe000, footerBytes: 300 };
    expect(encodeTrailer(trailer, UUID).toString('hex')).toBe(bytesOf(TRAILER_HEX).toString('hex'));
    expect(decodeTrailer(bytesOf(TRAILER_HEX), UUID, 7)).toEqual(trailer);
  });

  it('files of segments are named by ten digits', () => {
    expect(segmentPath(42)).toBe('log/0000000042.seg');
    expect(segmentOfName('0000000042.seg')).toBe(42);
    for (const name of ['42.seg', '0000000042.seg.tmp', '00000000042.seg', 'x000000042.seg']) {
      expect(segmentOfName(name)).toBeUndefined();
    }
  });
});

describe('what is not a header of the log', () => {
  it('any flipped bit of a segment header', () => {
    withEachBitFlipped(bytesOf(SEGMENT_HEX), (flipped, bit) => {
      expect(decodeSegmentHeader(flipped, UUID), `bit ${bit}`).toBeUndefined();
    });
  });

  it('any flipped bit of a record header or its table', () => {
    withEachBitFlipped(bytesOf(RECORD_HEX), (flipped, bit) => {
      const header = decodeRecordHeader(flipped, UUID, 7, 8192);
      if (header === undefined) return;
      const table = flipped.subarray(RECORD_HEADER_BYTES, RECORD_HEADER_BYTES + header.tableBytes);
      expect(recordIsWhole(flipped, table, header), `bit ${bit}`).toBe(false);
    });
  });

  it('any flipped bit of a trailer', () => {
    withEachBitFlipped(bytesOf(TRAILER_HEX), (flipped, bit) => {
      expect(decodeTrailer(flipped, UUID, 7), `bit ${bit}`).toBeUndefined();
    });
  });

  it('one of another store, segment or offset: what an older life of the file left behind', () => {
    expect(decodeSegmentHeader(bytesOf(SEGMENT_HEX), OTHER_UUID)).toBeUndefined();
    const record = bytesOf(RECORD_HEX);
    expect(decodeRecordHeader(record, OTHER_UUID, 7, 8192)).toBeUndefined();
    expect(decodeRecordHeader(record, UUID, 8, 8192)).toBeUndefined();
    expect(decodeRecordHeader(record, UUID, 7, 8704)).toBeUndefined();
    expect(decodeTrailer(bytesOf(TRAILER_HEX), OTHER_UUID, 7)).toBeUndefined();
    expect(decodeTrailer(bytesOf(TRAILER_HEX), UUID, 8)).toBeUndefined();
  });

  it('a shorter one', () => {
    for (let length = 0; length < 68; length++) {
      expect(decodeSegmentHeader(bytesOf(SEGMENT_HEX).subarray(0, length), UUID)).toBeUndefined();
    }
    for (let length = 0; length < 80; length++) {
      expect(decodeRecordHeader(bytesOf(RECORD_HEX).subarray(0, length), UUID, 7, 8192)).toBeUndefined();
    }
    for (let length = 0; length < 36; length++) {
      expect(decodeTrailer(bytesOf(TRAILER_HEX).subarray(0, length), UUID, 7)).toBeUndefined();
    }
  });

  it('one with a number that a double cannot hold, however right its checksum', () => {
    for (const at of [32, 40, 48]) {
      const bytes = bytesOf(RECORD_HEX);
      bytes.writeUInt8(0xff, at);
      const input = decodeRecordHeader(bytes, UUID, 7, 8192);
      expect(input).toBeUndefined();
    }
  });

  it('a table that lies about its entries is CORRUPTION, not a crash', () => {
    const isCorruption = expect.objectContaining({ code: 'CORRUPTION' });
    const damaged = (table: Buffer, change: (bytes: Buffer) => void, count = 4): (() => unknown) => {
      const bytes = Buffer.from(table);
      change(bytes);
      return () => readEntries(bytes, count, 0);
    };
    const first = bytesOf(FIRST_TABLE_HEX);
    expect(damaged(first, (bytes) => bytes.writeUIntBE(2 ** 47, 20, 6))).toThrow(isCorruption); // count of chunks
    expect(damaged(first, (bytes) => bytes.writeUInt32BE(2 ** 31, 70))).toThrow(isCorruption); // length of a text
    expect(damaged(first, (bytes) => bytes.fill(0xff, 2, 10))).toThrow(isCorruption); // a sequence above 2^53
    const packed = bytesOf(RECORD_HEX).subarray(RECORD_HEADER_BYTES);
    expect(damaged(packed, (bytes) => bytes.fill(0xff, 1, 9))).toThrow(isCorruption); // a sequence above 2^53
    expect(damaged(packed, (bytes) => bytes.writeUInt8(0x77, 13))).toThrow(isCorruption); // 119 chunks
    for (const table of [first, packed]) {
      expect(damaged(table, (bytes) => bytes.writeUInt8(4, 0))).toThrow(isCorruption); // an unknown kind
      expect(damaged(table, () => undefined, 3)).toThrow(isCorruption); // bytes behind the last one
      expect(damaged(table, () => undefined, 5)).toThrow(isCorruption); // an entry too many
    }
  });

  it('encoding a record header sets the checksum of header and table', () => {
    const buffer = Buffer.alloc(RECORD_HEADER_BYTES + 3);
    buffer.write('abc', RECORD_HEADER_BYTES);
    const { header } = packRecord();
    header.tableBytes = 3;
    encodeRecordHeader(buffer, header, UUID);
    const covered = [...buffer.subarray(0, 76), ...buffer.subarray(RECORD_HEADER_BYTES)];
    expect(buffer.readUInt32BE(76)).toBe(slowCrc32c(Uint8Array.from(covered)));
    expect(header.checksum).toBe(buffer.readUInt32BE(76));
  });
});
