/** Spans of time as people write them: `30s`, `90m`, `12h`, `7d`, `2w`; and as they like to read them. Pure. */

import { StoreError } from '../base/errors.ts';

const UNIT_MS: Record<string, number> = { s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000, w: 604_800_000 };
const READ_IN = ['w', 'd', 'h', 'm', 's'];

/** Milliseconds; undefined if it is no span. */
export function spanOf(text: string): number | undefined {
  const [, number, unit] = /^\+?(\d{1,6})([smhdw])$/.exec(text) ?? [];
  return number === undefined ? undefined : Number(number) * UNIT_MS[unit!]!;
}

/** @throws INVALID_ARGUMENT naming `what` */
export function parseSpan(text: string, what: string): number {
  const span = spanOf(text);
  if (span !== undefined && span > 0) return span;
  throw new StoreError(
    'INVALID_ARGUMENT',
    `${what} '${text}' is no span of time: write it like 30s, 5m, 1h or 7d`,
  );
}

/** In the largest unit of which it is a whole number. */
export function formatSpan(ms: number): string {
  const unit = READ_IN.find((each) => ms % UNIT_MS[each]! === 0);
  return unit === undefined ? `${ms / 1000}s` : `${ms / UNIT_MS[unit]!}${unit}`;
}

/** How long ago: in the largest unit that keeps it at two or more. */
export function formatAge(ms: number): string {
  const unit = READ_IN.find((each) => ms >= 2 * UNIT_MS[each]!) ?? 's';
  return `${Math.floor(ms / UNIT_MS[unit]!)}${unit}`;
}
