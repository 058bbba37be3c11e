/** Rules for what people pass in: names and sizes. Pure. */

import { StoreError } from '../base/errors.ts';
import { SECTOR_BYTES, VOLUME_BYTES_MAX } from '../base/units.ts';

const NAME = /^[A-Za-z0-9._-]{1,128}$/;

export function isName(name: string): boolean {
  return NAME.test(name);
}

/** @throws INVALID_ARGUMENT */
export function checkName(name: string, what: 'volume' | 'snapshot'): void {
  if (isName(name)) return;
  const shown = JSON.stringify(name.length > 140 ? `${name.slice(0, 140)}...` : name);
  throw new StoreError(
    'INVALID_ARGUMENT',
    `${shown} is no ${what} name; use 1 to 128 of the characters A-Z a-z 0-9 . _ -`,
  );
}

/** Splits `volume@snapshot`. @throws INVALID_ARGUMENT */
export function splitSnapshotName(name: string): { volume: string; snapshot: string } {
  const at = name.indexOf('@');
  if (at < 0) {
    throw new StoreError('INVALID_ARGUMENT', `${JSON.stringify(name)} names no snapshot; write VOLUME@NAME`);
  }
  const volume = name.slice(0, at);
  const snapshot = name.slice(at + 1);
  checkName(volume, 'volume');
  checkName(snapshot, 'snapshot');
  return { volume, snapshot };
}

export function isVolumeSize(bytes: number): boolean {
  return Number.isSafeInteger(bytes) && bytes > 0 && bytes % SECTOR_BYTES === 0 && bytes <= VOLUME_BYTES_MAX;
}

/** @throws INVALID_ARGUMENT */
export function checkVolumeSize(bytes: number): void {
  if (isVolumeSize(bytes)) return;
  throw new StoreError(
    'INVALID_ARGUMENT',
    `${bytes} is no volume size; it must be a multiple of ${SECTOR_BYTES} from ${SECTOR_BYTES} to 64 TiB`,
  );
}
