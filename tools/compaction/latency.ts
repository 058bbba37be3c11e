/**
 * How long guests' writes take at half the highest rate of a store at 80 % live, with compaction on, and off in a store
 * with room enough to need none; and how long the event loop was kept from its timers. Runs alternate, ratios are of the
 * two runs of a pair.
 */

import { createHistogram, monitorEventLoopDelay, performance } from 'node:perf_hooks';
import { ChurnedStore } from './churned-store.ts';
import { type LoadName, makeLoad, type NextRequest } from './loads.ts';
import { inScratch, leveled, type Options, unlimited } from './options.ts';
import { pace } from './pressure.ts';
import { against, median, type Report, TARGETS } from './report.ts';

const RESOLUTION_MS = 1;
/** Before each run, not measured: pages come into memory, compaction gets going. */
const LEAD_IN_SECONDS = 3;

interface Latency {
  p50Us: number;
  p99Us: number;
  p999Us: number;
  loopP999Ms: number;
  movedBytes: number;
}

interface Figures {
  load: LoadName;
  requestsPerSecond: number;
  on: Latency;
  off: Latency;
  p50Ratio: number;
  p99Ratio: number;
  p999Ratio: number;
  p99Ratios: number[];
  refused: number;
  wrongChunks: number;
}

type Row = Figures | { load: LoadName; failure: string };

const HEAD = [
  'load',
  'requests/s',
  'compaction',
  'p50 us',
  'p99 us',
  'p99.9 us',
  'loop p99.9 ms',
  'moved MiB',
  'refused',
  'p99 ratio',
];

export async function measureLatency(options: Options): Promise<Report> {
  const rows: Row[] = [];
  for (const load of options.loads ?? (['uniform', 'zipf', 'hot', 'vm'] as const)) {
    const row = await inScratch(options, (on) =>
      inScratch(options, (off) => measureLoad(options, load, on, off)),
    ).catch((error: unknown) => ({ load, failure: String(error) }));
    rows.push(row);
    for (const line of lines(row)) console.error(line.join('  '));
  }
  const title = 'guest writes at half the highest rate, medians of the runs';
  return { title, head: HEAD, rows: rows.flatMap(lines), figures: rows };
}

/** A store and the load on it. */
interface Side {
  churned: ChurnedStore;
  next: NextRequest;
  compacts: boolean;
  runs: Latency[];
}

async function prepare(
  options: Options,
  scratch: string,
  load: LoadName,
  compacts: boolean,
): Promise<Side & { requestsPerSecond: number }> {
  const shape = leveled(options, TARGETS.level);
  const churned = await ChurnedStore.fill(
    scratch,
    compacts ? shape : unlimited(options, shape.volumeBytes),
    compacts,
  );
  return await churned.guarding(async () => {
    const { guest } = churned;
    const next = makeLoad(load, guest.chunks, options.seed);
    await churned.overwrite(next, 1);
    const began = performance.now();
    const before = guest.answered;
    if (compacts) await churned.overwrite(next, 1);
    const requestsPerSecond = (1000 * (guest.answered - before)) / (performance.now() - began);
    await churned.close();
    return { churned, next, compacts, runs: [], requestsPerSecond };
  });
}

async function measureLoad(
  options: Options,
  load: LoadName,
  onScratch: string,
  offScratch: string,
): Promise<Figures> {
  const on = await prepare(options, onScratch, load, true);
  const off = await prepare(options, offScratch, load, false);
  const requestsPerSecond = Math.max(1, Math.floor(on.requestsPerSecond / 2));
  for (let pair = 0; pair < options.pairs; pair++) {
    const order = pair % 2 === 0 ? [on, off] : [off, on];
    for (const side of order) side.runs.push(await run(side, requestsPerSecond, options.seconds));
  }
  const ratios = (of: (latency: Latency) => number): number[] =>
    on.runs.map((latency, i) => of(latency) / of(off.runs[i]!));
  const sides = [on, off];
  let wrongChunks = 0;
  for (const { churned } of sides) wrongChunks += await wrongIn(churned);
  return {
    load,
    requestsPerSecond,
    on: medians(on.runs),
    off: medians(off.runs),
    p50Ratio: median(ratios(({ p50Us }) => p50Us)),
    p99Ratio: median(ratios(({ p99Us }) => p99Us)),
    p999Ratio: median(ratios(({ p999Us }) => p999Us)),
    p99Ratios: ratios(({ p99Us }) => p99Us),
    refused: sides.reduce((sum, { churned }) => sum + churned.guest.refused, 0),
    wrongChunks,
  };
}

async function run({ churned, next, compacts }: Side, perSecond: number, seconds: number): Promise<Latency> {
  await churned.reopen(compacts);
  return await churned.guarding(async () => {
    const { guest, store } = churned;
    await pace(guest, next, perSecond, LEAD_IN_SECONDS, () => undefined);
    const writes = createHistogram();
    const loop = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
    const before = (await store.status()).compaction.movedBytes;
    loop.enable();
    await pace(guest, next, perSecond, seconds, (us) => writes.record(Math.max(1, Math.round(us))));
    loop.disable();
    const movedBytes = (await store.status()).compaction.movedBytes - before;
    await churned.close();
    return {
      p50Us: writes.percentile(50),
      p99Us: writes.percentile(99),
      p999Us: writes.percentile(99.9),
      loopP999Ms: loop.percentile(99.9) / 1e6 - RESOLUTION_MS,
      movedBytes,
    };
  });
}

async function wrongIn(churned: ChurnedStore): Promise<number> {
  await churned.reopen(false);
  return await churned.guarding(async () => {
    const wrong = await churned.guest.countWrongChunks();
    await churned.close();
    return wrong;
  });
}

function medians(runs: readonly Latency[]): Latency {
  const of = (figure: (latency: Latency) => number): number => median(runs.map(figure));
  return {
    p50Us: of(({ p50Us }) => p50Us),
    p99Us: of(({ p99Us }) => p99Us),
    p999Us: of(({ p999Us }) => p999Us),
    loopP999Ms: of(({ loopP999Ms }) => loopP999Ms),
    movedBytes: of(({ movedBytes }) => movedBytes),
  };
}

function lines(row: Row): string[][] {
  if ('failure' in row) return [[row.load, ...HEAD.slice(1, -1).map(() => '-'), row.failure]];
  const figures = ({ p50Us, p99Us, p999Us, loopP999Ms, movedBytes }: Latency): string[] => [
    ...[p50Us, p99Us, p999Us].map((us) => us.toFixed(0)),
    loopP999Ms.toFixed(2),
    (movedBytes / 2 ** 20).toFixed(0),
  ];
  const wrong = row.wrongChunks > 0 ? `, ${row.wrongChunks} WRONG CHUNKS` : '';
  const ratio = `${against(row.p99Ratio, TARGETS.p99Ratio)}${wrong}`;
  return [
    [row.load, String(row.requestsPerSecond), 'on', ...figures(row.on), String(row.refused), ratio],
    ['', '', 'off', ...figures(row.off), '', ''],
  ];
}
