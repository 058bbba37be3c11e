/** The door of a real store: what its answers are worth when the power goes. */

import { describe, expect, it } from 'vitest';
import { StoreDoor } from '../../src/server/store-door.ts';
import { CrashRig } from '../volume/crash-rig.ts';

const MIB = 2 ** 20;

async function withSnapshot(): Promise<{ rig: CrashRig; door: StoreDoor }> {
  const rig = await CrashRig.begin();
  await rig.open();
  const door = new StoreDoor(rig.store);
  await door.create('disk', MIB);
  await door.snapshot(['disk@a']);
  await door.flush();
  return { rig, door };
}

/** What is left when the power goes now. */
async function afterPowerCut(rig: CrashRig): Promise<StoreDoor> {
  rig.crash();
  await rig.open();
  return new StoreDoor(rig.store);
}

describe('what a store door has answered', () => {
  it('is on the disk at once if it is a hold', async () => {
    const { rig, door } = await withSnapshot();
    await door.hold('disk@a', { owner: 'backup', reason: 'nightly' });
    const again = await afterPowerCut(rig);
    expect((await again.show('disk@a')).holds).toMatchObject([{ owner: 'backup', reason: 'nightly' }]);
    await expect(again.delete(['disk@a'], {})).rejects.toMatchObject({ code: 'HELD' });
    await rig.close();
  });

  it('is on the disk when it is flushed, all of it', async () => {
    const { rig, door } = await withSnapshot();
    await door.clone('disk@a', 'copy');
    await door.rename('copy', 'renamed');
    await door.resize('renamed', 2 * MIB, {});
    await door.setPriority('disk@a', -7);
    await door.delete(['disk'], { recursive: true });
    const before = await door.list();
    await door.flush();
    const again = await afterPowerCut(rig);
    expect(await again.list()).toEqual(before);
    expect(before).toMatchObject([{ name: 'renamed', size: 2 * MIB }]);
    await rig.close();
  });
});

describe('a disk of a store door', () => {
  it('keeps its version from being deleted, until it is released or --force is given', async () => {
    const { rig, door } = await withSnapshot();
    const disk = await door.disk('disk@a');
    const refused = expect(door.delete(['disk@a'], {})).rejects.toMatchObject({ code: 'IN_USE' });
    await rig.rest();
    rig.clock.advance(1000); // what a client gets that has just hung up
    await refused;
    await door.delete(['disk@a'], { force: true });
    await expect(disk.read(0, 512)).rejects.toMatchObject({ code: 'CLOSED' });
    disk.release();
    const other = await door.disk('disk');
    other.release();
    expect(await door.delete(['disk'], {})).toEqual(['disk']);
    await rig.close();
  });

  it('gets a moment to be released: its client may have just hung up', async () => {
    const { rig, door } = await withSnapshot();
    const disk = await door.disk('disk@a');
    const deleted = door.delete(['disk@a'], {});
    await rig.rest();
    rig.clock.advance(500);
    disk.release();
    expect(await deleted).toEqual(['disk@a']);
    await rig.close();
  });

  it('is not the only one: whoever has attached is told when it is taken back', async () => {
    const { rig, door } = await withSnapshot();
    const told: string[] = [];
    for (const name of ['disk', 'disk@a']) {
      const device = rig.store.device(name);
      device.attach(() => {
        told.push(name);
        device.release();
      });
    }
    await door.rollback('disk@a', { force: true });
    expect(told).toEqual(['disk']);
    await door.delete(['disk'], { recursive: true, force: true });
    expect(told).toEqual(['disk', 'disk@a']);
    await rig.close();
  });
});
