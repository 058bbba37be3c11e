/**
 * The entries of a record: what the log says happened, in order. No I/O.
 *
 * Data entries (chunks, zeros) are packed: entry-coder.ts. The payload of chunks lies in the record's payload, in the order of the table.
 * Those of the first stores are read as well: | kind u8 | flags u8 | sequence u64 | label u32 | first chunk u48 | count u48 |,
 * and for chunks a CRC-32C u32 for each.
 * Text entries (change, catalog): | kind u8 | flags u8 | sequence u64 | bytes u32 |, then that much UTF-8 JSON.
 */

import { ByteReader, ByteWriter } from '../base/bytes.ts';
import { StoreError } from '../base/errors.ts';
import { CHUNK_BYTES } from '../base/units.ts';
import { EntryCoder, isPacked } from './entry-coder.ts';

// On disk. Never renumber.
export const ENTRY_CHUNKS = 1;
/** Reads as zeros from here on, however long: a trim or a write of zeros. */
export const ENTRY_ZEROS = 2;
/** A change of volumes and versions. */
export const ENTRY_CHANGE = 3;
/** A part of the catalog of volumes and versions as it stood at the entry's sequence. */
export const ENTRY_CATALOG = 5;

/** Flags of a catalog entry: the last part, and the first. Parts without a last one are ignored. On disk. */
export const CATALOG_LAST = 1;
export const CATALOG_FIRST = 2;

export const TEXT_ENTRY_BYTES = 14;

export interface ChunksEntry {
  kind: typeof ENTRY_CHUNKS;
  sequence: number;
  label: number;
  first: number;
  count: number;
  /** Offset in the segment of the first chunk's bytes; the others follow. */
  offset: number;
  checksums: Uint32Array;
}

export interface ZerosEntry {
  kind: typeof ENTRY_ZEROS;
  sequence: number;
  label: number;
  first: number;
  count: number;
}

export interface TextEntry {
  kind: typeof ENTRY_CHANGE | typeof ENTRY_CATALOG;
  flags: number;
  sequence: number;
  text: string;
}

export type Entry = ChunksEntry | ZerosEntry | TextEntry;

export function writeTextEntry(
  out: ByteWriter,
  kind: number,
  flags: number,
  sequence: number,
  body: Buffer,
): void {
  out.u8(kind).u8(flags).u64(sequence).u32(body.length).bytes(body);
}

/**
 * The entries of a table whose checksum has been verified.
 * `payloadOffset` is where the record's payload begins in its segment.
 * @throws CORRUPTION if the table is not what this revision writes.
 */
export function readEntries(table: Buffer, entryCount: number, payloadOffset: number): Entry[] {
  const input = new ByteReader(table);
  const coder = new EntryCoder();
  const entries: Entry[] = [];
  let offset = payloadOffset;
  for (let i = 0; i < entryCount; i++) {
    const kind = input.u8();
    if (isPacked(kind)) {
      coder.read(input, kind);
      const { sequence, label, first, count } = coder;
      if (coder.isZeros) {
        entries.push({ kind: ENTRY_ZEROS, sequence, label, first, count });
        continue;
      }
      const checksums = readChecksums(input, count);
      entries.push({ kind: ENTRY_CHUNKS, sequence, label, first, count, offset, checksums });
      offset += count * CHUNK_BYTES;
      continue;
    }
    const flags = input.u8();
    const sequence = input.u64();
    switch (kind) {
      case ENTRY_CHUNKS: {
        const label = input.u32();
        const first = input.u48();
        const count = input.u48();
        const checksums = readChecksums(input, count);
        entries.push({ kind, sequence, label, first, count, offset, checksums });
        offset += count * CHUNK_BYTES;
        break;
      }
      case ENTRY_ZEROS:
        entries.push({ kind, sequence, label: input.u32(), first: input.u48(), count: input.u48() });
        break;
      case ENTRY_CHANGE:
      case ENTRY_CATALOG:
        entries.push({ kind, flags, sequence, text: input.bytes(input.u32()).toString('utf8') });
        break;
      default:
        throw new StoreError('CORRUPTION', `unknown kind ${kind} of entry ${i} of a record`);
    }
  }
  if (input.remaining !== 0)
    throw new StoreError('CORRUPTION', `${input.remaining} bytes behind the last entry`);
  return entries;
}

function readChecksums(input: ByteReader, count: number): Uint32Array {
  if (count * 4 > input.remaining) throw new StoreError('CORRUPTION', `an entry claims ${count} checksums`);
  const checksums = new Uint32Array(count);
  for (let c = 0; c < count; c++) checksums[c] = input.u32();
  return checksums;
}

/** The highest sequence among entries, or 0. */
export function lastSequence(entries: readonly Entry[]): number {
  let last = 0;
  for (const entry of entries) if (entry.sequence > last) last = entry.sequence;
  return last;
}
