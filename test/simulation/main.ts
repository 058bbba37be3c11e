/**
 * Long runs, a process a core:
 *
 *     npx tsc -p test/simulation/tsconfig.json
 *     SEEDS=150000 node dist/test/simulation/main.js     from a seed of chance on
 *     SEED=7 SEEDS=1000 node dist/test/simulation/main.js
 *     SEED=7 node dist/test/simulation/main.js           one alone
 *
 * Also: PROCESSES (default: cores), MINUTES (an end before all seeds are done), FAILURES (how many end it; 1).
 * The last line is JSON. Exit code 1 if anything was found, or a mark was missed in 10,000 seeds or more.
 */

import { fork } from 'node:child_process';
import os from 'node:os';
import { fileURLToPath } from 'node:url';
import { MARKS } from './marks.ts';
import { missingIn, runSeeds, type SeedsOptions, type Tally } from './seeds.ts';

/** So many seeds come across everything. */
const SEEDS_FOR_ALL_MARKS = 10_000;
const PROGRESS_SEEDS = 500;

const { env } = process;

function runHere(options: SeedsOptions): Promise<Tally> {
  return runSeeds(options);
}

/** In a process of its own: it reports by parts, so that one can see how far it is. */
function runThere(options: SeedsOptions, progress: (part: Tally) => boolean): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = fork(fileURLToPath(import.meta.url), {
      env: { ...env, SIMULATION_PART: JSON.stringify(options) },
    });
    child.on('message', (part) => {
      if (!progress(part as Tally)) child.kill();
    });
    child.on('exit', (code, signal) => {
      if (code === 0 || signal !== null) resolve();
      else reject(new Error(`a part ended with ${code}`));
    });
  });
}

async function part(options: SeedsOptions): Promise<void> {
  const { first, count, step = 1 } = options;
  for (let done = 0; done < count; done += PROGRESS_SEEDS) {
    const some = { ...options, first: first + done * step, count: Math.min(PROGRESS_SEEDS, count - done) };
    const tally = await runHere(some);
    await new Promise((resolve) => process.send!(tally, resolve));
    if (tally.seeds < some.count && tally.failures.length === 0) break;
  }
  process.disconnect();
}

async function main(): Promise<void> {
  const first = env.SEED === undefined ? Math.floor(Math.random() * 2 ** 30) : Number(env.SEED);
  const count = Number(env.SEEDS ?? (env.SEED === undefined ? SEEDS_FOR_ALL_MARKS : 1));
  const processes = Math.min(count, Number(env.PROCESSES ?? os.availableParallelism()));
  const failuresMax = Number(env.FAILURES ?? 1);
  const started = Date.now();
  const until = env.MINUTES === undefined ? undefined : started + Number(env.MINUTES) * 60_000;
  const tallies: Tally[] = [];
  let failures = 0;
  const progress = (tally: Tally): boolean => {
    tallies.push(tally);
    for (const failure of tally.failures) process.stdout.write(`${failure}\n\n`);
    failures += tally.failures.length;
    const seeds = tallies.reduce((sum, each) => sum + each.seeds, 0);
    const states = tallies.reduce((sum, each) => sum + each.crashStates, 0);
    const seconds = (Date.now() - started) / 1000;
    process.stderr.write(
      `${seeds} seeds, ${states} crash states, ${(states / seconds).toFixed(0)}/s, ${failures} failures\n`,
    );
    return failures < failuresMax;
  };
  const shares = Array.from({ length: processes }, (_, i): SeedsOptions => {
    const share = Math.floor(count / processes) + (i < count % processes ? 1 : 0);
    return {
      first: first + i,
      count: share,
      step: processes,
      failuresMax,
      ...(until === undefined ? {} : { until }),
    };
  });
  if (processes === 1) progress(await runHere(shares[0]!));
  else await Promise.all(shares.map((share) => runThere(share, progress)));
  const seeds = tallies.reduce((sum, each) => sum + each.seeds, 0);
  const crashStates = tallies.reduce((sum, each) => sum + each.crashStates, 0);
  const missing = missingIn(tallies);
  const marks: Record<string, number> = {};
  for (const mark of MARKS) marks[mark] = 0;
  for (const tally of tallies)
    for (const [mark, hits] of tally.marks) marks[mark] = (marks[mark] ?? 0) + hits;
  const seconds = (Date.now() - started) / 1000;
  process.stdout.write(
    `${JSON.stringify({ first, seeds, crashStates, failures, seconds, missing, marks })}\n`,
  );
  if (failures > 0 || (seeds >= SEEDS_FOR_ALL_MARKS && missing.length > 0)) process.exitCode = 1;
}

if (env.SIMULATION_PART === undefined) await main();
else await part(JSON.parse(env.SIMULATION_PART) as SeedsOptions);
