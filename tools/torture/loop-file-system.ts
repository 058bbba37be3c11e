/**
 * A file system of its own, on a loop device over a file: to be filled up, and to lose its power.
 *
 * Invariant: whatever happens, file system and loop device are gone when the Cleanup has run.
 */

import fs from 'node:fs';
import path from 'node:path';
import { type Cleanup, pause, runTool, tool } from '../../test/support/programs.ts';

export type FileSystemKind = 'ext4' | 'xfs';
export const FILE_SYSTEM_KINDS: readonly FileSystemKind[] = ['ext4', 'xfs'];
export const LOOP_TOOLS = ['losetup', 'mount', 'umount', 'mkfs.ext4', 'mkfs.xfs', 'xfs_io'];

const MAKE: Record<FileSystemKind, string[]> = {
  ext4: ['mkfs.ext4', '-q', '-F', '-m', '0', '-E', 'lazy_itable_init=0,lazy_journal_init=0'],
  xfs: ['mkfs.xfs', '-q', '-f'],
};
/** mkfs.xfs makes none that is smaller. */
export const SIZE_BYTES_MIN: Record<FileSystemKind, number> = { ext4: 64 << 20, xfs: 300 << 20 };
const STEP_MS = 30_000;
const TRIES = 100;
const RETRY_MS = 50;

/** What keeps this machine from mounting file systems, if anything does. */
export function missingForLoops(): string[] {
  const missing = process.getuid?.() === 0 ? [] : ['the rights of root'];
  return fs.existsSync('/dev/loop-control') ? missing : [...missing, '/dev/loop-control'];
}

export class LoopFileSystem {
  /** Where it is mounted. */
  readonly directory: string;
  readonly kind: FileSystemKind;
  readonly #file: string;
  #device: string | undefined;
  #isMounted = false;

  private constructor(file: string, directory: string, kind: FileSystemKind) {
    this.#file = file;
    this.directory = directory;
    this.kind = kind;
  }

  /** Makes a file system below `scratch`, and mounts it. `over` is the file to make it on, if that is there. */
  static async make(
    cleanup: Cleanup,
    scratch: string,
    kind: FileSystemKind,
    sizeBytes: number,
    over?: string,
  ): Promise<LoopFileSystem> {
    const directory = path.join(scratch, 'mounted');
    fs.mkdirSync(directory, { recursive: true });
    const file = over ?? path.join(scratch, 'disk');
    if (over === undefined) {
      fs.writeFileSync(file, '');
      fs.truncateSync(file, sizeBytes);
    }
    const made = new LoopFileSystem(file, directory, kind);
    cleanup.add(() => made.detach());
    await made.#attach();
    await made.mount();
    return made;
  }

  async #attach(): Promise<void> {
    this.#device = (await tool('losetup', ['--find', '--show', this.#file], { waitMs: STEP_MS })).trim();
    const [program, ...options] = MAKE[this.kind];
    await tool(program!, [...options, this.#device], { waitMs: STEP_MS });
  }

  async mount(): Promise<void> {
    await tool('mount', ['-t', this.kind, this.#device!, this.directory], { waitMs: STEP_MS });
    this.#isMounted = true;
  }

  /**
   * From now on nothing reaches the disk, whoever asks; what was not synced is gone when it is mounted again. With
   * `flushesJournal` the file system gets to write down what it was doing, which is not what programs have written.
   */
  async cutPower(flushesJournal: boolean): Promise<void> {
    const command = flushesJournal ? 'shutdown -f' : 'shutdown';
    await tool('xfs_io', ['-x', '-c', command, this.directory], { waitMs: STEP_MS });
  }

  /** Waits for those who have files open. */
  async unmount(): Promise<void> {
    for (let tries = 1; this.#isMounted; tries++) {
      const { result, output } = await runTool('umount', [this.directory], { waitMs: STEP_MS });
      if (result === 0) this.#isMounted = false;
      else if (tries === TRIES) throw new Error(`umount: ${output}`);
      else await pause(RETRY_MS);
    }
  }

  /** Power is back. */
  async remount(): Promise<void> {
    await this.unmount();
    await this.mount();
  }

  /** Takes everything away that is still there, by force if need be. */
  async detach(): Promise<void> {
    if (this.#isMounted) {
      await this.unmount().catch(() => runTool('umount', ['-l', this.directory], { waitMs: STEP_MS }));
      this.#isMounted = false;
    }
    if (this.#device === undefined) return;
    const device = this.#device;
    this.#device = undefined;
    await tool('losetup', ['--detach', device], { waitMs: STEP_MS });
  }
}
