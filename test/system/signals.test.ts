/** CVE-2015-0847: a server that hangs, or dies, because of signals that come while it works. */

import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Cleanup, pause, Program } from '../support/programs.ts';
import { ServedStore } from '../support/served-store.ts';
import { requireTools } from '../support/tools.ts';

const cleanup = new Cleanup();
let store: ServedStore;
beforeEach(async () => {
  store = await ServedStore.make(cleanup);
  await store.coppice('create', 'disk', '--size', '64M');
  await store.start();
}, 60_000);
afterEach(() => cleanup.run(), 60_000);

describe.skipIf(!requireTools(['fio']))('CVE-2015-0847: signals under load', () => {
  it('1,000 that mean nothing change nothing, and many that mean the end are one', async () => {
    const args = ['--name=load', '--ioengine=nbd', `--uri=${store.uri('disk')}`, '--rw=randrw', '--bs=4k'];
    const load = new Program('fio', [...args, '--iodepth=16', '--size=16m', '--time_based', '--runtime=6']);
    await pause(1000);
    for (let count = 0; count < 1000; count++) {
      for (const signal of ['SIGCHLD', 'SIGCONT', 'SIGWINCH', 'SIGURG'] as const) store.signal(signal);
      if (count % 50 === 0) await pause(50);
    }
    expect(await load.ended).toBe(0);
    expect(load.output).not.toMatch(/error/i);
    for (const signal of ['SIGTERM', 'SIGHUP', 'SIGTERM', 'SIGINT', 'SIGHUP'] as const) store.signal(signal);
    const ended = await store.stop();
    expect(ended.code).toBe(0);
    expect(ended.tookMs).toBeLessThan(6000);
    expect(await store.damage()).toBeUndefined();
  }, 120_000);
});
