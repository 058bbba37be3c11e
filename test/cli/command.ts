/**
 * The built `coppice` as a child process, as users run it.
 */

import { type ChildProcess, spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';

const PROGRAMS = path.resolve(import.meta.dirname, '../..').replace(/(\/dist)?$/, '/dist/src/cli');
export const MAIN = path.join(PROGRAMS, 'main.js');
export const START = path.join(PROGRAMS, 'start.js');

export interface Ended {
  code: number | null;
  signal: NodeJS.Signals | null;
  out: string;
  bytes: Buffer;
  err: string;
}

export interface RunOptions {
  cwd?: string;
  input?: Buffer | string;
  env?: Record<string, string>;
  nodeArgs?: string[];
}

/** What a failed test leaves running ends with the tests. */
const children = new Set<ChildProcess>();
process.on('exit', () => {
  for (const child of children) child.kill('SIGKILL');
});

/** A program that runs: what it has printed so far, and its end. */
export class Running {
  readonly child: ChildProcess;
  readonly ended: Promise<Ended>;
  #out: Buffer[] = [];
  #err = '';

  constructor(program: string, args: readonly string[], options: RunOptions = {}) {
    if (!fs.existsSync(program)) throw new Error(`${program} is missing: run npm run build first`);
    const { COPPICE_STORE: _store, COPPICE_PORT: _port, ...env } = process.env;
    this.child = spawn(process.execPath, [...(options.nodeArgs ?? []), program, ...args], {
      cwd: options.cwd,
      env: { ...env, ...options.env },
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    children.add(this.child);
    this.child.stdin!.on('error', () => undefined);
    this.child.stdout!.on('data', (piece: Buffer) => this.#out.push(piece));
    this.child.stderr!.setEncoding('utf8').on('data', (text: string) => {
      this.#err += text;
    });
    this.ended = new Promise((resolve, reject) => {
      this.child.once('error', reject);
      this.child.once('close', (code, signal) => {
        children.delete(this.child);
        resolve({ code, signal, out: this.out, bytes: Buffer.concat(this.#out), err: this.#err });
      });
    });
  }

  get out(): string {
    return Buffer.concat(this.#out).toString('utf8');
  }

  get err(): string {
    return this.#err;
  }

  async until(condition: () => boolean, what: string): Promise<void> {
    const deadline = performance.now() + 30_000;
    while (!condition()) {
      const { exitCode, signalCode } = this.child;
      if (exitCode !== null || signalCode !== null || performance.now() > deadline) {
        throw new Error(`waiting for ${what}: exit code ${exitCode}\n${this.out}\n${this.err}`);
      }
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }
}

/** Runs `coppice` to its end. */
export async function run(args: readonly string[], options: RunOptions = {}): Promise<Ended> {
  const running = new Running(MAIN, args, options);
  running.child.stdin!.end(options.input ?? '');
  return await running.ended;
}

/** Runs `coppice` on a store; throws unless it ends with 0. */
export async function ok(store: string, args: readonly string[], options: RunOptions = {}): Promise<string> {
  const { code, out, err } = await run(['--store', store, ...args], options);
  if (code !== 0) throw new Error(`coppice ${args.join(' ')} ended with ${code}: ${err}`);
  return out;
}

/** Starts `coppice serve` and waits until it serves; a store without volumes prints nothing. */
export async function serve(
  store: string,
  args: readonly string[] = [],
  options: RunOptions = {},
): Promise<Running> {
  const server = new Running(MAIN, ['--store', store, 'serve', ...args], options);
  await server.until(() => server.err.includes('"serving"'), 'the server');
  return server;
}

/** Ends a server as users do; answers how it ended and how long that took. */
export async function stop(
  server: Running,
  signal: NodeJS.Signals = 'SIGTERM',
): Promise<Ended & { tookMs: number }> {
  const startedAt = performance.now();
  server.child.kill(signal);
  const ended = await server.ended;
  return { ...ended, tookMs: performance.now() - startedAt };
}
