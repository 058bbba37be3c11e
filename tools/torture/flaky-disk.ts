/**
 * A disk that fails on demand: nbdkit's memory with its error filter, as a file by nbdfuse, for a loop device to lie on.
 *
 * Invariant: when the Cleanup has run, the programs are gone and so is the mount.
 */

import fs from 'node:fs';
import path from 'node:path';
import { type Cleanup, Program, runTool } from '../../test/support/programs.ts';

export const FLAKY_TOOLS = ['nbdkit', 'nbdfuse', 'fusermount3'];
const START_MS_MAX = 20_000;
const STEP_MS = 20_000;

export class FlakyDisk {
  /** The disk as a file. */
  readonly file: string;
  readonly #readsFail: string;
  readonly #writesFail: string;

  private constructor(scratch: string) {
    this.file = path.join(scratch, 'fuse', 'disk');
    this.#readsFail = path.join(scratch, 'reads-fail');
    this.#writesFail = path.join(scratch, 'writes-fail');
  }

  static async make(cleanup: Cleanup, scratch: string, sizeBytes: number): Promise<FlakyDisk> {
    const made = new FlakyDisk(scratch);
    const socket = path.join(scratch, 'nbdkit.sock');
    const fuse = path.dirname(made.file);
    fs.mkdirSync(fuse);
    const when = (call: string, file: string): string[] => [
      `error-${call}=EIO`,
      `error-${call}-rate=100%`,
      `error-${call}-file=${file}`,
    ];
    const nbdkit = new Program('nbdkit', [
      '-f',
      '-U',
      socket,
      '--filter=error',
      'memory',
      String(sizeBytes),
      ...when('pread', made.#readsFail),
      ...when('pwrite', made.#writesFail),
    ]);
    cleanup.add(() => nbdkit.kill());
    await nbdkit.until(() => fs.existsSync(socket), 'socket', START_MS_MAX);
    const pidFile = path.join(scratch, 'nbdfuse.pid');
    const nbdfuse = new Program('nbdfuse', ['-P', pidFile, made.file, `nbd+unix:///?socket=${socket}`]);
    cleanup.add(async () => {
      made.work();
      await runTool('fusermount3', ['-u', '-z', fuse], { waitMs: STEP_MS });
      await nbdfuse.kill();
    });
    await nbdfuse.until(() => fs.existsSync(pidFile), 'file to appear', START_MS_MAX);
    return made;
  }

  failWrites(): void {
    fs.writeFileSync(this.#writesFail, '');
  }

  failReads(): void {
    fs.writeFileSync(this.#readsFail, '');
  }

  /** From now on nothing fails. */
  work(): void {
    for (const file of [this.#readsFail, this.#writesFail]) fs.rmSync(file, { force: true });
  }
}
