/**
 * A store whose index maps far more than the disk could hold: synthetic pointers into segment files that are there,
 * with their header and length, and have no records. What they read as is zeros, and the checksums say so. The log that
 * follows, from the catalog on, is a real one; the catalog at its last checkpoint states all segments, as any would.
 *
 * The log begins behind the numbers of the synthetic segments, so that recovery, which starts at the checkpoint, never
 * looks at them.
 */

import { closeSync, ftruncateSync, mkdirSync, openSync, writeSync } from 'node:fs';
import path from 'node:path';
import { randomBytes } from 'node:crypto';
import { crc32c } from '../../src/base/crc.ts';
import { NodeStorage } from '../../src/base/node-storage.ts';
import { CHUNK_BYTES } from '../../src/base/units.ts';
import { Overlay } from '../../src/index/overlay.ts';
import { type Overlays, PointerIndex } from '../../src/index/pointer-index.ts';
import { encodeSegmentStart, segmentPath, SEGMENT_BYTES_DEFAULT } from '../../src/log/format.ts';
import { createSuperblock, SUPERBLOCK_REVISION } from '../../src/log/superblock.ts';
import { openLevel, Store } from '../../src/volume/store.ts';
import { LONE_ROOT } from './index-load.ts';
import { SparseStorage } from './sparse-storage.ts';

const FIRST_CHUNK_OFFSET = CHUNK_BYTES;
const CHUNKS_PER_SEGMENT = SEGMENT_BYTES_DEFAULT / CHUNK_BYTES - 1;
/** Above all that synthetic pointers have: what is written later is newer. */
const FIRST_SEQUENCE = 2 ** 40;
const ZERO_CHECKSUM = crc32c(Buffer.alloc(CHUNK_BYTES));
const COMMIT_CHUNKS = 2 ** 21;

/** Makes a store without versions, whose log begins behind `segments` synthetic segments. */
export async function makeStore(directory: string, segments: number): Promise<Buffer> {
  const storage = new NodeStorage(directory);
  await storage.makeDirectory('.');
  await storage.makeDirectory('log');
  const uuid = randomBytes(16);
  await createSuperblock(storage, {
    revision: SUPERBLOCK_REVISION,
    generation: 1,
    uuid,
    segmentBytes: SEGMENT_BYTES_DEFAULT,
    epoch: 0,
    capacityBytes: 0,
    sequences: FIRST_SEQUENCE,
    appends: 1,
    labels: 1,
    segments: segments + 1,
    created: 0,
    base: undefined,
  });
  return uuid;
}

/** Does `work` on the open store without writing payload, and closes it cleanly. */
export async function onSparseStore<T>(directory: string, work: (store: Store) => Promise<T>): Promise<T> {
  const store = await Store.open(directory, { storage: new SparseStorage(directory) });
  try {
    return await work(store);
  } finally {
    await store.close();
  }
}

/** The synthetic part: pointers in order of the log. The store is closed, and has the versions that they belong to. */
export class Mapping {
  readonly #index: PointerIndex;
  readonly #overlays: Overlays;
  readonly #directory: string;
  readonly #uuid: Buffer;
  readonly #checksums = new Uint32Array(2 ** 16).fill(ZERO_CHECKSUM);
  #sequence = 0;
  #segment = 1;
  #inSegment = 0;
  #uncommitted = 0;

  private constructor(directory: string, uuid: Buffer, index: PointerIndex, overlays: Overlays) {
    this.#directory = directory;
    this.#uuid = uuid;
    this.#index = index;
    this.#overlays = overlays;
  }

  static async begin(directory: string, uuid: Buffer): Promise<Mapping> {
    const overlays: Overlays = { active: new Overlay(), frozen: undefined };
    const database = await openLevel(path.join(directory, 'index'));
    const index = await PointerIndex.open(database, overlays, uuid, 64 << 20);
    return new Mapping(directory, uuid, index, overlays);
  }

  /** `count` chunks written in order; in as few runs as segments allow. */
  async write(tree: number, label: number, first: number, count: number): Promise<void> {
    let chunk = first;
    while (chunk < first + count) {
      if (this.#inSegment === CHUNKS_PER_SEGMENT) {
        this.#segment += 1;
        this.#inSegment = 0;
      }
      const some = Math.min(first + count - chunk, CHUNKS_PER_SEGMENT - this.#inSegment);
      const offset = FIRST_CHUNK_OFFSET + this.#inSegment * CHUNK_BYTES;
      this.#sequence += 1;
      const { active } = this.#overlays;
      active.putChunks(tree, label, chunk, some, this.#segment, offset, this.#checksums, this.#sequence);
      this.#inSegment += some;
      chunk += some;
      this.#uncommitted += some;
    }
    if (this.#uncommitted >= COMMIT_CHUNKS) await this.commit();
  }

  async commit(): Promise<void> {
    this.#uncommitted = 0;
    this.#index.freeze();
    await this.#index.commit(this.#index.checkpoint, LONE_ROOT);
  }

  /** The segment files that pointers lead to come into being, and the store gets to know them. */
  async end(): Promise<void> {
    await this.commit();
    await this.#index.close();
    mkdirSync(path.join(this.#directory, 'log'), { recursive: true });
    for (let segment = 1; segment <= this.#segment; segment++) {
      const descriptor = openSync(path.join(this.#directory, segmentPath(segment)), 'wx', 0o600);
      writeSync(descriptor, this.#startOf(segment));
      ftruncateSync(descriptor, SEGMENT_BYTES_DEFAULT);
      closeSync(descriptor);
    }
    await onSparseStore(this.#directory, async (store) => {
      await store.createVolume('empty', CHUNK_BYTES); // or there is nothing that a checkpoint would be for
      await store.checkpoint();
    });
  }

  #startOf(segment: number): Buffer {
    return encodeSegmentStart({
      flags: 0,
      uuid: this.#uuid,
      segment,
      segmentBytes: SEGMENT_BYTES_DEFAULT,
      epoch: 0,
      predecessor: segment - 1,
      predecessorEnd: segment === 1 ? 0 : SEGMENT_BYTES_DEFAULT,
      predecessorChecksum: 0,
      firstAppend: 1,
      durable: 0,
    });
  }
}

/** How many segments `chunks` chunks take. */
export function segmentsFor(chunks: number): number {
  return Math.ceil(chunks / CHUNKS_PER_SEGMENT) + 1;
}
