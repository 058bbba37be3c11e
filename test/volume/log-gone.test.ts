/** A log that is not there, or ends before what was synced: nobody takes what is left for the store. */

import fs from 'node:fs';
import path from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { repairOffline } from '../../src/repair/offline-repair.ts';
import { ReadOnlyStore } from '../../src/volume/read-only-store.ts';
import { Store } from '../../src/volume/store.ts';
import { damageIn } from '../support/stores.ts';
import { directoryOf, StoreFixture } from './store-fixture.ts';

const IN_USE = ['LOCK'];

/** All files but those that say who has the store. */
function filesOf(directory: string): Map<string, Buffer> {
  const files = new Map<string, Buffer>();
  for (const entry of fs.readdirSync(directory, { recursive: true, withFileTypes: true })) {
    const file = path.join(entry.parentPath, entry.name);
    if (entry.isFile() && !IN_USE.includes(entry.name) && entry.name !== 'store.lock')
      files.set(path.relative(directory, file), fs.readFileSync(file));
  }
  return files;
}

const isOfLog = (name: string): boolean => name.startsWith(`log${path.sep}`);

let fixture: StoreFixture;
afterEach(async () => {
  await fixture.store.close();
});

describe('a store whose log/ is not there', () => {
  it('is not opened, checked or repaired, and is whole when that is back', async () => {
    fixture = await StoreFixture.make();
    await fixture.store.close();
    const [log, away] = [path.join(fixture.directory, 'log'), directoryOf('away')];
    fs.renameSync(log, away);
    const refused = {
      code: 'NOT_A_STORE',
      message: expect.stringContaining('has no log/, where all data are') as string,
    };
    await expect(fixture.open()).rejects.toMatchObject(refused);
    await expect(ReadOnlyStore.open(fixture.directory)).rejects.toMatchObject(refused);
    await expect(damageIn(Store.check(fixture.directory))).rejects.toMatchObject(refused);
    await expect(repairOffline(fixture.directory, {})).rejects.toMatchObject(refused);
    expect(fs.existsSync(log)).toBe(false);
    fs.renameSync(away, log);
    await fixture.open();
    await fixture.end();
  });
});

describe('a log that ends before what was synced', () => {
  it.each(['nothing', 'all but the last segment', 'an earlier one'])(
    '(%s is there) is not gone on with, and is whole when the rest is back',
    async (kind) => {
      fixture = await StoreFixture.make();
      await fixture.store.close();
      const earlier = filesOf(fixture.directory);
      await fixture.open();
      for (let i = 0; i < 3; i++) await fixture.writeSome('a', 30);
      await fixture.snapshot('a@3');
      await fixture.store.close();
      const there = filesOf(fixture.directory);
      const segments = [...there.keys()].filter(isOfLog).sort();
      const put = (name: string, bytes: Buffer): void =>
        fs.writeFileSync(path.join(fixture.directory, name), bytes);
      const left =
        kind === 'an earlier one'
          ? [...earlier].filter(([name]) => isOfLog(name))
          : segments
              .slice(0, kind === 'nothing' ? 0 : -1)
              .map((name): [string, Buffer] => [name, there.get(name)!]);
      for (const name of segments) fs.rmSync(path.join(fixture.directory, name));
      for (const [name, bytes] of left) put(name, bytes);
      await expect(fixture.open()).rejects.toMatchObject({
        code: 'CORRUPTION',
        message: expect.stringMatching(
          /the log ends with record \d+, and record \d+ had been synced: its end is gone/,
        ) as string,
      });
      expect(new Set([...filesOf(fixture.directory).keys()].filter(isOfLog))).toEqual(
        new Set(left.map(([name]) => name)),
      );
      for (const name of segments) put(name, there.get(name)!);
      await fixture.open();
      await fixture.end();
    },
  );

  it('is gone on with by who has the index made anew', async () => {
    fixture = await StoreFixture.make();
    await fixture.store.close();
    const before = filesOf(fixture.directory);
    const contents = new Map([...fixture.contents].map(([name, bytes]) => [name, Buffer.from(bytes)]));
    await fixture.open();
    await fixture.writeSome('a', 40);
    await fixture.snapshot('a@3');
    await fixture.writeSome('a', 5);
    await fixture.store.close();
    fs.rmSync(path.join(fixture.directory, 'log'), { recursive: true });
    fs.mkdirSync(path.join(fixture.directory, 'log'));
    for (const [name, bytes] of before)
      if (isOfLog(name) || name === 'superblock') fs.writeFileSync(path.join(fixture.directory, name), bytes);
    await expect(fixture.open()).rejects.toMatchObject({ code: 'CORRUPTION' });
    await (await Store.open(fixture.directory, { onRebuild: () => undefined })).close();
    fixture.contents.clear();
    for (const [name, content] of contents) fixture.contents.set(name, content);
    await fixture.open();
    await fixture.end();
  });
});
