/**
 * What streams cost: `npm run streams -- [--gib N] [--percent N] [--directory DIR]`. Fills a volume at random, sends and receives
 * all of it, then changes chunks here and there, and sends and receives what differs; by the programs that users run. With
 * `--compare`, what differs is carried by other means too (compare.ts).
 *
 * `npm run streams -- --replicate [--gib N] [--minutes N] [--every N] [--seed N]`: replication under load and kills (replicate.ts).
 */

import { spawn } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { randomFillSync } from 'node:crypto';
import { Command } from 'commander';
import { CHUNK_BYTES } from '../../src/base/units.ts';
import { Store } from '../../src/volume/store.ts';
import { Cleanup } from '../../test/support/programs.ts';
import { Random } from '../../test/support/random.ts';
import { replicate } from './replicate.ts';
import { Comparison } from './compare.ts';

const WRITE_BYTES = 1 << 20;
const WRITES_AT_ONCE = 64;
const MAIN = path.resolve(import.meta.dirname, '../..').replace(/(\/dist)?$/, '/dist/src/cli/main.js');

const options = new Command('streams')
  .option('--gib <number>', 'size of the volume', '10')
  .option('--percent <number>', 'chunks that change', '1')
  .option('--directory <path>', 'where to work', os.tmpdir())
  .option('--replicate', 'replicate under load, with kills of either end, and compare all that arrives')
  .option('--minutes <number>', 'of that', '10')
  .option('--every <number>', 'seconds between two snapshots of that', '3')
  .option('--set <mib>', 'MiB that its load writes to, all over the volume', '256')
  .option('--seed <number>', 'what its chance begins with', String(Date.now() % 2 ** 31))
  .option('--compare', 'carry the same change by QEMU and by rsync instead')
  .parse()
  .opts<{
    gib: string;
    percent: string;
    directory: string;
    replicate?: true;
    compare?: true;
    minutes: string;
    every: string;
    set: string;
    seed: string;
  }>();
const scratch = fs.mkdtempSync(path.join(options.directory, 'coppice-streams-'));
const [from, to, file] = ['from', 'to', 'stream'].map((name) => path.join(scratch, name)) as [
  string,
  string,
  string,
];
try {
  const [bytes, part] = [Number(options.gib) * 2 ** 30, Number(options.percent) / 100];
  if (options.replicate === true) await replicateFor();
  else if (options.compare === true) await compare(bytes, part);
  else await measure(bytes, part);
} finally {
  fs.rmSync(scratch, { recursive: true });
}

async function replicateFor(): Promise<void> {
  const { gib, minutes, every, set, seed } = options;
  say(`seed ${seed}`);
  const cleanup = new Cleanup();
  try {
    const terms = { volumeBytes: Number(gib) * 2 ** 30, setBytes: Number(set) * 2 ** 20 };
    const times = { seconds: 60 * Number(minutes), everySeconds: Number(every) };
    await replicate({ ...terms, ...times, random: new Random(Number(seed)) }, cleanup, say);
  } finally {
    await cleanup.run();
  }
}

async function compare(bytes: number, part: number): Promise<void> {
  const comparison = new Comparison(scratch, MAIN, bytes, part);
  const mib = (count: number): string => `${(count / 2 ** 20).toFixed(1)} MiB`;
  say(`${mib(comparison.changedBytes)} changed of ${mib(bytes)}`);
  say('| means | bytes read | bytes sent | time |\n|---|---|---|---|');
  for await (const { means, bytesRead, bytesSent, seconds } of comparison.run())
    say(`| ${means} | ${mib(bytesRead)} | ${mib(bytesSent)} | ${seconds.toFixed(1)} s |`);
}

async function measure(bytes: number, part: number): Promise<void> {
  await Store.init(from);
  await Store.init(to);
  const store = await Store.open(from);
  await store.createVolume('disk', bytes);
  const chunks = bytes / CHUNK_BYTES;
  await writeAt(
    store,
    Array.from({ length: bytes / WRITE_BYTES }, (_, i) => i * WRITE_BYTES),
    WRITE_BYTES,
  );
  await store.snapshot(['disk@one']);
  await store.close();
  await transfer('all', ['disk@one'], bytes);

  const again = await Store.open(from);
  const changed = new Set<number>();
  while (changed.size < chunks * part) changed.add(Math.floor(Math.random() * chunks) * CHUNK_BYTES);
  await writeAt(again, [...changed], CHUNK_BYTES);
  await again.snapshot(['disk@two']);
  await again.checkpoint();
  const startedAt = performance.now();
  let extents = 0;
  for await (const _ of again.diff('disk@one', 'disk@two')) extents += 1;
  say(`changelist: ${extents} extents in ${(performance.now() - startedAt).toFixed(0)} ms`);
  await again.close();
  await transfer('what differs', ['disk@two', '--from', '@one'], changed.size * CHUNK_BYTES);
}

async function writeAt(store: Store, offsets: readonly number[], lengthBytes: number): Promise<void> {
  const device = store.device('disk');
  for (let at = 0; at < offsets.length; at += WRITES_AT_ONCE) {
    const writes = offsets.slice(at, at + WRITES_AT_ONCE).map(async (offset) => {
      const slices = [randomFillSync(Buffer.allocUnsafe(lengthBytes))];
      await new Promise<void>((resolve, reject) => {
        const complete = (error: Error | undefined): void =>
          error === undefined ? resolve() : reject(error);
        device.write({ offset, lengthBytes, slices, forceUnitAccess: false, complete });
      });
    });
    await Promise.all(writes);
  }
  device.release();
}

async function transfer(what: string, words: readonly string[], dataBytes: number): Promise<void> {
  const sentIn = await secondsOf(['--store', from, 'send', ...words], 'ignore', fs.openSync(file, 'w'));
  const wireBytes = fs.statSync(file).size;
  const receivedIn = await secondsOf(['--store', to, 'receive', 'disk'], fs.openSync(file, 'r'), 'ignore');
  const mib = dataBytes / 2 ** 20;
  const rate = (time: number): string => `${time.toFixed(2)} s, ${(dataBytes / 1e6 / time).toFixed(0)} MB/s`;
  say(`${what}: ${mib.toFixed(1)} MiB, on the wire ${(wireBytes / dataBytes).toFixed(4)} of that`);
  say(`  send to a file ${rate(sentIn)}; receive ${rate(receivedIn)}, with opening and closing the store`);
}

/** How long a command takes. Its end of the file is closed here. */
async function secondsOf(
  args: readonly string[],
  stdin: number | 'ignore',
  stdout: number | 'ignore',
): Promise<number> {
  const startedAt = performance.now();
  const child = spawn(process.execPath, [MAIN, ...args], { stdio: [stdin, stdout, 'inherit'] });
  const code = await new Promise((resolve) => child.once('close', resolve));
  for (const descriptor of [stdin, stdout]) if (descriptor !== 'ignore') fs.closeSync(descriptor);
  if (code !== 0) throw new Error(`coppice ${args.join(' ')} ended with ${String(code)}`);
  return (performance.now() - startedAt) / 1000;
}

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}
