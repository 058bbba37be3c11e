// One server process, from its start to the moment it answers, and to its end.

import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { connect } from 'node:net';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import { startChild, stopChild } from './children.ts';

const READY_TIMEOUT_MS = 20_000;
const READY_POLL_MS = 20;
const LOG_TAIL_CHARACTERS = 2000;

export class ServerProcess {
  readonly #child: ChildProcess;
  readonly #name: string;
  readonly #logFile: string;
  #failure: Error | undefined;

  /** Starts the server; it logs to a file in `directory`. */
  constructor(directory: string, command: string, args: string[]) {
    this.#name = path.basename(command);
    this.#logFile = path.join(directory, 'server-log.txt');
    const log = openSync(this.#logFile, 'a');
    this.#child = startChild(command, args, ['ignore', 'pipe', log], directory);
    closeSync(log);
    this.#child.once('error', (error) => (this.#failure = error));
  }

  get pid(): number {
    if (this.#child.pid === undefined) throw new Error(`${this.#name} was not started`);
    return this.#child.pid;
  }

  /** Waits for a line on standard output, and lets the rest of the output pass. */
  async waitForLine(isIt: (line: string) => boolean): Promise<string> {
    let found: string | undefined;
    if (this.#child.stdout === null) throw new Error('standard output is not piped');
    createInterface(this.#child.stdout).on('line', (line) => {
      if (found === undefined && isIt(line)) found = line.trim();
    });
    await this.#waitUntil(() => Promise.resolve(found !== undefined));
    return found ?? '';
  }

  /** Waits until a Unix socket accepts a connection. */
  async waitForSocket(socket: string): Promise<void> {
    this.#child.stdout?.resume();
    await this.#waitUntil(() => accepts(socket));
  }

  /** Stops the server. @throws when it had to be killed. */
  async stop(): Promise<void> {
    const end = await stopChild(this.#child);
    if (end === 'killed') throw new Error(`${this.#name} did not stop on SIGTERM and was killed`);
  }

  async #waitUntil(ready: () => Promise<boolean>): Promise<void> {
    const deadline = performance.now() + READY_TIMEOUT_MS;
    while (!(await ready())) {
      if (this.#failure !== undefined) throw this.#failure;
      if (this.#child.exitCode !== null || this.#child.signalCode !== null) {
        throw new Error(`${this.#name} ended before it served: ${this.#logTail()}`);
      }
      if (performance.now() > deadline) {
        throw new Error(
          `${this.#name} does not serve after ${READY_TIMEOUT_MS / 1000} s: ${this.#logTail()}`,
        );
      }
      await delay(READY_POLL_MS);
    }
  }

  #logTail(): string {
    return readFileSync(this.#logFile, 'utf8').trim().slice(-LOG_TAIL_CHARACTERS);
  }
}

async function accepts(socketFile: string): Promise<boolean> {
  const socket = connect(socketFile);
  try {
    await once(socket, 'connect');
    return true;
  } catch {
    return false;
  } finally {
    socket.destroy();
  }
}
