/**
 * How long `coppice rebuild-index` takes over a store that was written in order, and one that was written at random, and
 * whether the index is then what it was: a checksum over every pointer.
 */

import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { rmSync } from 'node:fs';
import path from 'node:path';
import { CHUNK_BYTES } from '../../src/base/units.ts';
import { Overlay } from '../../src/index/overlay.ts';
import { encodePointers } from '../../src/index/rows.ts';
import { PointerIndex } from '../../src/index/pointer-index.ts';
import { readSuperblock } from '../../src/log/superblock.ts';
import type { BlockDevice } from '../../src/volume/device.ts';
import { openLevel, Store } from '../../src/volume/store.ts';
import { MAIN } from './built.ts';
import { SparseStorage } from './sparse-storage.ts';

const QUEUE_DEPTH = 32;
const IN_ORDER_CHUNKS = 256;
/** Of the largest volume. */
const REGIONS_MAX = 2 ** 26;

export interface Rebuild {
  /** Of the whole command. */
  seconds: number;
  isSame: boolean;
}

/** Writes a volume of `gib` GiB without its payload, in order or as many chunks of it at random. */
export async function makeWritten(directory: string, gib: number, isRandom: boolean): Promise<void> {
  await Store.init(directory);
  const store = await Store.open(directory, { storage: new SparseStorage(directory), compacts: false });
  await store.createVolume('v', gib * 2 ** 30);
  const device = store.device('v');
  const chunks = gib * 2 ** 18;
  const count = isRandom ? 1 : IN_ORDER_CHUNKS;
  const payload = Buffer.alloc(count * CHUNK_BYTES);
  let [left, next, state] = [chunks / count, 0, 12_345];
  const nextChunk = (): number => {
    if (!isRandom) return (next += count) - count;
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % chunks;
  };
  const work = async (): Promise<void> => {
    while (left > 0) {
      left -= 1;
      await write(device, nextChunk() * CHUNK_BYTES, payload);
    }
  };
  await Promise.all(Array.from({ length: QUEUE_DEPTH }, work));
  device.release();
  await store.close();
}

function write(device: BlockDevice, offset: number, payload: Buffer): Promise<void> {
  return new Promise((resolve, reject) => {
    device.write({
      offset,
      lengthBytes: payload.length,
      slices: [payload],
      forceUnitAccess: false,
      complete: (error) => (error === undefined ? resolve() : reject(error)),
    });
  });
}

/** Deletes the index of a closed store and has the command make it anew. */
export async function measureRebuild(directory: string): Promise<Rebuild> {
  const before = await checksumOfIndex(directory);
  rmSync(path.join(directory, 'index'), { recursive: true });
  const began = performance.now();
  const args = [MAIN, '--store', directory, 'rebuild-index'];
  const { status, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8' });
  const seconds = (performance.now() - began) / 1000;
  if (status !== 0) throw new Error(`rebuild-index ended with ${status}: ${stderr}`);
  return { seconds, isSame: before === (await checksumOfIndex(directory)) };
}

/** Over the pointers of every region, whatever the rows that they come from. */
async function checksumOfIndex(directory: string): Promise<string> {
  const { uuid } = await readSuperblock(new SparseStorage(directory));
  const overlays = { active: new Overlay(), frozen: undefined };
  const index = await PointerIndex.open(
    await openLevel(path.join(directory, 'index')),
    overlays,
    uuid,
    64 << 20,
  );
  const hash = createHash('sha256');
  for (const tree of index.directory.trees()) {
    for (let region = 0; ; region++) {
      region = await index.directory.nextRegion(tree, region, REGIONS_MAX);
      if (region < 0) break;
      for (const [label, block] of await index.regionBlocks(tree, region)) {
        hash.update(`${tree} ${region} ${label}\n`);
        hash.update(encodePointers(block));
      }
    }
  }
  await index.close();
  return hash.digest('hex');
}
