/**
 * Rounds of load, crash and recovery: what power cuts and killed servers have in common. A crash comes at a moment of
 * chance: amid load, in the quiet behind it, amid recovery, or behind a clean end.
 */

import path from 'node:path';
import { pause } from '../../test/support/programs.ts';
import { addFigures, type Counts, type RigOptions } from './rig.ts';
import { TorturedStore } from './tortured-store.ts';

/** The log only grows: after so many rounds a new store is begun. */
const ROUNDS_PER_STORE = 8;

export interface Blow {
  /** Answered changes survive it, flushed or not. */
  readonly keepsAll: boolean;
  /** LevelDB may come out of it damaged. */
  readonly mayLoseIndex: boolean;
  /** What clients may see of it, as errors of the protocol; for most of them the server is just gone. */
  readonly errors: readonly number[];
  /** Strikes; when it resolves the server is gone and the store can be opened again. */
  strike(store: TorturedStore): Promise<void>;
}

export async function crashRounds(blow: Blow, directory: string, options: RigOptions): Promise<Counts> {
  const { random, rounds, cleanup, say } = options;
  const counts: Counts = { blows: 0, 'blows amid recovery': 0, 'clean ends': 0 };
  let store: TorturedStore | undefined;
  for (let round = 1; round <= rounds; round++) {
    const startedAt = performance.now();
    if ((round - 1) % ROUNDS_PER_STORE === 0) {
      store = await TorturedStore.make(cleanup, path.join(directory, `store${round}`), random);
    }
    await workAndStrike(store!, blow, options, counts);
    const isLast = round % ROUNDS_PER_STORE === 0 || round === rounds;
    await store!.recover({ allSnapshots: isLast, mayLoseIndex: blow.mayLoseIndex });
    say(`round ${round}: ${store!.figures.writes} writes, ${Math.round(performance.now() - startedAt)} ms`);
    if (!isLast) continue;
    await store!.stop();
    addFigures(counts, store!);
    await store!.remove();
  }
  return counts;
}

async function workAndStrike(
  store: TorturedStore,
  blow: Blow,
  options: RigOptions,
  counts: Counts,
): Promise<void> {
  const { random } = options;
  const strike = async (): Promise<void> => {
    for (const error of blow.errors) store.mayFailWith.add(error);
    await blow.strike(store);
    counts.blows = counts.blows! + 1;
  };
  await store.load(random.pick([0, 3, 10, 30]));
  const enough = random.between(1, random.pick([50, 800, 3_000]));
  await store.until(() => store.answered >= enough, 1_500);
  if (random.chance(12)) {
    await store.unload();
    await pause(random.below(250));
    if (random.chance(50)) {
      await store.stop();
      counts['clean ends'] = counts['clean ends']! + 1;
    }
    await strike();
  } else {
    await strike();
    await store.unload();
  }
  if (blow.keepsAll) store.history.keepAll();
  while (random.chance(20)) {
    // What a recovery has begun is no reason to lose anything.
    store.server.launch();
    await pause(random.between(100, 500));
    await strike();
    counts['blows amid recovery'] = counts['blows amid recovery']! + 1;
  }
  store.mayFailWith.clear();
}
