/**
 * System calls that fail, one at a time or from some moment on, injected by strace into `init`, `import` and `serve`: a
 * command that fails says so by its exit code and a sentence, nothing waits for ever, and what was answered is there.
 */

import fs from 'node:fs';
import path from 'node:path';
import { NBD_EIO, NBD_ENOSPC } from '../../src/nbd/protocol.ts';
import { pause, tail } from '../../test/support/programs.ts';
import type { Random } from '../../test/support/random.ts';
import { addFigures, type Counts, type Rig, type RigOptions } from './rig.ts';
import { StoreServer, type Surroundings } from './store-server.ts';
import { TorturedStore } from './tortured-store.ts';

interface Fault {
  readonly calls: string;
  readonly errors: readonly string[];
  /** Node itself makes many of these before the store makes one. */
  readonly firstMax: number;
  /**
   * Only on directories of the store. koffi syncs standard output and error when the process ends, and if that of
   * standard error fails it waits for ever for a lock that it holds.
   */
  readonly onDirectories?: boolean;
  /** The call may be one of Node's own: then any end but success is right. */
  readonly mayHitNode?: boolean;
}

const FAULTS: readonly Fault[] = [
  { calls: 'fdatasync', errors: ['EIO', 'ENOSPC'], firstMax: 12 },
  { calls: 'fsync', errors: ['EIO'], firstMax: 5, onDirectories: true },
  { calls: 'pwritev,pwrite64', errors: ['EIO', 'ENOSPC', 'EDQUOT'], firstMax: 40 },
  { calls: 'fallocate', errors: ['EIO', 'ENOSPC', 'EOPNOTSUPP'], firstMax: 4 },
  { calls: '?rename,?renameat,?renameat2', errors: ['EIO', 'ENOSPC'], firstMax: 3 },
  { calls: '?unlink,?unlinkat,?rmdir', errors: ['EIO'], firstMax: 4 },
  { calls: '?mkdir,?mkdirat', errors: ['EIO', 'ENOSPC'], firstMax: 3 },
  { calls: 'ftruncate', errors: ['EIO'], firstMax: 2 },
  { calls: 'openat', errors: ['EIO', 'EMFILE', 'ENOSPC'], firstMax: 400, mayHitNode: true },
];
const STAGES = ['init', 'import', 'serve', 'serve'] as const;
const IMAGE_BYTES = 2539 * 512;
const MISTAKE = 70;

/** A fault and when it strikes. */
interface Injection {
  readonly fault: Fault;
  readonly text: string;
  readonly surroundings: Surroundings;
}

function inject(fault: Fault, directory: string, random: Random): Injection {
  const at = random.between(1, fault.firstMax);
  const text = `${fault.calls}:error=${random.pick(fault.errors)}:when=${at}${random.chance(30) ? '+' : ''}`;
  const directories = ['', 'log', 'index', 'index.new'].flatMap((name) => ['-P', path.join(directory, name)]);
  const where = fault.onDirectories === true ? directories : [];
  const trace = [...where, '-e', `trace=${fault.calls}`, '-e', `inject=${text}`];
  return {
    fault,
    text,
    surroundings: {
      under: ['strace', '-f', '--seccomp-bpf', '-qq', '-o', '/dev/null', ...trace],
      // strace counts for each thread.
      env: { UV_THREADPOOL_SIZE: '1' },
    },
  };
}

/** How a command may end that a fault was injected into. */
function checkEnd(result: number | string, output: string, { fault, text }: Injection): void {
  if (result === 0 || fault.mayHitNode === true) return;
  const isToldWell = result === 1 && output.trim() !== '';
  if (!isToldWell)
    throw new Error(
      `${text}: ended with ${result}${result === MISTAKE ? ', a mistake' : ''}: ${tail(output)}`,
    );
}

async function init(server: StoreServer, injection: Injection): Promise<boolean> {
  const { result, output } = await server.run(['init', '--segment-size', '1M'], injection.surroundings);
  checkEnd(result, output, injection);
  const again = await server.run(['init', '--segment-size', '1M']);
  const isThere = again.output.includes('holds a store already');
  if (again.result !== 0 && !isThere)
    throw new Error(`${injection.text}: no second attempt: ${tail(again.output)}`);
  if (result === 0 && !isThere) throw new Error(`${injection.text}: said to be made, and is not there`);
  await server.coppice('list');
  return result !== 0;
}

async function importImage(server: StoreServer, injection: Injection, image: string): Promise<boolean> {
  await server.coppice('init', '--segment-size', '1M');
  const { result, output } = await server.run(['import', 'disk', image], injection.surroundings);
  checkEnd(result, output, injection);
  const damage = await server.damage();
  if (damage.length > 0) throw new Error(`${injection.text}: fsck: ${JSON.stringify(damage)}`);
  if (result !== 0) await server.coppice('import', '--force', 'disk', image);
  const copy = `${image}.copy`;
  fs.rmSync(copy, { force: true });
  await server.coppice('export', 'disk', copy);
  if (!fs.readFileSync(copy).equals(fs.readFileSync(image)))
    throw new Error(`${injection.text}: wrong contents`);
  return result !== 0;
}

async function serve(store: TorturedStore, injection: Injection, random: Random): Promise<boolean> {
  await store.stop();
  const server = store.server.launch(injection.surroundings);
  await server.until(() => server.result !== undefined || server.output.includes('"serving"'), 'end', 30_000);
  for (const error of [NBD_EIO, NBD_ENOSPC]) store.mayFailWith.add(error);
  if (server.result === undefined) {
    await store.load(20).catch(() => undefined);
    const enough = random.between(50, 500);
    await store.until(() => store.answered >= enough || store.refusedCount > 30, 3_000);
    await store.unload();
    await pause(random.below(200));
  }
  const isStruck = server.result !== undefined || store.refused.size > 0;
  if (server.result === undefined) await store.server.kill();
  else checkEnd(server.result, server.output, injection);
  store.refused.clear();
  store.mayFailWith.clear();
  store.history.keepAll();
  await store.recover({ mayLoseIndex: true, allSnapshots: true });
  return isStruck;
}

async function run({ random, rounds, scratch, cleanup, say }: RigOptions): Promise<Counts> {
  const counts: Counts = { init: 0, import: 0, serve: 0, struck: 0 };
  const image = path.join(scratch, 'image');
  fs.writeFileSync(image, random.bytes(IMAGE_BYTES));
  for (let round = 1; round <= rounds; round++) {
    const directory = path.join(scratch, `store${round}`);
    const injection = inject(FAULTS[(round - 1) % FAULTS.length]!, directory, random);
    const stage = random.pick(STAGES);
    let isStruck: boolean;
    if (stage === 'serve') {
      const store = await TorturedStore.make(cleanup, directory, random);
      isStruck = await serve(store, injection, random);
      addFigures(counts, store);
      await store.remove();
    } else {
      const server = new StoreServer(cleanup, directory);
      isStruck =
        stage === 'init' ? await init(server, injection) : await importImage(server, injection, image);
      fs.rmSync(directory, { recursive: true });
    }
    counts[stage] = counts[stage]! + 1;
    counts.struck = counts.struck! + (isStruck ? 1 : 0);
    say(`round ${round}: ${stage}, ${injection.text}${isStruck ? ', felt' : ''}`);
  }
  return counts;
}

export const systemCalls: Rig = {
  name: 'system-calls',
  does: 'system calls fail in init, import and serve: it is said, nothing hangs, nothing answered is lost',
  tools: ['strace'],
  missing: () => [],
  rounds: 180,
  run,
};
