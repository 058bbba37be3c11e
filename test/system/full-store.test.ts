/** fio against a store that is as large as it may be: it is told that there is no space, and nothing else, until a snapshot is deleted. */

import { afterEach, describe, expect, it } from 'vitest';
import { Cleanup, type Outcome, pause, runTool } from '../support/programs.ts';
import { ServedStore } from '../support/served-store.ts';
import { requireTools } from '../support/tools.ts';

const MIB = 2 ** 20;
const DISK_BYTES = 16 * MIB;

const cleanup = new Cleanup();
afterEach(() => cleanup.run());

/** Random writes over all of the disk, and whatever else is asked for. */
function fio(store: ServedStore, ...args: string[]): Promise<Outcome> {
  return runTool(
    'fio',
    [
      '--name=full',
      '--ioengine=nbd',
      `--uri=${store.uri('disk')}`,
      '--bs=4k',
      '--iodepth=32',
      `--size=${DISK_BYTES}`,
      '--randseed=7',
      '--verify_state_save=0',
      ...args,
    ],
    { cwd: store.scratch },
  );
}

async function roomOf(store: ServedStore): Promise<string> {
  const { room } = JSON.parse(await store.coppice('--json', 'status')) as { room: { state: string } };
  return room.state;
}

describe.skipIf(!requireTools(['fio']))('a store that a snapshot has filled', () => {
  it.each([false, true])(
    'refuses fio with ENOSPC alone, reads on, and goes on when the snapshot is deleted (killed meanwhile: %s)',
    async (isKilled) => {
      const store = await ServedStore.make(cleanup, ['--segment-size', '1M', '--capacity', '28M']);
      await store.coppice('create', 'disk', '--size', String(DISK_BYTES));
      await store.start();
      const verified = ['--rw=randwrite', '--verify=crc32c'];
      const written = await fio(store, ...verified, '--do_verify=1');
      expect(written).toMatchObject({ result: 0 });
      await store.coppice('snapshot', 'disk@full');
      const refused = await fio(store, '--rw=randwrite', '--randseed=8');
      expect(refused.result).not.toBe(0);
      const errors = refused.output.match(/error=[^,\n]*|err=\s*\d+[^\n]*/g) ?? [];
      expect(errors.length).toBeGreaterThan(0);
      for (const error of errors) expect(error).toMatch(/No space left on device|28/);
      if (isKilled) {
        await store.kill();
        await store.start();
      }
      // All of the snapshot is there.
      const read = await fio(store, `--uri=${store.uri('disk@full')}`, ...verified, '--verify_only=1');
      expect(read).toMatchObject({ result: 0 });
      await store.coppice('delete', 'disk@full');
      // Its pointers go in the background, then the segments that nothing leads to any more.
      for (let waits = 0; (await roomOf(store)) === 'full'; waits++) {
        expect(waits).toBeLessThan(100);
        await pause(100);
      }
      const again = await fio(store, ...verified, '--do_verify=1', '--randseed=9');
      expect(again).toMatchObject({ result: 0 });
      expect((await store.stop()).code).toBe(0);
      expect(await store.damage()).toBeUndefined();
    },
    120_000,
  );
});
