/**
 * The index beside an oracle in another language: the same trace of writes, snapshots, clones and deletes leaves the same
 * pointers, label by label, address by address.
 */

import { spawnSync } from 'node:child_process';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { HOLE } from '../../src/index/pointers.ts';
import { Random, seeds } from '../support/random.ts';
import { requireTools } from '../support/tools.ts';
import { IndexRig, type Operation } from './rig.ts';

const ORACLE = path.resolve(import.meta.dirname, '../oracle/versioned_pointers.py');
const ADDRESSES = 12;
const VERSIONS_MAX = 18;
const STEPS = Number(process.env.ORACLE_STEPS ?? 1500);
const TIMEOUT_MS = 300_000;

function draw(random: Random, rig: IndexRig): Operation {
  const kind = random.below(100);
  const visible = rig.visible();
  if (kind < 10 && visible.length < VERSIONS_MAX) return { op: 'snapshot', label: random.pick(rig.heads) };
  if (kind < 16 && visible.length < VERSIONS_MAX && rig.frozen.length > 0)
    return { op: 'clone', label: random.pick(rig.frozen) };
  if (kind < 26 && visible.length > 2) {
    const labels = new Set<number>();
    const count = Math.min(random.pick([1, 1, 1, 2, 3, 5]), visible.length - 1);
    while (labels.size < count) labels.add(random.pick(visible));
    if (rig.heads.some((head) => !labels.has(head))) return { op: 'delete', labels: [...labels] };
  }
  return { op: 'write', label: random.pick(rig.heads), first: random.below(ADDRESSES), count: 1 };
}

/** As the oracle prints them. */
async function pointersOf(rig: IndexRig): Promise<string> {
  const pointers: Record<number, Record<number, number>> = {};
  for (let at = 0; at < ADDRESSES; at++) pointers[at] = {};
  for (const [label, block] of await rig.index.regionBlocks(1, 0)) {
    for (let at = 0; at < ADDRESSES; at++) {
      const segment = block.segment(at);
      if (segment !== 0 && segment !== HOLE) pointers[at]![label] = block.sequence(at);
    }
  }
  return JSON.stringify(pointers);
}

describe.skipIf(!requireTools(['python3']))('the index and the oracle', () => {
  for (const seed of seeds(4)) {
    it(`have the same pointers after the same trace (SEED=${seed}, ${STEPS} steps)`, {
      timeout: TIMEOUT_MS,
    }, async () => {
      const random = new Random(seed);
      const rig = await IndexRig.begin();
      rig.apply({ op: 'create' });
      const trace: string[] = [];
      const found: string[] = [];
      for (let step = 0; step < STEPS; step++) {
        const operation = draw(random, rig);
        rig.apply(operation);
        if (operation.op === 'write')
          trace.push(JSON.stringify(['write', operation.label, operation.first, rig.sequence]));
        else if (operation.op === 'delete') trace.push(JSON.stringify(['delete', operation.labels]));
        else trace.push(JSON.stringify([operation.op, 'label' in operation ? operation.label : 0]));
        if (random.chance(8)) await rig.commit();
        if (!random.chance(6)) continue;
        await rig.prune();
        trace.push(JSON.stringify(['dump']));
        found.push(await pointersOf(rig));
      }
      const oracle = spawnSync('python3', [ORACLE, String(ADDRESSES)], {
        input: `${trace.join('\n')}\n`,
        encoding: 'utf8',
        maxBuffer: 2 ** 28,
      });
      expect(oracle.stderr).toBe('');
      const printed = oracle.stdout.trim().split('\n');
      expect(printed.length).toBe(found.length);
      expect(found.length).toBeGreaterThan(STEPS / 50);
      for (let i = 0; i < found.length; i++) expect(JSON.parse(found[i]!)).toEqual(JSON.parse(printed[i]!));
    });
  }
});
