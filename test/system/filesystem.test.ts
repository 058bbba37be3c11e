/**
 * An ext4 file system with a tree of real files on served volumes, mounted through nbdfuse and a loop device: imported,
 * changed, frozen, branched, and the server killed under it. COPPICE_TREE_MB asks for more than 60 MB of files.
 */

import fs from 'node:fs';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { changeTree, copyRealTree, filesOf, treeDifference } from '../support/file-tree.ts';
import { missingForMounts, MOUNT_TOOLS, NbdMount } from '../support/nbd-mount.ts';
import { Cleanup, Program, requireHere, runTool, tool } from '../support/programs.ts';
import { ServedStore } from '../support/served-store.ts';
import { requireTools } from '../support/tools.ts';

const MIB = 2 ** 20;
const TREE_BYTES = Number(process.env.COPPICE_TREE_MB ?? 60) * 1e6;
const TEST_MS = 240_000;
const SYNCED_MIN = 40;

/** Copies the files whose names it reads into a directory, and says which were synced, one after the other. */
const COPY_AND_SYNC = `
i=0
while read -r file; do
  cp -- "$file" "$0/$i" && sync "$0/$i" "$0" && echo "synced $i" || exit 1
  i=$((i + 1))
done
`;

const isReady =
  requireTools([...MOUNT_TOOLS, 'e2fsck', 'mke2fs', 'qemu-img', 'diff']) && requireHere(missingForMounts());

describe.skipIf(!isReady)('a file system of real files', () => {
  const whole = new Cleanup();
  const cleanup = new Cleanup();
  let store: ServedStore;
  let tree: string;
  let image: string;
  let count = 0;

  beforeAll(async () => {
    store = await ServedStore.make(whole);
    tree = store.file('tree');
    image = store.file('image');
    const bytes = copyRealTree(tree, TREE_BYTES);
    expect(bytes).toBeGreaterThan(TREE_BYTES * 0.5);
    const imageMib = Math.ceil((bytes * 3) / MIB) + 128;
    await tool('mke2fs', ['-q', '-F', '-t', 'ext4', '-d', tree, image, `${imageMib}M`], { waitMs: 180_000 });
    await store.coppice('import', 'disk', image);
    await store.coppice('snapshot', 'disk@start');
  }, TEST_MS);
  beforeEach(async () => await store.start(), 60_000);
  afterEach(async () => {
    try {
      await cleanup.run();
      expect((await store.stop()).code).toBe(0);
      expect(await store.damage()).toBeUndefined();
    } finally {
      await store.kill();
    }
  }, 180_000);
  afterAll(async () => await whole.run(), 60_000);

  const mount = (name: string): Promise<NbdMount> =>
    NbdMount.mount(cleanup, store.uri(name), store.file(`mount${count++}`));

  /** What is wrong with the file system of a volume that nobody has mounted. */
  async function fsck(name: string): Promise<string> {
    const attached = await NbdMount.attach(cleanup, store.uri(name), store.file(`mount${count++}`));
    const { result, output } = await runTool('e2fsck', ['-f', '-n', attached.device], { waitMs: 120_000 });
    await attached.detach();
    return result === 0 ? '' : output;
  }

  /** What differs between a tree and that on a volume, read from the server and not from what is cached of it. */
  async function difference(name: string, expected: string): Promise<string> {
    const mounted = await mount(name);
    const found = await treeDifference(expected, mounted.directory);
    await mounted.detach();
    return found;
  }

  async function copyTree(from: string): Promise<string> {
    const to = store.file(`tree${count++}`);
    await tool('cp', ['-a', from, to]);
    return to;
  }

  it(
    'is clean and has the same tree after its import',
    async () => {
      expect(await fsck('disk')).toBe('');
      await store.coppice('clone', 'disk@start', 'look');
      expect(await difference('look', tree)).toBe('');
      const compared = await tool('qemu-img', [
        'compare',
        '-f',
        'raw',
        '-F',
        'raw',
        image,
        store.uri('disk@start'),
      ]);
      expect(compared).toContain('identical');
    },
    TEST_MS,
  );

  it(
    'is on a snapshot as it was synced, and goes on differently on the volume and on a clone',
    async () => {
      await store.coppice('clone', 'disk@start', 'trunk');
      const [first, trunkTree] = [await copyTree(tree), await copyTree(tree)];
      const trunk = await mount('trunk');
      for (const directory of [first, trunkTree, trunk.directory]) await changeTree(directory, 1);
      await trunk.sync();
      await store.coppice('snapshot', 'trunk@synced');
      await store.coppice('clone', 'trunk@synced', 'branch');

      const branchTree = await copyTree(first);
      const branch = await mount('branch');
      expect(await treeDifference(first, branch.directory)).toBe('');
      await Promise.all([
        ...[trunkTree, trunk.directory].map((directory) => changeTree(directory, 2)),
        ...[branchTree, branch.directory].map((directory) => changeTree(directory, 3)),
      ]);
      await Promise.all([trunk.detach(), branch.detach()]);

      expect(await difference('trunk', trunkTree)).toBe('');
      expect(await difference('branch', branchTree)).toBe('');
      expect(await treeDifference(trunkTree, branchTree)).not.toBe('');
      await store.coppice('clone', 'trunk@synced', 'again');
      expect(await difference('again', first)).toBe('');
      for (const name of ['trunk', 'branch', 'again']) expect(await fsck(name), name).toBe('');

      const exported = store.file('exported');
      await store.coppice('export', 'trunk@synced', exported);
      const args = ['compare', '-f', 'raw', '-F', 'raw', exported, store.uri('trunk@synced')];
      expect(await tool('qemu-img', args)).toContain('identical');
    },
    TEST_MS,
  );

  it(
    'recovers with all that was synced when the server is killed in the middle of a copy',
    async () => {
      await store.coppice('clone', 'disk@start', 'struck');
      const struck = await mount('struck');
      const target = `${struck.directory}/synced`;
      await fs.promises.mkdir(target);
      const files = filesOf(tree);
      const copy = new Program('cp', ['-a', tree, `${struck.directory}/copy`]);
      cleanup.add(() => copy.kill());
      const writer = new Program('sh', ['-c', COPY_AND_SYNC, target]);
      cleanup.add(() => writer.kill());
      writer.endInput(files.map((file) => `${file}\n`).join(''));
      const synced = (): number => writer.output.match(/^synced \d+$/gm)?.length ?? 0;
      await writer.until(() => synced() >= SYNCED_MIN, 'synced files');
      expect(writer.result).toBeUndefined();
      await store.kill();
      await Promise.all([writer.endsWithin(10_000), copy.endsWithin(10_000)]);
      await struck.abandon();
      const count = synced();

      expect(await store.damage()).toBeUndefined();
      await store.start();
      const mounted = await mount('struck');
      for (let i = 0; i < count; i++) {
        const bytes = await fs.promises.readFile(`${mounted.directory}/synced/${i}`);
        expect(bytes.equals(fs.readFileSync(files[i]!)), `${files[i]}, the ${i}th of ${count}`).toBe(true);
      }
      const rest = await treeDifference(tree, mounted.directory);
      const others = rest.split('\n').filter((line) => line !== '' && !/: (synced|copy)$/.test(line));
      expect(others).toEqual([]);
      await changeTree(mounted.directory, 4);
      await mounted.detach();
      expect(await fsck('struck')).toBe('');
      const compared = await tool('qemu-img', [
        'compare',
        '-f',
        'raw',
        '-F',
        'raw',
        image,
        store.uri('disk@start'),
      ]);
      expect(compared).toContain('identical');
    },
    TEST_MS,
  );
});
