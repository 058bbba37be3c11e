/** The keeper over real files: whatever becomes of the index, reads are the same as before, or an error: never wrong. */

import fs from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { CHECKPOINT_KEY } from '../../src/index/rows.ts';
import { Store } from '../../src/volume/store.ts';
import { ticks } from '../index/slow-database.ts';
import { Random, seeds } from '../support/random.ts';
import { damageIn } from '../support/stores.ts';
import { directoryOf, filesOf, StoreFixture } from './store-fixture.ts';

function flip(file: string, at: number): void {
  const bytes = fs.readFileSync(file);
  bytes[at % bytes.length]! ^= 0x10;
  fs.writeFileSync(file, bytes);
}

describe('an index that is not what it was when the store is opened', () => {
  it('is made anew when it is missing, and is the same', async () => {
    const fixture = await StoreFixture.make();
    await fixture.store.close();
    for (const what of ['index', 'index/CURRENT', 'index.new']) {
      fs.rmSync(path.join(fixture.directory, what), { recursive: true, force: true });
      if (what === 'index.new') fs.mkdirSync(path.join(fixture.directory, what));
      await fixture.open();
      await fixture.readAll();
      await fixture.store.close();
      expect(fs.existsSync(path.join(fixture.directory, 'index.new'))).toBe(false);
    }
    await fixture.open();
    await fixture.end();
  });

  for (const seed of seeds(1)) {
    it(`is right or made anew, whatever byte of its files is flipped or cut off (SEED=${seed})`, {
      timeout: 60_000,
    }, async () => {
      const fixture = await StoreFixture.make(seed);
      await fixture.store.close();
      // So that there is a table: opening LevelDB turns its log into one.
      await fixture.open();
      await fixture.store.close();
      const whole = directoryOf('whole');
      fs.cpSync(fixture.index, whole, { recursive: true });
      const { random } = fixture;
      for (let round = 0; round < 12; round++) {
        fs.rmSync(fixture.index, { recursive: true });
        fs.cpSync(whole, fixture.index, { recursive: true });
        const file = random.pick([
          ...filesOf(fixture.index, '.ldb'),
          ...filesOf(fixture.index, '.ldb'),
          ...filesOf(fixture.index, '.log'),
          ...fs
            .readdirSync(fixture.index)
            .filter((name) => /^(MANIFEST|CURRENT)/.test(name))
            .map((name) => path.join(fixture.index, name)),
        ]);
        const { size } = fs.statSync(file);
        if (random.chance(25)) fs.truncateSync(file, random.below(size + 1));
        else if (size > 0) flip(file, random.below(size));
        try {
          await fixture.open();
          await fixture.readAll();
          await fixture.store.close();
        } catch (error) {
          throw new Error(`round ${round}, ${path.basename(file)}: ${(error as Error).message}`, {
            cause: error,
          });
        }
      }
      await fixture.open();
      // Not all of it is read when disks are: what a check finds it mends.
      await damageIn(fixture.store.check());
      await fixture.end();
    });
  }

  it('is made anew when it is that of another store', async () => {
    const [mine, theirs] = [await StoreFixture.make(2), await StoreFixture.make(3)];
    await mine.store.close();
    await theirs.store.close();
    fs.rmSync(mine.index, { recursive: true });
    fs.cpSync(theirs.index, mine.index, { recursive: true });
    await mine.open();
    await mine.end();
  });

  it('is brought up to the log when it is an older one', async () => {
    const fixture = await StoreFixture.make();
    await fixture.store.close();
    const older = directoryOf('older');
    fs.cpSync(fixture.index, older, { recursive: true });
    await fixture.open();
    await fixture.writeSome('a', 40);
    await fixture.snapshot('a@3');
    await fixture.writeSome('a', 5);
    await fixture.store.close();
    fs.rmSync(fixture.index, { recursive: true });
    fs.cpSync(older, fixture.index, { recursive: true });
    expect(await damageIn(Store.check(fixture.directory))).toEqual([]);
    await fixture.open();
    await fixture.end();
  });

  it('is not made anew because somebody holds it, or descriptors ran out', async () => {
    const fixture = await StoreFixture.make();
    await fixture.store.close();
    const inode = fs.statSync(fixture.index).ino;
    for (const error of [
      Object.assign(new Error('held'), { code: 'LEVEL_LOCKED' }),
      Object.assign(new Error('not open'), { cause: new Error('IO error: x: Too many open files') }),
    ]) {
      fixture.handles.refuseToOpen = () => error;
      await expect(fixture.open()).rejects.toMatchObject({ code: 'IO' });
    }
    fixture.handles.refuseToOpen = undefined;
    await fixture.open();
    expect(fs.statSync(fixture.index).ino).toBe(inode);
    await fixture.end();
  });
});

describe('damage that is found while the store is in use', () => {
  for (const kind of ['p', 'l', 'd']) {
    it(`a missing row (${kind}): reads wait and are right, writes go on`, async () => {
      const fixture = await StoreFixture.make();
      await fixture.reopen(); // nothing of the directory in memory
      const { handles } = fixture;
      const rows = await handles.rows(kind);
      // Not the root of the directory: that one is read when the store is opened.
      const [key] = rows.find(([at]) => kind !== 'd' || at[1] === 1)!;
      await handles.current.del(key);
      const count = handles.opened.length;
      await Promise.all([fixture.readAll(), fixture.readOne('a@1'), fixture.writeSome('b', 0)]);
      expect(handles.opened.length).toBeGreaterThan(count);
      await fixture.writeSome('a', 10);
      await fixture.end();
    });
  }

  it('changes that no commit has yet are read after it as before', async () => {
    const fixture = await StoreFixture.make();
    await fixture.reopen();
    await fixture.writeSome('a', 20);
    await fixture.snapshot('a@3');
    await fixture.writeSome('b', 20);
    for (const [key] of await fixture.handles.rows('p')) await fixture.handles.current.del(key);
    let isHeld = true;
    let writes: Promise<void> | undefined;
    fixture.handles.watch = {
      // Writes, snapshots and zeros while the new index is being written.
      async before(call) {
        if (call !== 'write' || !isHeld) return;
        isHeld = false;
        writes = fixture
          .writeSome('b', 20)
          .then(() => fixture.snapshot('b@4'))
          .then(() => fixture.writeSome('b', 5));
        await writes;
      },
    };
    await fixture.readOne('a@1');
    expect(isHeld).toBe(false);
    await fixture.readAll();
    await fixture.reopen();
    await fixture.end();
  });

  /** Takes a row from the next indexes that are opened; answers how many there were. */
  function spoilOpened(fixture: StoreFixture, count: number): () => number {
    let spoiled = 0;
    fixture.handles.watch = {
      async before(call, [key]) {
        if (call !== 'get' || !CHECKPOINT_KEY.equals(key as Buffer) || spoiled === count) return;
        spoiled += 1;
        const [usage] = await fixture.handles.rows('u');
        await fixture.handles.current.del(usage![0]);
      },
    };
    return () => spoiled;
  }

  it('and again in the index that was made anew: it is made once more, and nobody hears of it', async () => {
    const fixture = await StoreFixture.make();
    await fixture.reopen();
    for (const [key] of await fixture.handles.rows('p')) await fixture.handles.current.del(key);
    const spoiled = spoilOpened(fixture, 2);
    await fixture.readAll();
    expect(spoiled()).toBe(2);
    await fixture.end();
  });

  it('and in every index that is made anew: errors that have a code of the outside, and it heals', async () => {
    const fixture = await StoreFixture.make();
    let now = 0;
    await fixture.store.close();
    await fixture.open({ ...systemClock, now: () => now });
    for (const [key] of await fixture.handles.rows('p')) await fixture.handles.current.del(key);
    const spoiled = spoilOpened(fixture, Number.POSITIVE_INFINITY);
    for (let i = 0; i < 3; i++) {
      await expect(fixture.readOne('a@1')).rejects.toMatchObject({ code: 'IO' });
      await fixture.writeSome('b', 5).catch(() => undefined);
      await expect(fixture.store.checkpoint()).rejects.toMatchObject({ code: 'IO' });
    }
    expect(spoiled()).toBe(3); // not three times for each request
    fixture.handles.watch = {};
    now = 10_000;
    await fixture.readAll();
    // Nor does one that opens the store hear of rows.
    await fixture.store.close();
    fs.rmSync(fixture.index, { recursive: true });
    spoilOpened(fixture, 1);
    await expect(fixture.open()).rejects.toMatchObject({ code: 'IO' });
    await fixture.open();
    await fixture.end();
  });

  it('an error of LevelDB itself is no error of a read', async () => {
    const fixture = await StoreFixture.make();
    await fixture.reopen();
    for (const code of ['LEVEL_CORRUPTION', 'LEVEL_IO_ERROR']) {
      let failures = 1;
      fixture.handles.watch = {
        before(call) {
          if (call !== 'getMany' || failures-- <= 0) return;
          throw Object.assign(new Error('block checksum mismatch'), { code });
        },
      };
      await fixture.readAll();
      expect(failures).toBeLessThan(0);
    }
    fixture.handles.watch = {};
    await fixture.end();
  });

  it('a log that has lost a segment gives errors, not zeros, and does not make a wrong index', async () => {
    const fixture = await StoreFixture.make();
    await fixture.reopen();
    const segments = filesOf(path.join(fixture.directory, 'log'), '.seg').sort();
    expect(segments.length).toBeGreaterThan(2);
    const hidden = directoryOf('segment');
    fs.renameSync(segments[1]!, hidden);
    for (const [key] of await fixture.handles.rows('p')) await fixture.handles.current.del(key);
    for (let i = 0; i < 2; i++)
      await expect(fixture.readOne('a@1')).rejects.toMatchObject({ code: 'CORRUPTION' });
    fs.renameSync(hidden, segments[1]!);
    await fixture.store.close();
    await fixture.open();
    await fixture.end();
  });
});

describe('a checkpoint', () => {
  it('does not begin before the log is on the disk, and states a position that replay can begin at', async () => {
    const fixture = await StoreFixture.make();
    await fixture.writeSome('a', 10);
    await fixture.store.checkpoint();
    const generation = (await fixture.store.status()).lastCheckpoint.generation;
    await fixture.store.checkpoint(); // nothing has changed
    expect((await fixture.store.status()).lastCheckpoint.generation).toBe(generation);
    await fixture.writeSome('a', 1);
    await fixture.store.checkpoint();
    expect((await fixture.store.status()).lastCheckpoint.generation).toBe(generation + 1);
    await fixture.end();
  });

  for (const seed of seeds(2)) {
    it(`runs beside writes, reads and damage, again and again (SEED=${seed})`, {
      timeout: 60_000,
    }, async () => {
      const fixture = await StoreFixture.make(seed);
      await fixture.reopen();
      const random = new Random(seed + 1);
      const { handles } = fixture;
      handles.watch = {
        before: () => ticks(random.pick([0, 0, 1, 4])),
        after: () => ticks(random.pick([0, 0, 1, 4])),
      };
      let ended = false;
      const checkpoints = (async () => {
        while (!ended) {
          await fixture.store.checkpoint();
          await ticks(3);
        }
      })();
      const checks = (async () => {
        while (!ended) {
          const found = await damageIn(fixture.store.check());
          // The rows that are taken away meanwhile it may find as well.
          expect(found.filter((each) => !each.startsWith('INDEX_DAMAGED'))).toEqual([]);
          await ticks(3);
        }
      })();
      for (let i = 0; i < 12; i++) {
        await fixture.writeSome('a', 3);
        await fixture.writeSome('b', 3);
        if (i % 4 === 1) await fixture.snapshot(`a@x${i}`);
        await Promise.all([fixture.readOne('a@1'), fixture.readOne('b'), fixture.readOne('a')]);
        // There is none while it is being made anew.
        if (i % 3 === 2 && handles.opened.some(({ status }) => status === 'open')) {
          const rows = await handles.rows('p').catch(() => []);
          if (rows.length > 0) await handles.current.del(random.pick(rows)[0]).catch(() => undefined);
        }
      }
      ended = true;
      await Promise.all([checkpoints, checks]);
      handles.watch = {};
      await fixture.readAll();
      await fixture.reopen();
      await fixture.end();
    });
  }
});
