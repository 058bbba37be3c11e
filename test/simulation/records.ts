/** What is in the bytes that are handed to the disk for a segment: the entries of the record, if it is one. */

import { CHUNK_BYTES } from '../../src/base/units.ts';
import { ENTRY_CATALOG, ENTRY_CHUNKS, ENTRY_ZEROS } from '../../src/log/entries.ts';
import {
  decodeRecordHeader,
  RECORD_FOOTER,
  RECORD_HEADER_BYTES,
  type RecordHeader,
  recordIsWhole,
  segmentOfName,
} from '../../src/log/format.ts';
import { entriesOf } from '../../src/log/scan.ts';
import type { WrittenEntry } from './versions.ts';

export interface SeenRecord {
  header: RecordHeader;
  entries: WrittenEntry[];
}

/** undefined for what is no record: headers, zeros, trailers. A footer has no entries of its own. */
export function recordIn(
  path: string,
  position: number,
  bytes: Buffer,
  uuid: Buffer,
): SeenRecord | undefined {
  const segment = segmentOfName(path.slice('log/'.length));
  if (segment === undefined) return undefined;
  const header = decodeRecordHeader(bytes, uuid, segment, position);
  if (header === undefined) return undefined;
  if ((header.flags & RECORD_FOOTER) !== 0) return { header, entries: [] };
  const table = bytes.subarray(RECORD_HEADER_BYTES, RECORD_HEADER_BYTES + header.tableBytes);
  if (!recordIsWhole(bytes, table, header))
    throw new Error(`the record at ${position} of ${path} is not whole`);
  const entries = entriesOf({ header, table }).map((entry): WrittenEntry => {
    const { kind, sequence } = entry;
    const seen = { kind, sequence, label: 0, first: 0, count: 0, chunks: [] as Buffer[], text: '' };
    if (entry.kind === ENTRY_CHUNKS || entry.kind === ENTRY_ZEROS) {
      seen.label = entry.label;
      seen.first = entry.first;
      seen.count = entry.count;
    } else {
      // A catalog says nothing that the changes have not said.
      seen.text = entry.kind === ENTRY_CATALOG ? '' : entry.text;
    }
    for (let i = 0; entry.kind === ENTRY_CHUNKS && i < entry.count; i++) {
      const at = entry.offset - position + i * CHUNK_BYTES;
      seen.chunks.push(bytes.subarray(at, at + CHUNK_BYTES));
    }
    return seen;
  });
  return { header, entries };
}

/** True if two entries say the same. */
export function sameEntry(a: WrittenEntry, b: WrittenEntry): boolean {
  return (
    a.kind === b.kind &&
    a.label === b.label &&
    a.first === b.first &&
    a.count === b.count &&
    a.text === b.text &&
    a.chunks.every((chunk, i) => chunk.equals(b.chunks[i]!))
  );
}
