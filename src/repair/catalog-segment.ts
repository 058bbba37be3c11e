/**
 * Writes a catalog into a segment of its own, with which the log begins once the superblock says so. It is marked as one of
 * moves: so it is part of no chain, and until then nobody takes it for anything.
 *
 * Its records are numbered one behind the other, state that all of them have been synced, and have their copies: nothing counts of it
 * before that is true.
 */

import { ByteWriter } from '../base/bytes.ts';
import { assert } from '../base/errors.ts';
import type { Storage } from '../base/storage.ts';
import { roundUp } from '../base/units.ts';
import {
  CATALOG_FIRST,
  CATALOG_LAST,
  ENTRY_CATALOG,
  TEXT_ENTRY_BYTES,
  writeTextEntry,
} from '../log/entries.ts';
import {
  encodeFooterItem,
  encodeSegmentStart,
  encodeTableRecord,
  encodeTrailer,
  FIRST_RECORD_OFFSET,
  FOOTER_ITEM_BYTES,
  RECORD_COPIED,
  RECORD_FOOTER,
  RECORD_HEADER_BYTES,
  recordBytes,
  type RecordHeader,
  SEGMENT_MOVES,
  segmentHeaderChecksum,
  segmentPath,
  SYNC_ALIGN_BYTES,
  TRAILER_ROOM_BYTES,
} from '../log/format.ts';
import type { LogBase } from '../log/superblock.ts';

/** Bytes of texts in a record, and one more text. */
const TABLE_BYTES = 64 << 10;

export interface CatalogIdentity {
  readonly uuid: Buffer;
  readonly segment: number;
  readonly epoch: number;
  /** Of the first record. */
  readonly append: number;
  /** Of the catalog. */
  readonly sequence: number;
}

/** How many append numbers the texts take. */
export function catalogRecordCount(texts: readonly string[]): number {
  return tablesOf(texts, 0).length;
}

/** On the disk, its name too, when this resolves; answers where the catalog begins. @throws NO_SPACE, IO */
export async function writeCatalogSegment(
  storage: Storage,
  identity: CatalogIdentity,
  texts: readonly string[],
): Promise<LogBase> {
  const { segment, append } = identity;
  const file = await storage.open(segmentPath(segment), 'create');
  try {
    await file.write([encodeSegment(identity, tablesOf(texts, identity.sequence))], 0);
    await file.datasync();
  } finally {
    await file.close();
  }
  await storage.syncDirectory('log');
  return { segment, offset: FIRST_RECORD_OFFSET, append };
}

interface Table {
  readonly bytes: Buffer;
  readonly entryCount: number;
}

function tablesOf(texts: readonly string[], sequence: number): Table[] {
  const bodies = texts.map((text) => Buffer.from(text));
  const tables: Table[] = [];
  for (let from = 0; from < bodies.length; ) {
    let [to, length] = [from, 0];
    while (to < bodies.length && length < TABLE_BYTES) length += TEXT_ENTRY_BYTES + bodies[to++]!.length;
    const out = new ByteWriter(Buffer.alloc(length));
    for (let i = from; i < to; i++) {
      const flags = (i === 0 ? CATALOG_FIRST : 0) | (i === bodies.length - 1 ? CATALOG_LAST : 0);
      writeTextEntry(out, ENTRY_CATALOG, flags, sequence, bodies[i]!);
    }
    tables.push({ bytes: out.buffer, entryCount: to - from });
    from = to;
  }
  return tables;
}

/** The whole file. */
function encodeSegment(
  { uuid, segment, epoch, append, sequence }: CatalogIdentity,
  tables: readonly Table[],
): Buffer {
  const footerTableBytes = tables.reduce((sum, { bytes }) => sum + FOOTER_ITEM_BYTES + bytes.length, 0);
  const recordsEnd = tables.reduce(
    (end, { bytes }) => end + recordBytes(bytes.length, 0, RECORD_COPIED),
    FIRST_RECORD_OFFSET,
  );
  const footerEnd = recordsEnd + recordBytes(footerTableBytes, 0, RECORD_FOOTER);
  const file = Buffer.alloc(roundUp(footerEnd + TRAILER_ROOM_BYTES, SYNC_ALIGN_BYTES));
  const start = encodeSegmentStart({
    flags: SEGMENT_MOVES,
    uuid,
    segment,
    segmentBytes: file.length,
    epoch,
    predecessor: 0,
    predecessorEnd: 0,
    predecessorChecksum: 0,
    firstAppend: append,
    durable: append,
  });
  start.copy(file, 0);
  const footer = new ByteWriter(Buffer.alloc(footerTableBytes));
  const last = append + tables.length - 1;
  let at = FIRST_RECORD_OFFSET;
  let previousChecksum = segmentHeaderChecksum(start);
  const put = (flags: number, number: number, table: Buffer, entryCount: number): RecordHeader => {
    const record: RecordHeader = {
      flags,
      segment,
      offset: at,
      append: number,
      firstSequence: sequence,
      durable: last,
      entryCount,
      tableBytes: table.length,
      payloadBytes: 0,
      previousChecksum,
      checksum: 0,
    };
    const bytes = encodeTableRecord(record, table, uuid);
    bytes.copy(file, at);
    at += bytes.length;
    previousChecksum = record.checksum;
    return record;
  };
  tables.forEach(({ bytes, entryCount }, i) => {
    encodeFooterItem(footer, put(RECORD_COPIED, append + i, bytes, entryCount));
    footer.bytes(bytes);
  });
  const footerOffset = at;
  put(RECORD_FOOTER, last, footer.buffer, tables.length);
  assert(at === footerEnd, 'layout of a segment with a catalog');
  const footerBytes = RECORD_HEADER_BYTES + footerTableBytes;
  encodeTrailer({ segment, footerOffset, footerBytes }, uuid).copy(file, file.length - TRAILER_ROOM_BYTES);
  return file;
}
