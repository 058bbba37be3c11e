/** A session of libnbd's own language, Python, on a served volume: what no command of its asks for. */

import { spawnSync } from 'node:child_process';
import path from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { Cleanup, requireHere, tool } from '../support/programs.ts';
import { ServedStore } from '../support/served-store.ts';

const SESSION = path.resolve(import.meta.dirname, 'libnbd-session.py');

/** The first one may be another than the system's, which has the module. */
const python = ['python3', '/usr/bin/python3'].find(
  (program) => spawnSync(program, ['-c', 'import nbd']).status === 0,
);

const cleanup = new Cleanup();
afterEach(() => cleanup.run(), 60_000);

describe.skipIf(!requireHere(python === undefined ? ['python3-libnbd'] : []))('a session of libnbd', () => {
  it('finds structured replies, contexts, zeroes, trims, cache and several connections as they should be', async () => {
    const store = await ServedStore.make(cleanup);
    await store.coppice('create', 'disk', '--size', '16M');
    await store.start();
    expect(await tool(python!, [SESSION, store.uri('disk')])).toContain('all of it holds');
    expect((await store.stop()).code).toBe(0);
    expect(await store.damage()).toBeUndefined();
  }, 120_000);
});
