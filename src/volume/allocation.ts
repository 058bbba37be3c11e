/**
 * Which parts of a disk are stored: the answer to NBD's block status. Works by pointers, not by chunks: what has no
 * rows is passed over whole.
 */

import { CHUNK_BYTES, chunkOf, chunksFor } from '../base/units.ts';
import type { Page } from '../index/pages.ts';
import { HOLE, REGION_CHUNKS } from '../index/pointers.ts';
import type { AllocationRun } from './device.ts';
import type { DiskPages } from './disk-pages.ts';

/** Regions that one call looks into. */
const ALLOCATION_REGIONS_MAX = 256;

/** See BlockDevice.allocation. */
export async function allocationRuns(
  pages: DiskPages,
  offset: number,
  lengthBytes: number,
  runsMax: number,
): Promise<AllocationRun[]> {
  const runs: AllocationRun[] = [];
  const end = offset + lengthBytes;
  const endRegion = Math.ceil(chunksFor(end) / REGION_CHUNKS);
  let at = offset;
  const push = (until: number, allocated: boolean): boolean => {
    const last = runs.at(-1);
    const bytes = Math.min(until, end) - at;
    if (last?.allocated === allocated) last.lengthBytes += bytes;
    else if (runs.length === runsMax) return false;
    else runs.push({ lengthBytes: bytes, allocated });
    at += bytes;
    return true;
  };
  for (let looked = 0; at < end && looked < ALLOCATION_REGIONS_MAX; looked++) {
    let region = Math.floor(chunkOf(at) / REGION_CHUNKS);
    if (pages.find(region) === undefined) {
      const next = await pages.nextRegion(region, endRegion);
      const stored = next < 0 ? end : next * REGION_CHUNKS * CHUNK_BYTES;
      if (stored > at && !push(stored, false)) break;
      if (at >= end) break;
      region = next;
    }
    const page = pages.find(region) ?? (await pages.load(region));
    const regionEnd = Math.min(end, (region + 1) * REGION_CHUNKS * CHUNK_BYTES);
    while (at < regionEnd) {
      const index = chunkOf(at) % REGION_CHUNKS;
      let next = index + 1;
      const allocated = isStored(page, index);
      while (next < REGION_CHUNKS && isStored(page, next) === allocated) next += 1;
      if (!push((region * REGION_CHUNKS + next) * CHUNK_BYTES, allocated)) return runs;
    }
  }
  return runs;
}

function isStored(page: Page, index: number): boolean {
  const segment = page.block.segment(index);
  return segment !== 0 && segment !== HOLE;
}
