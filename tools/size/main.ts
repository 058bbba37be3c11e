/**
 * What a large store costs: `npm run size -- [traffic] [open] [crowds] [rebuild] [--gib N]`. Builds stores without payload in a
 * scratch directory, measures, removes them. It needs some GiB there for the index alone.
 */

import { mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { Command } from 'commander';
import { type Crowd, makeSiblings, makeSnapshots, readCold } from './crowds.ts';
import { traffic } from './index-load.ts';
import { writeAndDie } from './killed-writer.ts';
import { afterKill, makeMapped, measureOpen } from './opening.ts';
import { makeWritten, measureRebuild } from './rebuild.ts';

async function inScratch<T>(work: (directory: string) => Promise<T>): Promise<T> {
  const directory = mkdtempSync(path.join(os.tmpdir(), 'coppice-size-'));
  try {
    return await work(directory);
  } finally {
    rmSync(directory, { recursive: true });
  }
}

async function measureTraffic(gib: number): Promise<void> {
  console.log(`uniform random 4 KiB writes over ${gib} GiB; what LevelDB writes, in user bytes`);
  await inScratch(async (directory) => {
    for await (const part of traffic(directory, gib * 2 ** 18, 12))
      console.log(
        `  after ${part.volumes.toFixed(2)} volumes: ${part.ratio.toFixed(4)} (${part.checkpoints} checkpoints)`,
      );
  });
}

async function measureOpening(gib: number): Promise<void> {
  await inScratch(async (directory) => {
    await makeMapped(directory, gib);
    console.log(`open with ${gib} GiB mapped:`, await measureOpen(directory));
    await afterKill(directory, gib * 2 ** 18);
    console.log('after kill -9 with the longest replay:', await measureOpen(directory));
  });
}

async function measureCrowds(): Promise<void> {
  const crowds: [string, number, (directory: string) => Promise<Crowd>][] = [
    ['1,000 clones that overwrote the same gigabyte', 1000, (at) => makeSiblings(at, 1000, 1024)],
    ['10,000 snapshots, each of a MiB of its own', 4000, (at) => makeSnapshots(at, 10_000, 256, false)],
    ['10,000 snapshots of the same MiB', 450, (at) => makeSnapshots(at, 10_000, 256, true)],
    ['10,000 snapshots of a chunk of the same MiB', 90, (at) => makeSnapshots(at, 10_000, 1, true)],
  ];
  for (const [what, reads, make] of crowds) {
    await inScratch(async (directory) => {
      const { ratio, crowdedPerSecond, lonePerSecond } = await readCold(
        directory,
        await make(directory),
        reads,
        8,
      );
      const rates = `${crowdedPerSecond.toFixed(0)}/s, alone ${lonePerSecond.toFixed(0)}/s`;
      console.log(`${what}: cold reads at ${ratio.toFixed(2)} of a lone volume (${rates})`);
    });
  }
}

async function measureRebuilds(gib: number): Promise<void> {
  for (const isRandom of [false, true]) {
    await inScratch(async (directory) => {
      const store = path.join(directory, 'store');
      await makeWritten(store, gib, isRandom);
      const { seconds, isSame } = await measureRebuild(store);
      const how = `${gib} GiB written ${isRandom ? 'at random' : 'in order'}`;
      const what = isSame ? 'with the same pointers' : 'and it is ANOTHER ONE';
      console.log(`${how}: the index made anew in ${seconds.toFixed(1)} s, ${what}`);
    });
  }
}

// What `open` starts, to be killed.
if (process.argv[2] === 'write-and-die') {
  const [directory, volume, chunks, spreadChunks] = process.argv.slice(3) as [string, string, string, string];
  await writeAndDie(directory, volume, Number(chunks), Number(spreadChunks));
}

const program = new Command('size')
  .argument('[measures...]', 'traffic, open, crowds, rebuild; default: all')
  .option('--gib <number>', 'size of the volume of traffic and rebuild (default 10) and open (default 1024)');
program.parse();
const { gib } = program.opts<{ gib?: string }>();
const wanted = program.args.length > 0 ? program.args : ['traffic', 'open', 'crowds', 'rebuild'];
if (wanted.includes('traffic')) await measureTraffic(Number(gib ?? 10));
if (wanted.includes('open')) await measureOpening(Number(gib ?? 1024));
if (wanted.includes('crowds')) await measureCrowds();
if (wanted.includes('rebuild')) await measureRebuilds(Number(gib ?? 10));
