/** What the log takes in a store without a capacity: while it is overwritten without pause, and when it idles behind that. */

import { setTimeout as delay } from 'node:timers/promises';
import { ChurnedStore } from './churned-store.ts';
import { type LoadName, makeLoad } from './loads.ts';
import { logFileBytes, LogWatch } from './log-size.ts';
import { inScratch, type Options, unlimited } from './options.ts';
import { against, type Report, TARGETS } from './report.ts';

const OVERWRITES = 20;
/** What `coppice compact` asks for. */
const COMPACTED = { target: 0.98, purge: false, bytesPerSecond: undefined };
const SECOND_MS = 1000;

interface Figures {
  load: LoadName;
  overwrites: number;
  /** While writing: log over live bytes, and segments beyond the share that is allowed. */
  shareMax: number;
  segmentsBeyondMax: number;
  megabytesPerSecond: number;
  idleShareMin: number;
  idleShareEnd: number;
  /** Seconds of idling after which the goal was reached, if it was. */
  idleSeconds: number | undefined;
  /** Log over live bytes, closed, behind `compact`. */
  compactedShare: number;
  refused: number;
  wrongChunks: number;
}

type Row = Figures | { load: LoadName; failure: string };

const HEAD = [
  'load',
  'overwrites',
  'log/live max',
  `segments beyond ${TARGETS.endlessShare}x`,
  'MB/s',
  'idle log/live',
  'at the end',
  'reached in s',
  'compacted',
  'refused',
  'wrong chunks',
];

export async function measureEndless(options: Options): Promise<Report> {
  const rows: Row[] = [];
  for (const load of options.loads ?? (['uniform'] as const)) {
    const row = await inScratch(options, (scratch) => measureLoad(options, scratch, load)).catch(
      (error: unknown) => ({ load, failure: String(error) }),
    );
    rows.push(row);
    console.error(cells(row).join('  '));
  }
  const title = 'the log without a capacity, written without pause and then idle';
  return { title, head: HEAD, rows: rows.map(cells), figures: rows };
}

async function measureLoad(options: Options, scratch: string, load: LoadName): Promise<Figures> {
  const churned = await ChurnedStore.fill(scratch, unlimited(options));
  const { guest, directory, shape } = churned;
  return await churned.guarding(async () => {
    const next = makeLoad(load, guest.chunks, options.seed);
    const overwrites = options.overwrites ?? OVERWRITES;
    const watch = new LogWatch(directory, guest, TARGETS.endlessShare);
    const began = Date.now();
    for (let done = 0; done < overwrites; ) {
      const times = Math.min(1, overwrites - done);
      await churned.overwrite(next, times);
      done += times;
      console.error(`  ${load}: overwritten ${done} times, log/live ${watch.sample().toFixed(3)}`);
    }
    const seconds = (Date.now() - began) / 1000;
    watch.end();
    const idle = await watchIdle(watch, options.idle);
    const figures: Figures = {
      load,
      overwrites,
      shareMax: watch.shareMax,
      segmentsBeyondMax: watch.beyondBytesMax / shape.segmentBytes,
      megabytesPerSecond: (overwrites * shape.volumeBytes) / 1e6 / seconds,
      ...idle,
      compactedShare: 0,
      refused: guest.refused,
      wrongChunks: await guest.countWrongChunks(),
    };
    for await (const _ of churned.store.compact(COMPACTED)) void _;
    await churned.close();
    return { ...figures, compactedShare: logFileBytes(directory) / guest.liveBytes };
  });
}

async function watchIdle(
  watch: LogWatch,
  secondsMax: number,
): Promise<Pick<Figures, 'idleShareMin' | 'idleShareEnd' | 'idleSeconds'>> {
  let idleShareMin = Number.POSITIVE_INFINITY;
  let idleShareEnd = 0;
  let idleSeconds: number | undefined;
  for (let second = 1; second <= secondsMax; second++) {
    await delay(SECOND_MS);
    idleShareEnd = watch.sample();
    idleShareMin = Math.min(idleShareMin, idleShareEnd);
    if (idleShareEnd <= TARGETS.idleShare) idleSeconds ??= second;
  }
  return { idleShareMin, idleShareEnd, idleSeconds };
}

function cells(row: Row): string[] {
  if ('failure' in row) return [row.load, ...HEAD.slice(1, -1).map(() => '-'), row.failure];
  return [
    row.load,
    String(row.overwrites),
    row.shareMax.toFixed(3),
    against(row.segmentsBeyondMax, TARGETS.endlessSegments, 1),
    row.megabytesPerSecond.toFixed(0),
    against(row.idleShareMin, TARGETS.idleShare, 3),
    row.idleShareEnd.toFixed(3),
    row.idleSeconds?.toFixed(0) ?? 'never',
    against(row.compactedShare, TARGETS.compactedShare, 3),
    String(row.refused),
    String(row.wrongChunks),
  ];
}
