/**
 * A copy of the tree, in which faults are planted and tests are run: the working tree is never touched.
 *
 * Invariant: between two uses the copy is what the tree is: a fault is taken out again whatever became of its tests.
 */

import { type ChildProcess, spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { type Fault, plant, whyNot } from './fault.ts';

const COPIED = ['src', 'test', 'tools', 'package.json', 'tsconfig.json'];
/** No test of those that faults name takes a minute; one that hangs does. */
const TESTS_MS_MAX = 180_000;
const TEST_MS_MAX = 60_000;
/** The long random tests make fewer steps: a fault that needs more of them has no test of its own. */
const MODEL_STEPS = '1500';

export interface TestRun {
  /** Full names of tests that failed. */
  readonly failed: readonly string[];
  /** Why there is no verdict: a test file could not be loaded. */
  readonly broken: string | undefined;
}

interface JsonReport {
  testResults: {
    message: string;
    status: string;
    assertionResults: { status: string; fullName: string }[];
  }[];
}

export class ScratchTree {
  readonly #directory: string;
  readonly #children = new Set<ChildProcess>();
  #isStopped = false;

  /** Copies the tree at `root` into `directory`, which must not exist; what is installed is shared. */
  constructor(root: string, directory: string) {
    this.#directory = directory;
    fs.mkdirSync(path.join(directory, 'tmp'), { recursive: true });
    for (const name of COPIED) {
      fs.cpSync(path.join(root, name), path.join(directory, name), { recursive: true });
    }
    fs.symlinkSync(path.join(root, 'node_modules'), path.join(directory, 'node_modules'));
  }

  /** Why the fault cannot be planted; undefined if it can. */
  whyNot(fault: Fault): string | undefined {
    const file = path.join(this.#directory, fault.file);
    return fs.existsSync(file) ? whyNot(fs.readFileSync(file, 'utf8'), fault) : `there is no ${fault.file}`;
  }

  /** Runs `work` while the faults, of a file each, are in the copy. @throws Error if one does not apply exactly once */
  async planted<T>(faults: readonly Fault[], work: () => Promise<T>): Promise<T> {
    const sources = new Map<string, string>();
    try {
      for (const fault of faults) {
        const file = path.join(this.#directory, fault.file);
        const source = fs.readFileSync(file, 'utf8');
        sources.set(file, source);
        fs.writeFileSync(file, plant(source, fault));
      }
      return await work();
    } finally {
      for (const [file, source] of sources) fs.writeFileSync(file, source);
    }
  }

  /** What the compiler says against the copy, by line; empty if nothing. What a fault leaves unused is no mistake. */
  async typeErrors(): Promise<string[]> {
    const options = ['--noEmit', '--noUnusedLocals', 'false', '--noUnusedParameters', 'false'];
    const { status, output } = await this.#run('typescript/bin/tsc', ['-p', 'tsconfig.json', ...options]);
    // What explains an error stands indented behind it.
    return status === 0 ? [] : output.split('\n').filter((line) => /^\S/.test(line));
  }

  /** Runs test files until the first failure. */
  async test(files: readonly string[]): Promise<TestRun> {
    const report = path.join(this.#directory, 'tmp', 'report.json');
    fs.rmSync(report, { force: true });
    const options = ['--bail=1', '--no-cache', `--testTimeout=${TEST_MS_MAX}`];
    const reporting = ['--reporter=json', `--outputFile=${report}`];
    const args = ['run', ...options, ...reporting, ...files];
    const { status, output } = await this.#run('vitest/vitest.mjs', args);
    if (status === undefined) return { failed: ['(the tests do not end)'], broken: undefined };
    if (!fs.existsSync(report)) return { failed: [], broken: output.slice(-2000) };
    const { testResults } = JSON.parse(fs.readFileSync(report, 'utf8')) as JsonReport;
    const tests = testResults.flatMap((file) => file.assertionResults);
    const failed = tests.filter((test) => test.status === 'failed').map((test) => test.fullName);
    const unloaded = testResults.find(
      (file) => file.status === 'failed' && file.assertionResults.length === 0,
    );
    if (failed.length === 0 && unloaded !== undefined) return { failed, broken: unloaded.message };
    if (failed.length === 0 && status !== 0)
      return { failed: ['(an error that no test caught)'], broken: undefined };
    return { failed, broken: undefined };
  }

  /** Runs a program of a package; no status if it had to be ended. */
  #run(program: string, args: readonly string[]): Promise<{ status: number | undefined; output: string }> {
    const { SEED: _seed, ...inherited } = process.env;
    return new Promise((resolve, reject) => {
      // In a group of its own, so that what hangs is ended with all that it has started.
      const child = spawn(process.execPath, [path.join(this.#directory, 'node_modules', program), ...args], {
        cwd: this.#directory,
        detached: true,
        env: { ...inherited, MODEL_STEPS, TMPDIR: path.join(this.#directory, 'tmp') },
        stdio: ['ignore', 'pipe', 'pipe'],
      });
      this.#children.add(child);
      if (this.#isStopped) endGroup(child);
      let output = '';
      let isLate = false;
      const late = setTimeout(() => {
        isLate = true;
        endGroup(child);
      }, TESTS_MS_MAX);
      for (const stream of [child.stdout, child.stderr]) {
        stream.on('data', (bytes: Buffer) => {
          output = (output + bytes.toString()).slice(-100_000);
        });
      }
      child.on('error', reject);
      child.on('close', (status) => {
        clearTimeout(late);
        this.#children.delete(child);
        resolve({ status: isLate ? undefined : (status ?? -1), output });
      });
    });
  }

  /** Ends what runs, and removes the copy. */
  remove(): void {
    this.#isStopped = true;
    for (const child of this.#children) endGroup(child);
    fs.rmSync(this.#directory, { recursive: true, force: true, maxRetries: 10, retryDelay: 50 });
  }
}

function endGroup(child: ChildProcess): void {
  if (child.pid === undefined) return;
  try {
    process.kill(-child.pid, 'SIGKILL');
  } catch {
    // It has ended by itself.
  }
}
