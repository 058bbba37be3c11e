/**
 * A store that is as large as it may be: snapshots keep what is written over, until changes are refused with ENOSPC and with
 * nothing else, while reads, flushes and trims go on. Deleting snapshots is enough for all to go on, without a restart. Whoever is
 * killed at that moment loses nothing.
 */

import path from 'node:path';
import { NBD_ENOSPC } from '../../src/nbd/protocol.ts';
import { tail } from '../../test/support/programs.ts';
import { endOfStore, type Counts, type Rig, type RigOptions } from './rig.ts';
import { TorturedStore } from './tortured-store.ts';

const INIT_OPTIONS = ['--segment-size', '1M', '--capacity', '28M'];
const ROUNDS_PER_STORE = 10;
/** Requests that are refused before something else happens. */
const REFUSED_MIN = 20;
/** Changes that are answered once there is room. */
const ANSWERED_MIN = 200;
const FILL_MS_MAX = 120_000;
const WAIT_MS_MAX = 5_000;

async function run({ random, rounds, scratch, cleanup, say }: RigOptions): Promise<Counts> {
  const counts: Counts = { refused: 0, 'snapshots deleted': 0, 'room again': 0, kills: 0 };
  let store: TorturedStore | undefined;
  for (let round = 1; round <= rounds; round++) {
    if ((round - 1) % ROUNDS_PER_STORE === 0) {
      const directory = path.join(scratch, `store${round}`);
      store = await TorturedStore.make(cleanup, directory, random, INIT_OPTIONS);
    }
    await fillUp(store!, random.pick([2, 10, 30]), counts);
    if (random.chance(50)) {
      await makeRoom(store!, counts);
      await store!.unload();
      store!.history.keepAll();
      await store!.compare();
      counts['room again'] = counts['room again']! + 1;
    } else {
      await store!.server.kill();
      await store!.unload();
      store!.history.keepAll();
      await store!.recover();
      counts.kills = counts.kills! + 1;
    }
    store!.mayFailWith.clear();
    say(`round ${round}: ${counts.refused} refused, ${counts['snapshots deleted']} snapshots deleted`);
    if (round % ROUNDS_PER_STORE !== 0 && round !== rounds) continue;
    await store!.stop();
    await endOfStore(store!, counts);
  }
  return counts;
}

/** Clients write, others take snapshots, until there is no room. */
async function fillUp(store: TorturedStore, flushPercent: number, counts: Counts): Promise<void> {
  store.mayFailWith.add(NBD_ENOSPC);
  await store.load(flushPercent);
  if (!(await store.until(() => store.refusedCount >= REFUSED_MIN, FILL_MS_MAX)))
    throw new Error(`only ${store.refusedCount} were refused\n${tail(store.server.log)}`);
  counts.refused = counts.refused! + store.refusedCount;
}

/** Deletes one snapshot after the other until clients go on. */
async function makeRoom(store: TorturedStore, counts: Counts): Promise<void> {
  const control = await store.server.control();
  try {
    for (;;) {
      const [name] = store.history.snapshots.keys();
      if (name === undefined)
        throw new Error(`no snapshot is left, and nothing goes on\n${tail(store.server.log)}`);
      store.history.forget(name);
      await control.delete([name], {});
      counts['snapshots deleted'] = counts['snapshots deleted']! + 1;
      const answered = store.answered;
      if (await store.until(() => store.answered > answered + ANSWERED_MIN, WAIT_MS_MAX)) return;
    }
  } finally {
    await control.close();
  }
}

export const fullCapacity: Rig = {
  name: 'full-capacity',
  does: 'snapshots fill a store: ENOSPC for changes and for nothing else, and room when some are deleted',
  tools: [],
  missing: () => [],
  rounds: 50,
  run,
};
