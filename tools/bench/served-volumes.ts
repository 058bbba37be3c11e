// A server without anything beside reads and writes, a process for each volume: qemu-nbd, nbdkit.

import path from 'node:path';
import { truncate, writeFile } from 'node:fs/promises';
import { runCommand } from './children.ts';
import type { Place, Server, Target } from './peer.ts';
import type { ServerProcess } from './server-process.ts';

const COPY_TIMEOUT_MS = 20 * 60_000;

export interface ServedVolume {
  readonly uri: string;
  readonly process: ServerProcess;
}

export class ServedVolumes implements Server {
  readonly home: string;
  readonly #volumes: ServedVolume[];

  constructor(home: string, volumes: readonly ServedVolume[]) {
    this.home = home;
    this.#volumes = [...volumes];
  }

  /** Starts one after the other; if one fails, those before it are stopped. */
  static async start(
    place: Place,
    serve: (directory: string, volume: number) => Promise<ServedVolume>,
  ): Promise<ServedVolume[]> {
    const volumes: ServedVolume[] = [];
    try {
      for (let volume = 0; volume < place.volumeCount; volume++)
        volumes.push(await serve(place.directory, volume));
      return volumes;
    } catch (error) {
      for (const { process } of volumes) await process.stop();
      throw error;
    }
  }

  get targets(): readonly Target[] {
    return this.#volumes.map(({ uri }) => ({ kind: 'nbd', uri }));
  }

  get pids(): readonly number[] {
    return this.#volumes.map(({ process }) => process.pid);
  }

  snapshot(_name: string): Promise<void> {
    return Promise.reject(new Error('this peer has no snapshots'));
  }

  async importImage(image: string): Promise<void> {
    await runCommand('nbdcopy', ['--flush', image, this.#first().uri], { timeoutMs: COPY_TIMEOUT_MS });
  }

  async exportImage(file: string): Promise<void> {
    await runCommand('nbdcopy', ['--flush', this.#first().uri, file], { timeoutMs: COPY_TIMEOUT_MS });
  }

  branch(_name: string): Promise<Target> {
    return Promise.resolve({ kind: 'nbd', uri: this.#first().uri });
  }

  /** Does `change` to the first volume while nobody serves it. */
  protected async whileStopped(
    change: () => Promise<ServedVolume>,
    work: () => Promise<void>,
  ): Promise<void> {
    await this.#first().process.stop();
    await work();
    this.#volumes[0] = await change();
  }

  async stop(): Promise<void> {
    for (const { process } of this.#volumes) await process.stop();
  }

  #first(): ServedVolume {
    const first = this.#volumes[0];
    if (first === undefined) throw new Error('no volume is served');
    return first;
  }
}

export const socketOf = (directory: string, volume: number): string =>
  path.join(directory, `nbd${volume}.sock`);

export const uriOf = (exportName: string, socket: string): string =>
  `nbd+unix:///${exportName}?socket=${encodeURI(socket)}`;

/** A file that reads as zeros and takes no space. */
export async function makeSparse(file: string, bytes: number): Promise<string> {
  await writeFile(file, '');
  await truncate(file, bytes);
  return file;
}
