/** Damage of records and of the chunks in them, planted: each kind, and what the checker must say of it. */

import { expect } from 'vitest';
import { ByteWriter } from '../../src/base/bytes.ts';
import { DATA_ENTRY_BYTES_MAX, EntryCoder } from '../../src/log/entry-coder.ts';
import { RECORD_HEADER_BYTES } from '../../src/log/format.ts';
import { payloadOffset, recordEnd } from '../../src/log/scan.ts';
import { readSuperblock } from '../../src/log/superblock.ts';
import { CHUNK, type Damages, type Expected } from './damaged-store.ts';

const MIB = 1 << 20;

/** What a chunk's damage says of who reads it. */
const at = (chunk: number, count = 1) => [{ offsetBytes: chunk * CHUNK, lengthBytes: count * CHUNK }];

export const RECORD_DAMAGES: Damages = [
  [
    "the first copy of a record's header",
    async (store) => {
      const { header } = await store.recordOf('shared');
      store.flip(header.segment, header.offset + 33);
      return [
        {
          code: 'RECORD_COPY_DAMAGED',
          segment: header.segment,
          offset: header.offset,
          message: expect.stringContaining('first copy'),
          mend: 'repair',
        },
      ];
    },
  ],
  [
    "the first copy of a record's table",
    async (store) => {
      const { header } = await store.recordOf('late');
      store.flip(header.segment, header.offset + RECORD_HEADER_BYTES + 3);
      return [
        {
          code: 'RECORD_COPY_DAMAGED',
          offset: header.offset,
          message: expect.stringContaining('first copy'),
        },
      ];
    },
  ],
  [
    "the second copy of a record's header and table",
    async (store) => {
      const { header } = await store.recordOf('shared');
      store.flip(header.segment, recordEnd(header) - 30);
      return [
        {
          code: 'RECORD_COPY_DAMAGED',
          offset: header.offset,
          message: expect.stringContaining('second copy'),
          mend: 'repair',
        },
      ];
    },
  ],
  [
    'header and table of a record in both places, where the footer has them',
    async (store) => {
      const record = await store.recordOf('shared');
      store.loseRecord(record);
      const { segment, offset } = record.header;
      return [
        {
          code: 'LOG_RECORD_DAMAGED',
          segment,
          offset,
          message: expect.stringContaining('the footer tells'),
          mend: 'repair',
        },
      ];
    },
  ],
  [
    'such a record, and the chunk that it holds',
    async (store) => {
      const { segment, offset } = store.placeOf('shared');
      store.loseRecord(await store.recordOf('shared'));
      store.flip(segment, offset + 50);
      return [
        { code: 'LOG_RECORD_DAMAGED', message: expect.stringContaining('the footer tells') },
        {
          code: 'CHUNK_DAMAGED',
          segment,
          offset,
          affects: expect.arrayContaining([{ volume: 'd', extents: at(2) }]),
        },
      ];
    },
  ],
  [
    'header and table of a record in both places, in the segment that has no footer yet',
    async (store) => {
      const record = await store.recordOf('late');
      store.loseRecord(record);
      return [
        {
          code: 'LOG_RECORD_DAMAGED',
          segment: record.header.segment,
          message: expect.stringContaining('one chunk lives there, and can be read by the index alone'),
          affects: [{ volume: 'a', extents: at(6) }],
          mend: 'repair',
        },
      ];
    },
  ],
  [
    'a record that is gone, payload and all',
    async (store) => {
      const { header } = await store.recordOf('late');
      store.fill(header.segment, header.offset, recordEnd(header));
      return [{ code: 'LOG_RECORD_DAMAGED', affects: [{ volume: 'a', extents: at(6) }], mend: 'none' }];
    },
  ],
  [
    'a record of moves, which stands once only',
    async (store) => {
      const { header } = await store.recordOf('moved');
      store.flip(header.segment, header.offset + 33);
      return [{ code: 'LOG_RECORD_DAMAGED', segment: header.segment, offset: header.offset, mend: 'repair' }];
    },
  ],
  [
    'the zeros within a record',
    async (store) => {
      const { header } = await store.recordOf('shared');
      store.flip(header.segment, payloadOffset(header) + header.payloadBytes + 3);
      return [{ code: 'PADDING_DAMAGED', segment: header.segment, offset: header.offset }];
    },
  ],
  [
    'a record that is not chained to the one before it',
    async (store) => {
      const record = await store.recordOf('late');
      const { previousChecksum } = record.header;
      store.forgeRecord(record, { previousChecksum: (previousChecksum ^ 1) >>> 0 });
      const found = await store.copy().check();
      const { segment } = record.header;
      expect(found).toContainEqual(
        expect.objectContaining({
          code: 'LOG_RECORD_DAMAGED',
          segment,
          offset: record.header.offset,
          mend: 'repair',
        }),
      );
      // The one behind it is chained to the header that it had.
      return ['LOG_RECORD_DAMAGED', 'LOG_RECORD_DAMAGED'];
    },
  ],
  [
    'a record with an entry of an unknown kind',
    async (store) => {
      const { highest } = await store.end();
      const table = Buffer.alloc(10);
      table.writeUInt8(9);
      await store.append(table, 1, highest + 1);
      return [
        { code: 'RECORD_UNREADABLE', message: expect.stringContaining('unknown kind 9'), mend: 'none' },
      ];
    },
  ],
  [
    'a record that claims more payload than its entries have',
    async (store) => {
      const { highest } = await store.end();
      const out = new ByteWriter(Buffer.alloc(DATA_ENTRY_BYTES_MAX + 4));
      new EntryCoder().write(out, false, highest + 1, await store.labelOf('a'), 100, 1);
      out.u32(0);
      await store.append(out.buffer.subarray(0, out.position), 1, highest + 1);
      const found = await store.copy().check();
      expect(found).toContainEqual(
        expect.objectContaining({ code: 'CHUNK_DAMAGED', affects: [{ volume: 'a', extents: at(100) }] }),
      );
      return [
        {
          code: 'RECORD_UNREADABLE',
          message: expect.stringContaining('4096 bytes of payload, and it says 0'),
        },
        'CHUNK_DAMAGED',
      ];
    },
  ],
  [
    'writes of a version that the log does not know',
    async (store) => {
      const { highest } = await store.end();
      const out = new ByteWriter(Buffer.alloc(DATA_ENTRY_BYTES_MAX));
      new EntryCoder().write(out, true, highest + 1, 77, 0, 1);
      await store.append(out.buffer.subarray(0, out.position), 1, highest + 1);
      return [{ code: 'UNKNOWN_VERSION', message: expect.stringContaining('version 77'), mend: 'none' }];
    },
  ],
  [
    'the end of the log, which the index has seen',
    async (store) => {
      const { base } = await readSuperblock(store.storage);
      const segment = (await store.chain()).at(-1)!;
      const records = await store.records(segment);
      const from = records.at(-6)!.header.offset;
      expect(base).toBeDefined();
      store.fill(segment, from, MIB, 0);
      return [
        { code: 'LOG_END_LOST', segment, offset: expect.any(Number) as number, mend: 'none' },
        'INDEX_NOT_COMPARED',
      ];
    },
  ],
];

export const CHUNK_DAMAGES: Damages = [
  [
    'a chunk that one volume reads',
    async (store) => {
      const { segment, offset } = store.placeOf('own');
      store.flip(segment, offset + 100);
      return [
        {
          code: 'CHUNK_DAMAGED',
          segment,
          offset,
          message: expect.stringContaining('chunk 5 of a has'),
          affects: [{ volume: 'a', extents: at(5) }],
          mend: 'none',
        },
      ];
    },
  ],
  [
    'a chunk that a snapshot, its volume and a clone read',
    async (store) => {
      const { segment, offset } = store.placeOf('shared');
      store.flip(segment, offset);
      const affects = [
        { volume: 'a', snapshot: '2', extents: at(2) },
        { volume: 'a', extents: at(2) },
        { volume: 'd', extents: at(2) },
      ];
      return [
        { code: 'CHUNK_DAMAGED', message: expect.stringContaining('chunk 2 of a@2'), affects, mend: 'none' },
      ];
    },
  ],
  [
    'a chunk that its volume has written over since the snapshot',
    async (store) => {
      const { segment, offset } = store.placeOf('frozen');
      store.flip(segment, offset);
      const affects = [
        { volume: 'a', snapshot: '2', extents: at(3) },
        { volume: 'd', extents: at(3) },
      ];
      return [{ code: 'CHUNK_DAMAGED', affects }];
    },
  ],
  [
    'chunks beside each other, which are one finding',
    async (store) => {
      const { segment, offset } = store.placeOf('one');
      store.flip(segment, offset, offset + CHUNK, offset + 2 * CHUNK);
      const found: Expected = {
        code: 'CHUNK_DAMAGED',
        message: expect.stringContaining('chunks 8 to 10 of a@2 have'),
      };
      return [
        { ...found, affects: expect.arrayContaining([{ volume: 'a', snapshot: '2', extents: at(8, 3) }]) },
      ];
    },
  ],
  [
    'a chunk that compaction has moved',
    async (store) => {
      const { segment, offset } = store.placeOf('moved');
      store.flip(segment, offset + 4095);
      const affects = ['1', '2'].map((snapshot) => ({ volume: 'a', snapshot, extents: at(1) }));
      return [
        {
          code: 'CHUNK_DAMAGED',
          segment,
          offset,
          affects: expect.arrayContaining([...affects, { volume: 'd', extents: at(1) }]),
        },
      ];
    },
  ],
  [
    'a chunk that nobody reads',
    async (store) => {
      const { segment, offset } = store.placeOf('given up');
      store.flip(segment, offset);
      return [{ code: 'DEAD_CHUNK_DAMAGED', severity: 'note', segment, offset }];
    },
  ],
];

/** Behind the last record that is proven to have been synced, in a store that was killed. */
export const UNPROVEN_DAMAGES: Damages = [
  [
    'one copy of header and table of a record is torn, and no rot',
    async (store) => {
      const { header } = await store.recordOf('last');
      store.flip(header.segment, recordEnd(header) - 30);
      return [{ code: 'UNPROVEN_TORN', severity: 'note', offset: header.offset, mend: 'open' }];
    },
  ],
  [
    'a record without its payload is a torn tail',
    async (store) => {
      const { segment, offset } = store.placeOf('last');
      store.flip(segment, offset + 700);
      return [{ code: 'TORN_TAIL', severity: 'note', segment, mend: 'open' }];
    },
  ],
  [
    'a record without header and table is a torn tail',
    async (store) => {
      const record = await store.recordOf('last');
      store.loseRecord(record);
      const { segment, offset } = record.header;
      return [{ code: 'TORN_TAIL', severity: 'note', segment, offset: expect.closeTo(offset, -4) as number }];
    },
  ],
];
