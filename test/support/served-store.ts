/** A store in a scratch directory and the built server over it, to be killed and started again. */

import fs from 'node:fs';
import path from 'node:path';
import { type Ended, MAIN, ok, run, Running, serve, stop } from '../cli/command.ts';
import { type Cleanup, pause } from './programs.ts';
import { scratchDirectory } from './stores.ts';

export class ServedStore {
  /** Scratch for the test; the store is in it, beside what else is put there. */
  readonly scratch: string;
  readonly directory: string;
  #server: Running | undefined;

  private constructor() {
    this.scratch = scratchDirectory();
    this.directory = path.join(this.scratch, 'store');
  }

  /** An empty store without a server; `cleanup` kills the server and removes everything. */
  static async make(cleanup: Cleanup, initOptions: readonly string[] = []): Promise<ServedStore> {
    const made = new ServedStore();
    cleanup.add(async () => {
      await made.kill();
      fs.rmSync(made.scratch, { recursive: true, force: true });
    });
    await made.coppice('init', ...initOptions);
    return made;
  }

  /** Runs a command on the store; throws unless it ends with 0. */
  async coppice(...args: string[]): Promise<string> {
    return await ok(this.directory, args);
  }

  /** What fsck prints unless the store is clean. */
  async damage(): Promise<string | undefined> {
    const { code, out, err } = await run(['--store', this.directory, 'fsck']);
    return code === 0 ? undefined : `fsck ended with ${code}: ${out}${err}`;
  }

  async start(...args: string[]): Promise<void> {
    this.#server = await serve(this.directory, args);
  }

  /** A start that is cut short: a crash amid recovery. */
  async startAndKill(afterMs: number): Promise<void> {
    this.#server = new Running(MAIN, ['--store', this.directory, 'serve']);
    await pause(afterMs);
    await this.kill();
  }

  /** As a crash does. */
  async kill(): Promise<void> {
    if (this.#server !== undefined) await stop(this.#server, 'SIGKILL');
    this.#server = undefined;
  }

  /** As users do. */
  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<Ended & { tookMs: number }> {
    const ended = await stop(this.#server!, signal);
    this.#server = undefined;
    return ended;
  }

  signal(signal: NodeJS.Signals): void {
    this.#server!.child.kill(signal);
  }

  get pid(): number {
    return this.#server!.child.pid!;
  }

  /** What the server has logged; empty when there is none. */
  get log(): string {
    return this.#server?.err ?? '';
  }

  /** What the server has printed on standard output: URIs. */
  get printed(): string[] {
    return (this.#server?.out ?? '').split('\n').filter((line) => line !== '');
  }

  uri(name: string): string {
    return `nbd+unix:///${name}?socket=${path.join(this.directory, 'nbd.sock')}`;
  }

  file(name: string): string {
    return path.join(this.scratch, name);
  }
}
