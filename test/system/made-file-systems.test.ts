/**
 * File systems that are made on a served volume through nbdfuse and a loop device, worked on, checked by their own
 * checkers, and found on a clone as they were when they were frozen.
 */

import fs from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { changeTree, copyRealTree, treeDifference } from '../support/file-tree.ts';
import { missingForMounts, MOUNT_TOOLS, NbdMount } from '../support/nbd-mount.ts';
import { Cleanup, requireHere, runTool, tool } from '../support/programs.ts';
import { ServedStore } from '../support/served-store.ts';
import { requireTools } from '../support/tools.ts';

const TREE_BYTES = 15e6;
const TEST_MS = 240_000;

interface Kind {
  readonly name: string;
  readonly make: readonly string[];
  /** Finds fault, and changes nothing. */
  readonly check: readonly string[];
}

const KINDS: readonly Kind[] = [
  { name: 'ext4', make: ['mkfs.ext4', '-q', '-F'], check: ['e2fsck', '-f', '-n'] },
  { name: 'xfs', make: ['mkfs.xfs', '-q', '-f'], check: ['xfs_repair', '-n'] },
  { name: 'btrfs', make: ['mkfs.btrfs', '-q', '-f'], check: ['btrfs', 'check', '--readonly'] },
];

/** File systems that the kernel has, or can load. */
async function missingInKernel(): Promise<string[]> {
  if (process.getuid?.() !== 0) return [];
  for (const { name } of KINDS) await runTool('modprobe', ['-q', name]);
  const known = fs.readFileSync('/proc/filesystems', 'utf8').split(/\s+/);
  return KINDS.flatMap(({ name }) => (known.includes(name) ? [] : [`${name} in the kernel`]));
}

const tools = KINDS.flatMap(({ make, check }) => [make[0]!, check[0]!]);
const isReady =
  requireTools([...MOUNT_TOOLS, ...tools, 'diff']) &&
  requireHere([...missingForMounts(), ...(await missingInKernel())]);

describe.skipIf(!isReady)('a file system made on a volume', () => {
  const cleanup = new Cleanup();
  let store: ServedStore;
  let tree: string;
  let count = 0;

  beforeAll(async () => {
    store = await ServedStore.make(cleanup);
    tree = store.file('tree');
    copyRealTree(tree, TREE_BYTES);
    await store.start();
  }, TEST_MS);
  afterAll(async () => {
    await cleanup.run();
  }, TEST_MS);

  const attach = (name: string): Promise<NbdMount> =>
    NbdMount.attach(cleanup, store.uri(name), store.file(`mount${count++}`));

  async function check(mount: NbdMount, [program, ...args]: readonly string[]): Promise<void> {
    const { result, output } = await runTool(program!, [...args, mount.device], { waitMs: 120_000 });
    expect(result, output).toBe(0);
  }

  it.each(KINDS)(
    '$name is whole and holds what was written, on the volume and on a clone',
    async ({ name, make: [program, ...args], check: checker }) => {
      await store.coppice('create', name, '--size', '512M');
      const disk = await attach(name);
      await tool(program!, [...args, disk.device]);
      await check(disk, checker);
      await disk.mount(name);
      const files = path.join(disk.directory, 'files');
      await tool('cp', ['-a', tree, files]);
      const expected = store.file(`expected-${name}`);
      await tool('cp', ['-a', tree, expected]);
      for (const directory of [files, expected]) await changeTree(directory, 1);
      await disk.sync();
      await store.coppice('snapshot', `${name}@synced`);

      const frozen = store.file(`frozen-${name}`);
      await tool('cp', ['-a', expected, frozen]);
      for (const directory of [files, expected]) await changeTree(directory, 2);
      await tool('fstrim', [disk.directory]);
      expect(await treeDifference(expected, files)).toBe('');
      await disk.unmount();
      await check(disk, checker);
      await disk.detach();

      // Through another connection and device, so that nothing is taken from what the kernel had in memory.
      for (const [volume, wanted] of [
        [name, expected],
        [`${name}-then`, frozen],
      ] as const) {
        if (volume !== name) await store.coppice('clone', `${name}@synced`, volume);
        const again = await attach(volume);
        await again.mount(name);
        expect(await treeDifference(wanted, path.join(again.directory, 'files'))).toBe('');
        await again.unmount();
        await check(again, checker);
        await again.detach();
      }
    },
    TEST_MS,
  );

  it(
    'leaves a store without damage',
    async () => {
      expect((await store.stop()).code).toBe(0);
      expect(await store.damage()).toBeUndefined();
    },
    TEST_MS,
  );
});
