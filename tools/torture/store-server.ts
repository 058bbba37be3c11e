/**
 * The built `coppice` on a store: its commands, and a server that is killed and started again.
 *
 * Invariant: nothing is waited for longer than its time.
 */

import fs from 'node:fs';
import path from 'node:path';
import { ControlClient } from '../../src/server/control-client.ts';
import type { Finding } from '../../src/volume/summary.ts';
import { type Cleanup, type Outcome, Program, runTool, tail } from '../../test/support/programs.ts';

/** This file is run as it is by tests, and from dist by `npm run torture`. */
const MAIN = ['../../src/cli/main.js', '../../dist/src/cli/main.js']
  .map((file) => path.resolve(import.meta.dirname, file))
  .find((file) => fs.existsSync(file));
const START_MS_MAX = 60_000;
const COMMAND_MS_MAX = 120_000;

export interface Surroundings {
  /** A program that runs `coppice` instead of it being run as it is: its name and its arguments. */
  under?: readonly string[];
  env?: Record<string, string>;
}

export class StoreServer {
  readonly directory: string;
  #server: Program | undefined;

  constructor(cleanup: Cleanup, directory: string) {
    this.directory = directory;
    cleanup.add(() => this.kill());
  }

  /** Runs a command to its end. @throws Error if it takes too long */
  async run(args: readonly string[], { under = [], env = {} }: Surroundings = {}): Promise<Outcome> {
    const [program, ...rest] = [...under, ...this.#command(args)];
    return await runTool(program!, rest, { env, waitMs: COMMAND_MS_MAX });
  }

  /** Runs a command that must end with 0; answers what it printed. */
  async coppice(...args: string[]): Promise<string> {
    const { result, output } = await this.run(args);
    if (result !== 0) throw new Error(`coppice ${args.join(' ')} ended with ${result}: ${tail(output)}`);
    return output;
  }

  /** What fsck finds that is damage. @throws Error if it cannot check, or its exit code says something else */
  async damage(): Promise<Finding[]> {
    const { result, output } = await this.run(['--json', 'fsck']);
    if (result !== 0 && result !== 4) throw new Error(`fsck ended with ${result}: ${tail(output)}`);
    const damage = (JSON.parse(output) as Finding[]).filter(({ severity }) => severity === 'damage');
    if (damage.length > 0 !== (result === 4)) throw new Error(`fsck ended with ${result}: ${tail(output)}`);
    return damage;
  }

  #command(args: readonly string[]): string[] {
    if (MAIN === undefined) throw new Error('coppice is not built: run npm run build first');
    return [process.execPath, MAIN, '--store', this.directory, ...args];
  }

  /** Starts serving; it may end before it serves. */
  launch({ under = [], env = {} }: Surroundings = {}): Program {
    const [program, ...rest] = [...under, ...this.#command(['serve'])];
    this.#server = new Program(program!, rest, { env });
    return this.#server;
  }

  /** Starts serving, and waits until it does. @throws Error if it does not */
  async start(surroundings?: Surroundings): Promise<void> {
    const server = this.launch(surroundings);
    await server.until(() => server.output.includes('"serving"'), 'service', START_MS_MAX);
  }

  /** What the server has printed and logged, until the next one is started. */
  get log(): string {
    return this.#server?.output ?? '';
  }

  /** Undefined while it runs. */
  get result(): number | string | undefined {
    return this.#server === undefined ? 'never started' : this.#server.result;
  }

  /** As a crash does. */
  async kill(): Promise<void> {
    await this.#server?.kill();
  }

  /** As users do; answers how it ended. */
  async stop(): Promise<number | string> {
    const server = this.#server!;
    await server.kill('SIGTERM', 20_000);
    if (server.result !== undefined) return server.result;
    await server.kill();
    throw new Error(`the server did not stop\n${tail(server.output)}`);
  }

  get nbdSocket(): string {
    return path.join(this.directory, 'nbd.sock');
  }

  /** The control server. @throws Error if there is none */
  async control(): Promise<ControlClient> {
    const client = await ControlClient.connect(path.join(this.directory, 'control.sock'));
    if (client === undefined) {
      throw new Error(
        `nobody listens on the control socket; the server: ${this.result ?? 'runs'}\n${tail(this.log)}`,
      );
    }
    return client;
  }
}
