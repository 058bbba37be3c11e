/**
 * An index under load without a log: synthetic pointers through the overlay, the checkpoint policy and the commits that
 * a store has, over a real LevelDB. What is written is counted at the system calls of this process.
 */

import { mkdirSync, readFileSync } from 'node:fs';
import { CHUNK_BYTES } from '../../src/base/units.ts';
import { Overlay } from '../../src/index/overlay.ts';
import { PointerIndex, type Overlays } from '../../src/index/pointer-index.ts';
import { VersionTree, VersionView } from '../../src/index/version-tree.ts';
import { isCheckpointDue } from '../../src/volume/checkpoint-policy.ts';
import { openLevel } from '../../src/volume/store.ts';

const UUID = Buffer.from('00112233445566778899aabbccddeeff', 'hex');
const SEGMENT_BYTES = 64 << 20;
/** Log bytes of a 4 KiB write among 32 in a record: payload, entry, its share of header, padding and footer. */
const LOG_BYTES_PER_WRITE = CHUNK_BYTES + 34 + 26 + 34;
const CACHE_BYTES = 256 << 20;
/** Version 1 has nothing above it; of others nothing is known. */
export const LONE_ROOT = loneRoot();

function loneRoot(): VersionView {
  const tree = new VersionTree();
  tree.add(1, 0, 0);
  return new VersionView(tree, 0);
}

export interface Written {
  /** What system calls were given. */
  callBytes: number;
  /** Pages that were made dirty: what reaches the disk, unless the file is removed before. */
  diskBytes: number;
}

export function writtenByProcess(): Written {
  const text = readFileSync('/proc/self/io', 'utf8');
  const field = (name: string): number => Number(new RegExp(`^${name}: (\\d+)$`, 'm').exec(text)![1]);
  return { callBytes: field('wchar'), diskBytes: field('write_bytes') };
}

export class IndexLoad {
  readonly index: PointerIndex;
  readonly overlays: Overlays;
  checkpoints = 0;
  /** Chunks that were written. */
  chunks = 0;
  /** Rows that were put. */
  rows = 0;
  #sequence = 0;
  #segment = 1;
  #offset = 4096;
  #replayBytes = 0;
  readonly #checksums = new Uint32Array(256);

  private constructor(index: PointerIndex, overlays: Overlays) {
    this.index = index;
    this.overlays = overlays;
  }

  static async begin(directory: string): Promise<IndexLoad> {
    const overlays: Overlays = { active: new Overlay(), frozen: undefined };
    mkdirSync(directory, { recursive: true });
    const database = await openLevel(directory);
    const load = new IndexLoad(PointerIndex.empty(database, overlays, UUID, CACHE_BYTES / 8), overlays);
    const begin = database.batch.bind(database) as () => { put: (key: Buffer, value: Buffer) => unknown };
    const counted = (): object => {
      const batch = begin();
      const put = batch.put.bind(batch);
      batch.put = (key, value) => {
        load.rows += 1;
        return put(key, value);
      };
      return batch;
    };
    Object.assign(database, { batch: counted });
    return load;
  }

  /** Writes chunks as one request would; a checkpoint follows where it is due. Label 1 is a root. */
  async write(first: number, count: number, tree = 1, label = 1): Promise<void> {
    if (this.#offset + count * CHUNK_BYTES > SEGMENT_BYTES) {
      this.#segment += 1;
      this.#offset = 4096;
    }
    this.#sequence += 1;
    this.chunks += count;
    for (let i = 0; i < count; i++) this.#checksums[i] = (this.#sequence * 2_654_435_761 + i) % 2 ** 32;
    const { active } = this.overlays;
    active.putChunks(tree, label, first, count, this.#segment, this.#offset, this.#checksums, this.#sequence);
    this.#offset += count * CHUNK_BYTES;
    this.#replayBytes += count * CHUNK_BYTES + (LOG_BYTES_PER_WRITE - CHUNK_BYTES);
    if (isCheckpointDue(active, this.#replayBytes)) await this.checkpoint();
  }

  async checkpoint(): Promise<void> {
    this.#replayBytes = 0;
    this.checkpoints += 1;
    this.index.freeze();
    const position = { segment: this.#segment, offset: this.#offset, append: this.#sequence, at: 0 };
    await this.index.commit(position, LONE_ROOT);
  }

  close(): Promise<void> {
    return this.index.close();
  }
}

export interface Traffic {
  /** Volumes' worth of random writes so far. */
  volumes: number;
  /** What LevelDB wrote in this part, in user bytes. */
  ratio: number;
  checkpoints: number;
}

/** Writes all of a volume in order, then `parts` thirds of it at random. Deterministic. */
export async function* traffic(directory: string, chunks: number, parts: number): AsyncGenerator<Traffic> {
  const load = await IndexLoad.begin(directory);
  for (let chunk = 0; chunk < chunks; chunk += 64) await load.write(chunk, 64);
  let state = 12_345;
  for (let part = 1; part <= parts; part++) {
    const before = { ...writtenByProcess(), chunks: load.chunks, checkpoints: load.checkpoints };
    for (let i = 0; i < chunks / 3; i++) {
      state ^= state << 13;
      state ^= state >>> 17;
      state ^= state << 5;
      await load.write((state >>> 0) % chunks, 1);
    }
    const bytes = (load.chunks - before.chunks) * CHUNK_BYTES;
    const ratio = (writtenByProcess().callBytes - before.callBytes) / bytes;
    yield { volumes: part / 3, ratio, checkpoints: load.checkpoints - before.checkpoints };
  }
  await load.close();
}
