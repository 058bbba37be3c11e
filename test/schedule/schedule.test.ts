/** What is a schedule, and what is none. */

import { expect, it } from 'vitest';
import { checkedSettings, isSchedule, KEEP_MAX, scheduleProblem } from '../../src/schedule/schedule.ts';
import { scheduleOf } from './rules.ts';

const right = scheduleOf({ monthly: 12, hourly: 24, custom: 5 });

it('has rules in one order, and nothing beside its settings', () => {
  expect(scheduleProblem(right)).toBeUndefined();
  const checked = checkedSettings({ ...right, more: 1 } as typeof right);
  expect(checked.rules.map(({ name }) => name)).toEqual(['hourly', 'monthly', 'custom']);
  expect(Object.keys(checked)).toEqual(['timeZone', 'rules', 'hookBefore', 'hookAfter']);
});

const rule = right.rules[0]!;
const WRONG: [what: string, settings: unknown][] = [
  ['nothing', null],
  ['no rules', { ...right, rules: [] }],
  ['a rule that is none', { ...right, rules: [null] }],
  ['an unknown rule', { ...right, rules: [{ ...rule, name: 'yearly' }] }],
  ['a rule twice', { ...right, rules: [rule, rule] }],
  ['a rule that keeps nothing', { ...right, rules: [{ ...rule, keep: 0 }] }],
  ['a rule that keeps too many', { ...right, rules: [{ ...rule, keep: KEEP_MAX + 1 }] }],
  ['a rule that keeps half a snapshot', { ...right, rules: [{ ...rule, keep: 1.5 }] }],
  ['a rule without a pattern', { ...right, rules: [{ ...rule, cron: 7 }] }],
  ['an empty hook', { ...right, hookBefore: '' }],
  ['a hook of several lines', { ...right, hookAfter: 'a\nb' }],
  ['a hook that is too long', { ...right, hookAfter: 'a'.repeat(1025) }],
  ['no zone', { ...right, timeZone: null }],
];

it.each(WRONG)('is not one with %s', (_what, settings) => {
  expect(scheduleProblem(settings as typeof right)).toMatch(/^\w.*\w$/);
  expect(isSchedule(settings as typeof right)).toBe(false);
});

it('may be in the log though this machine cannot follow it, and cannot be set then', () => {
  const strange = { ...right, timeZone: 'Mars/Olympus' };
  expect(isSchedule(strange)).toBe(true);
  expect(() => checkedSettings(strange)).toThrow(/no time zone/);
  expect(isSchedule({ ...right, since: -1 })).toBe(false);
});
