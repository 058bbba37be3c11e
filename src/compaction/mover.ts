/**
 * Compaction's hands: reads what victims hold, and copies chunks from them into segments of moves. Where it runs (in a
 * thread of its own, or where a simulated disk is) is nobody's business but its maker's.
 *
 * Invariants: every chunk is verified when it is read, and once more from what has been written, but for those that are known to be
 * lost (log/lost-chunk.ts), which stay lost; when `move` answers, all of it is on the disk, sealed, and its name too. Nothing of it counts before the log states it.
 */

import { BufferPool } from '../base/buffer-pool.ts';
import { assert, StoreError } from '../base/errors.ts';
import { InFlight } from '../base/in-flight.ts';
import type { Storage, StorageFile } from '../base/storage.ts';
import { CHUNK_BYTES } from '../base/units.ts';
import { ENTRY_CHANGE, ENTRY_CHUNKS, ENTRY_ZEROS } from '../log/entries.ts';
import { FIRST_RECORD_OFFSET, RECORD_FOOTER, segmentPath } from '../log/format.ts';
import { mayBeMoved } from '../log/lost-chunk.ts';
import { entriesOf, recordEnd, type ScannedRecord, SegmentScanner } from '../log/scan.ts';
import type { Ages } from './age-bands.ts';
import { type ChunkArrays, ChunkList } from './chunk-list.ts';
import {
  layOut,
  type MoveOrder,
  payloadAt,
  type RecordLayout,
  type SegmentLayout,
  type Zeros,
} from './layout.ts';
import { RECORD_CHUNKS_MAX } from './moved-size.ts';
import { MovesWriter } from './moves-writer.ts';

/** A segment to be emptied. */
export interface Victim {
  readonly segment: number;
  /** Nothing of it belongs to the log from here on. */
  readonly end: number;
}

/** What victims hold, alive or dead. */
export interface Found {
  /** In the order of label, chunk, sequence. */
  chunks: ChunkArrays;
  zeros: Zeros[];
}

export interface MoveRequest {
  /** What is to be moved; labels are those of the versions that have it now. */
  chunks: ChunkArrays;
  ages: Ages;
  zeros: readonly Zeros[];
  order: MoveOrder;
  segmentBytes: number;
  epoch: number;
  /** Numbers that the new segments may take, and an append number for each. */
  segments: readonly number[];
  appends: readonly number[];
}

export interface MovedSegment {
  readonly segment: number;
  readonly bytes: number;
  readonly zerosBytes: number;
  readonly age: number;
}

export interface Moved {
  segments: MovedSegment[];
  /** Where each chunk of the request is now. */
  toSegments: Uint32Array;
  toOffsets: Uint32Array;
}

export interface Mover {
  /** @throws IO, CORRUPTION if a record of a victim cannot be read */
  find(victims: readonly Victim[]): Promise<Found>;
  /** @throws NO_SPACE, IO, CORRUPTION if a chunk does not match its checksum; what was made is the caller's to remove */
  move(request: MoveRequest): Promise<Moved>;
  close(): Promise<void>;
}

export class SegmentMover implements Mover {
  readonly #storage: Storage;
  readonly #uuid: Buffer;
  readonly #payloads = new BufferPool(RECORD_CHUNKS_MAX * CHUNK_BYTES, 2);
  /** Called between two records. @throws CLOSED if it is not to go on */
  readonly #onStep: () => void;

  constructor(storage: Storage, uuid: Buffer, onStep: () => void = () => undefined) {
    this.#storage = storage;
    this.#uuid = uuid;
    this.#onStep = onStep;
  }

  async find(victims: readonly Victim[]): Promise<Found> {
    const list = new ChunkList();
    const zeros: Zeros[] = [];
    for (const victim of victims) {
      const scanner = await SegmentScanner.open(this.#storage, this.#uuid, victim.segment);
      if (scanner === undefined)
        throw new StoreError('CORRUPTION', `segment ${victim.segment} cannot be read`);
      try {
        for await (const record of recordsOf(scanner, victim.end)) {
          this.#onStep();
          take(record, list, zeros);
        }
      } finally {
        await scanner.close();
      }
    }
    return { chunks: list.inOrder(), zeros };
  }

  async move(request: MoveRequest): Promise<Moved> {
    const { chunks, ages, zeros, order, segmentBytes, epoch } = request;
    const layouts = layOut(chunks, ages, zeros, order, segmentBytes);
    assert(layouts.length <= request.segments.length, 'there are numbers for all segments of a layout');
    const count = chunks.labels.length;
    const moved: Moved = {
      segments: [],
      toSegments: new Uint32Array(count),
      toOffsets: new Uint32Array(count),
    };
    const sources = new Sources(this.#storage);
    // One segment is synced and verified while the next one is being copied.
    const sealing = new InFlight(1);
    try {
      for (const [i, layout] of layouts.entries()) {
        const segment = request.segments[i]!;
        const age = ageOf(layout, ages.ages);
        const identity = { segment, append: request.appends[i]!, epoch, age };
        const writer = await MovesWriter.create(this.#storage, this.#uuid, identity, layout);
        try {
          await this.#copy(sources, chunks, layout, writer);
          this.#onStep();
          await sealing.add(() => this.#seal(writer, layout, chunks));
        } catch (error) {
          await writer.close();
          throw error;
        }
        noteMoved(moved, layout, segment);
        moved.segments.push({ segment, bytes: layout.bytes, zerosBytes: layout.zerosBytes, age });
      }
      await sealing.settle();
      if (layouts.length > 0) await this.#storage.syncDirectory('log');
    } finally {
      // Whatever it throws here has been thrown, or came behind something else that was.
      await sealing.settle().catch(() => undefined);
      await sources.close();
    }
    return moved;
  }

  /** Writes the records of a segment; the next one is read meanwhile. */
  async #copy(
    sources: Sources,
    chunks: ChunkArrays,
    { records }: SegmentLayout,
    writer: MovesWriter,
  ): Promise<void> {
    const read = (record: RecordLayout): Promise<Buffer> => {
      this.#onStep();
      return readRecord(sources, chunks, record, this.#payloads.take());
    };
    let ahead: Promise<Buffer> | undefined;
    try {
      for (const [i, record] of records.entries()) {
        const buffer = await (ahead ?? read(record));
        const next = records[i + 1];
        ahead = next && read(next);
        ahead?.catch(() => undefined); // thrown when its turn comes
        await writer.write(record, chunks, buffer.subarray(0, record.chunks.length * CHUNK_BYTES));
        this.#payloads.give(buffer);
      }
    } finally {
      await ahead?.catch(() => undefined); // nothing may still be read when its files are closed
    }
  }

  /** All of it is on the disk, and was read back, when this resolves. @throws NO_SPACE, IO, CORRUPTION, CLOSED */
  async #seal(writer: MovesWriter, layout: SegmentLayout, chunks: ChunkArrays): Promise<void> {
    try {
      await writer.seal();
      for (const record of layout.records) {
        this.#onStep();
        await writer.verify(record, chunks);
      }
    } finally {
      await writer.close();
    }
  }

  async close(): Promise<void> {}
}

function noteMoved(moved: Moved, { records }: SegmentLayout, segment: number): void {
  for (const record of records)
    record.chunks.forEach((chunk, at) => {
      moved.toSegments[chunk] = segment;
      moved.toOffsets[chunk] = payloadAt(record) + at * CHUNK_BYTES;
    });
}

function ageOf(layout: SegmentLayout, ages: Float64Array): number {
  let youngest = 0;
  for (const { chunks } of layout.records)
    for (const chunk of chunks) if (ages[chunk]! > youngest) youngest = ages[chunk]!;
  return youngest;
}

/** The records of a sealed segment, up to where it belongs to the log. @throws CORRUPTION */
async function* recordsOf(scanner: SegmentScanner, end: number): AsyncGenerator<ScannedRecord> {
  const footer = await scanner.footer();
  if (footer !== undefined) {
    for (const record of footer) if (recordEnd(record.header) <= end) yield record;
    return;
  }
  let at = FIRST_RECORD_OFFSET;
  let checksum = scanner.headerChecksum;
  while (at < end) {
    const record = await scanner.recordBehind(at, checksum);
    if (record === undefined || (record.header.flags & RECORD_FOOTER) !== 0) break;
    yield record;
    at = recordEnd(record.header);
    checksum = record.header.checksum;
  }
  // Without a footer, where the log ends in it is only known by what follows it.
  if (at !== end)
    throw new StoreError('CORRUPTION', `segment ${scanner.header.segment}: no valid record at ${at}`);
}

function take(record: ScannedRecord, list: ChunkList, zeros: Zeros[]): void {
  const { segment } = record.header;
  for (const entry of entriesOf(record)) {
    if (entry.kind === ENTRY_CHUNKS) {
      const { label, first, sequence, offset, checksums } = entry;
      for (let i = 0; i < entry.count; i++)
        list.add(label, first + i, sequence, segment, offset + i * CHUNK_BYTES, checksums[i]!);
    } else if (entry.kind === ENTRY_ZEROS) {
      const { label, first, count, sequence } = entry;
      zeros.push({ label, first, count, sequence });
    } else if (entry.kind === ENTRY_CHANGE) {
      const cut = cutOf(entry.text);
      if (cut !== undefined) zeros.push({ ...cut, sequence: entry.sequence });
    }
  }
}

/** What a change zeroes: a disk that shrank. Everything else that it says is in the catalog. @throws CORRUPTION */
function cutOf(text: string): Omit<Zeros, 'sequence'> | undefined {
  try {
    const { cut } = JSON.parse(text) as { cut?: Omit<Zeros, 'sequence'> | null };
    return cut === undefined || cut === null
      ? undefined
      : { label: cut.label, first: cut.first, count: cut.count };
  } catch (error) {
    throw new StoreError('CORRUPTION', 'a change of the log is no JSON', error);
  }
}

/** Files that chunks are read from that stay open from one record to the next. */
const FILES_MAX = 256;

/** Files that chunks are read from. */
class Sources {
  readonly #storage: Storage;
  readonly #files = new Map<number, StorageFile>();

  constructor(storage: Storage) {
    this.#storage = storage;
  }

  async file(segment: number): Promise<StorageFile> {
    let file = this.#files.get(segment);
    if (file === undefined) {
      file = await this.#storage.open(segmentPath(segment), 'read');
      this.#files.set(segment, file);
    }
    return file;
  }

  /** Between two records, so that nothing is read. Chunks may come from any number of segments. */
  async closeMany(): Promise<void> {
    if (this.#files.size > FILES_MAX) await this.close();
  }

  async close(): Promise<void> {
    for (const file of this.#files.values()) await file.close();
    this.#files.clear();
  }
}

/** @throws IO, CORRUPTION */
async function readRun(
  file: StorageFile,
  target: Buffer,
  start: number,
  length: number,
  position: number,
  segment: number,
): Promise<void> {
  if ((await file.read(target, start, length, position)) === length) return;
  // What the buffer held before must not be taken for it.
  throw new StoreError('CORRUPTION', `segment ${segment} ends before a chunk that is to be moved`);
}

/** Fills `payload` with the chunks of a record, verified, and answers it. @throws IO, CORRUPTION */
async function readRecord(
  sources: Sources,
  moved: ChunkArrays,
  { chunks }: RecordLayout,
  payload: Buffer,
): Promise<Buffer> {
  await sources.closeMany();
  const { segments, offsets, checksums } = moved;
  const runs: { file: StorageFile; at: number; length: number }[] = [];
  for (let at = 0; at < chunks.length; ) {
    const first = chunks[at]!;
    let length = 1;
    while (at + length < chunks.length) {
      const next = chunks[at + length]!;
      if (segments[next] !== segments[first] || offsets[next] !== offsets[first]! + length * CHUNK_BYTES)
        break;
      length += 1;
    }
    runs.push({ file: await sources.file(segments[first]!), at, length });
    at += length;
  }
  const reads: Promise<void>[] = [];
  for (const { file, at, length } of runs) {
    const [first, to, bytes] = [chunks[at]!, at * CHUNK_BYTES, length * CHUNK_BYTES];
    // Most are single chunks, and in memory: handing each to another thread would take longer than copying it.
    if (file.readCached(payload, to, bytes, offsets[first]!) !== bytes)
      reads.push(readRun(file, payload, to, bytes, offsets[first]!, segments[first]!));
  }
  const results = await Promise.allSettled(reads);
  for (const result of results) if (result.status === 'rejected') throw result.reason;
  chunks.forEach((chunk, at) => {
    if (mayBeMoved(payload.subarray(at * CHUNK_BYTES, (at + 1) * CHUNK_BYTES), checksums[chunk]!)) return;
    const where = `segment ${segments[chunk]}, offset ${offsets[chunk]}`;
    throw new StoreError('CORRUPTION', `a chunk that is to be moved does not match its checksum (${where})`);
  });
  return payload;
}
