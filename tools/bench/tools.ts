// The programs a benchmark needs: whether they are there, and which version.

import { statSync } from 'node:fs';
import path from 'node:path';
import { runCommand } from './children.ts';

const DEBIAN_PACKAGES: Record<string, string> = {
  fio: 'fio',
  'qemu-nbd': 'qemu-utils',
  'qemu-img': 'qemu-utils',
  nbdcopy: 'libnbd-bin',
  losetup: 'mount',
  'mkfs.ext4': 'e2fsprogs',
  mke2fs: 'e2fsprogs',
  e2fsck: 'e2fsprogs',
  'mkfs.xfs': 'xfsprogs',
  xfs_io: 'xfsprogs',
  busybox: 'busybox-static',
  'qemu-system-x86_64': 'qemu-system-x86',
  ldd: 'libc-bin',
};

/** Says that a tool is not in PATH and how to get it, or undefined when it is there. */
export function missingTool(tool: string): string | undefined {
  const found = (process.env['PATH'] ?? '').split(path.delimiter).some((directory) => {
    const file = path.join(directory, tool);
    return statSync(file, { throwIfNoEntry: false })?.isFile() ?? false;
  });
  return found ? undefined : `${tool} is not installed: apt-get install ${DEBIAN_PACKAGES[tool] ?? tool}`;
}

/** The first line each tool prints of its version. */
export async function toolVersions(tools: readonly string[]): Promise<Record<string, string>> {
  const versions: Record<string, string> = {};
  for (const tool of tools) {
    versions[tool] = (await runCommand(tool, ['--version'])).split('\n')[0]?.trim() ?? '';
  }
  return versions;
}
