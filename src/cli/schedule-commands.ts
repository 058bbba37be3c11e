/**
 * The commands about schedules: set, end, show, list; and prune. No policy: what is due, and what is kept, is for the store to say.
 */

import { StoreError } from '../base/errors.ts';
import { PATTERNS, type Rule, type ScheduleSettings } from '../schedule/schedule.ts';
import type { Door } from '../server/door.ts';
import type { PruneOptions } from '../volume/schedules.ts';
import type { PruneDecision } from '../volume/summary.ts';
import type { Output } from './output.ts';
import { type Column, printRows } from './row-stream.ts';
import { drawDue, drawRules, drawSchedule } from './schedule-drawing.ts';
import { drawTable } from './table.ts';

/** The options of `coppice schedule`, as they were given. */
export interface ScheduleWords {
  readonly hourly?: string;
  readonly daily?: string;
  readonly weekly?: string;
  readonly monthly?: string;
  readonly custom?: string;
  readonly keep?: string;
  readonly timeZone?: string;
  readonly hookBefore?: string;
  readonly hookAfter?: string;
}

/** @throws INVALID_ARGUMENT */
export function settingsOf(words: ScheduleWords): ScheduleSettings {
  const rules: Rule[] = [];
  for (const name of ['hourly', 'daily', 'weekly', 'monthly'] as const) {
    const word = words[name];
    if (word !== undefined) rules.push({ name, cron: PATTERNS[name], keep: parseCount(word, `--${name}`) });
  }
  const { custom, keep, timeZone = 'UTC', hookBefore = null, hookAfter = null } = words;
  if ((custom === undefined) !== (keep === undefined))
    throw new StoreError('INVALID_ARGUMENT', '--custom and --keep go together: when, and how many are kept');
  if (custom !== undefined)
    rules.push({
      name: 'custom',
      cron: custom.trim().replace(/\s+/g, ' '),
      keep: parseCount(keep!, '--keep'),
    });
  return { timeZone, rules, hookBefore, hookAfter };
}

/** A whole number; how many may be is for the store to say. @throws INVALID_ARGUMENT */
function parseCount(word: string, option: string): number {
  if (/^\d{1,9}$/.test(word)) return Number(word);
  throw new StoreError(
    'INVALID_ARGUMENT',
    `${option}: ${JSON.stringify(word)} is no number; write how many snapshots to keep, such as 7`,
  );
}

export async function setSchedule(
  door: Door,
  output: Output,
  volume: string,
  settings: ScheduleSettings,
): Promise<void> {
  const summary = await door.schedules.set(volume, settings);
  output.print(summary, () => drawSchedule(summary!));
}

export async function endSchedule(door: Door, output: Output, volume: string): Promise<void> {
  await door.schedules.set(volume, null);
  output.print(null, () => `${volume} has no schedule; its snapshots stay\n`);
}

export async function showSchedule(door: Door, output: Output, volume: string): Promise<void> {
  await door.show(volume); // a name that there is not is another thing than a volume without
  const found = (await door.schedules.list()).find((each) => each.volume === volume) ?? null;
  const advice = `give it one with \`coppice schedule ${volume} --daily 7\``;
  output.print(found, () =>
    found === null ? `${volume} has no schedule; ${advice}\n` : drawSchedule(found),
  );
}

export async function listSchedules(door: Door, output: Output): Promise<void> {
  const schedules = await door.schedules.list();
  output.print(schedules, () => {
    if (schedules.length === 0) return 'no volume has a schedule; see coppice schedule --help\n';
    const rows = schedules.map((each) => [
      each.volume,
      drawRules(each),
      each.timeZone,
      each.last ?? '-',
      drawDue(each),
      each.error?.message ?? '-',
    ]);
    return drawTable(['VOLUME', 'KEEPS', 'ZONE', 'LAST', 'NEXT', 'ERROR'], rows);
  });
}

const DECISION_COLUMNS: readonly Column<PruneDecision>[] = [
  ['SNAPSHOT', (row) => row.snapshot],
  ['CREATED', (row) => row.created],
  ['VERDICT', (row) => row.verdict],
  ['WHY', (row) => row.why.join('; ')],
];

export async function prune(door: Door, output: Output, options: PruneOptions): Promise<void> {
  const decisions = await door.schedules.prune(options);
  if (!options.dryRun) await door.flush();
  await printRows(output, DECISION_COLUMNS, each(decisions), 'no snapshots of volumes with a schedule');
}

async function* each<T>(items: readonly T[]): AsyncGenerator<T> {
  yield* items;
}
