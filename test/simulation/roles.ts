/** A client that changes who writes a volume: replicas become volumes that are written, others become replicas. */

import type { Attempt, Surroundings } from './clients.ts';
import { hasCode } from '../../src/base/errors.ts';

export async function changeRole(of: Surroundings, attempt: Attempt): Promise<void> {
  const { store, oracle, random, marks } = of;
  const volumes = store.list().filter(({ kind }) => kind === 'volume');
  if (volumes.length === 0) return;
  const { name, uuid, replica } = random.pick(volumes);
  let isChanged = false;
  let saved: string | null = null;
  const isDone = await attempt(async () => {
    const change = replica ? store.roles.promote(name) : store.roles.demote(name, { force: true });
    const answer = await change.catch((error: unknown) => {
      // Another client came first.
      if (!hasCode(error, 'INVALID_ARGUMENT')) throw error;
    });
    isChanged = answer !== undefined;
    if (answer !== undefined && 'saved' in answer) ({ saved } = answer);
  });
  if (!isDone || !isChanged) return;
  const op = replica ? 'promote' : 'demote';
  oracle.changed((change) => change.op === op && change.volume === uuid, `${op} of ${name}`);
  marks.hit(op);
  if (saved !== null) marks.hit('demote of what had changed');
}
