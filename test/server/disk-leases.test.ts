/** Disks that requests share: when they are opened, and when they are given back. */

import { beforeEach, describe, expect, it } from 'vitest';
import type { Clock } from '../../src/base/clock.ts';
import { StoreError } from '../../src/base/errors.ts';
import { DiskLeases } from '../../src/server/disk-leases.ts';
import { StoreDoor } from '../../src/server/store-door.ts';
import { MemoryStore } from './memory-store.ts';

/** Time that passes when a test says so. */
class Stopwatch implements Clock {
  #now = 0;
  readonly #actions = new Set<{ at: number; action: () => void }>();

  now(): number {
    return this.#now;
  }

  after(delayMs: number, action: () => void): () => void {
    const planned = { at: this.#now + delayMs, action };
    this.#actions.add(planned);
    return () => this.#actions.delete(planned);
  }

  async pass(ms: number): Promise<void> {
    this.#now += ms;
    for (const planned of this.#actions) {
      if (planned.at > this.#now) continue;
      this.#actions.delete(planned);
      planned.action();
    }
    await new Promise((resolve) => setImmediate(resolve));
  }
}

describe('a leased disk', () => {
  let store: MemoryStore;
  let clock: Stopwatch;
  let leases: DiskLeases;

  beforeEach(async () => {
    store = new MemoryStore();
    clock = new Stopwatch();
    leases = new DiskLeases(new StoreDoor(store), clock);
    await store.createVolume('disk', 4096);
  });

  const read = async (): Promise<Buffer> => await leases.use('disk', async (disk) => await disk.read(0, 512));

  it('is kept for the next request, and given back after a pause', async () => {
    await read();
    await clock.pass(1000);
    await read();
    await clock.pass(1999);
    expect(store).toMatchObject({ devicesOpened: 1, openDevices: 1 });
    await clock.pass(1);
    expect(store).toMatchObject({ devicesOpened: 1, openDevices: 0 });
    await read();
    expect(store).toMatchObject({ devicesOpened: 2, openDevices: 1 });
  });

  it('is not given back while a request uses it, however long that takes', async () => {
    let open: () => void = () => undefined;
    store.gate = new Promise((resolve) => {
      open = resolve;
    });
    const slow = read();
    await clock.pass(60_000);
    expect(store.openDevices).toBe(1);
    leases.close();
    await clock.pass(60_000);
    expect(store.openDevices).toBe(1);
    open();
    await slow;
    await clock.pass(0);
    expect(store.openDevices).toBe(0);
  });

  it('is given back after a request that failed', async () => {
    store.readsLeft = 0;
    await expect(read()).rejects.toMatchObject({ code: 'CORRUPTION' });
    await clock.pass(2000);
    expect(store.openDevices).toBe(0);
  });

  it('is opened anew by the next request once its version was taken away', async () => {
    await read();
    const gone = leases.use('disk', () => Promise.reject(new StoreError('CLOSED', 'disk was taken away')));
    await expect(gone).rejects.toThrow('taken away');
    await clock.pass(0);
    expect(store).toMatchObject({ devicesOpened: 1, openDevices: 0 });
    await read();
    await clock.pass(0);
    expect(store).toMatchObject({ devicesOpened: 2, openDevices: 1 });
  });

  it('is given back at the end', async () => {
    await read();
    leases.close();
    await clock.pass(0);
    expect(store.openDevices).toBe(0);
  });
});
