/**
 * What the NBD server serves: names, and a disk for each. The store stands behind it; tests put memory in its place.
 */

import { StoreError } from '../base/errors.ts';
import type { BlockDevice } from '../volume/device.ts';

export interface ExportSource {
  /** Names of all exports: `volume` and `volume@snapshot`. */
  list(): readonly string[];
  /** Opens an export; whoever asked releases it. @throws NOT_FOUND */
  open(name: string): BlockDevice;
  /** What is to be said of an export, for people; undefined if nothing is. */
  describe?(name: string): string | undefined;
}

/**
 * Opens what a client means by `name`: the empty name is the only volume, if there is exactly one.
 * @throws NOT_FOUND
 */
export function openExport(exports: ExportSource, name: string): BlockDevice {
  if (name !== '') return exports.open(name);
  const volumes = exports.list().filter((candidate) => !candidate.includes('@'));
  if (volumes.length !== 1) throw new StoreError('NOT_FOUND', 'no export is the default one: name one');
  return exports.open(volumes[0]!);
}
