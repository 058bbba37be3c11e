/**
 * Moves chunks into new segments, as compaction does: labels resolved, sequences kept. Chunks that are lost get a place too, with
 * all that is known of them but their bytes (log/lost-chunk.ts).
 *
 * Memory is bounded: what has been gathered is written as soon as it is much.
 */

import type { Storage } from '../base/storage.ts';
import { CHUNK_BYTES } from '../base/units.ts';
import { ChunkList } from '../compaction/chunk-list.ts';
import { layOut, type Zeros } from '../compaction/layout.ts';
import { segmentCountMax } from '../compaction/moved-size.ts';
import { SegmentMover } from '../compaction/mover.ts';
import { MovesWriter } from '../compaction/moves-writer.ts';
import { fillerFor } from '../log/lost-chunk.ts';
import { ChunkSource } from './chunk-source.ts';

/** Chunks that are written at once: 1 GiB. */
const CHUNKS_AT_ONCE = 256 << 10;
const ZEROS_AT_ONCE = 64 << 10;

/** Numbers that nobody has used. */
export interface FreshNumbers {
  segment: number;
  append: number;
}

export interface MovedChunk {
  readonly label: number;
  /** Position in the disk. */
  readonly chunk: number;
  readonly sequence: number;
  readonly segment: number;
  readonly offset: number;
  readonly checksum: number;
}

export class Evacuation {
  readonly #storage: Storage;
  readonly #mover: SegmentMover;
  readonly #uuid: Buffer;
  readonly #segmentBytes: number;
  readonly #epoch: number;
  readonly #numbers: FreshNumbers;
  readonly #source: ChunkSource;
  #whole = new ChunkList();
  #lost = new ChunkList();
  #zeros: Zeros[] = [];
  movedCount = 0;
  lostCount = 0;

  /** `storage` takes new segments, and has those that chunks come from. */
  constructor(storage: Storage, uuid: Buffer, segmentBytes: number, epoch: number, numbers: FreshNumbers) {
    this.#storage = storage;
    this.#mover = new SegmentMover(storage, uuid);
    this.#uuid = uuid;
    this.#segmentBytes = segmentBytes;
    this.#epoch = epoch;
    this.#numbers = numbers;
    this.#source = new ChunkSource(storage);
  }

  /** Answers whether the chunk is there; if not, it goes on as a lost one. @throws IO, NO_SPACE */
  async add({ label, chunk, sequence, segment, offset, checksum }: MovedChunk): Promise<boolean> {
    const isWhole = await this.#source.isWhole(segment, offset, checksum);
    const list = isWhole ? this.#whole : this.#lost;
    list.add(label, chunk, sequence, segment, offset, checksum);
    if (isWhole) this.movedCount += 1;
    else this.lostCount += 1;
    if (list.count >= CHUNKS_AT_ONCE) await this.flush();
    return isWhole;
  }

  /** Extents of a version that follow each other become one: what any of them covers, all of them may. */
  async addZeros(zeros: Zeros): Promise<void> {
    const last = this.#zeros.at(-1);
    if (last?.label === zeros.label && last.first + last.count === zeros.first) {
      const sequence = Math.max(last.sequence, zeros.sequence);
      this.#zeros[this.#zeros.length - 1] = { ...last, count: last.count + zeros.count, sequence };
      return;
    }
    this.#zeros.push(zeros);
    if (this.#zeros.length >= ZEROS_AT_ONCE) await this.flush();
  }

  /** All that was added is on the disk when this resolves. @throws IO, NO_SPACE */
  async flush(): Promise<void> {
    await this.#moveWhole();
    await this.#writeLost();
  }

  async #moveWhole(): Promise<void> {
    const [chunks, zeros] = [this.#whole.inOrder(), this.#zeros];
    const count = chunks.labels.length;
    if (count === 0 && zeros.length === 0) return;
    this.#whole = new ChunkList();
    this.#zeros = [];
    const numbersMax = segmentCountMax(count, zeros.length, this.#segmentBytes);
    const { segment, append } = this.#numbers;
    const { segments } = await this.#mover.move({
      chunks,
      ages: { ages: new Float64Array(count), now: 0, cutsMax: 0 },
      zeros,
      order: 'disk',
      segmentBytes: this.#segmentBytes,
      epoch: this.#epoch,
      segments: Array.from({ length: numbersMax }, (_, i) => segment + i),
      appends: Array.from({ length: numbersMax }, (_, i) => append + i),
    });
    this.#numbers.segment += segments.length;
    this.#numbers.append += segments.length;
  }

  async #writeLost(): Promise<void> {
    const chunks = this.#lost.inOrder();
    if (chunks.labels.length === 0) return;
    this.#lost = new ChunkList();
    const ages = { ages: new Float64Array(chunks.labels.length), now: 0, cutsMax: 0 };
    for (const layout of layOut(chunks, ages, [], 'disk', this.#segmentBytes)) {
      const segment = this.#numbers.segment++;
      const append = this.#numbers.append++;
      const identity = { segment, append, epoch: this.#epoch, age: 0 };
      const writer = await MovesWriter.create(this.#storage, this.#uuid, identity, layout);
      try {
        for (const record of layout.records) {
          const payload = Buffer.allocUnsafe(record.chunks.length * CHUNK_BYTES);
          record.chunks.forEach((chunk, at) => {
            fillerFor(chunks.checksums[chunk]!).copy(payload, at * CHUNK_BYTES);
          });
          await writer.write(record, chunks, payload);
        }
        await writer.seal();
      } finally {
        await writer.close();
      }
    }
    await this.#storage.syncDirectory('log');
  }

  async close(): Promise<void> {
    await this.#source.close();
  }
}
