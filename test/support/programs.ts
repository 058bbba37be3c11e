/**
 * Programs that system tests start, each with a time that it may take, and what is to be undone after them.
 *
 * Invariants: every program leads its own process group and is killed with it, at the latest when this process ends;
 * what was added to a Cleanup is undone in reverse order, all of it, even if a part of that fails.
 */

import { type ChildProcess, spawn } from 'node:child_process';
import os from 'node:os';

const OUTPUT_TAIL_CHARACTERS = 6_000;
const POLL_MS = 10;

const running = new Set<ChildProcess>();
process.on('exit', () => {
  for (const child of running) signalGroup(child, 'SIGKILL');
});

export class Cleanup {
  readonly #steps: (() => unknown)[] = [];

  add(step: () => unknown): void {
    this.#steps.push(step);
  }

  /** @throws AggregateError if something could not be undone, after all the rest was */
  async run(): Promise<void> {
    const errors: unknown[] = [];
    for (let step = this.#steps.pop(); step !== undefined; step = this.#steps.pop()) {
      try {
        await step();
      } catch (error) {
        errors.push(error);
      }
    }
    if (errors.length > 0) throw new AggregateError(errors, `cleaning up: ${errors.map(String).join('; ')}`);
  }
}

export interface ProgramOptions {
  /** Where it runs; fio leaves files there. */
  cwd?: string;
  env?: Record<string, string>;
}

/** A program that runs; what it prints on either output is one text. */
export class Program {
  readonly name: string;
  /** The exit code, or the name of the signal. */
  readonly ended: Promise<number | string>;
  /** Undefined while it runs. */
  result: number | string | undefined;
  output = '';
  /** Called with each piece of output. */
  onOutput: (text: string) => void = () => undefined;
  readonly #child: ChildProcess;

  constructor(program: string, args: readonly string[], options: ProgramOptions = {}) {
    this.name = [program, ...args].join(' ');
    const { cwd = os.tmpdir(), env = {} } = options;
    const child = spawn(program, args, { cwd, detached: true, env: { ...process.env, LC_ALL: 'C', ...env } });
    this.#child = child;
    running.add(child);
    child.stdin.on('error', () => undefined);
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8').on('data', (text: string) => {
        this.output += text;
        this.onOutput(text);
      });
    }
    this.ended = new Promise((resolve) => {
      const end = (result: number | string): void => {
        running.delete(child);
        this.result = result;
        resolve(result);
      };
      child.once('error', (error) => end(String(error)));
      child.once('close', (code, signal) => end(code ?? signal!));
    });
  }

  send(text: string): void {
    this.#child.stdin!.write(text);
  }

  endInput(text = ''): void {
    this.#child.stdin!.end(text);
  }

  /** Kills it with all that it started, and waits for its end, but not for ever: a system call may hang. */
  async kill(signal: NodeJS.Signals = 'SIGKILL', waitMs = 5_000): Promise<void> {
    if (this.result !== undefined) return;
    signalGroup(this.#child, signal);
    await this.endsWithin(waitMs);
  }

  async endsWithin(waitMs: number): Promise<boolean> {
    const timeout = new AbortController();
    const late = new Promise<boolean>((resolve) => {
      const timer = setTimeout(() => resolve(false), waitMs);
      timeout.signal.addEventListener('abort', () => clearTimeout(timer), { once: true });
    });
    const inTime = await Promise.race([this.ended.then(() => true), late]);
    timeout.abort();
    return inTime;
  }

  /** Waits for `condition`, which is asked again and again. @throws Error if the program ends or time is up */
  async until(condition: () => boolean | Promise<boolean>, what: string, waitMs = 60_000): Promise<void> {
    const deadline = performance.now() + waitMs;
    while (!(await condition())) {
      if (this.result !== undefined || performance.now() > deadline) {
        const how = this.result === undefined ? `after ${waitMs} ms` : `ended with ${this.result}`;
        throw new Error(`${this.name}: no ${what}, ${how}\n${tail(this.output)}`);
      }
      await pause(POLL_MS);
    }
  }
}

export interface ToolOptions extends ProgramOptions {
  waitMs?: number;
  input?: string;
}

export interface Outcome {
  /** The exit code, or the name of a signal. */
  result: number | string;
  output: string;
}

/** Runs a program to its end. @throws Error if that takes too long */
export async function runTool(
  name: string,
  args: readonly string[],
  options: ToolOptions = {},
): Promise<Outcome> {
  const { waitMs = 90_000, input = '' } = options;
  const program = new Program(name, args, options);
  program.endInput(input);
  if (!(await program.endsWithin(waitMs))) {
    await program.kill();
    throw new Error(`${program.name}: killed after ${waitMs} ms\n${tail(program.output)}`);
  }
  return { result: await program.ended, output: program.output };
}

/** Runs a program that must end with 0; answers what it printed. */
export async function tool(
  name: string,
  args: readonly string[],
  options: ToolOptions = {},
): Promise<string> {
  const { result, output } = await runTool(name, args, options);
  if (result !== 0) throw new Error(`${name} ${args.join(' ')}: ended with ${result}\n${tail(output)}`);
  return output;
}

export function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

export function tail(text: string): string {
  return text.slice(-OUTPUT_TAIL_CHARACTERS);
}

/** As requireTools does for programs: false, loudly, if something that tests need is `missing` on this machine. */
export function requireHere(missing: readonly string[]): boolean {
  if (missing.length === 0) return true;
  const message = `missing: ${missing.join(', ')}`;
  if (process.env.COPPICE_REQUIRE_TOOLS === '1') throw new Error(`${message} (COPPICE_REQUIRE_TOOLS=1)`);
  process.stderr.write(`\n*** TESTS SKIPPED: ${message}. Without it these tests say nothing. ***\n\n`);
  return false;
}

function signalGroup(child: ChildProcess, signal: NodeJS.Signals): void {
  if (child.pid === undefined) return;
  try {
    process.kill(-child.pid, signal);
  } catch {
    // It has ended already.
  }
}
