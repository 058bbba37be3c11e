/**
 * What the NBD server serves: names, and a disk for each. The store stands behind it; tests put memory in its place.
 */

import { StoreError } from '../base/errors.ts';
import type { BlockDevice } from '../volume/device.ts';
import type { Grant } from './access-rules.ts';

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

/** What one client is offered. */
export interface Offer {
  readonly exports: ExportSource;
  /** Every export is read-only. */
  readonly readOnly: boolean;
}

/** Of all exports those that a client may have; it sees no trace of the others. */
export function offerOf(exports: ExportSource, grant: Grant, readOnly: boolean): Offer {
  return {
    exports: grant.offersAll ? exports : new GrantedExports(exports, grant),
    readOnly: readOnly || grant.readOnly,
  };
}

class GrantedExports implements ExportSource {
  readonly #all: ExportSource;
  readonly #grant: Grant;

  constructor(all: ExportSource, grant: Grant) {
    this.#all = all;
    this.#grant = grant;
  }

  list(): readonly string[] {
    return this.#all.list().filter((name) => this.#grant.offers(name));
  }

  open(name: string): BlockDevice {
    this.#require(name);
    return this.#all.open(name);
  }

  describe(name: string): string | undefined {
    this.#require(name);
    return this.#all.describe?.(name);
  }

  /** Before anything is looked up: what is refused takes as long as what does not exist. */
  #require(name: string): void {
    if (!this.#grant.offers(name)) throw new StoreError('NOT_FOUND', 'there is no such export');
  }
}
