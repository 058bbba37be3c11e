/**
 * Finds the record that holds a chunk, by its place in the log, and says whether it is what a pointer to it claims. Only reads.
 *
 * What is known of the segment that was asked for last is kept: pointers that follow each other lead to the same few.
 */

import { crc32c } from '../base/crc.ts';
import { hasCode } from '../base/errors.ts';
import type { Storage } from '../base/storage.ts';
import { CHUNK_BYTES } from '../base/units.ts';
import { type ChunksEntry, ENTRY_CHUNKS } from './entries.ts';
import { RECORD_FOOTER, type RecordHeader } from './format.ts';
import { entriesOf, recordEnd, type ScannedRecord, SegmentScanner } from './scan.ts';
import { walkSegment } from './segment-walk.ts';

/** Where the log of a store is. */
export interface LogPlace {
  readonly storage: Storage;
  readonly uuid: Buffer;
}

export interface ClaimedPlace {
  readonly chunk: number;
  readonly segment: number;
  readonly offset: number;
  readonly checksum: number;
  readonly sequence: number;
}

/** The record at a place, as far as one can be read there. */
export interface PlaceFound {
  /** `yes`, or why not. */
  readonly matches: string;
  /** Offset of the record; undefined if there is none. */
  readonly record: number | undefined;
  /** The version that the chunk was written under. */
  readonly writtenUnder: number | undefined;
}

const NOTHING = { record: undefined, writtenUnder: undefined };

export class RecordLocator {
  readonly #place: LogPlace;
  #scanner: SegmentScanner | undefined;
  #headers: RecordHeader[] = [];
  #segment = 0;
  /** The record that was read last, and where it begins. */
  #record: ScannedRecord | undefined;
  #recordAt = 0;

  constructor(place: LogPlace) {
    this.#place = place;
  }

  async close(): Promise<void> {
    const scanner = this.#scanner;
    this.#scanner = undefined;
    await scanner?.close();
  }

  /** @throws IO */
  async look(claimed: ClaimedPlace): Promise<PlaceFound> {
    const scanner = await this.#open(claimed.segment);
    if (scanner === undefined) return { matches: `no segment ${claimed.segment}`, ...NOTHING };
    const { offset } = claimed;
    const header = this.#headers.find((each) => each.offset <= offset && offset < recordEnd(each));
    if (header === undefined) return { matches: 'no record there', ...NOTHING };
    const record = await this.#read(scanner, header.offset);
    const found = { record: header.offset, writtenUnder: undefined };
    if (record === undefined) return { matches: 'the record is damaged', ...found };
    const entry = entryAt(record, offset);
    if (entry === undefined) return { matches: 'no chunk begins there', ...found };
    const at = (offset - entry.offset) / CHUNK_BYTES;
    const bytes = await scanner.bytesAt(offset, CHUNK_BYTES);
    const isIntact = bytes.length === CHUNK_BYTES && crc32c(bytes) === claimed.checksum;
    const matches = differenceOf(claimed, entry, at) ?? (isIntact ? 'yes' : 'the bytes are damaged');
    return { matches, record: header.offset, writtenUnder: entry.label };
  }

  async #read(scanner: SegmentScanner, offset: number): Promise<ScannedRecord | undefined> {
    if (this.#recordAt === offset) return this.#record;
    this.#record = (await scanner.recordAt(offset)) ?? (await scanner.copyAt([offset]));
    this.#recordAt = offset;
    return this.#record;
  }

  async #open(segment: number): Promise<SegmentScanner | undefined> {
    if (this.#segment === segment) return this.#scanner;
    await this.close();
    const { storage, uuid } = this.#place;
    this.#segment = segment;
    this.#headers = [];
    this.#recordAt = 0;
    const whole = await SegmentScanner.open(storage, uuid, segment);
    const scanner = whole ?? (await SegmentScanner.openAnyway(storage, uuid, segment));
    this.#scanner = scanner;
    if (scanner === undefined) return undefined;
    const footer = await scanner.footer();
    for (const { header } of footer ?? []) this.#headers.push(header);
    if (footer !== undefined) return scanner;
    for await (const { found } of walkSegment(scanner, whole !== undefined)) {
      if (found !== undefined && (found.header.flags & RECORD_FOOTER) === 0) this.#headers.push(found.header);
    }
    return scanner;
  }
}

/** The entry that has a chunk which begins at `offset`. */
function entryAt(record: ScannedRecord, offset: number): ChunksEntry | undefined {
  try {
    for (const entry of entriesOf(record)) {
      if (entry.kind !== ENTRY_CHUNKS || offset < entry.offset) continue;
      const at = (offset - entry.offset) / CHUNK_BYTES;
      if (at < entry.count && Number.isInteger(at)) return entry;
    }
  } catch (error) {
    if (!hasCode(error, 'CORRUPTION')) throw error;
  }
  return undefined;
}

/** What the log says of the chunk where it is not what the pointer says; undefined if they agree. */
function differenceOf(claimed: ClaimedPlace, entry: ChunksEntry, at: number): string | undefined {
  if (entry.first + at !== claimed.chunk) return `holds chunk ${entry.first + at}`;
  if (entry.sequence !== claimed.sequence) return `has the sequence ${entry.sequence}`;
  if (entry.checksums[at] !== claimed.checksum) return 'has another checksum';
  return undefined;
}
