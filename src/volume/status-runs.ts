/**
 * Describes a range of a disk in runs, region by region: the answer to a question of block status. Pure.
 *
 * Invariants: runs follow each other from the start of the range, and lie in it; neighbours differ; there is at least one.
 */

import { CHUNK_BYTES } from '../base/units.ts';
import { REGION_CHUNKS } from '../index/pointers.ts';
import type { StatusRun } from './device.ts';

const REGION_BYTES = REGION_CHUNKS * CHUNK_BYTES;

export class StatusRuns {
  readonly runs: StatusRun[] = [];
  /** Described up to here. */
  #at: number;
  readonly #end: number;
  readonly #runsMax: number;

  /** Describes `lengthBytes` from `offset` on, or the beginning of that in `runsMax` runs. */
  constructor(offset: number, lengthBytes: number, runsMax: number) {
    this.#at = offset;
    this.#end = offset + lengthBytes;
    this.#runsMax = runsMax;
  }

  /** The region in which the description goes on, and the one at which the range is over. */
  get region(): number {
    return Math.floor(this.#at / REGION_BYTES);
  }

  get endRegion(): number {
    return Math.ceil(this.#end / REGION_BYTES);
  }

  /** All before the region has the status. False if there is no room for another run. */
  pushUntil(region: number, status: number): boolean {
    return this.#push(region * REGION_BYTES, status);
  }

  /** The chunks of the region have these statuses. False if there is no room for another run. */
  pushRegion(region: number, statuses: Uint8Array): boolean {
    let index = Math.floor((this.#at - region * REGION_BYTES) / CHUNK_BYTES);
    while (index < REGION_CHUNKS) {
      let next = index + 1;
      while (next < REGION_CHUNKS && statuses[next] === statuses[index]) next += 1;
      if (!this.#push(region * REGION_BYTES + next * CHUNK_BYTES, statuses[index]!)) return false;
      index = next;
    }
    return true;
  }

  #push(until: number, status: number): boolean {
    const bytes = Math.min(until, this.#end) - this.#at;
    if (bytes <= 0) return true;
    const last = this.runs.at(-1);
    if (last?.status === status) last.lengthBytes += bytes;
    else if (this.runs.length === this.#runsMax) return false;
    else this.runs.push({ lengthBytes: bytes, status });
    this.#at += bytes;
    return true;
  }
}
