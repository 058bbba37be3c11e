/** How schedules look to people. */

import type { ScheduleSummary } from '../volume/summary.ts';
import { drawFields } from './table.ts';

export function drawSchedule(summary: ScheduleSummary): string {
  const { volume, timeZone, hookBefore, hookAfter, since, last, error } = summary;
  const fields: [string, string][] = [
    ['volume', volume],
    ['keeps', drawRules(summary)],
    ['time zone', timeZone],
  ];
  if (hookBefore !== null) fields.push(['hook before', hookBefore]);
  if (hookAfter !== null) fields.push(['hook after', hookAfter]);
  fields.push(['since', since], ['last', last ?? 'none yet'], ['next', drawDue(summary)]);
  if (error !== null) fields.push(['error', `${error.at}: ${error.message}`]);
  return drawFields(fields);
}

/** What a status has of schedules: nothing where there is none. */
export function statusOfSchedules(schedules: readonly ScheduleSummary[]): [string, string][] {
  return schedules.map((each) => {
    const error = each.error === null ? '' : `, failed at ${each.error.at}: ${each.error.message}`;
    return ['schedule', `${each.volume}: last ${each.last ?? 'none yet'}, next ${drawDue(each)}${error}`];
  });
}

export function drawRules({ rules }: ScheduleSummary): string {
  return rules.map(({ name, cron, keep }) => `${keep} ${name === 'custom' ? `at ${cron}` : name}`).join(', ');
}

export function drawDue({ replica, nextDue }: ScheduleSummary): string {
  return replica ? 'none: a replica receives them' : (nextDue ?? '-');
}
