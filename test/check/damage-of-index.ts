/** Damage of the index and of the store's directory, planted: each kind, and what the checker must say of it. */

import { expect } from 'vitest';
import { Overlay } from '../../src/index/overlay.ts';
import { type Overlays, PointerIndex } from '../../src/index/pointer-index.ts';
import {
  CHECKPOINT_KEY,
  type CheckpointRow,
  decodeCheckpoint,
  encodeCheckpoint,
  encodeUsage,
  openRow,
  sealRow,
  usageKey,
} from '../../src/index/rows.ts';
import { LONE_ROOT } from '../../tools/size/index-load.ts';
import { UUID } from '../log/rig.ts';
import { MemoryStorage } from '../support/memory-storage.ts';
import { CHUNK, type Damages, type DamagedStore } from './damaged-store.ts';

const LATE = 2 ** 40;
const says = (text: string): string => expect.stringContaining(text) as string;

const isOf =
  (kind: string) =>
  ([key]: readonly [Buffer, Buffer]) =>
    key[0] === kind.charCodeAt(0);

/** Puts changes into the index with right checksums everywhere. */
async function changeIndex(store: DamagedStore, change: (overlays: Overlays) => void): Promise<void> {
  const database = await new MemoryStorage().openDatabase('index');
  for (const [key, value] of store.rows) await database.put(key, value);
  const overlays: Overlays = { active: new Overlay(), frozen: undefined };
  const index = await PointerIndex.open(database, overlays, UUID, 1 << 20);
  change(overlays);
  index.freeze();
  await index.commit(index.checkpoint, LONE_ROOT);
  store.rows = [];
  for await (const [key, value] of database.iterator())
    store.rows.push([Buffer.from(key), Buffer.from(value)]);
  await database.close();
}

function changeCheckpoint(store: DamagedStore, change: (row: CheckpointRow) => void): void {
  const at = store.rows.findIndex(([key]) => key.equals(CHECKPOINT_KEY));
  const row = decodeCheckpoint(store.rows[at]![1])!;
  change(row);
  const value = encodeCheckpoint(row);
  sealRow(CHECKPOINT_KEY, value);
  store.rows[at] = [CHECKPOINT_KEY, value];
}

export const INDEX_DAMAGES: Damages = [
  [
    'no index',
    async (store) => {
      store.rows = [];
      await store.storage.remove('index');
      return [{ code: 'NO_INDEX', severity: 'note', mend: 'open' }];
    },
  ],
  [
    'an index of another revision',
    async (store) => {
      const at = store.rows.findIndex(([key]) => key.equals(CHECKPOINT_KEY));
      const value = Buffer.from(store.rows[at]![1]);
      value.writeUInt16BE(1, 4);
      sealRow(CHECKPOINT_KEY, value);
      store.rows[at] = [CHECKPOINT_KEY, value];
      return [{ code: 'OTHER_INDEX', severity: 'note', mend: 'open' }];
    },
  ],
  [
    'an index of another store',
    async (store) => {
      changeCheckpoint(store, (row) => void (row.uuid = Buffer.alloc(16, 9)));
      return [{ code: 'INDEX_DAMAGED', message: says('belongs to another store'), mend: 'open' }];
    },
  ],
  [
    'an index that is older than the log',
    async (store) => {
      changeCheckpoint(store, (row) => void (row.append = 1));
      return [{ code: 'OLD_INDEX', severity: 'note', mend: 'open' }];
    },
  ],
  [
    'an index that begins where the log has no such record',
    async (store) => {
      changeCheckpoint(store, (row) => void (row.offset += 512));
      return [{ code: 'INDEX_AHEAD', mend: 'open' }, 'INDEX_NOT_COMPARED'];
    },
  ],
  [
    'a checkpoint with a wrong checksum',
    async (store) => {
      const at = store.rows.findIndex(([key]) => key.equals(CHECKPOINT_KEY));
      const value = Buffer.from(store.rows[at]![1]);
      value[30]! ^= 1;
      store.rows[at] = [CHECKPOINT_KEY, value];
      return [{ code: 'INDEX_DAMAGED', mend: 'open' }];
    },
  ],
  ...(['p', 'd', 'v', 'u'] as const).map((kind): Damages[number] => [
    `a row of kind ${kind} that is missing`,
    async (store) => {
      const at = store.rows.findIndex(isOf(kind));
      store.rows.splice(at, 1);
      return [{ code: 'INDEX_DAMAGED', mend: 'open' }];
    },
  ]),
  [
    'a row with a flipped bit',
    async (store) => {
      const at = store.rows.findIndex(isOf('p'));
      const [key, value] = store.rows[at]!;
      const flipped = Buffer.from(value);
      flipped[10]! ^= 4;
      store.rows[at] = [key, flipped];
      return [{ code: 'INDEX_DAMAGED', mend: 'open' }];
    },
  ],
  [
    'a pointer that leads to the chunk of another',
    async (store) => {
      const { segment, offset } = store.placeOf('own');
      const label = await store.labelOf('a');
      await changeIndex(store, ({ active }) =>
        active.putChunks(1, label, 2, 1, segment, offset, Uint32Array.of(7), LATE),
      );
      const affects = [{ volume: 'a', extents: [{ offsetBytes: 2 * CHUNK, lengthBytes: CHUNK }] }];
      return [{ code: 'INDEX_DIFFERS', message: says('chunk 2 of a: '), affects, mend: 'repair' }];
    },
  ],
  [
    'a hole in a snapshot that others inherit from',
    async (store) => {
      const label = await store.labelOf('a@2');
      await changeIndex(store, ({ active }) => active.putZeros(1, label, 2, 1, LATE));
      const extents = [{ offsetBytes: 2 * CHUNK, lengthBytes: CHUNK }];
      const affects = [
        { volume: 'a', snapshot: '2', extents },
        { volume: 'a', extents },
        { volume: 'd', extents },
      ];
      return [{ code: 'INDEX_DIFFERS', message: says('chunk 2 of a@2: '), affects, mend: 'repair' }];
    },
  ],
  [
    'pointers of a version that the log does not know',
    async (store) => {
      const { segment, offset } = store.placeOf('own');
      await changeIndex(store, ({ active }) =>
        active.putChunks(1, 77, 2, 1, segment, offset, Uint32Array.of(7), LATE),
      );
      return [{ code: 'ORPHAN_POINTERS', message: says('chunk 2 of version 77'), mend: 'repair' }];
    },
  ],
  [
    'a pointer into a segment that there is not',
    async (store) => {
      const label = await store.labelOf('a');
      await changeIndex(store, ({ active }) =>
        active.putChunks(1, label, 2, 1, 999, 8192, Uint32Array.of(7), LATE),
      );
      return [
        {
          code: 'INDEX_DIFFERS',
          affects: [{ volume: 'a', extents: [{ offsetBytes: 2 * CHUNK, lengthBytes: CHUNK }] }],
          mend: 'repair',
        },
      ];
    },
  ],
  [
    'a figure of usage',
    async (store) => {
      const { segment } = store.placeOf('own');
      const key = usageKey(segment);
      const at = store.rows.findIndex(([each]) => each.equals(key));
      const before = openRow(key, store.rows[at]![1]);
      const value = encodeUsage(200);
      const after = sealRow(key, value);
      store.rows[at] = [key, value];
      changeCheckpoint(store, (row) => void (row.usageDigest = (row.usageDigest ^ before ^ after) >>> 0));
      return [
        { code: 'USAGE_DIFFERS', segment, message: says('200 live chunks are stated'), mend: 'repair' },
      ];
    },
  ],
  [
    'a row that nothing names',
    async (store) => {
      const [key, value] = store.rows.find(isOf('p'))!;
      const other = Buffer.from(key);
      other.writeUInt32BE(12345, 5);
      store.rows.push([other, value]);
      return [{ code: 'INDEX_LEFTOVER_ROWS', severity: 'note' }];
    },
  ],
];

export const DIRECTORY_DAMAGES: Damages = [
  [
    'a superblock that was not put in its place',
    async (store) => {
      await store.replace('superblock.new', Buffer.alloc(10));
      return [{ code: 'LEFTOVER_FILE', severity: 'note', message: says('superblock.new'), mend: 'open' }];
    },
  ],
  [
    'a file that is none of a store',
    async (store) => {
      await store.replace('notes.txt', Buffer.alloc(10));
      return [{ code: 'UNKNOWN_FILE', severity: 'note', message: says('"notes.txt"') }];
    },
  ],
  [
    'a file in the log that is no segment',
    async (store) => {
      await store.replace('log/0000000001.seg.old', Buffer.alloc(10));
      return [{ code: 'UNKNOWN_FILE', message: says('"log/0000000001.seg.old"') }];
    },
  ],
];
