/**
 * Sizes as people write them (`20G`, `512MiB`, `1.5T`, `4096`) and as they like to read them. Pure.
 *
 * K, M, G and T are powers of 1024 with or without `iB` or `B`, in either case: disks are made of sectors, and
 * `20GB` that is not 20 GiB would be a disk that its guest calls crooked.
 */

import { StoreError } from '../base/errors.ts';
import { SECTOR_BYTES } from '../base/units.ts';

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'] as const;
const SIZE = /^(?<number>\d+(?:\.\d+)?)(?:(?<unit>[KMGT])(?:i?B)?|B)?$/i;
const EXAMPLES = 'write it like 20G, 512MiB, or a plain number of bytes';

/**
 * The bytes that `text` means. @throws INVALID_ARGUMENT naming `what`
 *
 * Plain arithmetic will do: a unit is a power of two, so only reading the decimals rounds, and that by less than a
 * hundredth of a byte at 64 TiB. What is not whole sectors then, was not meant to be.
 */
export function parseSize(text: string, what: string): number {
  const groups = SIZE.exec(text)?.groups;
  if (groups === undefined) {
    const problem = text.startsWith('-') ? 'is negative' : 'is not a size';
    throw new StoreError('INVALID_ARGUMENT', `${what} '${text}' ${problem}: ${EXAMPLES}`);
  }
  const { number = '', unit = '' } = groups;
  const bytes = Number(number) * 1024 ** ' KMGT'.indexOf(unit.toUpperCase() || ' ');
  if (bytes === 0) throw new StoreError('INVALID_ARGUMENT', `${what} '${text}' is zero: ${EXAMPLES}`);
  if (bytes > Number.MAX_SAFE_INTEGER) {
    throw new StoreError('INVALID_ARGUMENT', `${what} '${text}' is absurd: nothing here is that large`);
  }
  if (number.includes('.') && bytes % SECTOR_BYTES !== 0) {
    throw new StoreError(
      'INVALID_ARGUMENT',
      `${what} '${text}' is not a whole number of ${SECTOR_BYTES}-byte sectors`,
    );
  }
  return bytes;
}

/** `bytes` in the largest unit that keeps it at one or more; two decimals at most, exact numbers without. */
export function formatSize(bytes: number): string {
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < UNITS.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${Number(value.toFixed(2))} ${UNITS[unit]}`;
}
