/** Random histories of versions: writes, zeros of any length, snapshots, clones of clones. */

import { REGION_CHUNKS } from '../../src/index/pointers.ts';
import type { Random } from '../support/random.ts';
import type { IndexRig, Operation } from './rig.ts';

/** Regions in different leaves, middle nodes, and at the end of the largest disk. */
const REGIONS = [0, 1, 2, 255, 256, 131_071, 131_072, 2 ** 26 - 2, 2 ** 26 - 1];
const DISK_CHUNKS = 2 ** 34;

function randomWrite(random: Random, label: number): Operation {
  const first = random.pick(REGIONS) * REGION_CHUNKS + random.below(REGION_CHUNKS);
  const count = Math.min(random.pick([1, 1, 1, 2, 16, 64, 300]), DISK_CHUNKS - first);
  return { op: 'write', label, first, count };
}

function randomZero(random: Random, label: number): Operation {
  const first = random.chance(20) ? 0 : random.pick(REGIONS) * REGION_CHUNKS + random.below(REGION_CHUNKS);
  const count = random.pick([1, 3, 40, 256, 700, 70_000, 2 ** 26, DISK_CHUNKS]);
  return { op: 'zero', label, first, count: Math.min(count, DISK_CHUNKS - first) };
}

export function randomOperation(random: Random, rig: IndexRig, versionsMax: number): Operation {
  const label = rig.heads.length === 0 ? 0 : random.pick(rig.heads);
  if (label === 0) return { op: 'create' };
  const kind = random.below(100);
  if (kind < 6 && rig.own.size < versionsMax) {
    if (rig.frozen.length === 0 || kind < 4) return { op: 'snapshot', label };
    return kind === 4 ? { op: 'create' } : { op: 'clone', label: random.pick(rig.frozen) };
  }
  return kind < 80 ? randomWrite(random, label) : randomZero(random, label);
}
