/**
 * The index of a store that nobody has open is deleted, damaged in each kind of its files, or replaced by an older or a
 * foreign one: the store makes it anew by itself, says so, and holds what it did before. Where the index is whole and
 * only cannot be opened (somebody holds it, descriptors are short) it is refused, and left alone.
 */

import fs from 'node:fs';
import path from 'node:path';
import { openLevel } from '../../src/volume/store.ts';
import { tail } from '../../test/support/programs.ts';
import type { Random } from '../../test/support/random.ts';
import { addFigures, type Counts, type Rig, type RigOptions } from './rig.ts';
import { TorturedStore } from './tortured-store.ts';

const ROUNDS_PER_STORE = 4;
const REFUSED_MS_MAX = 30_000;
/** Descriptors at which a start fails somewhere on its way, if not before LevelDB is opened. */
const DESCRIPTORS = { min: 24, max: 40 };
const FILES: Record<string, RegExp> = {
  manifest: /^MANIFEST-/,
  current: /^CURRENT$/,
  table: /\.ldb$/,
  log: /^\d+\.log$/,
};

/** What a damage needs. */
interface Victim {
  readonly store: TorturedStore;
  readonly index: string;
  readonly random: Random;
  /** Index directories: of this store as it was, and of another one. */
  readonly older: string;
  readonly foreign: string;
}

/** Answers whether anything was done: there may be no file of a kind. */
type Damage = (victim: Victim) => boolean;

function inFile(kind: RegExp, change: (file: string, random: Random) => void): Damage {
  return ({ index, random }) => {
    const files = usedFiles(index).filter((name) => kind.test(name));
    if (files.length === 0) return false;
    change(path.join(index, random.pick(files)), random);
    return true;
  };
}

/** Without the manifests that nothing names: LevelDB leaves one behind that has a higher number than it is at. */
function usedFiles(index: string): string[] {
  const current = path.join(index, 'CURRENT');
  const manifest = fs.existsSync(current) ? fs.readFileSync(current, 'latin1').trim() : undefined;
  return fs
    .readdirSync(index)
    .filter((name) => manifest === undefined || !FILES.manifest!.test(name) || name === manifest);
}

function flip(file: string, random: Random): void {
  const bytes = fs.readFileSync(file);
  if (bytes.length === 0) return;
  for (let count = random.pick([1, 1, 20]); count > 0; count--) {
    const at = random.below(bytes.length);
    bytes[at] = bytes[at]! ^ (1 << random.below(8));
  }
  fs.writeFileSync(file, bytes);
}

function truncate(file: string, random: Random): void {
  const { size } = fs.statSync(file);
  fs.truncateSync(file, random.pick([0, random.below(size + 1)]));
}

function replaceBy(index: string, other: string): boolean {
  fs.rmSync(index, { recursive: true, force: true });
  fs.cpSync(other, index, { recursive: true });
  return true;
}

const DAMAGES: Record<string, Damage> = {
  deleted: ({ index }) => {
    fs.rmSync(index, { recursive: true, force: true });
    return true;
  },
  older: ({ index, older }) => replaceBy(index, older),
  foreign: ({ index, foreign }) => replaceBy(index, foreign),
};
for (const [name, kind] of Object.entries(FILES)) {
  DAMAGES[`${name} flipped`] = inFile(kind, flip);
  DAMAGES[`${name} cut`] = inFile(kind, truncate);
  DAMAGES[`${name} removed`] = inFile(kind, (file) => fs.rmSync(file));
}
/**
 * Of these every start must speak. Not of a removed CURRENT: LevelDB begins anew without it and replays what logs it
 * finds, and where these have all that there was, the index is whole, and its digests say so.
 */
const ALWAYS_TOLD: ReadonlySet<string> = new Set(['deleted', 'foreign', 'manifest removed']);
const REFUSALS = ['no descriptors', 'locked'] as const;

async function refused({ store, index, random }: Victim, how: (typeof REFUSALS)[number]): Promise<boolean> {
  const holder = how === 'locked' ? await openLevel(index) : undefined;
  const limit = String(random.between(DESCRIPTORS.min, DESCRIPTORS.max));
  const under = how === 'no descriptors' ? ['prlimit', `--nofile=${limit}:${limit}`] : [];
  try {
    const server = store.server.launch({ under });
    await server.until(
      () => server.result !== undefined || server.output.includes('"serving"'),
      'end',
      REFUSED_MS_MAX,
    );
    if (server.output.includes('made anew'))
      throw new Error(`${how}: the index was made anew\n${tail(server.output)}`);
    if (server.result === undefined && holder !== undefined)
      throw new Error('an index that is held was opened');
    if (server.result === undefined) return false;
    // Node itself, before it has loaded all of the program.
    if (how === 'no descriptors' && /Cannot find (package|module)/.test(server.output)) return false;
    const saysWhy = how === 'locked' ? /lock/i : /too many open files|EMFILE/i;
    if (server.result !== 1 || !saysWhy.test(server.output)) {
      throw new Error(`${how}: ended with ${server.result}: ${tail(server.output)}`);
    }
    return true;
  } finally {
    await holder?.close();
    await store.server.kill();
  }
}

async function work(store: TorturedStore, random: Random): Promise<void> {
  await store.load(random.pick([0, 10]));
  const enough = random.between(50, 600);
  await store.until(() => store.answered >= enough, 2_000);
  await store.unload();
}

async function checkpoint(store: TorturedStore): Promise<void> {
  const control = await store.server.control();
  await control.status();
  await control.close();
}

/** A store whose index has a checkpoint, closed; answers a copy of its index. */
async function copyOfIndex(store: TorturedStore, random: Random, to: string): Promise<string> {
  await work(store, random);
  await checkpoint(store);
  await store.stop();
  fs.cpSync(path.join(store.server.directory, 'index'), to, { recursive: true });
  return to;
}

async function run({ random, rounds, scratch, cleanup, say }: RigOptions): Promise<Counts> {
  const names = [...Object.keys(DAMAGES), ...REFUSALS];
  const counts: Counts = { damages: 0, refusals: 0, told: 0 };
  const other = await TorturedStore.make(cleanup, path.join(scratch, 'other'), random);
  const foreign = await copyOfIndex(other, random, path.join(scratch, 'foreign'));
  let store: TorturedStore | undefined;
  let older = '';
  const order: string[] = [];
  for (let round = 1; round <= rounds; round++) {
    if ((round - 1) % ROUNDS_PER_STORE === 0) {
      store = await TorturedStore.make(cleanup, path.join(scratch, `store${round}`), random);
      older = await copyOfIndex(store, random, path.join(scratch, `older${round}`));
      await store.recover();
    }
    await work(store!, random);
    if (random.chance(60)) await checkpoint(store!);
    if (random.chance(50)) await store!.stop();
    else {
      await store!.server.kill();
      store!.history.keepAll();
    }
    if (order.length === 0) order.push(...names);
    const name = order.splice(random.below(order.length), 1)[0]!;
    const index = path.join(store!.server.directory, 'index');
    const victim = { store: store!, index, random, older, foreign };
    if (name === 'no descriptors' || name === 'locked') {
      if (fs.existsSync(index) && (await refused(victim, name))) counts.refusals = counts.refusals! + 1;
      await store!.recover();
    } else {
      const hadIndex = fs.existsSync(index);
      const isDone = hadIndex && DAMAGES[name]!(victim);
      const before = store!.figures['indexes made anew'];
      await store!.recover({ mayLoseIndex: true, allSnapshots: true });
      const isTold = store!.figures['indexes made anew'] > before || store!.server.log.includes('in doubt');
      if (isDone && ALWAYS_TOLD.has(name) && !isTold) throw new Error(`${name}: nothing was said of it`);
      counts.damages = counts.damages! + (isDone ? 1 : 0);
      counts.told = counts.told! + (isTold ? 1 : 0);
    }
    say(`round ${round}: ${name}`);
    if (round % ROUNDS_PER_STORE !== 0 && round !== rounds) continue;
    await store!.stop();
    addFigures(counts, store!);
    await store!.remove();
  }
  return counts;
}

export const indexDamage: Rig = {
  name: 'index-damage',
  does: 'the index is deleted, damaged, older, foreign: the store makes it anew, says so, and holds the same',
  tools: ['prlimit'],
  missing: () => [],
  rounds: 60,
  run,
};
