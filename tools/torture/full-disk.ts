/**
 * A file system without room, as somebody else's file leaves it: changes are refused with ENOSPC and with nothing else, reads
 * and flushes go on, and so does everything when there is room again. Whoever dies of it, or with it, loses nothing.
 */

import fs from 'node:fs';
import path from 'node:path';
import { NBD_EIO, NBD_ENOSPC } from '../../src/nbd/protocol.ts';
import { pause, runTool, tail } from '../../test/support/programs.ts';
import type { Random } from '../../test/support/random.ts';
import {
  FILE_SYSTEM_KINDS,
  type FileSystemKind,
  LOOP_TOOLS,
  LoopFileSystem,
  missingForLoops,
  SIZE_BYTES_MIN,
} from './loop-file-system.ts';
import { endOfStore, type Counts, type Rig, type RigOptions } from './rig.ts';
import { TorturedStore } from './tortured-store.ts';

const SIZE_BYTES = 128 << 20;
const ROUNDS_PER_STORE = 4;
/** Requests that are refused before something else happens. */
const REFUSED_MIN = 20;
const WAIT_MS_MAX = 20_000;
const ZEROS = Buffer.alloc(64 << 10);

/** Somebody else's file, which takes up the room. */
class Ballast {
  readonly #directory: string;
  readonly #file: string;

  constructor(directory: string) {
    this.#directory = directory;
    this.#file = path.join(directory, 'ballast');
  }

  /** Leaves so much room, or what there is. */
  async leave(roomBytes: number): Promise<void> {
    const { bavail, bsize } = fs.statfsSync(this.#directory);
    const bytes = bavail * bsize - roomBytes;
    if (bytes <= 0) return;
    // Others may take that room meanwhile; then this takes the rest.
    const { result } = await runTool('fallocate', ['--length', String(bytes), this.#file]);
    if (result !== 0) await this.#takeRest();
  }

  async #takeRest(): Promise<void> {
    const file = await fs.promises.open(this.#file, 'a');
    try {
      for (;;) await file.write(ZEROS);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error;
    } finally {
      await file.close();
    }
  }

  remove(): void {
    fs.rmSync(this.#file, { force: true });
  }
}

function fullDisk(kind: FileSystemKind): Rig {
  return {
    name: `full-disk-${kind}`,
    does: `${kind} without room: ENOSPC for changes and for nothing else, and nothing is lost`,
    tools: [...LOOP_TOOLS, 'fallocate'],
    missing: missingForLoops,
    rounds: 40,
    run: async (options) => {
      const { cleanup, scratch } = options;
      const size = Math.max(SIZE_BYTES, SIZE_BYTES_MIN[kind]);
      const fileSystem = await LoopFileSystem.make(cleanup, scratch, kind, size);
      return await runOn(fileSystem, options);
    },
  };
}

async function runOn(fileSystem: LoopFileSystem, options: RigOptions): Promise<Counts> {
  const { random, rounds, cleanup, say } = options;
  const counts: Counts = {
    refused: 0,
    'room again': 0,
    kills: 0,
    'power cuts': 0,
    'clean ends': 0,
    'opened full': 0,
  };
  const ballast = new Ballast(fileSystem.directory);
  let store: TorturedStore | undefined;
  for (let round = 1; round <= rounds; round++) {
    if ((round - 1) % ROUNDS_PER_STORE === 0) {
      store = await TorturedStore.make(cleanup, path.join(fileSystem.directory, `store${round}`), random);
    }
    await fillUp(store!, ballast, random, counts);
    const end = random.pick(['room again', 'kills', 'power cuts', 'clean ends'] as const);
    counts[end] = counts[end]! + 1;
    if (end === 'room again') await goOn(store!, ballast);
    else {
      await endFull(store!, end, fileSystem);
      if (random.chance(50) && (await opensFull(store!, random)))
        counts['opened full'] = counts['opened full']! + 1;
      ballast.remove();
      await store!.server.kill();
      await store!.recover();
    }
    store!.mayFailWith.clear();
    say(`round ${round}, ${end}: ${counts.refused} refused`);
    if (round % ROUNDS_PER_STORE !== 0 && round !== rounds) continue;
    await store!.stop();
    await endOfStore(store!, counts);
  }
  return counts;
}

/** Clients work until there is no room, and a while longer. */
async function fillUp(store: TorturedStore, ballast: Ballast, random: Random, counts: Counts): Promise<void> {
  await store.load(random.pick([2, 10, 30]));
  await store.until(() => store.answered > 50, WAIT_MS_MAX);
  store.mayFailWith.add(NBD_ENOSPC);
  await ballast.leave(random.below(random.pick([1 << 13, 1 << 20, 6 << 20])));
  const before = store.answered;
  const isFull = await store.until(() => store.refusedCount >= REFUSED_MIN, WAIT_MS_MAX);
  if (!isFull) {
    const counts = `${store.refusedCount} refused, ${store.answered - before} answered`;
    throw new Error(`too few were refused: ${counts}\n${tail(store.server.log)}`);
  }
  await pause(random.below(200));
  counts.refused = counts.refused! + store.refusedCount;
}

/** There is room, and all goes on as if nothing had been. */
async function goOn(store: TorturedStore, ballast: Ballast): Promise<void> {
  ballast.remove();
  const answered = store.answered;
  const goesOn = await store.until(() => store.answered > answered + 200, WAIT_MS_MAX);
  await store.unload();
  if (!goesOn) throw new Error(`there is room, and nothing is written\n${tail(store.server.log)}`);
  store.history.keepAll();
  await store.compare();
}

async function endFull(
  store: TorturedStore,
  end: 'kills' | 'power cuts' | 'clean ends',
  fileSystem: LoopFileSystem,
): Promise<void> {
  if (end === 'clean ends') {
    await store.unload();
    store.history.keepAll();
    await store.compare();
    await store.stop();
    return;
  }
  if (end === 'power cuts') {
    store.mayFailWith.add(NBD_EIO);
    store.history.endPromises();
    await fileSystem.cutPower(false);
  }
  await store.server.kill();
  await store.unload();
  if (end === 'power cuts') await fileSystem.remount();
  else store.history.keepAll();
}

/** Without room a store may be refused, but it says why; if it opens, it holds what it must. */
async function opensFull(store: TorturedStore, random: Random): Promise<boolean> {
  const server = store.server.launch();
  await server.until(
    () => server.output.includes('"serving"') || server.result !== undefined,
    'end',
    WAIT_MS_MAX,
  );
  if (server.result !== undefined) {
    const saysWhy = /ENOSPC|no space|make room/i.test(server.output);
    if (server.result !== 1 || !saysWhy)
      throw new Error(`opening ended with ${server.result}: ${tail(server.output)}`);
    return false;
  }
  await store.compare();
  if (random.chance(50)) await store.stop();
  else await store.server.kill();
  return true;
}

export const fullDisks: readonly Rig[] = FILE_SYSTEM_KINDS.map(fullDisk);
