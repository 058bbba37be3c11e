/**
 * What is written and what is kept, for each load and level: the volume is filled in order, overwritten once to warm up,
 * and measured while it is overwritten again.
 */

import { ChurnedStore, type Mark } from './churned-store.ts';
import { type LoadName, makeLoad } from './loads.ts';
import { LogWatch } from './log-size.ts';
import { inScratch, leveled, type Options } from './options.ts';
import { against, type Report, TARGETS } from './report.ts';

interface Figures {
  load: LoadName;
  level: number;
  /** At the end; trims make it less than the level. */
  livePercent: number;
  /** Payload of guest and compaction, by that of the guest. */
  amplification: number;
  movedBytes: number;
  /** What is no payload in the files that were written, in percent of the payload. */
  overheadPercent: number;
  /** What LevelDB wrote, by the guest's payload. */
  index: number;
  spaceMax: number;
  spaceEnd: number;
  megabytesPerSecond: number;
  /** From filling on, by code; and while it was measured. */
  refusals: Record<string, number>;
  refusedMeasured: number;
  wrongChunks: number;
  /** What the log took at most beyond its capacity, if it did. */
  beyondCapacityBytes: number;
}

type Row = Figures | { load: LoadName; level: number; failure: string };

const HEAD = [
  'load',
  'level',
  'live',
  'amplification',
  'moved MiB',
  'overhead %',
  'index',
  'log/live max',
  'end',
  'MB/s',
  'refused',
  'wrong chunks',
];

export async function measureAmplification(options: Options): Promise<Report> {
  const rows: Row[] = [];
  for (const load of options.loads ?? (['uniform', 'zipf', 'hot', 'vm'] as const)) {
    for (const level of options.levels) {
      const row = await inScratch(options, (scratch) => churn(options, scratch, load, level)).catch(
        (error: unknown) => ({ load, level, failure: String(error) }),
      );
      rows.push(row);
      console.error(cells(row).join('  '));
    }
  }
  return { title: 'what is written and kept', head: HEAD, rows: rows.map(cells), figures: rows };
}

async function churn(options: Options, scratch: string, load: LoadName, level: number): Promise<Figures> {
  const shape = leveled(options, level);
  const churned = await ChurnedStore.fill(scratch, shape);
  const { guest, directory } = churned;
  return await churned.guarding(async () => {
    const next = makeLoad(load, guest.chunks, options.seed);
    await churned.overwrite(next, 1);
    const before = await churned.mark();
    const refusedBefore = guest.refused;
    const watch = new LogWatch(directory, guest);
    await churned.overwrite(next, options.overwrites ?? 2);
    const seconds = (Date.now() - before.at) / 1000;
    const after = await churned.mark();
    watch.end();
    const spaceEnd = watch.sample();
    const { userBytes, ...written } = difference(before, after);
    const payload = userBytes + written.movedBytes;
    const figures: Figures = {
      load,
      level,
      livePercent: (100 * guest.liveBytes) / shape.capacityBytes,
      amplification: payload / userBytes,
      movedBytes: written.movedBytes,
      overheadPercent: (100 * (written.logBytes + written.movesBytes - payload)) / payload,
      index: written.indexBytes / userBytes,
      spaceMax: watch.shareMax,
      spaceEnd,
      megabytesPerSecond: userBytes / 1e6 / seconds,
      refusals: Object.fromEntries(guest.refusals),
      refusedMeasured: guest.refused - refusedBefore,
      wrongChunks: await guest.countWrongChunks(),
      beyondCapacityBytes: Math.max(0, watch.logBytesMax - shape.capacityBytes),
    };
    await churned.close();
    return figures;
  });
}

function difference(before: Mark, after: Mark): Omit<Mark, 'at'> {
  return {
    userBytes: after.userBytes - before.userBytes,
    logBytes: after.logBytes - before.logBytes,
    movedBytes: after.movedBytes - before.movedBytes,
    movesBytes: after.movesBytes - before.movesBytes,
    indexBytes: after.indexBytes - before.indexBytes,
  };
}

function cells(row: Row): string[] {
  const name = [row.load, `${row.level} %`];
  if ('failure' in row) return [...name, ...HEAD.slice(2, -1).map(() => '-'), row.failure];
  const isTargeted = row.level === TARGETS.level;
  const held = (value: number, target: number): string =>
    isTargeted ? against(value, target) : value.toFixed(2);
  const beyond = row.beyondCapacityBytes;
  const refused = Object.entries(row.refusals).map(([code, count]) => `${count} ${code}`);
  return [
    ...name,
    `${row.livePercent.toFixed(1)} %`,
    held(row.amplification, TARGETS.amplification[row.load]),
    (row.movedBytes / 2 ** 20).toFixed(0),
    held(row.overheadPercent, TARGETS.overheadPercent),
    held(row.index, TARGETS.index),
    `${row.spaceMax.toFixed(3)}${beyond > 0 ? ` (${(beyond / 2 ** 20).toFixed(1)} MiB OVER CAPACITY)` : ''}`,
    row.spaceEnd.toFixed(3),
    row.megabytesPerSecond.toFixed(0),
    refused.length === 0 ? '0' : `${refused.join(', ')} (measured: ${row.refusedMeasured})`,
    String(row.wrongChunks),
  ];
}
