/** What follows compaction, and what waits for it: pages in memory, labels of versions that are gone, deletes, the index. */

import { describe, expect, it } from 'vitest';
import { segmentPath } from '../../src/log/format.ts';
import { damageIn } from '../support/stores.ts';
import type { TraceEntry } from '../support/memory-storage.ts';
import { Aged, CHUNK, CHUNKS, DISK_BYTES } from './aged.ts';
import type { CrashRig } from './crash-rig.ts';

const MIB = 1 << 20;

const UNEXPLAINED = 'a segment holds chunks that its records do not explain; it is left alone';

describe('pages in memory', () => {
  it('follow: a read of what was moved still waits for nothing', async () => {
    const aged = await Aged.begin();
    const { rig } = aged;
    await aged.writeOver();
    await aged.readAll();
    const before = rig.segments();
    expect((await rig.store.compactOnce())?.victims).toBeGreaterThan(1);
    expect(before.filter((each) => !rig.segments().includes(each)).length).toBeGreaterThan(1);
    // Who reads by other pages opens the files of new segments.
    await aged.snapshot('v@1');
    await rig.read('v@1', 0, DISK_BYTES);
    const target = Buffer.alloc(CHUNK);
    for (let chunk = 0; chunk < CHUNKS; chunk++) {
      expect(rig.device('v').tryRead(target, 0, chunk * CHUNK, CHUNK)).toBe(true);
      expect(target.equals(aged.contents.get('v')!.subarray(chunk * CHUNK, (chunk + 1) * CHUNK))).toBe(true);
    }
    await aged.end();
  });
});

describe('pages in memory of other versions', () => {
  it('stay as they are where only a sibling has written what was moved', async () => {
    const aged = await Aged.begin();
    const { rig } = aged;
    await aged.snapshot('v@1');
    await rig.store.clone('v@1', 'w');
    aged.contents.set('w', Buffer.from(aged.contents.get('v@1')!));
    await aged.writeOver(2);
    // Of what the sibling has written most is dead; the rest is moved.
    await aged.writeOver(10);
    await aged.readAll();
    const result = await rig.store.compactOnce();
    expect(result?.victims).toBeGreaterThan(1);
    expect(result?.movedBytes).toBeGreaterThan(20 * CHUNK);
    await aged.readAll();
    await aged.end();
  });
});

describe('what a version wrote that is gone', () => {
  it('is moved for who took it over', async () => {
    const aged = await Aged.begin();
    const { rig } = aged;
    await aged.snapshot('v@1');
    await aged.writeOver();
    await aged.delete('v@1');
    await rig.store.pruned();
    const result = await rig.store.compactOnce();
    expect(result?.victims).toBeGreaterThan(1);
    expect(result?.movedBytes).toBeGreaterThan(50 * CHUNK);
    expect(rig.messages).not.toContain(UNEXPLAINED);
    expect(rig.segments()).not.toContain(1);
    await aged.end();
  });
});

describe('deletes', () => {
  it('are not finished while a round is under way', async () => {
    const aged = await Aged.begin();
    const { rig } = aged;
    await aged.snapshot('v@1');
    await aged.writeOver();
    await aged.writeOver();
    const { storage } = rig;
    const known = new Set(rig.segments().map(segmentPath));
    let goOn: () => void = () => undefined;
    const held = new Promise<void>((resolve) => {
      goOn = resolve;
    });
    let isHeld = false;
    // The first segment of moves stops the round.
    storage.gate = async ({ operation, path }: TraceEntry): Promise<void> => {
      if (operation === 'create' && path.startsWith('log/')) isHeld ||= !known.has(path);
      if (isHeld && path.startsWith('log/') && operation === 'create') await held;
    };
    const round = rig.store.compactOnce();
    while (!isHeld) await rig.rest(1);
    await aged.delete('v@1');
    await rig.rest(300);
    expect(rig.store.list().map(({ name }) => name)).toEqual(['v']);
    goOn();
    storage.gate = undefined;
    expect((await round)?.victims).toBeGreaterThan(0);
    expect(rig.messages).not.toContain(UNEXPLAINED);
    await rig.store.pruned();
    await aged.end();
  });

  it('are not finished by an index that is made anew while a round is under way', async () => {
    const aged = await Aged.begin();
    const { rig } = aged;
    await aged.snapshot('v@1');
    await aged.writeOver();
    await aged.writeOver();
    const copy = aged.stopAt(aged.isNew());
    const round = rig.store.compactOnce();
    await copy.come();
    await aged.delete('v@1');
    await rig.store.checkpoint();
    await aged.loseIndex();
    copy.goOn();
    expect((await round)?.victims).toBeGreaterThan(1);
    expect(rig.messages).not.toContain(UNEXPLAINED);
    await aged.readAll();
    await rig.store.pruned();
    await aged.end();
  });

  it('that wait for a round are no reason for a check to take what the round has moved for damage', async () => {
    const aged = await Aged.begin();
    const { rig } = aged;
    await aged.snapshot('v@1');
    await aged.writeOver();
    await aged.writeOver();
    const copy = aged.stopAt(aged.isNew());
    const round = rig.store.compactOnce();
    await copy.come();
    await aged.delete('v@1');
    await rig.store.checkpoint();
    // Pointers follow between the checkpoint of the second and its turn, which comes behind that of the first.
    const checks = [damageIn(rig.store.check()), damageIn(rig.store.check())];
    copy.goOn();
    expect(await Promise.all(checks)).toEqual([[], []]);
    expect((await round)?.victims).toBeGreaterThan(1);
    await rig.store.pruned();
    await aged.end();
  });

  it('that stopped halfway are finished before the next round', async () => {
    const aged = await Aged.begin();
    const { rig } = aged;
    await aged.snapshot('v@1');
    await aged.writeOver();
    const { storage } = rig;
    const freeBytes = storage.freeBytes.bind(storage);
    let asked = 0;
    // There is room for the checkpoint, and none for what follows it.
    storage.freeBytes = async () => (asked++ === 0 ? await freeBytes() : MIB);
    await aged.delete('v@1');
    await rig.rest(300);
    storage.freeBytes = freeBytes;
    expect(rig.messages).toContain('deleted versions could not be taken out of the index; trying again');
    await expect(rig.store.compactOnce()).rejects.toMatchObject({ code: 'IN_USE' });
    rig.clock.advance(1000);
    await rig.store.pruned();
    expect((await rig.store.compactOnce())?.victims).toBeGreaterThan(0);
    await aged.end();
  });
});

describe('the index', () => {
  it('follows once the catalog that states the moves is on the disk', async () => {
    const aged = await Aged.begin();
    const { rig } = aged;
    await aged.writeOver();
    await rig.store.checkpoint();
    const { storage } = rig;
    const from = storage.trace.length;
    const before = new Set(rig.segments().map(segmentPath));
    expect((await rig.store.compactOnce())?.victims).toBeGreaterThan(1);
    const trace = storage.trace.slice(from);
    const moves = new Set(
      trace
        .filter(({ operation, path }) => operation === 'create' && !before.has(path))
        .map(({ path }) => path),
    );
    const named = trace.findLastIndex(({ path }) => moves.has(path));
    const chain = trace.slice(named).filter(({ path }) => path.startsWith('log/') && !moves.has(path));
    const steps = chain.flatMap(({ operation }) =>
      operation === 'write' ? ['w'] : operation === 'datasync' ? ['s'] : [],
    );
    // The catalog that states the moves, and that of the checkpoint behind the round.
    expect(steps.join('')).toMatch(/^w+s+w+s+$/);
    await aged.end();
  });

  it('is opened with every segment that the log states, those in which nothing lives but zeros too', async () => {
    const aged = await Aged.begin();
    const { rig } = aged;
    await aged.writeOver();
    await rig.store.compactOnce();
    await rig.device('v').zero(0, 3 * MIB, false);
    aged.contents.get('v')!.fill(0, 0, 3 * MIB);
    for (let round = 0; round < 3; round++) {
      for (let chunk = 800; chunk < CHUNKS; chunk++) await aged.write(chunk);
      await rig.store.compactOnce();
    }
    await rig.close();
    const before = rig.segments();
    await rig.open();
    expect(rig.messages).toEqual([]);
    expect(rig.segments()).toEqual(before);
    await aged.end();
  });

  it('is made anew where it is older than what is left of the log', async () => {
    const aged = await Aged.begin();
    const { rig } = aged;
    await aged.write(0);
    await rig.close();
    const old = await rowsOf(rig);
    await rig.open();
    await aged.writeOver();
    expect((await rig.store.compactOnce())?.victims).toBeGreaterThan(1);
    await rig.close();
    const database = await rig.storage.openDatabase('index');
    await database.clear();
    const batch = database.batch();
    for (const [key, value] of old) batch.put(key, value);
    await batch.write();
    await database.close();
    await rig.open();
    expect(rig.messages).toContain('the index is older than what is left of the log, and is made anew');
    await aged.end();
  });
});

async function rowsOf({ storage }: CrashRig): Promise<[Buffer, Buffer][]> {
  const database = await storage.openDatabase('index');
  const rows: [Buffer, Buffer][] = [];
  for await (const [key, value] of database.iterator()) rows.push([Buffer.from(key), Buffer.from(value)]);
  await database.close();
  return rows;
}
