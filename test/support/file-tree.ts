/** Trees of real files, and changes to them that are the same wherever they are made. */

import fs from 'node:fs';
import path from 'node:path';
import { Random } from './random.ts';
import { runTool } from './programs.ts';

/** Where a machine has files of all kinds; those of Node.js are there wherever tests run. */
const SOURCES = [
  path.resolve(import.meta.dirname, '../../node_modules'),
  path.resolve(process.execPath, '../../lib/node_modules'),
  path.resolve(process.execPath, '../../include'),
  '/usr/share',
  '/usr/lib',
];

/** Copies real files into `target` until they are `bytes` or there are no more; answers how many bytes they are. */
export function copyRealTree(target: string, bytes: number): number {
  const fileBytesMax = bytes / 8;
  let copiedBytes = 0;
  const copy = (from: string, to: string): void => {
    fs.mkdirSync(to, { recursive: true });
    for (const entry of fs.readdirSync(from, { withFileTypes: true })) {
      if (copiedBytes >= bytes) return;
      const [source, copied] = [path.join(from, entry.name), path.join(to, entry.name)];
      if (entry.isDirectory()) copy(source, copied);
      else if (entry.isSymbolicLink()) fs.symlinkSync(fs.readlinkSync(source), copied);
      if (!entry.isFile()) continue;
      const { size } = fs.statSync(source);
      if (size > fileBytesMax) continue;
      fs.copyFileSync(source, copied);
      copiedBytes += size;
    }
  };
  SOURCES.forEach((source, i) => {
    if (fs.existsSync(source)) copy(source, path.join(target, `from${i}`));
  });
  return copiedBytes;
}

/** Regular files of a tree, in the same order everywhere. */
export function filesOf(directory: string): string[] {
  return fs
    .readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => path.join(entry.parentPath, entry.name))
    .sort();
}

/**
 * Changes a tree as its users do: new files, overwritten, grown, cut, renamed and removed ones. Equal trees become
 * equal trees, from equal seeds.
 */
export async function changeTree(directory: string, seed: number): Promise<void> {
  const random = new Random(seed);
  const files = filesOf(directory);
  const added = path.join(directory, `added${seed}`, 'deep', 'er');
  await fs.promises.mkdir(added, { recursive: true });
  for (let i = 0; i < 150; i++) {
    const [file] = files.splice(random.below(files.length), 1);
    const bytes = random.bytes(random.between(1, random.pick([100, 5_000, 300_000])));
    const kind = random.pick(['add', 'add', 'overwrite', 'grow', 'cut', 'rename', 'remove']);
    const name = path.join(added, `file${i}`);
    if (kind === 'add') await fs.promises.writeFile(name, bytes);
    if (kind === 'overwrite') await overwrite(file!, bytes, random.below(10_000));
    if (kind === 'grow') await fs.promises.appendFile(file!, bytes);
    if (kind === 'cut') await fs.promises.truncate(file!, random.below(5_000));
    if (kind === 'rename') await fs.promises.rename(file!, name);
    if (kind === 'remove') await fs.promises.rm(file!);
  }
}

async function overwrite(file: string, bytes: Buffer, offset: number): Promise<void> {
  const handle = await fs.promises.open(file, 'r+');
  await handle.write(bytes, 0, bytes.length, offset);
  await handle.close();
}

/** What differs between two trees, as diff tells it; empty if nothing does. */
export async function treeDifference(one: string, other: string): Promise<string> {
  const args = ['-r', '-q', '--no-dereference', '-x', 'lost+found', one, other];
  const { result, output } = await runTool('diff', args, { waitMs: 180_000 });
  return result === 0 ? '' : output || `diff ended with ${result}`;
}
