// A small Linux machine on a target: how long it takes to boot and read its files, and to unpack and delete a tree.

import { existsSync, mkdirSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { findKernel, GUEST_TOOLS, GuestImages } from '../../test/support/guest.ts';
import { Cleanup } from '../../test/support/programs.ts';
import { Random } from '../compaction/random.ts';
import { runCommand } from './children.ts';
import type { Target } from './peer.ts';
import { GUEST_BYTES } from './stages.ts';
import { makeSparse } from './served-volumes.ts';
import { missingTool } from './tools.ts';

const TREE_SEED = 16;
const TREE_DIRECTORIES = 150;
const TREE_FILES_EACH = 20;
/** Lengths of files are spread evenly by their logarithm, as those of sources nearly are. */
const FILE_BYTES = { least: 2 ** 8, most: 2 ** 16 };

const MAKE_DISK = `
/sbin/mke2fs -q -t ext4 -F /dev/vda
mount -t ext4 /dev/vda /mnt
tar xf /tree.tar -C /mnt
dd if=/dev/urandom of=/mnt/large bs=64k count=512 2>/dev/null
sync
umount /mnt
`;
const READ_DISK = `
mount -t ext4 /dev/vda /mnt
find /mnt -type f | xargs cat > /dev/null
echo booted >> /mnt/mark
sync
umount /mnt
`;
const UNTAR = `
/sbin/mke2fs -q -t ext4 -F /dev/vda
mount -t ext4 /dev/vda /mnt
sync
echo UNTAR BEGINS
tar xf /tree.tar -C /mnt
sync
rm -r /mnt/tree
sync
echo UNTAR ENDS
umount /mnt
`;

export function missingForGuests(): string | undefined {
  const missing = [...GUEST_TOOLS, 'tar', 'nbdcopy']
    .map(missingTool)
    .find((message) => message !== undefined);
  return missing ?? (findKernel() === undefined ? 'linux-image-cloud-amd64 is not installed' : undefined);
}

export class GuestKit {
  readonly #directory: string;
  readonly #images: GuestImages;
  readonly #tree: string;

  constructor(directory: string) {
    this.#directory = path.join(directory, 'guest');
    this.#tree = path.join(this.#directory, 'tree.tar');
    mkdirSync(this.#directory);
    this.#images = new GuestImages(findKernel()!, this.#directory, { 'tree.tar': this.#tree });
  }

  /** An ext4 with a tree of small files and a large one. */
  async disk(): Promise<string> {
    const disk = path.join(this.#directory, 'disk.raw');
    if (existsSync(disk)) return disk;
    await this.#makeTree();
    await makeSparse(disk, GUEST_BYTES);
    await this.#run({ kind: 'file', path: disk }, MAKE_DISK);
    return disk;
  }

  /** Boots from `branch`'s target to power-off; in seconds, `branch` included. */
  async boot(branch: () => Promise<Target>): Promise<number> {
    const began = performance.now();
    await this.#run(await branch(), READ_DISK);
    return (performance.now() - began) / 1000;
  }

  /** In seconds, without the boot. */
  async untar(target: Target): Promise<number> {
    let began = 0;
    let ended = 0;
    await this.#run(target, UNTAR, async (says) => {
      await says(/^UNTAR (BEGINS)$/m);
      began = performance.now();
      await says(/^UNTAR (ENDS)$/m);
      ended = performance.now();
    });
    return (ended - began) / 1000;
  }

  async #run(
    target: Target,
    work: string,
    watch: (says: (pattern: RegExp) => Promise<unknown>) => Promise<void> = () => Promise.resolve(),
  ): Promise<void> {
    const cleanup = new Cleanup();
    try {
      const drive = `file=${target.kind === 'nbd' ? target.uri : target.path}`;
      const guest = await this.#images.boot(cleanup, { drive }, work);
      await watch((pattern) => guest.says(pattern));
      await guest.powersOff();
    } finally {
      await cleanup.run();
    }
  }

  async #makeTree(): Promise<void> {
    const random = new Random(TREE_SEED);
    const bytes = Buffer.alloc(FILE_BYTES.most);
    random.fill(bytes);
    const root = path.join(this.#directory, 'tree');
    const spread = FILE_BYTES.most / FILE_BYTES.least;
    for (let directory = 0; directory < TREE_DIRECTORIES; directory++) {
      const at = path.join(root, `room${directory % 10}`, `noun${directory}`);
      mkdirSync(at, { recursive: true });
      for (let file = 0; file < TREE_FILES_EACH; file++) {
        const length = Math.floor(FILE_BYTES.least * spread ** random.unit());
        await writeFile(path.join(at, `file${file}.ts`), bytes.subarray(0, length));
      }
    }
    await runCommand('tar', ['-C', this.#directory, '-cf', this.#tree, 'tree']);
  }
}
