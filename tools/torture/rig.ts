/** What all rigs share: how one is asked to work, and what it tells. */

import type { Cleanup } from '../../test/support/programs.ts';
import type { Random } from '../../test/support/random.ts';
import type { TorturedStore } from './tortured-store.ts';

export interface RigOptions {
  readonly random: Random;
  readonly rounds: number;
  /** An empty directory. */
  readonly scratch: string;
  readonly cleanup: Cleanup;
  /** Told after each round. */
  readonly say: (line: string) => void;
}

/** Numbers by what they count. */
export type Counts = Record<string, number>;

export interface Rig {
  readonly name: string;
  readonly does: string;
  /** Programs that it needs. */
  readonly tools: readonly string[];
  /** What else this machine lacks for it. */
  missing(): string[];
  /** Rounds of a long run. */
  readonly rounds: number;
  /** @throws Error at the first thing that is wrong */
  run(options: RigOptions): Promise<Counts>;
}

export function addFigures(counts: Counts, { figures }: TorturedStore): void {
  for (const [name, count] of Object.entries(figures)) {
    counts[name] = (counts[name] ?? 0) + count;
  }
}

/** Of a store that nobody serves: all of it is what it has to be, what it counted is added, and it goes. */
export async function endOfStore(store: TorturedStore, counts: Counts): Promise<void> {
  await store.recover({ allSnapshots: true });
  await store.stop();
  addFigures(counts, store);
  await store.remove();
}
