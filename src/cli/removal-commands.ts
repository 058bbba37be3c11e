/**
 * The commands that take something away or protect it: delete, rollback, rename, resize, hold, release, priority. No storage
 * logic: what is refused, and why, is for the store to say.
 */

import { StoreError } from '../base/errors.ts';
import type { Door } from '../server/door.ts';
import type { DeleteOptions, ResizeOptions, RollbackOptions } from '../volume/version-removal.ts';
import type { Output } from './output.ts';
import { formatSize } from './size.ts';
import { spanOf } from './span.ts';

export async function deleteVersions(
  door: Door,
  output: Output,
  names: readonly string[],
  options: DeleteOptions,
): Promise<void> {
  const gone = await door.delete(names, options);
  output.print({ deleted: gone }, () => gone.map((name) => `deleted ${name}\n`).join(''));
}

export async function rollBack(
  door: Door,
  output: Output,
  name: string,
  options: RollbackOptions,
): Promise<void> {
  const rolledBack = await door.rollback(name, options);
  const { volume, saved } = rolledBack;
  output.print(rolledBack, () => {
    const kept = saved === null ? 'it had not changed since a snapshot' : `what it was before is ${saved}`;
    return `rolled ${volume.name} back to ${name}; ${kept}\n`;
  });
}

export async function rename(door: Door, output: Output, name: string, to: string): Promise<void> {
  const renamed = await door.rename(name, to);
  output.print(renamed, () => `renamed ${name} to ${renamed.name}\n`);
}

export async function resize(
  door: Door,
  output: Output,
  name: string,
  sizeBytes: number,
  options: ResizeOptions,
): Promise<void> {
  const volume = await door.resize(name, sizeBytes, options);
  output.print(
    volume,
    () => `${volume.name} has ${formatSize(volume.size)} now; clients see it when they reconnect\n`,
  );
}

export async function hold(
  door: Door,
  output: Output,
  name: string,
  options: { owner: string; reason?: string; until?: string },
  now: number,
): Promise<void> {
  const { owner, reason, until } = options;
  const snapshot = await door.hold(name, {
    owner,
    ...(reason === undefined ? {} : { reason }),
    ...(until === undefined ? {} : { until: parseTime(until, now) }),
  });
  output.print(snapshot, () => `${owner} holds ${snapshot.name}\n`);
}

export async function release(door: Door, output: Output, name: string, owner: string): Promise<void> {
  const snapshot = await door.release(name, owner);
  output.print(snapshot, () => `${owner} no longer holds ${snapshot.name}\n`);
}

export async function setPriority(door: Door, output: Output, name: string, text: string): Promise<void> {
  const snapshot = await door.setPriority(name, parsePriority(text));
  output.print(snapshot, () => `${snapshot.name} has priority ${snapshot.priority}\n`);
}

/** A whole number; which ones there are is for the store to say. @throws INVALID_ARGUMENT */
function parsePriority(text: string): number {
  if (/^[+-]?\d{1,9}$/.test(text)) return Number(text);
  throw new StoreError(
    'INVALID_ARGUMENT',
    `${JSON.stringify(text)} is no priority; write a whole number from -128 to 127`,
  );
}

/** A day is that of UTC; a time of day without a zone is this machine's. */
const DATE = /^(\d{4}-\d\d-\d\d)(?:T\d\d:\d\d(?::\d\d(?:\.\d{1,3})?)?(?:Z|[+-]\d\d:\d\d)?)?$/;

/** False for a 31 February, which JavaScript takes for 3 March. */
function isDay(day: string): boolean {
  const at = Date.parse(day);
  return Number.isFinite(at) && new Date(at).toISOString().startsWith(day);
}

/** A moment: `2027-01-31`, `2027-01-31T12:00:00Z`, or from now on: `90m`, `12h`, `7d`, `2w`. @throws INVALID_ARGUMENT */
export function parseTime(text: string, now: number): number {
  const span = spanOf(text);
  if (span !== undefined) return now + span;
  const day = DATE.exec(text)?.[1];
  const at = day === undefined || !isDay(day) ? Number.NaN : Date.parse(text);
  if (Number.isFinite(at)) return at;
  throw new StoreError(
    'INVALID_ARGUMENT',
    `${JSON.stringify(text)} is no time; write 2027-01-31, 2027-01-31T12:00:00Z, or a span such as 12h or 7d`,
  );
}
