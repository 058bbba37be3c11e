/** Compaction of a whole store: what lives stays what it was, wherever it is, and what is dead gives its room back. */

import fs from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { Store } from '../../src/volume/store.ts';
import { damageIn } from '../support/stores.ts';
import { StoreFixture } from './store-fixture.ts';

const segmentsOf = ({ directory }: StoreFixture): string[] =>
  fs.readdirSync(path.join(directory, 'log')).sort();

/** Rounds until nothing is gained any more; answers how many there were. */
async function compactAll(fixture: StoreFixture): Promise<number> {
  let rounds = 0;
  while ((await fixture.store.compactOnce()) !== undefined) {
    rounds += 1;
    if (rounds > 50) throw new Error('compaction does not end');
  }
  return rounds;
}

describe('a store that is compacted', () => {
  it('reads the same in all versions, and takes little more than what lives', async () => {
    const fixture = await StoreFixture.make(11);
    for (let i = 0; i < 12; i++) await fixture.writeSome('a', 40);
    const before = segmentsOf(fixture).length;
    expect(await compactAll(fixture)).toBeGreaterThan(0);
    const { liveBytes, segments } = await fixture.store.status();
    expect(segments).toBeLessThan(before);
    expect(segments).toBeLessThanOrEqual(Math.ceil(liveBytes / (1 << 20)) + 8);
    await fixture.readAll();
    await fixture.reopen();
    await fixture.end();
  });

  it('is the same when its index is made anew from the log', async () => {
    const fixture = await StoreFixture.make(12);
    for (let i = 0; i < 6; i++) {
      await fixture.writeSome('a', 40);
      await fixture.store.compactOnce();
    }
    await fixture.store.delete(['a@1']);
    await fixture.store.pruned();
    fixture.contents.delete('a@1');
    await fixture.writeSome('b', 20);
    await compactAll(fixture);
    await fixture.store.close();
    fs.rmSync(fixture.index, { recursive: true });
    expect(await damageIn(Store.check(fixture.directory))).toEqual([]);
    await fixture.open();
    await fixture.readAll();
    await fixture.reopen();
    await compactAll(fixture);
    await fixture.end();
  });

  it('gives the room of a deleted volume back', async () => {
    const fixture = await StoreFixture.make(13);
    await fixture.store.createVolume('big', 4 << 20);
    fixture.contents.set('big', Buffer.alloc(4 << 20));
    for (let i = 0; i < 10; i++) await fixture.writeSome('big', 60);
    await compactAll(fixture);
    const before = segmentsOf(fixture).length;
    await fixture.store.delete(['big']);
    fixture.contents.delete('big');
    await fixture.store.pruned();
    await compactAll(fixture);
    expect(segmentsOf(fixture).length).toBeLessThan(before);
    await fixture.end();
  });
});
