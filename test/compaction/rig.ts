/** Lists of chunks for tests of compaction, real segments to move from, and what a segment of moves says of itself. */

import { CHUNK_BYTES } from '../../src/base/units.ts';
import { type ChunkArrays, ChunkList } from '../../src/compaction/chunk-list.ts';
import type { MoveOrder, Zeros } from '../../src/compaction/layout.ts';
import { type Found, type Moved, type MoveRequest, SegmentMover } from '../../src/compaction/mover.ts';
import { ENTRY_CHUNKS, ENTRY_ZEROS } from '../../src/log/entries.ts';
import type { SegmentHeader } from '../../src/log/format.ts';
import { entriesOf, recordEnd, type ScannedRecord, SegmentScanner } from '../../src/log/scan.ts';
import { LogRig, MIB, UUID } from '../log/rig.ts';
import type { MemoryStorage } from '../support/memory-storage.ts';
import type { Random } from '../support/random.ts';

/** A chunk as the log has it. */
export interface Chunk {
  label: number;
  chunk: number;
  sequence: number;
  segment: number;
  offset: number;
  checksum: number;
}

export function arraysOf(chunks: readonly Chunk[]): ChunkArrays {
  const list = new ChunkList();
  for (const { label, chunk, sequence, segment, offset, checksum } of chunks)
    list.add(label, chunk, sequence, segment, offset, checksum);
  return list.arrays();
}

export function chunksOf(arrays: ChunkArrays): Chunk[] {
  return Array.from(arrays.labels, (label, i) => ({
    label,
    chunk: arrays.chunks[i]!,
    sequence: arrays.sequences[i]!,
    segment: arrays.segments[i]!,
    offset: arrays.offsets[i]!,
    checksum: arrays.checksums[i]!,
  }));
}

/** Which chunk of which disk, written when: of all its copies the same. */
export const nameOf = ({ label, chunk, sequence }: Omit<Chunk, 'segment' | 'offset' | 'checksum'>): string =>
  `${label}/${chunk}#${sequence}`;

/** Segments of a log, and what was written to it. */
export class Sources {
  readonly log: LogRig;
  readonly mover: SegmentMover;
  /** By name, the bytes of each chunk. */
  readonly bytes = new Map<string, Buffer>();
  readonly zeros: Zeros[] = [];
  readonly #written = new Set<number>();
  #moves = 0;

  private constructor(log: LogRig) {
    this.log = log;
    this.mover = new SegmentMover(log.storage, UUID);
  }

  static async begin(): Promise<Sources> {
    return new Sources(await LogRig.begin());
  }

  get storage(): MemoryStorage {
    return this.log.storage;
  }

  async write(random: Random, label: number, first: number, count: number): Promise<void> {
    const bytes = random.bytes(count * CHUNK_BYTES);
    const { sequence, segment } = await this.log.write(first, bytes, label);
    this.#written.add(segment);
    for (let i = 0; i < count; i++) {
      const name = nameOf({ label, chunk: first + i, sequence });
      this.bytes.set(name, bytes.subarray(i * CHUNK_BYTES, (i + 1) * CHUNK_BYTES));
    }
  }

  async zero(first: number, count: number): Promise<void> {
    const { sequence } = await this.log.zeros(first, count);
    this.zeros.push({ label: 1, first, count, sequence });
  }

  /** So much that some segments are full. */
  async fill(random: Random, writes = 120): Promise<void> {
    for (let i = 0; i < writes; i++) {
      await this.write(random, random.between(1, 3), random.below(2000), random.pick([1, 1, 2, 7, 40]));
      if (random.chance(15)) await this.zero(random.below(2000), random.pick([1, 5, 300]));
    }
    await this.log.log.flush();
    await this.log.rest();
  }

  /** What segments hold, each up to where its records end. */
  async findAll(segments: readonly number[]): Promise<Found> {
    const victims = [];
    for (const segment of segments)
      victims.push({ segment, end: recordEnd((await this.log.records(segment)).at(-1)!.header) });
    return await this.mover.find(victims);
  }

  /** Segments of the log in which anything stands, in order. */
  get segments(): number[] {
    return [...this.#written];
  }

  request(chunks: readonly Chunk[], zeros: readonly Zeros[] = [], order: MoveOrder = 'disk'): MoveRequest {
    this.#moves += 1;
    const from = 1000 * this.#moves;
    return {
      chunks: arraysOf(chunks),
      ages: { ages: Float64Array.from(chunks, ({ segment }) => segment), now: from, cutsMax: 0 },
      zeros,
      order,
      segmentBytes: MIB,
      epoch: 3,
      segments: Array.from({ length: 40 }, (_, i) => from + i),
      appends: Array.from({ length: 40 }, (_, i) => from + 500 + i),
    };
  }
}

export interface ReadSegment {
  header: SegmentHeader;
  chunks: Chunk[];
  zeros: Zeros[];
}

function take(records: readonly ScannedRecord[]): { chunks: Chunk[]; zeros: Zeros[] } {
  const chunks: Chunk[] = [];
  const zeros: Zeros[] = [];
  for (const record of records) {
    const { segment } = record.header;
    for (const entry of entriesOf(record)) {
      const { label, first, count, sequence } = entry as Zeros;
      if (entry.kind === ENTRY_ZEROS) zeros.push({ label, first, count, sequence });
      if (entry.kind !== ENTRY_CHUNKS) continue;
      entry.checksums.forEach((checksum, i) => {
        const offset = entry.offset + i * CHUNK_BYTES;
        chunks.push({ label, chunk: first + i, sequence, segment, offset, checksum });
      });
    }
  }
  return { chunks, zeros };
}

/** A segment as recovery reads it, from its footer and record by record: throws unless both say the same. */
export async function readSegment(storage: MemoryStorage, segment: number): Promise<ReadSegment> {
  const scanner = await SegmentScanner.open(storage, UUID, segment);
  if (scanner === undefined) throw new Error(`segment ${segment} has no header`);
  try {
    const footer = await scanner.footer();
    if (footer === undefined) throw new Error(`segment ${segment} has no footer`);
    const walked: ScannedRecord[] = [];
    for await (const record of scanner.walk()) walked.push(record);
    const same = ({ header, table }: ScannedRecord, i: number): boolean =>
      walked[i]!.table.equals(table) &&
      walked[i]!.header.checksum === header.checksum &&
      walked[i]!.header.append === header.append &&
      recordEnd(walked[i]!.header) === recordEnd(header);
    if (walked.length !== footer.length || !footer.every(same))
      throw new Error(`segment ${segment}: the footer says other than the records`);
    return { header: scanner.header, ...take(walked) };
  } finally {
    await scanner.close();
  }
}

/** All that was moved, read from the new segments. */
export async function readMoved(storage: MemoryStorage, { segments }: Moved): Promise<ReadSegment[]> {
  const read: ReadSegment[] = [];
  for (const { segment } of segments) read.push(await readSegment(storage, segment));
  return read;
}
