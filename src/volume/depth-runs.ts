/**
 * Where what a version reads comes from: from itself or from a version above it. The answer to qemu:allocation-depth.
 *
 * A chunk that the version has trimmed counts as its own where a trim hides what it inherits: it stands in the way of a
 * deeper one, as a zero cluster of an image does.
 */

import type { PinnedIndex } from '../index/pinned-index.ts';
import type { Lineage } from '../index/pointer-index.ts';
import { PointerBlock, REGION_CHUNKS } from '../index/pointers.ts';
import { DEPTH_INHERITED, DEPTH_NONE, DEPTH_OWN, type StatusRun } from './device.ts';
import type { IndexKeeper } from './index-keeper.ts';
import { pinnedAnswer } from './pinned-answer.ts';
import { StatusRuns } from './status-runs.ts';

/** Regions that one call looks into. */
const REGIONS_MAX = 256;

/** See BlockDevice.depth. @throws IO, CORRUPTION */
export async function depthRuns(
  keeper: IndexKeeper,
  lineage: Lineage,
  offset: number,
  lengthBytes: number,
  runsMax: number,
): Promise<StatusRun[]> {
  return await pinnedAnswer(keeper, async (index) => {
    const list = new StatusRuns(offset, lengthBytes, runsMax);
    const { endRegion } = list;
    for (let region = list.region, looked = 0; looked < REGIONS_MAX; looked++, region++) {
      region = await index.nextRegionLive(lineage.tree, region, endRegion);
      if (!list.pushUntil(region, DEPTH_NONE) || region >= endRegion) break;
      if (!list.pushRegion(region, await depthsIn(index, lineage, region))) break;
    }
    return list.runs;
  });
}

async function depthsIn(index: PinnedIndex, lineage: Lineage, region: number): Promise<Uint8Array> {
  const { tree, label } = lineage;
  const block = new PointerBlock();
  await index.ownPointers([{ tree, region, label }], [block]);
  const all = await index.resolveLive(lineage, region);
  for (const overlay of index.overlays) overlay.mergeVersionInto(block, tree, region, label);
  const depths = new Uint8Array(REGION_CHUNKS);
  for (let i = 0; i < REGION_CHUNKS; i++) {
    if (block.segment(i) !== 0) depths[i] = DEPTH_OWN;
    else if (all.segment(i) !== 0) depths[i] = DEPTH_INHERITED;
  }
  return depths;
}
