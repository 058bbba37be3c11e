/**
 * A process of its own that writes to a store without its payload, and dies as by kill -9 when it has written enough:
 * `node main.js write-and-die DIRECTORY VOLUME CHUNKS SPREAD_CHUNKS`. Nothing is flushed but by the log itself, and no
 * checkpoint gets into the index: LevelDB is too slow for that.
 */

import process from 'node:process';
import { CHUNK_BYTES } from '../../src/base/units.ts';
import { openLevel, Store } from '../../src/volume/store.ts';
import { SparseStorage } from './sparse-storage.ts';

const ZERO_CHUNK = Buffer.alloc(CHUNK_BYTES);
const QUEUE_DEPTH = 64;

export async function writeAndDie(
  directory: string,
  volume: string,
  chunks: number,
  spreadChunks: number,
): Promise<void> {
  const never = (): Promise<void> => new Promise(() => undefined);
  const store = await Store.open(directory, {
    storage: new SparseStorage(directory),
    openDatabase: async (location) => {
      const database = await openLevel(location);
      const batch = database.batch.bind(database) as () => { write: () => Promise<void> };
      return Object.assign(database, { batch: () => Object.assign(batch(), { write: never }) });
    },
  });
  const device = store.device(volume);
  let state = 0x2545f491;
  /** xorshift32, twice: a chunk anywhere in the spread. */
  const randomChunk = (): number => {
    let high = 0;
    for (let i = 0; i < 2; i++) {
      high = state >>> 0;
      state ^= state << 13;
      state ^= state >>> 17;
      state ^= state << 5;
    }
    return (high * 2 ** 20 + (state >>> 12)) % spreadChunks;
  };
  let left = chunks;

  const writeNext = (resolve: () => void): void => {
    if (left === 0) {
      resolve();
      return;
    }
    left -= 1;
    device.write({
      offset: randomChunk() * CHUNK_BYTES,
      lengthBytes: CHUNK_BYTES,
      slices: [ZERO_CHUNK],
      forceUnitAccess: false,
      complete: (error) => {
        if (error !== undefined) throw error;
        writeNext(resolve);
      },
    });
  };

  await Promise.all(Array.from({ length: QUEUE_DEPTH }, () => new Promise<void>(writeNext)));
  process.kill(process.pid, 'SIGKILL');
}
