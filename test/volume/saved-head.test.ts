/** What a rollback and a demotion keep of a volume whose newest snapshot is one that goes by itself. */

import { describe, expect, it } from 'vitest';
import { Store } from '../../src/volume/store.ts';
import { onStore, scratchDirectory, write } from '../support/stores.ts';
import { contents } from './replicas.ts';

const BYTES = 16 * 4096;

/** A volume that is as its newest snapshot, which somebody else than a person may delete; answers what it has. */
async function unchanged(
  maker: 'target' | 'schedule' | undefined,
  priority = 0,
): Promise<{ store: Store; before: Buffer }> {
  const directory = scratchDirectory();
  await Store.init(directory, { segmentBytes: 1 << 20 });
  const store = await Store.open(directory);
  await store.createVolume('disk', BYTES);
  await store.snapshot(['disk@monday']);
  await onStore(store, 'disk', (device) => write(device, 0, Buffer.alloc(4096, 0xaa)));
  await store.snapshot(['disk@made'], maker);
  if (priority !== 0) await store.setPriority('disk@made', priority);
  return { store, before: await contents(store, 'disk') };
}

describe('a volume that is as its newest snapshot', () => {
  it.each(['target', 'schedule'] as const)(
    'is saved by a rollback and by a demotion, if a %s has made that',
    async (maker) => {
      const { store, before } = await unchanged(maker);
      const { saved: demoted } = await store.roles.demote('disk', {});
      await store.roles.promote('disk');
      const { saved: rolledBack } = await store.rollback('disk@monday', {});
      await store.delete(['disk@made']);
      expect(await contents(store, demoted!)).toEqual(before);
      // What the demotion has saved stays.
      expect(rolledBack).toBeNull();
      await store.close();
    },
  );

  it('is saved by a rollback if that is expendable', async () => {
    const { store, before } = await unchanged(undefined, -1);
    const { saved } = await store.rollback('disk@monday', {});
    expect(await contents(store, saved!)).toEqual(before);
    await store.close();
  });

  it('is saved by a rollback if a target has made that', async () => {
    const { store, before } = await unchanged('target');
    const { saved } = await store.rollback('disk@monday', {});
    await store.delete(['disk@made']);
    expect(await contents(store, saved!)).toEqual(before);
    await store.close();
  });

  it('is not saved once more if a person has made that', async () => {
    const { store } = await unchanged(undefined);
    expect((await store.rollback('disk@monday', {})).saved).toBeNull();
    await store.close();
  });
});
