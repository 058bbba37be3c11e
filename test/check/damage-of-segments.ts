/** Damage of the superblock and of whole segments, planted: each kind, and what the checker must say of it. */

import { expect } from 'vitest';
import { segmentPath, TRAILER_ROOM_BYTES } from '../../src/log/format.ts';
import { readSuperblock, SLOT_BYTES } from '../../src/log/superblock.ts';
import type { Damages } from './damaged-store.ts';

const MIB = 1 << 20;

export const SUPERBLOCK_DAMAGES: Damages = [
  [
    'the first copy of the superblock',
    async (store) => {
      store.storage.edit('superblock', (bytes) => void bytes.fill(0x55, 60, 64));
      return [{ code: 'SUPERBLOCK_SLOT_DAMAGED', offset: 0, mend: 'open' }];
    },
  ],
  [
    'the second copy of the superblock',
    async (store) => {
      store.storage.edit('superblock', (bytes) => void bytes.fill(0x55, SLOT_BYTES + 60, SLOT_BYTES + 64));
      return [{ code: 'SUPERBLOCK_SLOT_DAMAGED', offset: SLOT_BYTES, mend: 'open' }];
    },
  ],
  [
    'a copy of the superblock that is zeros, as no store of this age has one',
    async (store) => {
      const { generation } = await readSuperblock(store.storage);
      const from = ((generation + 1) % 2) * SLOT_BYTES;
      store.storage.edit('superblock', (bytes) => void bytes.fill(0, from, from + SLOT_BYTES));
      return [{ code: 'SUPERBLOCK_SLOT_DAMAGED', offset: from }];
    },
  ],
  [
    'generations of the superblock that do not follow each other',
    async (store) => {
      await store.editSuperblock(() => undefined, 3);
      return [{ code: 'SUPERBLOCK_SLOTS_DIFFER', mend: 'open' }];
    },
  ],
  [
    'an older copy of the superblock that is of another store',
    async (store) => {
      const { uuid } = await readSuperblock(store.storage);
      await store.editSuperblock((block) => void (block.uuid = Buffer.alloc(16, 9)));
      await store.editSuperblock((block) => void (block.uuid = uuid));
      return [{ code: 'SUPERBLOCK_SLOTS_DIFFER', message: expect.stringContaining('of two stores') }];
    },
  ],
  [
    'a superblock that goes backwards to an earlier epoch',
    async (store) => {
      await store.editSuperblock((block) => void (block.epoch -= 1));
      return ['SUPERBLOCK_SLOTS_DIFFER', ...store.segments.map(() => 'SEGMENT_HEADER_DIFFERS')];
    },
  ],
  [
    'numbers that the superblock does not reserve',
    async (store) => {
      await store.editSuperblock((block) => Object.assign(block, { sequences: 5, labels: 3 }));
      return [
        { code: 'NUMBERS_BEHIND', message: expect.stringContaining('sequences'), mend: 'open' },
        { code: 'NUMBERS_BEHIND', message: expect.stringContaining('labels'), mend: 'open' },
      ];
    },
  ],
  [
    'a base that leads to no catalog, where there is a newer one',
    async (store) => {
      const { base } = await readSuperblock(store.storage);
      await store.editSuperblock((block) => void (block.base = { ...base!, offset: base!.offset + 512 }));
      const { segment, offset } = base!;
      return [{ code: 'BASE_LOST', segment, offset: offset + 512, mend: 'repair' }];
    },
  ],
];

export const SEGMENT_DAMAGES: Damages = [
  ...([1, 2] as const).map((copy): Damages[number] => [
    `copy ${copy} of a segment's header`,
    async (store) => {
      const [segment] = await store.chain();
      store.flip(segment!, (copy - 1) * 2048 + 50);
      return [{ code: 'SEGMENT_HEADER_DAMAGED', segment: segment!, mend: 'repair' }];
    },
  ]),
  [
    'both copies of the header of a segment in the middle of the log',
    async (store) => {
      const [, second, third, fourth] = await store.chain();
      store.fill(second!, 0, 4096);
      return [
        {
          code: 'LOG_SEGMENT_LOST',
          segment: second!,
          message: expect.stringContaining('both copies of its header'),
        },
        {
          code: 'LOG_SEGMENT_LOST',
          message: expect.stringContaining(`segments ${third}, ${fourth} are cut off`),
          mend: 'repair',
        },
        'INDEX_NOT_COMPARED',
      ];
    },
  ],
  [
    'a segment of the log that is missing',
    async (store) => {
      const [, , third, fourth] = await store.chain();
      await store.storage.remove(segmentPath(third!));
      return [
        {
          code: 'SEGMENT_MISSING',
          segment: third!,
          mend: 'none',
          affects: expect.arrayContaining([expect.objectContaining({ volume: 'a' })]),
        },
        { code: 'LOG_SEGMENT_LOST', message: expect.stringContaining(`segment ${fourth} is cut off`) },
        'INDEX_NOT_COMPARED',
      ];
    },
  ],
  [
    'the last segment of the log that is missing',
    async (store) => {
      const last = (await store.chain()).at(-1)!;
      await store.storage.remove(segmentPath(last));
      return [
        { code: 'SEGMENT_MISSING', segment: last, mend: 'none' },
        { code: 'LOG_END_LOST', mend: 'none' },
        'INDEX_NOT_COMPARED',
      ];
    },
  ],
  [
    'the last segment of the log that is missing, where there is no index',
    async (store) => {
      store.rows = [];
      await store.storage.remove('index');
      await store.storage.remove(segmentPath((await store.chain()).at(-1)!));
      return ['NO_INDEX', { code: 'LOG_END_LOST', mend: 'none' }];
    },
  ],
  [
    'the last records of a store that was closed, where there is no index',
    async (store) => {
      store.rows = [];
      await store.storage.remove('index');
      const last = (await store.chain()).at(-1)!;
      const { offset } = (await store.records(last)).at(-4)!.header;
      store.fill(last, offset, store.bytes(last).length, 0);
      const later = expect.stringContaining('were used when the store was closed');
      return ['NO_INDEX', { code: 'LOG_END_UNSURE', severity: 'note', message: later }];
    },
  ],
  [
    'a log that ends with a sealed segment, of a store that was not closed',
    async (store) => {
      store.rows = [];
      await store.storage.remove('index');
      await store.storage.remove(segmentPath((await store.chain()).at(-1)!));
      await store.editSuperblock((block) => void (block.appends += 2 ** 28));
      return ['NO_INDEX', { code: 'LOG_END_UNSURE', severity: 'note' }];
    },
  ],
  [
    'a segment of moves that is missing',
    async (store) => {
      const { segment } = store.placeOf('moved');
      await store.storage.remove(segmentPath(segment));
      return [
        {
          code: 'SEGMENT_MISSING',
          segment,
          mend: 'none',
          affects: expect.arrayContaining([
            expect.objectContaining({ volume: 'a', snapshot: '1' }),
            expect.objectContaining({ volume: 'b' }),
          ]),
        },
      ];
    },
  ],
  [
    'a segment of another store in the place of one of moves',
    async (store) => {
      const { segment } = store.placeOf('moved');
      await store.forgeHeader(segment, { uuid: Buffer.alloc(16, 9) });
      return [{ code: 'LOG_SEGMENT_LOST', segment, message: expect.stringContaining('another store') }];
    },
  ],
  [
    'a segment of another store beside the log',
    async (store) => {
      const [segment] = await store.chain();
      await store.replace(segmentPath(99), Buffer.from(store.bytes(segment!)));
      return [
        {
          code: 'LEFTOVER_SEGMENT',
          segment: 99,
          message: expect.stringContaining('another store'),
          mend: 'open',
        },
      ];
    },
  ],
  [
    'a segment that is cut short',
    async (store) => {
      const [segment] = await store.moves();
      await store.replace(segmentPath(segment!), Buffer.from(store.bytes(segment!).subarray(0, 4196)));
      const gone = expect.stringContaining('chunks live there, and are gone');
      return [
        { code: 'FOOTER_DAMAGED', segment: segment! },
        {
          code: 'LOG_RECORD_DAMAGED',
          segment: segment!,
          message: gone,
          affects: expect.anything(),
          mend: 'none',
        },
      ];
    },
  ],
  [
    'a segment that is longer than its header says',
    async (store) => {
      const [segment] = await store.chain();
      await store.replace(segmentPath(segment!), Buffer.concat([store.bytes(segment!), Buffer.alloc(512)]));
      return [
        {
          code: 'SEGMENT_HEADER_DIFFERS',
          segment: segment!,
          message: expect.stringContaining('its file has'),
        },
      ];
    },
  ],
  [
    'a segment of an epoch that never was',
    async (store) => {
      const { segment } = store.placeOf('moved');
      await store.forgeHeader(segment, { epoch: 99 });
      // Its first record is chained to the header that it had.
      return [
        { code: 'SEGMENT_HEADER_DIFFERS', segment, message: expect.stringContaining('epoch 99') },
        {
          code: 'LOG_RECORD_DAMAGED',
          segment,
          message: expect.stringContaining('not chained'),
          mend: 'repair',
        },
      ];
    },
  ],
  [
    'a segment that is chained to another record than the last one before it',
    async (store) => {
      const last = (await store.chain()).at(-1)!;
      const [first] = await store.records(last);
      await store.forgeHeader(last, { predecessorChecksum: 7 });
      const checksum = store.bytes(last).readUInt32BE(64);
      store.forgeRecord(first!, { previousChecksum: checksum });
      // And so on: the second record is chained to what the first one was.
      return [
        { code: 'SEGMENT_LINK_DIFFERS', segment: last, mend: 'repair' },
        { code: 'LOG_RECORD_DAMAGED', message: expect.stringContaining('not chained') },
      ];
    },
  ],
  [
    'the trailer of a segment',
    async (store) => {
      const [segment] = await store.chain();
      store.flip(segment!, MIB - TRAILER_ROOM_BYTES + 8);
      return [{ code: 'FOOTER_DAMAGED', segment: segment!, mend: 'repair' }];
    },
  ],
  [
    'the footer of a segment',
    async (store) => {
      const [segment] = await store.chain();
      const offset = store.bytes(segment!).readUInt32BE(MIB - TRAILER_ROOM_BYTES + 24);
      store.flip(segment!, offset + 200);
      return [{ code: 'FOOTER_DAMAGED', segment: segment!, mend: 'repair' }];
    },
  ],
  [
    'a footer that does not say what a record says',
    async (store) => {
      const [segment] = await store.chain();
      const footer = await store.footer(segment!);
      const [first] = await store.records(segment!);
      const table = Buffer.from(footer.table);
      table.fill(0, 12, 20); // the watermark of the first record
      store.forgeRecord(footer, {}, table);
      const { offset } = first!.header;
      return [{ code: 'FOOTER_DIFFERS', segment: segment!, offset, mend: 'repair' }];
    },
  ],
  [
    'a segment that has lost its trailer, as a crash may leave it',
    async (store) => {
      const [segment] = await store.chain();
      store.fill(segment!, MIB - TRAILER_ROOM_BYTES, MIB, 0);
      return [{ code: 'FOOTER_TORN', segment: segment! }];
    },
  ],
  [
    'a segment that has no footer',
    async (store) => {
      const [segment] = await store.chain();
      const offset = store.bytes(segment!).readUInt32BE(MIB - TRAILER_ROOM_BYTES + 24);
      store.fill(segment!, offset, MIB, 0);
      return [{ code: 'NO_FOOTER', segment: segment! }];
    },
  ],
  [
    'a segment of moves that has no footer',
    async (store) => {
      const { segment } = store.placeOf('moved');
      const { length } = store.bytes(segment);
      store.fill(segment, length - TRAILER_ROOM_BYTES, length, 0);
      return [{ code: 'FOOTER_DAMAGED', segment, mend: 'repair' }];
    },
  ],
];
