// Coppice itself, with the options of `coppice serve` or without compaction.
//
// A client stays on each volume between runs, as a machine would: with its last client a volume gives up the pointers that
// it has in memory, and every run of fio would begin by reading them again.

import { existsSync } from 'node:fs';
import path from 'node:path';
import { ControlClient } from '../../src/server/control-client.ts';
import { NbdClient } from '../torture/nbd-client.ts';
import { runCommand } from './children.ts';
import type { Peer, PeerName, Place, Server, Target } from './peer.ts';
import { uriOf } from './served-volumes.ts';
import { ServerProcess } from './server-process.ts';

const COPPICE = path.resolve(import.meta.dirname, '../../src/cli/main.js');
const BENCH = path.resolve(import.meta.dirname, 'main.js');
/** What `main.js` is told to be that server. */
export const SERVE_UNCOMPACTED = 'serve-uncompacted';
const COPY_TIMEOUT_MS = 20 * 60_000;

const exportOf = (volume: number): string => `bench${volume}`;

export class Coppice implements Peer {
  readonly name: PeerName;
  readonly title: string;
  readonly tools = [];
  readonly snapshotsMax = Number.POSITIVE_INFINITY;
  readonly snapshotsAtStart = 0;
  readonly keepsBytes = true;
  readonly variantOf: PeerName = 'coppice';
  readonly #serve: readonly string[];
  readonly #compacts: boolean;

  /** `serve` are options of `coppice serve`. */
  constructor(
    name: PeerName,
    title: string,
    options: { serve?: readonly string[]; compacts?: boolean } = {},
  ) {
    this.name = name;
    this.title = title;
    this.#serve = options.serve ?? [];
    this.#compacts = options.compacts ?? true;
  }

  missing(): string | undefined {
    return existsSync(COPPICE) ? undefined : `${COPPICE} is not there: run "npm run build"`;
  }

  start(place: Place): Promise<CoppiceServer> {
    return CoppiceServer.start(place, this.#serve, this.#compacts);
  }
}

export class CoppiceServer implements Server {
  readonly targets: readonly Target[];
  readonly home: string;
  readonly #store: string;
  readonly #process: ServerProcess;
  readonly #control: ControlClient;
  readonly #residents: NbdClient[] = [];
  readonly #socket: string;

  private constructor(place: Place, store: string, process: ServerProcess, control: ControlClient) {
    this.home = place.directory;
    this.#store = store;
    this.#process = process;
    this.#control = control;
    this.#socket = path.join(store, 'nbd.sock');
    this.targets = Array.from({ length: place.volumeCount }, (_, volume) => this.#target(exportOf(volume)));
  }

  static async start(place: Place, options: readonly string[], compacts = true): Promise<CoppiceServer> {
    const store = path.join(place.directory, 'store');
    await coppice(store, 'init');
    for (let volume = 0; volume < place.volumeCount; volume++)
      await coppice(store, 'create', exportOf(volume), '--size', String(place.volumeBytes));
    const args = compacts
      ? [COPPICE, '--store', store, 'serve', ...options]
      : [BENCH, SERVE_UNCOMPACTED, store];
    const process = new ServerProcess(place.directory, globalThis.process.execPath, args);
    await process.waitForSocket(path.join(store, 'nbd.sock'));
    const control = await ControlClient.connect(path.join(store, 'control.sock'));
    if (control === undefined) throw new Error('the server has no control socket');
    const server = new CoppiceServer(place, store, process, control);
    for (let volume = 0; volume < place.volumeCount; volume++)
      server.#residents.push(await NbdClient.connect(server.#socket, exportOf(volume)));
    return server;
  }

  /** Of the first volume. */
  get uri(): string {
    return uriOf(exportOf(0), this.#socket);
  }

  get pids(): readonly number[] {
    return [this.#process.pid];
  }

  async snapshot(name: string): Promise<void> {
    await this.#control.snapshot([`${exportOf(0)}@${name}`]);
  }

  async importImage(image: string): Promise<void> {
    await coppice(this.#store, 'import', '--force', exportOf(0), image);
  }

  async exportImage(file: string): Promise<void> {
    await coppice(this.#store, 'export', exportOf(0), file);
  }

  async branch(name: string): Promise<Target> {
    await this.snapshot(name);
    await this.#control.clone(`${exportOf(0)}@${name}`, name);
    return this.#target(name);
  }

  async stop(): Promise<void> {
    for (const resident of this.#residents) resident.close();
    await this.#control.close();
    await this.#process.stop();
  }

  #target(exportName: string): Target {
    return { kind: 'nbd', uri: uriOf(exportName, this.#socket) };
  }
}

async function coppice(store: string, ...args: string[]): Promise<void> {
  await runCommand(process.execPath, [COPPICE, '--store', store, ...args], { timeoutMs: COPY_TIMEOUT_MS });
}
