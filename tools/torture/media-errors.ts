/**
 * A disk whose writes or reads fail for a while. A write-back that failed is told by one fdatasync: the store takes no more,
 * and nothing flushed before is lost when it is opened again, without what the page cache still had. Reads that fail give
 * EIO or kill the server (LevelDB maps its files: SIGBUS), never wrong bytes.
 */

import path from 'node:path';
import { SECTOR_BYTES } from '../../src/base/units.ts';
import { NBD_EIO, NBD_SUCCESS } from '../../src/nbd/protocol.ts';
import { pause, tail, tool } from '../../test/support/programs.ts';
import { FLAKY_TOOLS, FlakyDisk } from './flaky-disk.ts';
import { LOOP_TOOLS, LoopFileSystem, missingForLoops } from './loop-file-system.ts';
import { ConnectionLost, NbdClient } from './nbd-client.ts';
import { addFigures, type Counts, type Rig, type RigOptions } from './rig.ts';
import { TorturedStore } from './tortured-store.ts';

const SIZE_BYTES = 200 << 20;
const ROUNDS_PER_STORE = 4;
const NOTICED_MS_MAX = 10_000;
const READ_BYTES = 64 << 10;
const END_MS_MAX = 5_000;

async function run({ random, rounds, cleanup, scratch, say }: RigOptions): Promise<Counts> {
  const counts: Counts = { 'write errors': 0, 'read errors': 0, 'reads refused': 0, 'servers dead': 0 };
  const disk = await FlakyDisk.make(cleanup, scratch, SIZE_BYTES);
  const fileSystem = await LoopFileSystem.make(cleanup, scratch, 'ext4', SIZE_BYTES, disk.file);
  let store: TorturedStore | undefined;
  for (let round = 1; round <= rounds; round++) {
    if ((round - 1) % ROUNDS_PER_STORE === 0) {
      store = await TorturedStore.make(cleanup, path.join(fileSystem.directory, `store${round}`), random);
    }
    await store!.load(20);
    const enough = random.between(50, 400);
    await store!.until(() => store!.answered >= enough, NOTICED_MS_MAX);
    const kind = round % 2 === 1 ? 'write errors' : 'read errors';
    if (kind === 'write errors') await failWrites(store!, disk);
    else await failReads(store!, disk, fileSystem, counts);
    // Whatever only the page cache has is gone with it.
    await fileSystem.remount();
    store!.mayFailWith.clear();
    await store!.recover({ mayLoseIndex: true, allSnapshots: true });
    counts[kind] = counts[kind]! + 1;
    say(`round ${round}: ${kind}`);
    if (round % ROUNDS_PER_STORE !== 0 && round !== rounds) continue;
    await store!.stop();
    addFigures(counts, store!);
    await store!.remove();
  }
  return counts;
}

/** Under load, until a client is told. */
async function failWrites(store: TorturedStore, disk: FlakyDisk): Promise<void> {
  store.mayFailWith.add(NBD_EIO);
  disk.failWrites();
  const isNoticed = await store.until(
    () => store.history.flushFailedAt < Number.POSITIVE_INFINITY,
    NOTICED_MS_MAX,
  );
  disk.work();
  if (!isNoticed) throw new Error(`no flush has failed\n${tail(store.server.log)}`);
  // The disk works again: the store must not believe it. What it had written before it heard of the error is answered.
  await pause(50);
  const answered = store.answered;
  await pause(100);
  if (store.answered > answered) throw new Error('changes are answered after a sync that failed');
  await store.server.kill();
  await store.unload();
}

/** With nothing in memory. */
async function failReads(
  store: TorturedStore,
  disk: FlakyDisk,
  fileSystem: LoopFileSystem,
  counts: Counts,
): Promise<void> {
  await store.unload();
  await store.stop();
  await fileSystem.remount();
  await store.server.start();
  await tool('sh', ['-c', 'echo 1 > /proc/sys/vm/drop_caches']);
  disk.failReads();
  try {
    for (const [name, { history }] of store.history.disks) {
      const client = await NbdClient.connect(store.server.nbdSocket, name);
      for (let at = 0; at < history.sizeBytes; at += READ_BYTES) {
        const from = store.history.moments.next();
        const { error, payload } = await client.read(at, READ_BYTES);
        if (error !== NBD_SUCCESS && error !== NBD_EIO) throw new Error(`a read failed with ${error}`);
        if (error !== NBD_SUCCESS) counts['reads refused'] = counts['reads refused']! + 1;
        else {
          const wrong = history.wrong(payload, { from, until: from }, at / SECTOR_BYTES);
          if (wrong !== undefined) throw new Error(wrong);
        }
      }
      client.close();
    }
  } catch (error) {
    if (!(error instanceof ConnectionLost)) throw error;
    // A socket is closed before anybody hears of the end of its process.
    await store.until(() => store.server.result !== undefined, END_MS_MAX);
    if (store.server.result !== 'SIGBUS')
      throw new Error(`the server ended with ${store.server.result}`, { cause: error });
    counts['servers dead'] = counts['servers dead']! + 1;
  } finally {
    disk.work();
  }
  await store.server.kill();
}

export const mediaErrors: Rig = {
  name: 'media-errors',
  does: 'writes and reads of the disk fail: EIO, never wrong bytes, and nothing flushed is lost',
  tools: [...LOOP_TOOLS, ...FLAKY_TOOLS],
  missing: missingForLoops,
  rounds: 40,
  run,
};
