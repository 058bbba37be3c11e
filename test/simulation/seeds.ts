/** Many runs in a row, and what they have come across together. */

import { Marks } from './marks.ts';
import { runSeed } from './run.ts';

export interface Tally {
  seeds: number;
  crashStates: number;
  /** Of the traces of all runs, in order. */
  traceHash: number;
  marks: [string, number][];
  /** What was found, a text for each seed that found anything. */
  failures: string[];
}

export interface SeedsOptions {
  first: number;
  count: number;
  /** From one to the next. */
  step?: number;
  /** Ends early with so many failures. */
  failuresMax?: number;
  /** Ends early at this moment (milliseconds since 1970). */
  until?: number;
}

export async function runSeeds(options: SeedsOptions): Promise<Tally> {
  const { first, count, step = 1, failuresMax = 1, until = Number.POSITIVE_INFINITY } = options;
  const marks = new Marks();
  const tally: Tally = { seeds: 0, crashStates: 0, traceHash: 0, marks: [], failures: [] };
  for (let i = 0; i < count && tally.failures.length < failuresMax && Date.now() < until; i++) {
    try {
      const result = await runSeed(first + i * step, marks);
      tally.crashStates += result.crashStates;
      tally.traceHash = (Math.imul(tally.traceHash, 31) + result.traceHash) >>> 0;
    } catch (error) {
      tally.failures.push((error as Error).message);
    }
    tally.seeds += 1;
  }
  tally.marks = [...marks.counts];
  return tally;
}

/** Marks that none of the tallies has. */
export function missingIn(tallies: readonly Tally[]): string[] {
  const marks = new Marks();
  for (const tally of tallies) marks.add(tally.marks);
  return marks.missing;
}
