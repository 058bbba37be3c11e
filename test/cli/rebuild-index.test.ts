/** `coppice rebuild-index`: the index is made anew from the log, whatever becomes of the process that does it. */

import fs from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import type { Logger } from '../../src/base/logger.ts';
import { Output } from '../../src/cli/output.ts';
import { rebuildIndex } from '../../src/cli/rebuild-command.ts';
import { RebuildProgress, type RebuildStep } from '../../src/volume/rebuild-progress.ts';
import { openLevel, Store } from '../../src/volume/store.ts';
import type { WholeLog } from '../../src/volume/whole-log.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { damageIn } from '../support/stores.ts';
import { MAIN, Running } from './command.ts';
import { damageFile, dump, DumpedStore, filesUnder, segments } from './dumped-store.ts';

async function rebuild(directory: string, json = false): Promise<string> {
  let printed = '';
  await rebuildIndex(
    directory,
    new Output(json, (text) => {
      printed += text;
    }),
  );
  return printed;
}

/** Everything reads as it did, and the check finds nothing. */
async function expectWhole(made: DumpedStore): Promise<void> {
  await made.open();
  for (const [name, content] of made.contents) expect((await made.content(name)).equals(content)).toBe(true);
  await made.store.close();
  expect(await damageIn(Store.check(made.directory))).toEqual([]);
}

interface LogLine {
  level: string;
  fields: Record<string, unknown>;
  message: string;
}

function logInto(lines: LogLine[]): Logger {
  const at = (level: string) => (fields: object, message: string) =>
    void lines.push({ level, fields: { ...fields }, message });
  return { debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error') };
}

describe('rebuild-index', () => {
  it('makes a whole index of a damaged one, and says what it has read', async () => {
    const made = await DumpedStore.make();
    await made.store.close();
    const index = path.join(made.directory, 'index');
    for (const file of filesUnder(index).keys()) if (/\.(ldb|log)$/.test(file)) damageFile(file, 40, 80);
    expect(await damageIn(Store.check(made.directory))).not.toEqual([]);
    const count = (await dump(made.directory, segments)).rows.length;
    const printed = await rebuild(made.directory);
    // Versions: a@1, a@2, a and b.
    expect(printed).toMatch(
      new RegExp(`^made the index anew from ${count} segments and 4 versions in \\d+\\.\\d s\\n$`),
    );
    expect(await damageIn(Store.check(made.directory))).toEqual([]);
    await expectWhole(made);
  });

  it('makes one where there is none, and of one that is whole', async () => {
    const made = await DumpedStore.make();
    await made.store.close();
    for (const round of [0, 1]) {
      if (round === 0) fs.rmSync(path.join(made.directory, 'index'), { recursive: true });
      const said = JSON.parse(await rebuild(made.directory, true)) as RebuildStep & { versions: number };
      expect(said.versions).toBe(4);
      expect(said.segments).toBeGreaterThan(4);
    }
    await expectWhole(made);
  });

  it('has the whole log, not what the old index says', async () => {
    const made = await DumpedStore.make();
    await made.store.close();
    const read: RebuildStep[] = [];
    const store = await Store.open(made.directory, { compacts: false, onRebuild: (step) => read.push(step) });
    await store.close();
    const files = (await dump(made.directory, segments)).rows.length;
    expect(read.at(-1)).toEqual({ segments: files, of: files });
    expect(read.map(({ segments: count }) => count)).toEqual(read.map((_, i) => i + 1));
  });

  it('keeps the old index until the new one takes its place', async () => {
    const made = await DumpedStore.make();
    await made.store.close();
    const index = path.join(made.directory, 'index');
    const before = filesUnder(index);
    const opened: string[] = [];
    const openDatabase = async (location: string) => {
      opened.push(path.basename(location));
      if (opened.length === 1) expect(filesUnder(index)).toEqual(before);
      else if (opened.length === 2) throw new Error('a kill here');
      return await openLevel(location);
    };
    const options = {
      compacts: false,
      openDatabase,
      onRebuild: () => expect(filesUnder(index)).toEqual(before),
    };
    await expect(Store.open(made.directory, options)).rejects.toThrow('a kill here');
    expect(opened).toEqual(['index.new', 'index']);
    await expectWhole(made);
  });

  it('is refused while somebody has the store, and says that nothing need be done', async () => {
    const made = await DumpedStore.make();
    await made.store.checkpoint();
    const before = filesUnder(path.join(made.directory, 'index'));
    await expect(rebuild(made.directory)).rejects.toMatchObject({
      code: 'LOCKED',
      message: expect.stringMatching(`process ${process.pid} .*mends its index by itself`) as string,
    });
    expect(filesUnder(path.join(made.directory, 'index'))).toEqual(before);
    await made.store.close();
  });

  it('loses nothing when it is killed, at any point', async () => {
    const made = await DumpedStore.make();
    await made.store.close();
    const command = ['--store', made.directory, 'rebuild-index'];
    const isBegun = (): boolean => fs.existsSync(path.join(made.directory, 'index.new'));
    let killed = 0;
    for (let round = 0; round < 12; round++) {
      const running = new Running(MAIN, command);
      while (running.child.exitCode === null && !isBegun()) await sleep(1);
      await sleep(4 * round);
      running.child.kill('SIGKILL');
      if ((await running.ended).signal === 'SIGKILL') killed += 1;
      if (round % 3 === 2) await expectWhole(made);
      else fs.rmSync(path.join(made.directory, 'index.new'), { recursive: true, force: true });
    }
    expect(killed).toBeGreaterThan(3);
    expect(await rebuild(made.directory)).toMatch(/^made the index anew/);
    await expectWhole(made);
  });
});

describe('the log of a rebuild', () => {
  it('has a line every few seconds, with segments read of how many', () => {
    const clock = new ManualClock();
    const lines: LogLine[] = [];
    const whole = { segmentCount: 3 } as WholeLog;
    const progress = new RebuildProgress(whole, clock, logInto(lines));
    for (let record = 0; record < 12; record++) {
      progress.reached(1 + Math.floor(record / 4));
      clock.advance(1_000);
    }
    expect(lines).toEqual([
      { level: 'info', fields: { segments: 2, of: 3, ms: 5_000 }, message: 'making the index anew' },
      { level: 'info', fields: { segments: 3, of: 3, ms: 10_000 }, message: 'making the index anew' },
    ]);
    expect(progress.result).toEqual({ segments: 3, of: 3, ms: 12_000 });
  });

  it('counts a segment once that is begun twice, and never more than there are', () => {
    const steps: RebuildStep[] = [];
    const whole = { segmentCount: 2 } as WholeLog;
    const progress = new RebuildProgress(whole, new ManualClock(), logInto([]), (step) => steps.push(step));
    for (const segment of [4, 2, 4, 9]) progress.reached(segment);
    expect(steps.at(-1)).toEqual({ segments: 3, of: 3 });
  });

  it('tells of the rebuild that an open begins by itself', async () => {
    const made = await DumpedStore.make();
    await made.store.close();
    fs.rmSync(path.join(made.directory, 'index'), { recursive: true });
    const lines: LogLine[] = [];
    // A clock in a hurry: every look at it is three seconds later.
    const clock = new ManualClock();
    const now = clock.now.bind(clock);
    clock.now = () => {
      clock.advance(3_000);
      return now();
    };
    const store = await Store.open(made.directory, { compacts: false, clock, logger: logInto(lines) });
    await store.close();
    const files = (await dump(made.directory, segments)).rows.length;
    const told = lines.filter(({ message }) => message === 'making the index anew');
    expect(told.length).toBeGreaterThan(4);
    const counts = told.map(({ fields }) => fields.segments as number);
    expect(counts).toEqual([...counts].sort((a, b) => a - b));
    expect(lines.find(({ message }) => message.startsWith('the index was made anew'))!.fields).toMatchObject({
      segments: files,
      of: files,
    });
  });

  it('tells of a repair beside requests too', async () => {
    const made = await DumpedStore.make();
    await made.store.close();
    const lines: LogLine[] = [];
    let isBroken = false;
    const openDatabase = async (location: string) => {
      const database = await openLevel(location);
      return new Proxy(database, {
        get(target, name) {
          if (name === 'getMany' && isBroken && location.endsWith('index')) {
            isBroken = false;
            return async (keys: Buffer[]) => keys.map(() => undefined);
          }
          const value: unknown = Reflect.get(target, name, target);
          return typeof value === 'function' ? value.bind(target) : value;
        },
      });
    };
    made.store = await Store.open(made.directory, { compacts: false, openDatabase, logger: logInto(lines) });
    isBroken = true;
    expect((await made.content('a')).equals(made.contents.get('a')!)).toBe(true);
    await made.store.close();
    const files = (await dump(made.directory, segments)).rows.length;
    const told = lines.find(({ message }) => message === 'the index was made anew from the log');
    expect(told!.level).toBe('info');
    expect(told!.fields.segments).toBeGreaterThan(4);
    expect(told!.fields.segments).toBeLessThanOrEqual(files);
  });
});
