/**
 * A served volume as a mounted file system: nbdfuse makes it a file, a loop device makes that a disk.
 *
 * Invariant: no step waits for ever. When the server is gone, nbdfuse is killed first: then whatever hangs in the
 * kernel gets an error, and all that is above it can be taken away.
 */

import fs from 'node:fs';
import path from 'node:path';
import { type Cleanup, pause, Program, runTool, tail, tool } from './programs.ts';

export const MOUNT_TOOLS = ['nbdfuse', 'fusermount3', 'losetup', 'mount', 'umount'];
const STEP_MS = 30_000;
const TRIES = 50;
const RETRY_MS = 200;

/** What keeps this machine from mounting file systems, if anything does. */
export function missingForMounts(): string[] {
  const missing: string[] = [];
  if (process.getuid?.() !== 0) missing.push('the rights of root');
  for (const device of ['/dev/fuse', '/dev/loop-control']) if (!fs.existsSync(device)) missing.push(device);
  return missing;
}

export class NbdMount {
  /** Where the file system is mounted. */
  readonly directory: string;
  readonly #fuseDirectory: string;
  readonly #fuse: Program;
  #device: string | undefined;
  #isMounted = false;

  private constructor(uri: string, directory: string) {
    this.directory = path.join(directory, 'mounted');
    this.#fuseDirectory = path.join(directory, 'fuse');
    fs.mkdirSync(this.directory, { recursive: true });
    fs.mkdirSync(this.#fuseDirectory);
    const pidFile = path.join(directory, 'pid');
    this.#fuse = new Program('nbdfuse', ['-P', pidFile, path.join(this.#fuseDirectory, 'disk'), uri]);
  }

  /** The volume as a loop device; `directory` must not exist, and is scratch. */
  static async attach(cleanup: Cleanup, uri: string, directory: string): Promise<NbdMount> {
    const made = new NbdMount(uri, directory);
    cleanup.add(() => made.abandon());
    await made.#fuse.until(() => fs.existsSync(path.join(directory, 'pid')), 'file to appear', STEP_MS);
    const device = await tool('losetup', ['--find', '--show', path.join(made.#fuseDirectory, 'disk')]);
    made.#device = device.trim();
    return made;
  }

  /** As attach, and mounts it: whatever is in its journal is replayed. */
  static async mount(cleanup: Cleanup, uri: string, directory: string): Promise<NbdMount> {
    const made = await NbdMount.attach(cleanup, uri, directory);
    await made.mount();
    return made;
  }

  get device(): string {
    if (this.#device === undefined) throw new Error('detached');
    return this.#device;
  }

  async mount(fileSystem = 'ext4'): Promise<void> {
    await tool('mount', ['-t', fileSystem, this.device, this.directory], { waitMs: STEP_MS });
    this.#isMounted = true;
  }

  /** Everything written so far is on the volume, flushed. */
  async sync(): Promise<void> {
    await tool('sync', ['--file-system', this.directory]);
  }

  async unmount(): Promise<void> {
    await tool('umount', [this.directory], { waitMs: STEP_MS });
    this.#isMounted = false;
  }

  /** Takes everything away, in order. */
  async detach(): Promise<void> {
    if (this.#isMounted) await this.unmount();
    await this.#detachDevice();
    for (let tries = 1; ; tries++) {
      const { result, output } = await runTool('fusermount3', ['-u', this.#fuseDirectory], {
        waitMs: STEP_MS,
      });
      if (result === 0) break;
      // The loop device may be let go of a little later.
      if (tries === TRIES) throw new Error(`fusermount3 -u: ${output}`);
      await pause(RETRY_MS);
    }
    if (!(await this.#fuse.endsWithin(STEP_MS)) || this.#fuse.result !== 0) {
      throw new Error(`nbdfuse ended with ${this.#fuse.result}\n${tail(this.#fuse.output)}`);
    }
  }

  /** Takes everything away that is still there, by force: the server may be gone. */
  async abandon(): Promise<void> {
    await this.#fuse.kill();
    if (this.#isMounted) {
      const quiet = { waitMs: STEP_MS };
      const unmounted = await runTool('umount', [this.directory], quiet).catch(() => undefined);
      if (unmounted?.result !== 0) await runTool('umount', ['-l', this.directory], quiet);
      this.#isMounted = false;
    }
    await this.#detachDevice();
    await runTool('fusermount3', ['-u', '-z', this.#fuseDirectory], { waitMs: STEP_MS });
  }

  async #detachDevice(): Promise<void> {
    if (this.#device === undefined) return;
    const device = this.#device;
    this.#device = undefined;
    await tool('losetup', ['--detach', device], { waitMs: STEP_MS });
  }
}
