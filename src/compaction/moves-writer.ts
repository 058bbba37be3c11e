/**
 * Writes a segment of moves by its layout (log/format.ts): header, records, footer, trailer; synced when it is sealed.
 *
 * It is written by nobody else, from its first byte to its last, and its chunks are read back before it is used.
 */

import { ByteWriter } from '../base/bytes.ts';
import { StoreError } from '../base/errors.ts';
import type { Storage, StorageFile } from '../base/storage.ts';
import { CHUNK_BYTES } from '../base/units.ts';
import { EntryCoder } from '../log/entry-coder.ts';
import {
  encodeFooterItem,
  encodeRecordHeader,
  encodeSegmentStart,
  encodeTrailer,
  RECORD_FOOTER,
  RECORD_HEADER_BYTES,
  recordBytes,
  type RecordHeader,
  SEGMENT_MOVES,
  segmentHeaderChecksum,
  segmentPath,
  TRAILER_ROOM_BYTES,
} from '../log/format.ts';
import { mayBeMoved } from '../log/lost-chunk.ts';
import type { ChunkArrays } from './chunk-list.ts';
import { payloadAt, type RecordLayout, runAt, type SegmentLayout } from './layout.ts';
import { RECORD_CHUNKS_MAX } from './moved-size.ts';

export interface MovesIdentity {
  readonly segment: number;
  readonly append: number;
  readonly epoch: number;
  readonly age: number;
}

export class MovesWriter {
  readonly #file: StorageFile;
  readonly #uuid: Buffer;
  readonly #identity: MovesIdentity;
  readonly #layout: SegmentLayout;
  readonly #footer: ByteWriter;
  #checksum: number;
  /** What `verify` reads into. */
  #readBack: Buffer | undefined;

  private constructor(
    file: StorageFile,
    uuid: Buffer,
    identity: MovesIdentity,
    layout: SegmentLayout,
    checksum: number,
  ) {
    this.#file = file;
    this.#uuid = uuid;
    this.#identity = identity;
    this.#layout = layout;
    this.#checksum = checksum;
    const bytes = recordBytes(layout.footerTableBytes, 0, RECORD_FOOTER);
    this.#footer = new ByteWriter(Buffer.alloc(bytes), RECORD_HEADER_BYTES);
  }

  /** Makes the file, with its space and its header. @throws NO_SPACE, IO */
  static async create(
    storage: Storage,
    uuid: Buffer,
    identity: MovesIdentity,
    layout: SegmentLayout,
  ): Promise<MovesWriter> {
    const { segment, append, epoch, age } = identity;
    const file = await storage.open(segmentPath(segment), 'create');
    try {
      await file.allocate(layout.bytes);
      const start = encodeSegmentStart({
        flags: SEGMENT_MOVES,
        uuid,
        segment,
        segmentBytes: layout.bytes,
        epoch,
        predecessor: 0,
        predecessorEnd: 0,
        predecessorChecksum: 0,
        firstAppend: append,
        durable: age,
      });
      await file.write([start], 0);
      return new MovesWriter(file, uuid, identity, layout, segmentHeaderChecksum(start));
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  /** A record, with the bytes of its chunks. @throws NO_SPACE, IO */
  async write(record: RecordLayout, moved: ChunkArrays, payload: Buffer): Promise<void> {
    const { tableBytes } = record;
    const head = Buffer.alloc(RECORD_HEADER_BYTES + tableBytes);
    writeTable(new ByteWriter(head, RECORD_HEADER_BYTES), record, moved);
    const header = this.#header(0, record.offset, record.entryCount, tableBytes, payload.length);
    encodeRecordHeader(head, header, this.#uuid);
    encodeFooterItem(this.#footer, header);
    this.#footer.bytes(head.subarray(RECORD_HEADER_BYTES));
    const padding = recordBytes(tableBytes, payload.length, 0) - head.length - payload.length;
    await this.#file.write([head, payload, Buffer.alloc(padding)], record.offset);
    this.#checksum = header.checksum;
  }

  #header(
    flags: number,
    offset: number,
    entryCount: number,
    tableBytes: number,
    payloadBytes: number,
  ): RecordHeader {
    const { segment, append } = this.#identity;
    const previousChecksum = this.#checksum;
    return {
      flags,
      segment,
      offset,
      append,
      firstSequence: 0,
      durable: 0,
      entryCount,
      tableBytes,
      payloadBytes,
      previousChecksum,
      checksum: 0,
    };
  }

  /** Footer and trailer; all of it is on the disk when this resolves. @throws NO_SPACE, IO */
  async seal(): Promise<void> {
    const { footerOffset, footerTableBytes, records, bytes } = this.#layout;
    const { buffer } = this.#footer;
    const header = this.#header(RECORD_FOOTER, footerOffset, records.length, footerTableBytes, 0);
    encodeRecordHeader(buffer, header, this.#uuid);
    const { segment } = this.#identity;
    const footerBytes = RECORD_HEADER_BYTES + footerTableBytes;
    const trailer = Buffer.alloc(TRAILER_ROOM_BYTES);
    encodeTrailer({ segment, footerOffset, footerBytes }, this.#uuid).copy(trailer);
    await this.#file.write([buffer], footerOffset);
    await this.#file.write([trailer], bytes - TRAILER_ROOM_BYTES);
    await this.#file.datasync();
  }

  /** Reads the chunks of a record back. @throws IO, CORRUPTION if they are not what was read before */
  async verify(record: RecordLayout, { checksums }: ChunkArrays): Promise<void> {
    this.#readBack ??= Buffer.allocUnsafeSlow(RECORD_CHUNKS_MAX * CHUNK_BYTES);
    const bytes = this.#readBack.subarray(0, record.chunks.length * CHUNK_BYTES);
    const length = await this.#file.read(bytes, 0, bytes.length, payloadAt(record));
    record.chunks.forEach((chunk, at) => {
      const written = bytes.subarray(at * CHUNK_BYTES, (at + 1) * CHUNK_BYTES);
      if (length === bytes.length && mayBeMoved(written, checksums[chunk]!)) return;
      const { segment } = this.#identity;
      throw new StoreError('CORRUPTION', `segment ${segment} does not hold what was moved into it`);
    });
  }

  close(): Promise<void> {
    return this.#file.close();
  }
}

function writeTable(out: ByteWriter, record: RecordLayout, moved: ChunkArrays): void {
  const coder = new EntryCoder();
  for (const { label, first, count, sequence } of record.zeros)
    coder.write(out, true, sequence, label, first, count);
  const { chunks } = record;
  for (let at = 0; at < chunks.length; ) {
    const first = chunks[at]!;
    const run = runAt(moved, chunks, at);
    const { labels, sequences } = moved;
    coder.write(out, false, sequences[first]!, labels[first]!, moved.chunks[first]!, run);
    for (let i = 0; i < run; i++) out.u32(moved.checksums[chunks[at + i]!]!);
    at += run;
  }
}
