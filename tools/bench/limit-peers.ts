// What bounds a server: nbdkit, which does little more than the protocol, and files without any server.

import { open } from 'node:fs/promises';
import path from 'node:path';
import { runCommand } from './children.ts';
import type { Peer, PeerName, Place, Server, Target } from './peer.ts';
import { makeSparse, ServedVolumes, socketOf, uriOf } from './served-volumes.ts';
import { ServerProcess } from './server-process.ts';

const COPY_TIMEOUT_MS = 20 * 60_000;

type Plugin = 'file' | 'memory' | 'null';

export class Nbdkit implements Peer {
  readonly name: PeerName;
  readonly title: string;
  readonly tools = ['nbdkit'];
  readonly snapshotsMax = 0;
  readonly snapshotsAtStart = 0;
  readonly keepsBytes: boolean;
  readonly #plugin: Plugin;

  constructor(plugin: Plugin) {
    this.name = `nbdkit-${plugin}`;
    this.title = `nbdkit with its plugin "${plugin}"`;
    this.keepsBytes = plugin !== 'null';
    this.#plugin = plugin;
  }

  async start(place: Place): Promise<Server> {
    const volumes = await ServedVolumes.start(place, async (directory, volume) => {
      const socket = socketOf(directory, volume);
      const what =
        this.#plugin === 'file'
          ? await makeSparse(path.join(directory, `bench${volume}.raw`), place.volumeBytes)
          : String(place.volumeBytes);
      const process = new ServerProcess(directory, 'nbdkit', ['-f', '-U', socket, this.#plugin, what]);
      await process.waitForSocket(socket);
      return { uri: uriOf('', socket), process };
    });
    return new ServedVolumes(place.directory, volumes);
  }
}

/** fio, cp and QEMU on a file, in the place of a server's client. */
export class PlainFile implements Peer {
  readonly name = 'file';
  readonly title = 'a file, without a server';
  readonly tools = ['cp', 'sync'];
  readonly snapshotsMax = 0;
  readonly snapshotsAtStart = 0;
  readonly keepsBytes = true;

  async start({ directory, volumeBytes }: Place): Promise<Server> {
    const file = await makeSparse(path.join(directory, 'bench.raw'), volumeBytes);
    const target: Target = { kind: 'file', path: file };
    return {
      targets: [target],
      pids: [],
      home: directory,
      snapshot: () => Promise.reject(new Error('a file has no snapshots')),
      importImage: (image) => copySynced(image, file),
      exportImage: (to) => copySynced(file, to),
      branch: () => Promise.resolve(target),
      stop: () => Promise.resolve(),
    };
  }
}

async function copySynced(from: string, to: string): Promise<void> {
  await runCommand('cp', ['--reflink=never', from, to], { timeoutMs: COPY_TIMEOUT_MS });
  const handle = await open(to, 'r+');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
