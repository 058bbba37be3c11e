// qemu-nbd: over a raw file, over qcow2 with internal snapshots, over chains of overlays, and over a raw file on XFS
// whose snapshots are copies that share its extents.
//
// Each with a writeback cache, so that a flush is an fdatasync of the file and nothing else is.

import path from 'node:path';
import { Cleanup } from '../../test/support/programs.ts';
import { LOOP_TOOLS, LoopFileSystem, missingForLoops } from '../torture/loop-file-system.ts';
import { runCommand } from './children.ts';
import type { Peer, PeerName, Place, Server } from './peer.ts';
import { makeSparse, type ServedVolume, ServedVolumes, socketOf, uriOf } from './served-volumes.ts';
import { ServerProcess } from './server-process.ts';

const EXPORT = 'bench';
const CLIENTS_MAX = 64;
/** Of the file system on XFS: the volume, all of it again behind a snapshot, and a log. */
const XFS_BYTES = (volumeBytes: number): number => 2.5 * volumeBytes + 2 ** 29;

interface Image {
  readonly file: string;
  readonly format: 'raw' | 'qcow2';
  readonly l2CacheBytes?: number;
}

async function serve(directory: string, volume: number, image: Image): Promise<ServedVolume> {
  const socket = socketOf(directory, volume);
  const cache = image.l2CacheBytes === undefined ? '' : `,l2-cache-size=${image.l2CacheBytes}`;
  const caching = ['--cache=writeback', '--aio=threads', '--discard=unmap'];
  const serving = ['-k', socket, '-t', '-e', String(CLIENTS_MAX), '-x', EXPORT];
  const opening = `driver=${image.format}${cache},file.driver=file,file.filename=${image.file}`;
  const args = [...caching, ...serving, '--image-opts', opening];
  const process = new ServerProcess(directory, 'qemu-nbd', args);
  await process.waitForSocket(socket);
  return { uri: uriOf(EXPORT, socket), process };
}

export class QemuRaw implements Peer {
  readonly name = 'qemu-raw';
  readonly title = 'qemu-nbd over a raw file';
  readonly tools = ['qemu-nbd'];
  readonly snapshotsMax = 0;
  readonly snapshotsAtStart = 0;
  readonly keepsBytes = true;

  async start(place: Place): Promise<Server> {
    const volumes = await ServedVolumes.start(place, async (directory, volume) => {
      const file = await makeSparse(path.join(directory, `bench${volume}.raw`), place.volumeBytes);
      return await serve(directory, volume, { file, format: 'raw' });
    });
    return new ServedVolumes(place.directory, volumes);
  }
}

async function makeQcow2(file: string, bytes: number): Promise<string> {
  await runCommand('qemu-img', ['create', '-q', '-f', 'qcow2', file, String(bytes)]);
  return file;
}

/** qcow2; a snapshot is an internal one, or an overlay. */
export class QemuQcow2 implements Peer {
  readonly name: PeerName;
  readonly title: string;
  readonly tools = ['qemu-nbd', 'qemu-img'];
  readonly snapshotsMax: number;
  readonly snapshotsAtStart: number;
  readonly keepsBytes = true;
  readonly #l2CacheBytes: number | undefined;

  constructor(name: PeerName, title: string, options: { overlays?: number; l2CacheBytes?: number } = {}) {
    this.name = name;
    this.title = title;
    this.snapshotsAtStart = options.overlays ?? 0;
    // More would need a restart of the server for each of them.
    this.snapshotsMax = options.overlays === undefined ? 1 : options.overlays;
    this.#l2CacheBytes = options.l2CacheBytes;
  }

  async start(place: Place): Promise<Server> {
    const cache = this.#l2CacheBytes === undefined ? {} : { l2CacheBytes: this.#l2CacheBytes };
    const imageOf = (file: string): Image => ({ file, format: 'qcow2', ...cache });
    const files: string[] = [];
    const volumes = await ServedVolumes.start(place, async (directory, volume) => {
      files.push(await makeQcow2(path.join(directory, `bench${volume}.qcow2`), place.volumeBytes));
      return await serve(directory, volume, imageOf(files[volume]!));
    });
    const Served = this.snapshotsAtStart > 0 ? ChainedQcow2 : SnapshottedQcow2;
    return new Served(place.directory, volumes, files[0]!, imageOf);
  }
}

// qemu-nbd has no command for a snapshot, and qemu-img wants the image to itself.
class SnapshottedQcow2 extends ServedVolumes {
  protected file: string;
  protected readonly imageOf: (file: string) => Image;

  constructor(home: string, volumes: ServedVolume[], file: string, imageOf: (file: string) => Image) {
    super(home, volumes);
    this.file = file;
    this.imageOf = imageOf;
  }

  override snapshot(name: string): Promise<void> {
    return this.restarting(async () => {
      await runCommand('qemu-img', ['snapshot', '-c', name, this.file]);
    });
  }

  protected restarting(work: () => Promise<void>): Promise<void> {
    return this.whileStopped(() => serve(this.home, 0, this.imageOf(this.file)), work);
  }
}

class ChainedQcow2 extends SnapshottedQcow2 {
  override snapshot(name: string): Promise<void> {
    return this.restarting(async () => {
      const overlay = path.join(this.home, `${name}.qcow2`);
      await runCommand('qemu-img', ['create', '-q', '-f', 'qcow2', '-F', 'qcow2', '-b', this.file, overlay]);
      this.file = overlay;
    });
  }
}

export class XfsReflink implements Peer {
  readonly name = 'xfs-reflink';
  readonly title = 'qemu-nbd over a raw file on XFS, snapshots by cp --reflink';
  readonly tools = ['qemu-nbd', 'cp', ...LOOP_TOOLS];
  readonly snapshotsMax = 1;
  readonly snapshotsAtStart = 0;
  readonly keepsBytes = true;

  missing(): string | undefined {
    const missing = missingForLoops();
    return missing.length === 0 ? undefined : `it needs ${missing.join(' and ')}`;
  }

  async start({ directory, volumeBytes }: Place): Promise<Server> {
    const cleanup = new Cleanup();
    try {
      const fileSystem = await LoopFileSystem.make(cleanup, directory, 'xfs', XFS_BYTES(volumeBytes));
      const file = await makeSparse(path.join(fileSystem.directory, 'bench.raw'), volumeBytes);
      const volume = await serve(directory, 0, { file, format: 'raw' });
      return new ReflinkedFile(fileSystem.directory, volume, file, cleanup);
    } catch (error) {
      await cleanup.run();
      throw error;
    }
  }
}

class ReflinkedFile extends ServedVolumes {
  readonly #file: string;
  readonly #cleanup: Cleanup;

  constructor(home: string, volume: ServedVolume, file: string, cleanup: Cleanup) {
    super(home, [volume]);
    this.#file = file;
    this.#cleanup = cleanup;
  }

  override async snapshot(name: string): Promise<void> {
    await runCommand('cp', ['--reflink=always', this.#file, path.join(this.home, name)]);
  }

  override async stop(): Promise<void> {
    try {
      await super.stop();
    } finally {
      await this.#cleanup.run();
    }
  }
}
