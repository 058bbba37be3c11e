/**
 * Plants every fault of the table, one at a time, in a copy of the tree, and runs the tests that must notice it.
 *
 * Exit codes: 0 every fault was found; 1 one was missed, does not apply or does not compile, or the tests fail without
 * any; 2 wrong usage; 130 interrupted.
 */

import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { Command, InvalidArgumentError } from 'commander';
import type { Fault } from './fault.ts';
import { FAULTS } from './faults.ts';
import { ScratchTree } from './scratch-tree.ts';

interface Verdict {
  readonly fault: Fault;
  readonly outcome: 'found' | 'MISSED' | 'DOES NOT APPLY' | 'DOES NOT COMPILE' | 'BROKEN';
  /** The test that noticed, or what is wrong. */
  readonly by: string;
  readonly seconds: number;
}

interface Options {
  jobs: number;
  part: Part;
  list: boolean;
  baseline: boolean;
}

interface Part {
  readonly number: number;
  readonly of: number;
}

const program = new Command('planted')
  .description('plant known faults one at a time, and see that the tests notice each')
  .argument('[words...]', 'only faults whose name or file has one of these in it')
  .option('--jobs <count>', 'copies of the tree at work at the same time', positiveInteger, 2)
  .option('--part <i/n>', 'the i-th of n parts of the faults', part, { number: 1, of: 1 })
  .option('--no-baseline', 'do not run the tests without a fault first')
  .option('--list', 'print the faults', false)
  .exitOverride((error) => process.exit(error.exitCode === 0 ? 0 : 2));

process.exitCode = await main(program.parse().opts<Options>(), program.args);

async function main(options: Options, words: readonly string[]): Promise<number> {
  const chosen = FAULTS.filter(
    ({ name, file }) => words.length === 0 || words.some((word) => `${name} ${file}`.includes(word)),
  );
  const faults = chosen.filter((_, i) => i % options.part.of === options.part.number - 1);
  if (faults.length === 0) {
    say('no fault has such a name');
    return 2;
  }
  if (options.list) {
    for (const { name, file } of faults) process.stdout.write(`${file}: ${name}\n`);
    return 0;
  }
  const scratch = fs.mkdtempSync(path.join(os.tmpdir(), 'planted-'));
  const trees: ScratchTree[] = [];
  process.on('exit', () => {
    for (const tree of trees) tree.remove();
    fs.rmSync(scratch, { recursive: true, force: true });
  });
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => process.exit(130));
  for (let job = 0; job < Math.min(options.jobs, faults.length); job++) {
    trees.push(new ScratchTree(process.cwd(), path.join(scratch, String(job))));
  }
  if (options.baseline && !(await isGreen(trees[0]!, faults))) return 1;
  const verdicts = await tryAll(trees, faults);
  return report(verdicts);
}

/** A test that fails anyway notices nothing. */
async function isGreen(tree: ScratchTree, faults: readonly Fault[]): Promise<boolean> {
  const files = [...new Set(faults.flatMap(({ tests }) => tests))];
  say(`without a fault: ${files.length} test files`);
  const { failed, broken } = await tree.test(files);
  if (failed.length === 0 && broken === undefined) return true;
  say(`the tests fail without any fault: ${broken ?? failed.join(', ')}`);
  return false;
}

async function tryAll(trees: readonly ScratchTree[], faults: readonly Fault[]): Promise<Verdict[]> {
  const unusable = await findUnusable(trees[0]!, faults);
  const verdicts = [...unusable.values()];
  const waiting = faults.filter((fault) => !unusable.has(fault));
  await Promise.all(
    trees.map(async (tree) => {
      for (let fault = waiting.shift(); fault !== undefined; fault = waiting.shift()) {
        const verdict = await judge(tree, fault);
        verdicts.push(verdict);
        say(`${verdicts.length}/${faults.length} ${verdict.outcome}: ${fault.name} (${verdict.seconds} s)`);
      }
    }),
  );
  return verdicts.sort((a, b) => faults.indexOf(a.fault) - faults.indexOf(b.fault));
}

/** Why faults do not apply or do not compile. Those of different files are compiled together: it takes seconds. */
async function findUnusable(tree: ScratchTree, faults: readonly Fault[]): Promise<Map<Fault, Verdict>> {
  const unusable = new Map<Fault, Verdict>();
  let waiting = [...faults];
  while (waiting.length > 0) {
    const together = waiting.filter((fault, i) => waiting.findIndex(({ file }) => file === fault.file) === i);
    waiting = waiting.filter((fault) => !together.includes(fault));
    const applicable = together.filter((fault) => {
      const by = tree.whyNot(fault);
      if (by !== undefined) unusable.set(fault, { fault, outcome: 'DOES NOT APPLY', by, seconds: 0 });
      return by === undefined;
    });
    const errors = await tree.planted(applicable, () => tree.typeErrors());
    const elsewhere = errors.find((line) => !applicable.some(({ file }) => line.startsWith(file)));
    for (const fault of applicable) {
      const by = errors.find((line) => line.startsWith(fault.file)) ?? elsewhere;
      if (by !== undefined) unusable.set(fault, { fault, outcome: 'DOES NOT COMPILE', by, seconds: 0 });
    }
  }
  return unusable;
}

async function judge(tree: ScratchTree, fault: Fault): Promise<Verdict> {
  const started = Date.now();
  const verdict = (outcome: Verdict['outcome'], by: string): Verdict => {
    return { fault, outcome, by, seconds: Math.round((Date.now() - started) / 1000) };
  };
  return await tree.planted([fault], async () => {
    for (const file of fault.tests) {
      const { failed, broken } = await tree.test([file]);
      if (broken !== undefined) return verdict('BROKEN', `${file}: ${broken}`);
      if (failed.length > 0) return verdict('found', `${file}: ${failed[0]}`);
    }
    return verdict('MISSED', `not by ${fault.tests.join(', ')}`);
  });
}

function report(verdicts: readonly Verdict[]): number {
  const lines = verdicts.map(
    ({ fault, outcome, by }) => `${outcome.padEnd(7)} ${fault.name}\n        ${by}\n`,
  );
  const found = verdicts.filter(({ outcome }) => outcome === 'found').length;
  process.stdout.write(`\n${lines.join('')}\n${found} of ${verdicts.length} planted bugs are found\n`);
  return found === verdicts.length ? 0 : 1;
}

function positiveInteger(text: string): number {
  if (!/^[1-9]\d?$/.test(text)) throw new InvalidArgumentError('A positive integer is expected.');
  return Number(text);
}

function part(text: string): Part {
  const [, number, of] = /^(\d+)\/(\d+)$/.exec(text) ?? [];
  const found = { number: Number(number), of: Number(of) };
  if (found.number >= 1 && found.number <= found.of) return found;
  throw new InvalidArgumentError('Give it as 1/4.');
}

function say(line: string): void {
  process.stderr.write(`${line}\n`);
}
