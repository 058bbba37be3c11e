/** Changes that come through the control server, and the disks that its requests share. */

import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { StoreError } from '../../src/base/errors.ts';
import type { Disk, Door } from '../../src/server/door.ts';
import { MemoryStore } from './memory-store.ts';
import { serveMemory, type Served } from './served.ts';

const MIB = 2 ** 20;

describe('a disk that requests share', () => {
  let store: MemoryStore;
  let door: Door;
  let one: Served;
  let disk: Disk;

  beforeEach(async () => {
    store = new MemoryStore();
    one = await serveMemory(store);
    ({ door } = one);
    await door.create('disk', MIB);
    await door.snapshot(['disk@a']);
    disk = await door.disk('disk');
    await disk.write(0, [Buffer.alloc(4096, 1)]);
  });
  afterEach(async () => await one.end());

  const CHANGES: [what: string, change: () => Promise<unknown>][] = [
    ['a delete', () => door.delete(['disk'], {})],
    ['a rollback', () => door.rollback('disk@a', {})],
    ['a demotion', () => door.demote('disk', {})],
  ];

  it.each(CHANGES)(
    'is nobody’s when %s begins: a pause between two requests is no use',
    async (_what, change) => {
      expect(store.attachedDevices).toBe(1);
      let attached: number | undefined;
      const note = async (): Promise<never> => {
        await new Promise((resolve) => setImmediate(resolve));
        attached = store.attachedDevices;
        throw new StoreError('HELD', 'seen enough');
      };
      store.delete = note;
      store.rollback = note;
      store.roles.demote = note;
      await expect(change()).rejects.toMatchObject({ code: 'HELD' });
      expect(attached).toBe(0);
    },
  );

  it.each<[what: string, change: () => Promise<unknown>]>([
    ...CHANGES,
    ['a promotion', () => door.promote('disk')],
    ['a rename', () => door.rename('disk', 'other')],
    ['a resize', () => door.resize('disk', 2 * MIB, {})],
  ])('is opened anew after %s, even one that failed', async (_what, change) => {
    const { devicesOpened } = store;
    // Somebody reads while the change is under way, and has the disk of before.
    let reading: Promise<unknown> | undefined;
    const read = async (): Promise<never> => {
      reading = disk.read(0, 512);
      await expect.poll(() => store.requestsRunning).toBe(1);
      throw new StoreError('NO_SPACE', 'the store is full');
    };
    Object.assign(store.roles, { promote: read, demote: read });
    Object.assign(store, { delete: read, rollback: read, rename: read, resize: read });
    store.requestMs = 50;
    await expect(change()).rejects.toMatchObject({ code: 'NO_SPACE' });
    await reading;
    await expect.poll(() => store.openDevices).toBe(0);
    const opened = store.devicesOpened;
    expect(opened).toBeGreaterThanOrEqual(devicesOpened);
    await disk.read(0, 512);
    expect(store.devicesOpened).toBe(opened + 1);
  });

  it('is the one that has the name after a rename', async () => {
    await door.rename('disk', 'old');
    await door.create('disk', MIB);
    await disk.write(0, [Buffer.alloc(4096, 2)]);
    expect(store.contents('old')[0]).toBe(1);
    expect(store.contents('disk')[0]).toBe(2);
  });

  it('has the size that it was given', async () => {
    await door.resize('disk', 2 * MIB, {});
    expect(await door.disk('disk')).toMatchObject({ sizeBytes: 2 * MIB });
    expect(await disk.read(2 * MIB - 512, 512)).toHaveLength(512);
  });

  it('is gone after a delete', async () => {
    await door.delete(['disk'], {});
    await expect(disk.read(0, 512)).rejects.toMatchObject({ code: 'NOT_FOUND' });
    expect(store.openDevices).toBe(0);
  });
});
