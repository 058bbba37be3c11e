/**
 * `--limit NAME=VALUE` of `serve`: what NBD clients may take. README.md has the table.
 *
 * Values are numbers, sizes such as 64M, or seconds.
 */

import { StoreError } from '../base/errors.ts';
import { DEFAULT_LIMITS, type NbdLimits } from '../nbd/limits.ts';
import { parseSize } from './size.ts';

interface Limit {
  readonly field: keyof NbdLimits;
  readonly unit: 'count' | 'bytes' | 'seconds';
  readonly least: number;
  readonly most: number;
}

const MIB = 2 ** 20;
const LIMITS: Readonly<Record<string, Limit>> = {
  connections: { field: 'connectionsMax', unit: 'count', least: 1, most: 65536 },
  handshakes: { field: 'handshakesMax', unit: 'count', least: 1, most: 65536 },
  'handshake-time': { field: 'handshakeMsMax', unit: 'seconds', least: 1, most: 3600 },
  accepts: { field: 'acceptsPerSecondMax', unit: 'count', least: 10, most: 1_000_000 },
  options: { field: 'optionsMax', unit: 'count', least: 16, most: 2 ** 20 },
  request: { field: 'requestBytesMax', unit: 'bytes', least: MIB, most: 64 * MIB },
  'connection-memory': { field: 'connectionBytesMax', unit: 'bytes', least: 4 * MIB, most: 2 ** 36 },
  memory: { field: 'serverBytesMax', unit: 'bytes', least: 16 * MIB, most: 2 ** 40 },
  'stall-time': { field: 'stallMsMax', unit: 'seconds', least: 1, most: 3600 },
  'keep-alive': { field: 'keepAliveMs', unit: 'seconds', least: 1, most: 32767 },
};

export const LIMIT_NAMES: readonly string[] = Object.keys(LIMITS);

/** @throws INVALID_ARGUMENT */
export function parseLimits(texts: readonly string[]): Partial<NbdLimits> {
  const limits: Partial<Record<keyof NbdLimits, number>> = {};
  for (const text of texts) {
    const at = text.indexOf('=');
    const name = text.slice(0, Math.max(0, at));
    const limit = Object.hasOwn(LIMITS, name) ? LIMITS[name] : undefined;
    if (limit === undefined)
      throw refusal(`--limit '${text}' names no limit: give NAME=VALUE with ${LIMIT_NAMES.join(', ')}`);
    limits[limit.field] = parseValue(limit, text.slice(at + 1), `--limit ${name}`);
  }
  const { requestBytesMax, connectionBytesMax, serverBytesMax } = { ...DEFAULT_LIMITS, ...limits };
  if (connectionBytesMax < requestBytesMax)
    throw refusal('--limit connection-memory is less than one request takes: make it more, or request less');
  if (serverBytesMax < 2 * requestBytesMax)
    throw refusal('--limit memory is less than two requests take: make it more, or request less');
  return limits;
}

function parseValue({ unit, least, most }: Limit, text: string, what: string): number {
  const value = unit === 'bytes' ? parseSize(text, what) : Number(text === '' ? Number.NaN : text);
  if (!(value >= least && value <= most) || (unit === 'count' && !Number.isInteger(value)))
    throw refusal(`${what} '${text}' is not a value for it: give ${least} to ${most} (${unit})`);
  return unit === 'seconds' ? value * 1000 : value;
}

function refusal(message: string): StoreError {
  return new StoreError('INVALID_ARGUMENT', message);
}
