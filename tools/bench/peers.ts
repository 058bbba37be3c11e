// The servers that are compared: how each makes its volume, is started, and takes a snapshot.

import { existsSync } from 'node:fs';
import { truncate, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { runCommand } from './children.ts';
import { ServerProcess } from './server-process.ts';
import { missingTool } from './tools.ts';

export const PEER_NAMES = ['coppice', 'qemu-raw', 'qemu-qcow2', 'nbdkit'] as const;
export type PeerName = (typeof PEER_NAMES)[number];

/** A served volume. */
export interface Server {
  readonly uri: string;
  readonly pid: number;
  snapshot(name: string): Promise<void>;
  stop(): Promise<void>;
}

export interface Peer {
  readonly name: PeerName;
  /** What has to be in PATH, besides fio. */
  readonly tools: readonly string[];
  /** Snapshots the peer is measured at. */
  readonly snapshotsMax: number;
  /** Makes an empty volume in `directory`, which is empty and its own, and serves it. */
  start(directory: string, volumeBytes: number): Promise<Server>;
}

const EXPORT = 'bench';
const SOCKET = 'nbd.sock';
const COPPICE = path.resolve(import.meta.dirname, '../../src/cli/main.js');

/** Makes a store with one volume in `directory` and serves it, on a Unix socket; `options` are of `coppice serve`. */
export async function startCoppice(
  directory: string,
  volumeBytes: number,
  options: readonly string[] = [],
): Promise<Server> {
  const store = path.join(directory, 'store');
  const args = (...rest: string[]): string[] => [COPPICE, '--store', store, ...rest];
  await runCommand(process.execPath, args('init'));
  await runCommand(process.execPath, args('create', EXPORT, '--size', String(volumeBytes)));
  const server = new ServerProcess(directory, process.execPath, args('serve', ...options));
  // It is ready when it prints the URIs of its listeners; the log goes to stderr.
  const uri = await server.waitForLine(
    (line) => line.startsWith('nbd+unix:') && line.includes(`/${EXPORT}?`),
  );
  return {
    uri,
    get pid() {
      return server.pid;
    },
    snapshot: async (name) => {
      await runCommand(process.execPath, args('snapshot', `${EXPORT}@${name}`));
    },
    stop: () => server.stop(),
  };
}

const coppice: Peer = {
  name: 'coppice',
  tools: [],
  snapshotsMax: Number.POSITIVE_INFINITY,
  start: (directory, volumeBytes) => startCoppice(directory, volumeBytes),
};

const qemuRaw: Peer = {
  name: 'qemu-raw',
  tools: ['qemu-nbd'],
  snapshotsMax: 0,
  async start(directory, volumeBytes) {
    const image = await sparseFile(directory, volumeBytes);
    const server = await startQemuNbd(directory, image, 'raw');
    return withoutSnapshots(server, directory);
  },
};

const qemuQcow2: Peer = {
  name: 'qemu-qcow2',
  tools: ['qemu-nbd', 'qemu-img'],
  // More would need a restart of the server for each of them.
  snapshotsMax: 1,
  async start(directory, volumeBytes) {
    const image = path.join(directory, 'bench.qcow2');
    await runCommand('qemu-img', ['create', '-q', '-f', 'qcow2', image, String(volumeBytes)]);
    let server = await startQemuNbd(directory, image, 'qcow2');
    return {
      uri: uriOf(directory),
      get pid() {
        return server.pid;
      },
      // qemu-nbd has no command for an internal snapshot, and qemu-img wants the image to itself.
      snapshot: async (name) => {
        await server.stop();
        await runCommand('qemu-img', ['snapshot', '-c', name, image]);
        server = await startQemuNbd(directory, image, 'qcow2');
      },
      stop: () => server.stop(),
    };
  },
};

const nbdkit: Peer = {
  name: 'nbdkit',
  tools: ['nbdkit'],
  snapshotsMax: 0,
  async start(directory, volumeBytes) {
    const image = await sparseFile(directory, volumeBytes);
    const socket = path.join(directory, SOCKET);
    const server = new ServerProcess(directory, 'nbdkit', ['-f', '-U', socket, 'file', image]);
    await server.waitForSocket(socket);
    return withoutSnapshots(server, directory);
  },
};

export const PEERS: readonly Peer[] = [coppice, qemuRaw, qemuQcow2, nbdkit];

/** Says what is missing for a peer to be measured, in one line, or undefined when nothing is. */
export function missingFor(peer: Peer): string | undefined {
  if (peer.name === 'coppice' && !existsSync(COPPICE)) {
    return `${COPPICE} is not there: run "npm run build"`;
  }
  return peer.tools.map(missingTool).find((message) => message !== undefined);
}

async function startQemuNbd(directory: string, image: string, format: string): Promise<ServerProcess> {
  const socket = path.join(directory, SOCKET);
  const caching = ['--cache=writeback', '--aio=threads', '--discard=unmap'];
  const serving = ['-k', socket, '-t', '-e', '8', '-x', EXPORT];
  const server = new ServerProcess(directory, 'qemu-nbd', ['-f', format, ...caching, ...serving, image]);
  await server.waitForSocket(socket);
  return server;
}

function withoutSnapshots(server: ServerProcess, directory: string): Server {
  return {
    uri: uriOf(directory),
    pid: server.pid,
    snapshot: () => Promise.reject(new Error('this peer has no snapshots')),
    stop: () => server.stop(),
  };
}

async function sparseFile(directory: string, bytes: number): Promise<string> {
  const file = path.join(directory, 'bench.raw');
  await writeFile(file, '');
  await truncate(file, bytes);
  return file;
}

function uriOf(directory: string): string {
  return `nbd+unix:///${EXPORT}?socket=${encodeURI(path.join(directory, SOCKET))}`;
}
