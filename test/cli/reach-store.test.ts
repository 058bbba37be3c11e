/** Which door a command gets. */

import net from 'node:net';
import path from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { StoreError } from '../../src/base/errors.ts';
import { reach } from '../../src/cli/reach-store.ts';
import { ControlClient } from '../../src/server/control-client.ts';
import { serveMemory, type Served, temporaryDirectory } from '../server/served.ts';

const ends: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0)) await end();
});

async function served(directory: string): Promise<Served> {
  const one = await serveMemory(undefined, directory);
  ends.push(one.end);
  return one;
}

const never = async (): Promise<never> => {
  throw new Error('opened here');
};

describe('a store', () => {
  it('that a server has is reached through it', async () => {
    const directory = temporaryDirectory();
    const { store } = await served(directory);
    const door = await reach(directory, never);
    expect(door).toBeInstanceOf(ControlClient);
    await door.create('disk', 512);
    await door.close();
    expect(store.list()).toHaveLength(1);
    expect(store.closed).toBe(false);
  });

  it('that nobody has is opened here', async () => {
    expect(await reach(temporaryDirectory(), async () => 'here')).toBe('here');
    expect(await reach(path.join(temporaryDirectory(), 'none'), async () => 'here')).toBe('here');
  });

  it('whose server is just starting is waited for', async () => {
    const directory = temporaryDirectory();
    let attempts = 0;
    const door = await reach(directory, async () => {
      if (++attempts === 2) await served(directory);
      throw new StoreError('LOCKED', 'the store is in use by process 1');
    });
    expect(door).toBeInstanceOf(ControlClient);
    expect(attempts).toBe(2);
    await door.close();
  });

  it('whose server is stopping is opened when that is gone', async () => {
    const directory = temporaryDirectory();
    const { server, store, door } = await served(directory);
    await door.create('disk', 512);
    const disk = await door.disk('disk');
    let open: () => void = () => undefined;
    store.gate = new Promise((resolve) => {
      open = resolve;
    });
    const read = disk.read(0, 512);
    await expect.poll(() => store.requestsRunning).toBe(1);
    const closed = server.close(5000);
    setTimeout(open, 300);
    expect(await reach(directory, async () => 'here')).toBe('here');
    await Promise.all([read, closed]);
  });

  it('whose server hangs up at once is tried again', async () => {
    const directory = temporaryDirectory();
    const rude = net.createServer((socket) => socket.destroy()).listen(path.join(directory, 'control.sock'));
    await new Promise((resolve) => rude.once('listening', resolve));
    setTimeout(() => rude.close(), 300);
    expect(await reach(directory, async () => 'here')).toBe('here');
  });

  it('that stays locked is reported with its owner', async () => {
    let attempts = 0;
    const startedAt = performance.now();
    const reached = reach(temporaryDirectory(), async () => {
      attempts++;
      throw new StoreError('LOCKED', 'the store is in use by process 4711');
    });
    await expect(reached).rejects.toMatchObject({ code: 'LOCKED', message: expect.stringContaining('4711') });
    expect(attempts).toBeGreaterThan(3);
    expect(performance.now() - startedAt).toBeLessThan(5000);
  });

  it('that cannot be opened is reported at once', async () => {
    let attempts = 0;
    const reached = reach(temporaryDirectory(), async () => {
      attempts++;
      throw new StoreError('NOT_A_STORE', 'this is no store');
    });
    await expect(reached).rejects.toMatchObject({ code: 'NOT_A_STORE' });
    expect(attempts).toBe(1);
  });
});
