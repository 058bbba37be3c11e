/**
 * What a schedule is: when snapshots of a volume are made, and how many are kept. Pure.
 *
 * Invariant: a schedule that `scheduleProblem` lets pass has rules that can be followed, each name once. It is kept in the log as
 * it stands here; what `daily` means is in it, so that a later release may mean something else by it.
 */

import { StoreError } from '../base/errors.ts';
import { Calendar, calendarProblem } from './calendar.ts';

const RULE_NAMES = ['hourly', 'daily', 'weekly', 'monthly', 'custom'] as const;
export type RuleName = (typeof RULE_NAMES)[number];

/** A snapshot at each moment of `cron`, and one kept for each of the last `keep` periods that have any. */
export interface Rule {
  readonly name: RuleName;
  readonly cron: string;
  readonly keep: number;
}

export interface ScheduleSettings {
  /** By IANA: what the times of day of the rules are in. */
  readonly timeZone: string;
  readonly rules: readonly Rule[];
  /** Commands that the server runs before and after a snapshot. */
  readonly hookBefore: string | null;
  readonly hookAfter: string | null;
}

export interface Schedule extends ScheduleSettings {
  /** Milliseconds since 1970: what would have been due before is not made up for. */
  readonly since: number;
}

/** Weeks begin on Mondays. */
export const PATTERNS: Readonly<Record<Exclude<RuleName, 'custom'>, string>> = {
  hourly: '0 * * * *',
  daily: '0 0 * * *',
  weekly: '0 0 * * 1',
  monthly: '0 0 1 * *',
};

export const KEEP_MAX = 10_000;
const HOOK_CHARACTERS_MAX = 1024;

/** Why the settings cannot be followed, as a sentence that says what to do; undefined if they can. */
export function scheduleProblem(settings: ScheduleSettings): string | undefined {
  const problem = shapeProblem(settings);
  if (problem !== undefined) return problem;
  for (const { cron } of settings.rules) {
    const wrong = calendarProblem(cron, settings.timeZone);
    if (wrong !== undefined) return wrong;
  }
  return undefined;
}

/** Whether the log may hold it: what time zones and patterns are known may differ from machine to machine. */
export function isSchedule(schedule: Schedule): boolean {
  return shapeProblem(schedule) === undefined && Number.isSafeInteger(schedule.since) && schedule.since >= 0;
}

function shapeProblem(settings: ScheduleSettings): string | undefined {
  if (typeof settings !== 'object' || settings === null) return 'that is no schedule';
  const { timeZone, rules, hookBefore, hookAfter } = settings;
  if (typeof timeZone !== 'string') return 'a schedule has a time zone';
  if (!Array.isArray(rules) || rules.length === 0)
    return 'a schedule needs a rule: --hourly, --daily, --weekly, --monthly or --custom';
  const names = new Set<unknown>();
  for (const rule of rules as Partial<Rule>[]) {
    if (typeof rule !== 'object' || rule === null) return 'a schedule has rules that are none';
    const { name, cron, keep } = rule;
    if (!RULE_NAMES.includes(name as RuleName) || names.has(name))
      return `rules are called ${RULE_NAMES.join(', ')}, each once`;
    names.add(name);
    if (!Number.isInteger(keep) || keep! < 1 || keep! > KEEP_MAX)
      return `a rule keeps 1 to ${KEEP_MAX} snapshots; choose such a number, or leave the rule out`;
    if (typeof cron !== 'string') return 'a rule has a cron pattern';
  }
  for (const hook of [hookBefore, hookAfter])
    if (hook !== null && !isCommand(hook))
      return `a hook is a command of 1 to ${HOOK_CHARACTERS_MAX} printable characters; put more into a script`;
  return undefined;
}

function isCommand(hook: unknown): boolean {
  return typeof hook === 'string' && hook.length <= HOOK_CHARACTERS_MAX && /^\P{Cc}+$/u.test(hook);
}

/** The settings alone, in one order, so that they can be compared and kept. @throws INVALID_ARGUMENT */
export function checkedSettings(settings: ScheduleSettings): ScheduleSettings {
  const problem = scheduleProblem(settings);
  if (problem !== undefined) throw new StoreError('INVALID_ARGUMENT', problem);
  const { timeZone, hookBefore, hookAfter } = settings;
  const rules = RULE_NAMES.flatMap((each) => settings.rules.filter(({ name }) => name === each)).map(
    ({ name, cron, keep }) => ({ name, cron, keep }),
  );
  return { timeZone, rules, hookBefore, hookAfter };
}

/** A rule with its calendar. */
export interface Followed extends Rule {
  readonly calendar: Calendar;
}

/** Calendars by pattern and zone: schedules that have them in common share what is known of them. */
export class Calendars {
  readonly #calendars = new Map<string, Calendar>();
  readonly #followed = new WeakMap<Schedule, readonly Followed[]>();

  /** The rules of a schedule. @throws INVALID_ARGUMENT if they cannot be followed on this machine */
  of(schedule: Schedule): readonly Followed[] {
    let followed = this.#followed.get(schedule);
    if (followed === undefined) {
      const problem = scheduleProblem(schedule);
      if (problem !== undefined) throw new StoreError('INVALID_ARGUMENT', problem);
      followed = schedule.rules.map((rule) => ({
        ...rule,
        calendar: this.#calendar(rule.cron, schedule.timeZone),
      }));
      this.#followed.set(schedule, followed);
    }
    return followed;
  }

  #calendar(pattern: string, timeZone: string): Calendar {
    const key = `${pattern} ${timeZone}`;
    let calendar = this.#calendars.get(key);
    if (calendar === undefined) {
      calendar = new Calendar(pattern, timeZone);
      this.#calendars.set(key, calendar);
    }
    return calendar;
  }
}
