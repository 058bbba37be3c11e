/**
 * How fast a volume is read in order after it was overwritten at random and the store has idled, then once more after it was
 * compacted, and how fast one of the same size that was written in order: from the disk, and from the kernel's memory.
 * Passes alternate.
 */

import { performance } from 'node:perf_hooks';
import { setTimeout as delay } from 'node:timers/promises';
import { ChurnedStore } from './churned-store.ts';
import { readInto } from './guest.ts';
import { type LoadName, makeLoad } from './loads.ts';
import { logFileBytes } from './log-size.ts';
import { inScratch, type Options, unlimited } from './options.ts';
import { median, type Report, TARGETS } from './report.ts';

const READ_BYTES = 1 << 20;
const PASSES = 3;
const POLL_MS = 500;
/** The log has not changed for so long: compaction has nothing more to do. */
const SETTLED_MS = 10_000;
/** As `coppice compact` does it. */
const COMPACT = { target: 0.98, purge: false, bytesPerSecond: undefined };

/** MB/s, medians of the passes. */
interface Rates {
  aged: number;
  fresh: number;
  ratio: number;
}

/** Of the aged store after something was done for it. */
interface Reading {
  after: 'idle' | 'compact';
  cold: Rates;
  warm: Rates;
  /** Log over live bytes of the aged store when it was read. */
  share: number;
}

interface Figures {
  load: LoadName;
  readings: Reading[];
  wrongChunks: number;
}

type Row = Figures | { load: LoadName; failure: string };

const HEAD = ['load', 'after', 'medium', 'aged MB/s', 'fresh MB/s', 'ratio', 'log/live', 'wrong chunks'];

export async function measureAged(options: Options): Promise<Report> {
  const rows: Row[] = [];
  for (const load of options.loads ?? (['uniform'] as const)) {
    const row = await inScratch(options, (aged) =>
      inScratch(options, (fresh) => measureLoad(options, load, aged, fresh)),
    ).catch((error: unknown) => ({ load, failure: String(error) }));
    rows.push(row);
    for (const line of lines(row)) console.error(line.join('  '));
  }
  const title = 'reading in order, 1 MiB at a time, one at a time';
  return { title, head: HEAD, rows: rows.flatMap(lines), figures: rows };
}

async function measureLoad(
  options: Options,
  load: LoadName,
  agedScratch: string,
  freshScratch: string,
): Promise<Figures> {
  const aged = await ChurnedStore.fill(agedScratch, unlimited(options));
  return await aged.guarding(async () => {
    const { guest, directory } = aged;
    await aged.overwrite(makeLoad(load, guest.chunks, options.seed), options.overwrites ?? 2);
    await settled(directory, options.idle);
    const fresh = await ChurnedStore.fill(freshScratch, unlimited(options));
    return await fresh.guarding(async () => {
      const readings: Reading[] = [];
      const read = async (after: Reading['after']): Promise<void> => {
        const share = logFileBytes(directory) / guest.liveBytes;
        const cold = await compare(aged, fresh, true);
        readings.push({ after, cold, warm: await compare(aged, fresh, false), share });
      };
      await read('idle');
      for await (const step of aged.store.compact(COMPACT)) void step;
      await read('compact');
      const wrongChunks = (await guest.countWrongChunks()) + (await fresh.guest.countWrongChunks());
      await fresh.close();
      await aged.close();
      return { load, readings, wrongChunks };
    });
  });
}

/** Resolves when the log has stopped changing, or the time is over. */
async function settled(directory: string, secondsMax: number): Promise<void> {
  const began = performance.now();
  let [bytes, changedAt] = [logFileBytes(directory), began];
  for (;;) {
    await delay(POLL_MS);
    const now = performance.now();
    const next = logFileBytes(directory);
    if (next !== bytes) [bytes, changedAt] = [next, now];
    if (now - changedAt > SETTLED_MS || now - began > 1000 * secondsMax) return;
  }
}

async function compare(aged: ChurnedStore, fresh: ChurnedStore, isCold: boolean): Promise<Rates> {
  const agedRates: number[] = [];
  const freshRates: number[] = [];
  if (!isCold) for (const churned of [aged, fresh]) await readAll(churned);
  for (let pass = 0; pass < PASSES; pass++) {
    for (const churned of pass % 2 === 0 ? [aged, fresh] : [fresh, aged]) {
      if (isCold) await churned.dropCached();
      (churned === aged ? agedRates : freshRates).push(await readAll(churned));
    }
  }
  const ratio = median(agedRates.map((rate, i) => rate / freshRates[i]!));
  return { aged: median(agedRates), fresh: median(freshRates), ratio };
}

/** Reads a volume from front to back; answers MB/s. */
async function readAll({ guest, shape }: ChurnedStore): Promise<number> {
  const target = Buffer.alloc(READ_BYTES);
  const began = performance.now();
  for (let offset = 0; offset < shape.volumeBytes; offset += READ_BYTES)
    await readInto(guest.device, target, offset, READ_BYTES);
  return shape.volumeBytes / 1000 / (performance.now() - began);
}

function lines(row: Row): string[][] {
  if ('failure' in row) return [[row.load, ...HEAD.slice(1, -1).map(() => '-'), row.failure]];
  const rates = ({ aged, fresh, ratio }: Rates): string[] => [
    aged.toFixed(0),
    fresh.toFixed(0),
    `${ratio.toFixed(2)} (>= ${TARGETS.agedRatioMin})`,
  ];
  return row.readings.flatMap(({ after, cold, warm, share }, i) => [
    [i === 0 ? row.load : '', after, 'disk', ...rates(cold), share.toFixed(3), String(row.wrongChunks)],
    ['', '', 'memory', ...rates(warm), '', ''],
  ]);
}
