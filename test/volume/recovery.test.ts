/** Opening a store after the worst: what must be there, what may be gone, what is never used twice. */

import { describe, expect, it, vi } from 'vitest';
import { RECORD_CLOSING, segmentPath } from '../../src/log/format.ts';
import { Random, seeds } from '../support/random.ts';
import { CHUNK, MIB, readLog } from '../log/rig.ts';
import { CrashRig } from './crash-rig.ts';

const isCode = (code: string): unknown => expect.objectContaining({ code });
const SIZE = 4 * MIB;

vi.setConfig({ testTimeout: 60_000 });

/** A chunk (or more) that says which write it is from. */
function pattern(write: number, bytes = CHUNK): Buffer {
  const buffer = Buffer.alloc(bytes, `write ${write} `);
  buffer.writeUInt32BE(write);
  return buffer;
}

async function withVolume(options: { capacityBytes?: number } = {}): Promise<CrashRig> {
  const rig = await CrashRig.begin(options);
  await rig.open();
  await rig.store.createVolume('disk', SIZE);
  await rig.store.flush();
  return rig;
}

const chunkOf = async (rig: CrashRig, chunk: number, name = 'disk'): Promise<number> => {
  const bytes = await rig.read(name, chunk * CHUNK, CHUNK);
  const write = bytes.readUInt32BE();
  expect(bytes.equals(write === 0 ? Buffer.alloc(CHUNK) : pattern(write))).toBe(true);
  return write;
};

describe('a store that was closed', () => {
  it('goes on in the same segment, with nothing written again but its closing record', async () => {
    const rig = await withVolume();
    await rig.write('disk', 0, pattern(1));
    await rig.close();
    const [segment] = rig.segments();
    const before = Buffer.from(rig.storage.bytes(segmentPath(segment!)));
    rig.storage.trace.length = 0;
    await rig.open();
    const writes = rig.storage.trace.filter(
      (each) => each.path.startsWith('log/') && each.operation === 'write',
    );
    expect(writes).toHaveLength(1);
    expect(rig.storage.bytes(segmentPath(segment!)).equals(before)).toBe(true);
    await rig.write('disk', CHUNK, pattern(2));
    await rig.close();
    expect(rig.segments()).toEqual([segment]);
    rig.crash();
    await rig.open();
    expect([await chunkOf(rig, 0), await chunkOf(rig, 1)]).toEqual([1, 2]);
    expect(rig.messages.filter((message) => message.includes('again'))).toEqual([]);
  });

  it('can be opened and closed any number of times and does not grow', async () => {
    const rig = await withVolume();
    await rig.write('disk', 0, pattern(1));
    await rig.close();
    const { end } = (await readLog(rig.storage)).tail;
    for (let i = 0; i < 5; i++) {
      await rig.open();
      await rig.close();
    }
    expect((await readLog(rig.storage)).tail.end).toEqual(end);
    expect(rig.segments()).toHaveLength(1);
  });

  it('trusts its closing record only once it has synced it itself', async () => {
    const rig = await withVolume();
    await rig.write('disk', 0, pattern(1));
    await rig.store.flush();
    // The sync of the closing record fails; what was written is still in the page cache, and called clean.
    rig.storage.fail('datasync', { path: /seg$/ });
    rig.clock.advance(100);
    await rig.rest();
    rig.kill();
    await rig.open();
    await rig.write('disk', CHUNK, pattern(2));
    await rig.store.flush();
    rig.crash();
    await rig.open();
    expect([await chunkOf(rig, 0), await chunkOf(rig, 1)]).toEqual([1, 2]);
  });
});

describe('a store whose process was killed', () => {
  it('has everything that was answered, written again with its sequences in a new segment', async () => {
    const rig = await withVolume();
    for (let i = 1; i <= 5; i++) await rig.write('disk', i * CHUNK, pattern(i));
    await rig.store.snapshot(['disk@s']);
    await rig.write('disk', CHUNK, pattern(6));
    await rig.store.clone('disk@s', 'copy');
    await rig.write('copy', 0, pattern(7));
    await rig.device('disk').zero(2 * CHUNK, CHUNK, false);
    const before = await readLog(rig.storage);
    const segments = rig.segments();
    rig.kill();
    await rig.open();
    expect(rig.messages).toContain('writing the unproven tail of the log again');
    const after = await readLog(rig.storage);
    expect(after.entries.slice(0, before.entries.length).map(withoutPlace)).toEqual(
      before.entries.map(withoutPlace),
    );
    const appends = after.records.map((record) => record.header.append);
    expect(appends).toEqual([...appends].sort((a, b) => a - b));
    expect(rig.segments().length).toBe(segments.length + 1);
    // The new copy is on the disk before anything is answered.
    rig.crash();
    await rig.open();
    expect(await chunkOf(rig, 1)).toBe(6);
    expect(await chunkOf(rig, 2)).toBe(0);
    expect(await chunkOf(rig, 2, 'disk@s')).toBe(2);
    expect([await chunkOf(rig, 0, 'copy'), await chunkOf(rig, 1, 'copy')]).toEqual([7, 1]);
  });

  it('does not believe pages that a failed sync has called clean', async () => {
    const rig = await withVolume();
    await rig.write('disk', 0, pattern(1));
    rig.storage.fail('datasync', { path: /seg$/ });
    await expect(rig.store.flush()).rejects.toEqual(isCode('POISONED'));
    await expect(rig.write('disk', 0, pattern(2))).rejects.toEqual(isCode('POISONED'));
    rig.kill();
    await rig.open();
    expect(await chunkOf(rig, 0)).toBe(1);
    await rig.store.flush();
    rig.crash();
    await rig.open();
    expect(await chunkOf(rig, 0)).toBe(1);
  });

  it('keeps what was flushed before a segment that nothing was written to', async () => {
    const rig = await withVolume();
    for (let i = 1; i <= 3; i++) await rig.write('disk', i * CHUNK, pattern(i));
    for (let i = 0; i < 2; i++) await rig.write('disk', MIB, Buffer.alloc(64 * CHUNK, i + 1));
    await rig.write('disk', 0, pattern(4));
    await rig.store.flush();
    rig.storage.fail('write', { position: 4096, lands: false, sticky: true });
    const refused = { code: 'IO' };
    await expect(rig.write('disk', MIB, Buffer.alloc(128 * CHUNK, 9))).rejects.toMatchObject(refused);
    rig.kill();
    for (let life = 0; life < 2; life++) {
      await rig.open();
      expect([await chunkOf(rig, 0), await chunkOf(rig, 3)]).toEqual([4, 3]);
      rig.crash();
    }
  });

  it('refuses to write again what reads differently now', async () => {
    const rig = await withVolume();
    await rig.write('disk', 0, pattern(1));
    const [segment] = rig.segments();
    const at = rig.storage.bytes(segmentPath(segment!)).indexOf(pattern(1));
    rig.kill();
    rig.storage.beforeChange = ({ operation }) => {
      if (operation === 'write') {
        rig.storage.edit(segmentPath(segment!), (file) => file.fill(0x66, at + 100, at + 200));
      }
    };
    await expect(rig.open()).rejects.toEqual(isCode('IO'));
    expect(rig.storage.openFiles).toBe(0);
  });
});

/** What an entry says, wherever it lies. */
function withoutPlace(entry: object): object {
  return { ...entry, offset: undefined };
}

describe('recovery that is interrupted', () => {
  /** Two proven writes, an unproven tail over several segments with everything in it, a segment made ahead. */
  async function unclean(): Promise<CrashRig> {
    const rig = await withVolume();
    await rig.write('disk', 0, pattern(1));
    await rig.write('disk', CHUNK, pattern(2));
    await rig.store.flush();
    await rig.write('disk', CHUNK, pattern(3));
    await rig.store.snapshot(['disk@s']);
    for (let i = 0; i < 5; i++) await rig.write('disk', MIB + i * 64 * CHUNK, Buffer.alloc(64 * CHUNK, 'x'));
    await rig.write('disk', 2 * CHUNK, pattern(4));
    await rig.rest();
    expect(rig.segments().length).toBeGreaterThan(2);
    return rig;
  }

  const check = async (rig: CrashRig, what: string): Promise<void> => {
    expect([await chunkOf(rig, 0), await chunkOf(rig, 1), await chunkOf(rig, 2)], what).toEqual([1, 3, 4]);
    expect(await chunkOf(rig, 1, 'disk@s'), what).toBe(3);
    for (let i = 0; i < 5; i++) {
      const bytes = await rig.read('disk', MIB + i * 64 * CHUNK, 64 * CHUNK);
      expect(bytes.equals(Buffer.alloc(64 * CHUNK, 'x')), what).toBe(true);
    }
  };

  it('at any write, sync or removal is begun anew, and loses nothing: the cache lived on', async () => {
    const rig = await unclean();
    rig.kill();
    let points = 0;
    for (let change = 1; ; change++) {
      const machine = rig.fork();
      machine.storage.turnOffAt(change);
      const failed = await machine.open().then(
        () => false,
        () => true,
      );
      if (!failed && !machine.storage.isOff) {
        await check(machine, 'uninterrupted');
        break;
      }
      points += 1;
      machine.kill();
      await machine.open();
      await check(machine, `the machine stopped at change ${change}`);
    }
    expect(points).toBeGreaterThan(15);
  });

  it('by a power cut, at any point and twice, never loses what was proven, and never becomes unopenable', async () => {
    for (const seed of seeds(2)) {
      const random = new Random(seed);
      const rig = await unclean();
      rig.kill();
      const percent = random.pick([0, 50, 100]);
      for (let change = 1; change < 60; change += random.between(2, 5)) {
        const what = `SEED=${seed}, change ${change}`;
        const machine = rig.fork();
        for (const at of [change, random.between(1, 20)]) {
          machine.storage.turnOffAt(at);
          await machine.open().catch((error: unknown) => {
            expect((error as { code?: string }).code, what).toMatch(/^(IO|POISONED)$/);
          });
          machine.crash(() => random.chance(percent));
        }
        await machine.open();
        expect(await chunkOf(machine, 0), what).toBe(1);
        const second = await chunkOf(machine, 1);
        expect([2, 3], what).toContain(second);
        // A prefix: the last write is there only with all before it.
        if ((await chunkOf(machine, 2)) === 4) await check(machine, what);
        const { tail } = await readLog(machine.storage);
        expect(tail.damage, what).toEqual([]);
      }
    }
  });

  it('by an error lets go of everything, and the next try succeeds', async () => {
    const rig = await unclean();
    rig.kill();
    for (const operation of ['read', 'write', 'datasync', 'create', 'allocate', 'syncDirectory'] as const) {
      for (let after = 0; ; after++) {
        const machine = rig.fork();
        machine.storage.fail(operation, { after, path: /log|superblock/, code: 'NO_SPACE' });
        const error: unknown = await machine.open().then(
          () => undefined,
          (reason: unknown) => reason,
        );
        machine.storage.clearFailures();
        if (error === undefined) {
          expect(after, operation).toBeGreaterThan(0);
          break;
        }
        expect(machine.storage.openFiles, `${operation} ${after}`).toBe(0);
        expect(machine.storage.openDatabases, `${operation} ${after}`).toBe(0);
        await machine.open();
        await check(machine, `${operation} ${after}`);
      }
    }
  });
});

describe('numbers', () => {
  it('of entries, versions and segments are never used twice, whatever was cut off', async () => {
    const rig = await withVolume();
    const used = { sequence: 0, label: 0, segment: 0, append: 0 };
    for (let life = 0; life < 6; life++) {
      const first = { ...used };
      for (let i = 0; i < 3; i++) await rig.write('disk', i * CHUNK, pattern(life * 10 + i + 1));
      await rig.store.snapshot([`disk@${life}`]);
      await rig.write('disk', MIB, Buffer.alloc(128 * CHUNK, life));
      const { entries, records } = await readLog(rig.storage);
      const fresh = entries.filter((entry) => entry.sequence > first.sequence);
      if (life > 0) expect(fresh.length).toBeGreaterThanOrEqual(6);
      for (const entry of entries) {
        used.sequence = Math.max(used.sequence, entry.sequence);
        if ('label' in entry) used.label = Math.max(used.label, entry.label);
      }
      used.append = Math.max(...records.map((record) => record.header.append));
      used.segment = Math.max(...rig.segments());
      rig.crash();
      await rig.open();
      await rig.write('disk', 0, pattern(1000 + life));
      await rig.store.snapshot([`disk@again-${life}`]);
      await rig.write('disk', 0, pattern(2000 + life));
      await rig.store.flush();
      const after = await readLog(rig.storage);
      const last = after.entries.at(-1)!;
      const begun = after.entries.filter((entry) => entry.sequence > used.sequence);
      expect(begun.length, `life ${life}`).toBeGreaterThanOrEqual(3);
      expect('label' in last && last.label > used.label, `life ${life}`).toBe(true);
      expect(after.records.at(-1)!.header.append).toBeGreaterThan(used.append);
      expect(after.records.at(-1)!.header.segment).toBeGreaterThan(used.segment);
      used.sequence = last.sequence;
      // What was cut off does not come back.
      expect(() => rig.store.show(`disk@${life}`)).toThrow(/no snapshot/);
    }
  });
});

describe('files that are not of the log', () => {
  it('are removed: headerless ones, and what is behind the cut', async () => {
    const rig = await withVolume();
    await rig.write('disk', 0, pattern(1));
    await rig.store.flush();
    for (let i = 0; i < 12; i++) await rig.write('disk', MIB, Buffer.alloc(64 * CHUNK, i + 1));
    await rig.rest();
    const before = rig.segments();
    expect(before.length).toBeGreaterThan(4);
    rig.crash();
    await rig.open();
    expect(await chunkOf(rig, 0)).toBe(1);
    const { tail } = await readLog(rig.storage);
    expect(tail.strays).toEqual([]);
    expect(rig.segments()).toEqual(tail.segments);
    expect((await rig.store.status()).segments).toBe(rig.segments().length);
  });

  it('are never removed while a damaged header is in the way: the store is refused, and left as it is', async () => {
    const rig = await withVolume();
    for (let i = 0; i < 12; i++) {
      await rig.write('disk', MIB, Buffer.alloc(64 * CHUNK, i + 1));
      if (i % 3 === 0) await rig.store.flush();
    }
    await rig.close();
    for (const segment of rig.segments()) {
      for (const keepIndex of [false, true]) {
        const machine = rig.fork();
        if (!keepIndex) machine.crash();
        machine.storage.edit(segmentPath(segment), (file) => file.fill(0xff, 0, 4096));
        const names = machine.storage.names('log');
        const bytes = names.map((name) => Buffer.from(machine.storage.bytes(`log/${name}`)));
        await expect(machine.open(), `segment ${segment}`).rejects.toEqual(isCode('CORRUPTION'));
        expect(machine.storage.names('log')).toEqual(names);
        names.forEach((name, i) => expect(machine.storage.bytes(`log/${name}`).equals(bytes[i]!)).toBe(true));
        expect(machine.storage.openFiles).toBe(0);
      }
    }
  });

  it('a store of one segment with a damaged header is not an empty store', async () => {
    const rig = await withVolume();
    await rig.write('disk', 0, pattern(1));
    await rig.close();
    rig.crash();
    expect(rig.segments()).toHaveLength(1);
    rig.storage.edit(segmentPath(rig.segments()[0]!), (file) => file.fill(0, 0, 4096));
    await expect(rig.open()).rejects.toEqual(isCode('CORRUPTION'));
    expect(rig.segments()).toHaveLength(1);
  });
});

describe('a full store', () => {
  async function filled(): Promise<CrashRig> {
    const rig = await withVolume({ capacityBytes: 6 * MIB });
    for (let i = 0; ; i++) {
      const error = await rig
        .write('disk', MIB, Buffer.alloc(64 * CHUNK, i + 1))
        .catch((reason: unknown) => reason);
      if (error === undefined) continue;
      expect(error).toEqual(isCode('NO_SPACE'));
      return rig;
    }
  }

  it('keeps to its capacity over closing and opening, with an index that starts in the middle of the log', async () => {
    const rig = await filled();
    expect(rig.segments()).toHaveLength(4);
    for (let i = 0; i < 3; i++) {
      await rig.close();
      await rig.open();
      await expect(rig.write('disk', MIB, Buffer.alloc(64 * CHUNK, 1))).rejects.toEqual(isCode('NO_SPACE'));
      expect(rig.segments()).toHaveLength(4);
    }
  });

  it('can be opened after a crash, and reads', async () => {
    const rig = await filled();
    const content = await rig.read('disk', MIB, 64 * CHUNK);
    rig.kill();
    await rig.open();
    expect((await rig.read('disk', MIB, 64 * CHUNK)).equals(content)).toBe(true);
    await rig.store.flush();
    rig.crash(undefined, true);
    await rig.open();
    expect((await rig.read('disk', MIB, 64 * CHUNK)).equals(content)).toBe(true);
  });

  it('can be opened even if the tail that must be written again frees no segment', async () => {
    const rig = await filled();
    await rig.store.flush();
    await rig.device('disk').zero(MIB, CHUNK, false);
    expect(rig.segments()).toHaveLength(4);
    rig.kill();
    await rig.open();
    expect(await rig.read('disk', MIB, CHUNK)).toEqual(Buffer.alloc(CHUNK));
    await rig.store.flush();
  });
});

describe('many lives', () => {
  it('keep what was flushed and are a prefix of what was written, through crashes of every kind', async () => {
    for (const seed of seeds(8)) {
      const random = new Random(seed);
      const rig = await withVolume();
      rig.storage.takesAtOnce = () => random.chance(50);
      const chunks = 12;
      /** Every write that still counts, in order: [chunk, number]. */
      let history: [number, number][] = [];
      let number = 0;
      for (let life = 0; life < 8; life++) {
        let flushed = history.length;
        const operations = random.between(0, 30);
        for (let i = 0; i < operations; i++) {
          const chunk = random.below(chunks);
          number += 1;
          await rig.write('disk', chunk * CHUNK, pattern(number));
          history.push([chunk, number]);
          const deed = random.below(100);
          if (deed < 10) await rig.store.flush();
          else if (deed < 15) await rig.store.checkpoint();
          else if (deed < 20) await rig.write('disk', 2 * MIB, Buffer.alloc(64 * CHUNK, number));
          else continue;
          if (random.chance(50)) {
            await rig.store.flush();
            flushed = history.length;
          }
        }
        if (random.chance(20)) {
          rig.clock.advance(100);
          await rig.rest();
        }
        const end = random.pick(['close', 'kill', 'crash', 'crash', 'crash']);
        const percent = random.pick([0, 30, 90]);
        if (end === 'close') {
          await rig.close();
          flushed = history.length;
        } else if (end === 'kill') {
          rig.kill();
          flushed = history.length;
        } else {
          rig.crash(() => random.chance(percent), random.chance(50));
        }
        while (random.chance(40)) {
          rig.storage.turnOffAt(random.between(1, 12));
          await rig.open().catch(() => undefined);
          // What recovery did not get to the disk may be gone with the power, what was flushed may not.
          if (end === 'crash') rig.crash(() => random.chance(percent), random.chance(50));
          else rig.kill();
        }
        await rig.open();
        const found: number[] = [];
        for (let chunk = 0; chunk < chunks; chunk++) found.push(await chunkOf(rig, chunk));
        const kept = prefixOf(history, flushed, found);
        expect(kept, `SEED=${seed} life ${life} (${end}): ${found.join(' ')}`).toBeGreaterThanOrEqual(
          flushed,
        );
        history = history.slice(0, kept);
        await rig.store.flush();
        flushed = history.length;
      }
      await rig.close();
      // What a cut left behind in the same segment may look like a torn tail behind the closing record: no more.
      const { tail, records } = await readLog(rig.storage);
      expect(tail.damage, `SEED=${seed}`).toEqual([]);
      expect(records.at(-1)!.header.flags & RECORD_CLOSING, `SEED=${seed}`).toBe(RECORD_CLOSING);
    }
  });
});

/** The shortest prefix of at least `from` writes that leaves `found`, or -1. */
function prefixOf(history: readonly [number, number][], from: number, found: readonly number[]): number {
  const state = found.map(() => 0);
  for (let length = 0; length <= history.length; length++) {
    if (length > 0) state[history[length - 1]![0]] = history[length - 1]![1];
    if (length >= from && state.every((number, chunk) => number === found[chunk])) return length;
  }
  return -1;
}
