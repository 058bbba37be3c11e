/** A scrub of an open store: what it finds, what it is silent about, beside what it goes on, how fast, and how it ends. */

import fs from 'node:fs';
import path from 'node:path';
import { describe, expect, it, vi } from 'vitest';
import { StoreError } from '../../src/base/errors.ts';
import { NodeStorage } from '../../src/base/node-storage.ts';
import { Rate } from '../../src/base/rate.ts';
import type { Storage } from '../../src/base/storage.ts';
import { recordEnd, SegmentScanner } from '../../src/log/scan.ts';
import { Store } from '../../src/volume/store.ts';
import type { Finding, ScrubStep } from '../../src/volume/summary.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { Random, seeds } from '../support/random.ts';
import { onStore, write } from '../support/stores.ts';
import { CHUNK, DISK_BYTES, StoreFixture } from './store-fixture.ts';

vi.setConfig({ testTimeout: 60_000 });

const FAST = { bytesPerSecond: 2 ** 40 };

interface Scrubbed {
  findings: Finding[];
  last: ScrubStep;
}

async function scrub(store: Store, options = FAST): Promise<Scrubbed> {
  const findings: Finding[] = [];
  let last: ScrubStep = { readBytes: 0, totalBytes: 0, findings: [] };
  for await (const step of store.scrub(options)) {
    findings.push(...step.findings);
    expect(step.readBytes).toBeGreaterThanOrEqual(last.readBytes);
    last = step;
  }
  return { findings, last };
}

const codes = (findings: readonly Finding[]): string[] => findings.map(({ code }) => code);

function segmentsOf(directory: string): string[] {
  const log = path.join(directory, 'log');
  return fs.readdirSync(log).map((name) => path.join(log, name));
}

/** Where `bytes` stand in the log; they must stand there once. */
function placeOf(directory: string, bytes: Buffer): { file: string; at: number } {
  const found = segmentsOf(directory).flatMap((file) => {
    const at = fs.readFileSync(file).indexOf(bytes);
    return at < 0 ? [] : [{ file, at }];
  });
  expect(found).toHaveLength(1);
  return found[0]!;
}

function edit(file: string, change: (content: Buffer) => void): void {
  const content = fs.readFileSync(file);
  change(content);
  const descriptor = fs.openSync(file, 'r+');
  fs.writeSync(descriptor, content, 0, content.length, 0);
  fs.closeSync(descriptor);
}

/** Turns one bit of a chunk that holds `bytes`. */
function rot(directory: string, bytes: Buffer): void {
  const { file, at } = placeOf(directory, bytes);
  edit(file, (content) => {
    content[at + 1000]! ^= 4;
  });
}

async function written(store: Store, name: string, chunk: number, bytes: Buffer): Promise<Buffer> {
  await onStore(store, name, (device) => write(device, chunk * CHUNK, bytes));
  return bytes;
}

describe('a scrub', () => {
  it('reads all segments of a whole store, and finds nothing', async () => {
    const fixture = await StoreFixture.make(31);
    const { findings, last } = await scrub(fixture.store);
    expect(findings).toEqual([]);
    const { segments, segmentBytes, scrub: state } = await fixture.store.status();
    expect(segments).toBeGreaterThan(2);
    expect(last.totalBytes).toBe(segments * segmentBytes);
    expect(last.readBytes).toBe(last.totalBytes);
    expect(state).toMatchObject({
      state: 'idle',
      last: { readBytes: last.readBytes, damage: 0, isWhole: true },
    });
    await fixture.end();
  });

  it('names the volume of a live chunk that has lost a bit, and its place', async () => {
    const fixture = await StoreFixture.make(32);
    const bytes = await written(fixture.store, 'a', 17, fixture.random.bytes(CHUNK));
    rot(fixture.directory, bytes);
    const { findings } = await scrub(fixture.store);
    expect(codes(findings)).toEqual(['CHUNK_DAMAGED']);
    expect(findings[0]).toMatchObject({ severity: 'damage' });
    expect(findings[0]!.message).toMatch(/^segment \d+, sequence \d+: chunk 17 of a has a wrong checksum$/);
    expect((await fixture.store.status()).scrub.last).toMatchObject({ damage: 1, isWhole: true });
    await fixture.store.close();
  });

  it('names the snapshot that a damaged chunk belongs to by now, in the index as behind its checkpoint', async () => {
    for (const hasCheckpoint of [true, false]) {
      const fixture = await StoreFixture.make(33);
      const bytes = await written(fixture.store, 'a', 17, fixture.random.bytes(CHUNK));
      await fixture.store.snapshot(['a@late']);
      await written(fixture.store, 'a', 17, fixture.random.bytes(CHUNK));
      if (hasCheckpoint) await fixture.store.checkpoint();
      rot(fixture.directory, bytes);
      const { findings } = await scrub(fixture.store);
      expect(findings.map(({ message }) => message)).toEqual([
        expect.stringContaining('chunk 17 of a@late has'),
      ]);
      await fixture.store.close();
    }
  });

  it('names a clone that inherits a damaged chunk from what was deleted', async () => {
    const fixture = await StoreFixture.make(34);
    const bytes = await written(fixture.store, 'a', 17, fixture.random.bytes(CHUNK));
    await fixture.store.snapshot(['a@base']);
    await fixture.store.clone('a@base', 'c');
    await fixture.store.clone('a@base', 'd');
    await fixture.store.delete(['a'], { recursive: true });
    await fixture.store.pruned();
    rot(fixture.directory, bytes);
    const { findings } = await scrub(fixture.store);
    expect(findings.map(({ message }) => message)).toEqual([expect.stringMatching(/chunk 17 of [cd] has/)]);
    await fixture.store.close();
  });

  it('has only a note about chunks that nothing reads any more', async () => {
    const fixture = await StoreFixture.make(35);
    const old = await written(fixture.store, 'a', 17, fixture.random.bytes(CHUNK));
    await written(fixture.store, 'a', 17, fixture.random.bytes(CHUNK));
    await fixture.store.createVolume('gone', DISK_BYTES);
    const deleted = await written(fixture.store, 'gone', 3, fixture.random.bytes(CHUNK));
    await fixture.store.delete(['gone']);
    await fixture.store.pruned();
    rot(fixture.directory, old);
    rot(fixture.directory, deleted);
    const { findings } = await scrub(fixture.store);
    expect(findings.every(({ severity }) => severity === 'note')).toBe(true);
    expect(new Set(codes(findings))).toEqual(new Set(['DEAD_CHUNK_DAMAGED']));
    expect((await fixture.store.status()).scrub.last).toMatchObject({ damage: 0 });
    await fixture.store.close();
  });

  it('tells each copy that is damaged of headers, records and footers, and checks chunks by the footer', async () => {
    const fixture = await StoreFixture.make(36);
    await fixture.store.pauseCompaction(true); // what it moves has no copies
    const bytes = await written(fixture.store, 'a', 17, fixture.random.bytes(CHUNK));
    for (let i = 0; i < 8; i++) await fixture.writeSome('b', 20);
    const { file, at } = placeOf(fixture.directory, bytes);
    const whole = fs.readFileSync(file);
    const segment = Number(path.basename(file, '.seg'));
    const uuid = whole.subarray(8, 24);
    const storage = new NodeStorage(fixture.directory);
    const scanner = (await SegmentScanner.open(storage, Buffer.from(uuid), segment))!;
    const record = (await scanner.footer())!.find(({ header }) => recordEnd(header) > at)!;
    await scanner.close();
    const { offset } = record.header;
    const copy = recordEnd(record.header) - 20;
    const cases: [what: string, damaged: number[], expected: string[]][] = [
      ['the first header', [20], ['SEGMENT_HEADER_DAMAGED']],
      ['the second header', [2048 + 20], ['SEGMENT_HEADER_DAMAGED']],
      ['both', [20, 2048 + 20], ['SEGMENT_HEADER_DAMAGED']],
      ['the start of a record', [offset + 30], ['RECORD_COPY_DAMAGED']],
      ['the end of it', [copy], ['RECORD_COPY_DAMAGED']],
      ['both of it', [offset + 30, copy], ['LOG_RECORD_DAMAGED']],
      ['all of it', [offset + 30, copy, at + 5], ['LOG_RECORD_DAMAGED', 'CHUNK_DAMAGED']],
      ['the trailer', [whole.length - 510], ['FOOTER_DAMAGED']],
    ];
    for (const [what, damaged, expected] of cases) {
      edit(file, (content) => {
        for (const each of damaged) content[each]! ^= 0x10;
      });
      expect(codes((await scrub(fixture.store)).findings), what).toEqual(expected);
      edit(file, (content) => whole.copy(content));
    }
    expect((await scrub(fixture.store)).findings).toEqual([]);
    await fixture.store.close();
  });

  it('goes on behind what the disk does not give, and says which chunks that were', async () => {
    const fixture = await StoreFixture.make(37);
    const bytes = await written(fixture.store, 'a', 17, fixture.random.bytes(CHUNK));
    await written(fixture.store, 'a', 18, fixture.random.bytes(CHUNK));
    await fixture.store.close();
    const { file, at } = placeOf(fixture.directory, bytes);
    const sector = Math.ceil(at / 512) * 512;
    let isFailing = false;
    const failing = failingStorage(fixture.directory, path.basename(file), (from, to) => {
      return isFailing && from < sector + 512 && to > sector;
    });
    const store = await Store.open(fixture.directory, { storage: failing });
    isFailing = true;
    const { findings, last } = await scrub(store);
    isFailing = false;
    const told = findings.filter(
      ({ code }) => code !== 'RECORD_COPY_DAMAGED' && code !== 'LOG_RECORD_DAMAGED',
    );
    // A page of the file may hold parts of two chunks.
    expect(codes(told).filter((code) => code === 'UNREADABLE')).toHaveLength(1);
    expect(codes(told).length).toBeLessThanOrEqual(3);
    expect(told.some(({ message }) => message.includes('chunk 17 of a '))).toBe(true);
    expect(last.readBytes).toBe(last.totalBytes);
    await store.close();
  });

  it('has a finding where a file of the log is missing', async () => {
    const fixture = await StoreFixture.make(38);
    fs.rmSync(segmentsOf(fixture.directory)[0]!);
    const { findings } = await scrub(fixture.store);
    expect(codes(findings)).toEqual(['LOG_SEGMENT_LOST']);
    await fixture.store.close();
  });
});

describe('a scrub beside everything else', () => {
  it.each(seeds(4))(
    'finds nothing while chunks are written, moved, snapshot and deleted (seed %i)',
    async (seed) => {
      const fixture = await StoreFixture.make(seed);
      const random = new Random(seed + 1000);
      let isDone = false;
      let scrubs = 0;
      const scrubbing = (async () => {
        while (!isDone) {
          const { findings } = await scrub(fixture.store, {
            bytesPerSecond: random.pick([2 ** 40, 2 ** 28, 2 ** 25]),
          });
          expect(findings).toEqual([]);
          scrubs += 1;
        }
      })();
      for (let i = 0; i < 40; i++) {
        await fixture.writeSome(random.pick(['a', 'b']), random.between(5, 40));
        if (random.chance(40)) await fixture.store.compactOnce();
        if (random.chance(20)) await fixture.snapshot(`a@s${i}`);
        if (random.chance(15)) await fixture.store.checkpoint();
        const [old] = [...fixture.contents.keys()].filter((name) => name.includes('@s'));
        if (old !== undefined && random.chance(25)) {
          await fixture.store.delete([old]);
          fixture.contents.delete(old);
        }
      }
      isDone = true;
      await scrubbing;
      expect(scrubs).toBeGreaterThan(1);
      expect((await fixture.store.status()).compaction.rounds).toBeGreaterThan(0);
      await fixture.store.pruned();
      await fixture.end();
    },
  );

  it('forgets what it found in a segment that compaction has emptied meanwhile', async () => {
    const fixture = await StoreFixture.make(39);
    await fixture.store.pauseCompaction(true);
    const old = await written(fixture.store, 'a', 17, fixture.random.bytes(CHUNK));
    const { file } = placeOf(fixture.directory, old);
    for (let i = 0; i < 8; i++) await fixture.writeSome('a', 60);
    await fixture.store.checkpoint();
    const steps = fixture.store.scrub(FAST);
    await steps.next();
    const total = (await fixture.store.status()).scrub.totalBytes;
    await fixture.store.compact({ target: 1, purge: true, bytesPerSecond: undefined }).next();
    for await (const _ of fixture.store.compact({ target: 1, purge: true, bytesPerSecond: undefined }));
    expect(fs.existsSync(file)).toBe(false);
    let last: ScrubStep | undefined;
    for await (const step of steps) {
      expect(step.findings).toEqual([]);
      last = step;
    }
    expect(last!.readBytes).toBe(total);
    await fixture.store.close();
  });
});

describe('the pace of a scrub', () => {
  it('is what it is asked to be, whatever the reads are', () => {
    const pace = new Rate(1_000_000);
    let now = 5000;
    const random = new Random(1);
    let bytes = 0;
    for (let i = 0; i < 1000; i++) {
      now += random.pick([0, 0, 1, 30]); // the read takes its time too
      const some = random.between(1, 50_000);
      now += pace.take(some, now);
      bytes += some;
      expect(bytes - 50_000 - 100_000).toBeLessThanOrEqual((now - 5000) * 1000);
    }
    expect((now - 5000) * 1000).toBeLessThan(bytes * 1.2);
  });

  it('does not make up for a long pause', () => {
    const pace = new Rate(1000);
    expect(pace.take(1000, 0)).toBe(0);
    expect(pace.take(1000, 60_000)).toBe(0);
    expect(pace.take(1000, 60_000)).toBe(900);
    expect(pace.take(1000, 60_000)).toBe(1900);
  });

  it('holds for a whole store, on a clock of its own', async () => {
    const fixture = await StoreFixture.make(40);
    await fixture.store.close();
    const clock = new ManualClock();
    await fixture.open(clock);
    const began = clock.now();
    const rate = 1 << 20;
    const steps = fixture.store.scrub({ bytesPerSecond: rate });
    let isDone = false;
    const done = (async () => {
      let last: ScrubStep | undefined;
      for await (const step of steps) last = step;
      isDone = true;
      return last!;
    })();
    while (!isDone) {
      await new Promise((resolve) => setTimeout(resolve, 1));
      clock.advance(10);
    }
    const { totalBytes } = await done;
    const seconds = (clock.now() - began) / 1000;
    expect(seconds).toBeGreaterThan((0.5 * totalBytes) / rate); // what is behind the end of the log is not read
    expect(seconds).toBeLessThan((3 * totalBytes) / rate + 5);
    await fixture.store.close();
  });
});

describe('a scrub that is to end', () => {
  it('ends at once, with the reason, however long it waits for its pace', async () => {
    const fixture = await StoreFixture.make(41);
    const ending = new AbortController();
    const steps = fixture.store.scrub({ bytesPerSecond: 1 }, ending.signal);
    await steps.next();
    const next = steps.next();
    setTimeout(() => ending.abort(new StoreError('CLOSED', 'enough')), 20);
    await expect(next).rejects.toThrow('enough');
    expect((await fixture.store.status()).scrub).toMatchObject({ state: 'idle', last: { isWhole: false } });
    expect((await scrub(fixture.store)).findings).toEqual([]);
    await fixture.end();
  });

  it('keeps no store from being closed', async () => {
    const fixture = await StoreFixture.make(42);
    const steps = fixture.store.scrub({ bytesPerSecond: 1 });
    await steps.next();
    const next = steps.next();
    next.catch(() => undefined);
    await fixture.store.close();
    await expect(next).rejects.toMatchObject({ code: 'CLOSED' });
  });

  it('is the only one', async () => {
    const fixture = await StoreFixture.make(43);
    const steps = fixture.store.scrub({ bytesPerSecond: 1 });
    await steps.next();
    await expect(fixture.store.scrub(FAST).next()).rejects.toMatchObject({ code: 'IN_USE' });
    expect((await fixture.store.status()).scrub.state).toBe('running');
    await steps.return(undefined);
    await expect(fixture.store.scrub({ bytesPerSecond: 0 }).next()).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
    });
    await fixture.end();
  });
});

/** Real files, of which one fails to be read where `fails` says so. */
function failingStorage(
  directory: string,
  name: string,
  fails: (from: number, to: number) => boolean,
): Storage {
  const storage = new NodeStorage(directory);
  const open = storage.open.bind(storage);
  storage.open = async (file, mode) => {
    const opened = await open(file, mode);
    if (path.basename(file) !== name) return opened;
    const reading = opened.read.bind(opened);
    const cached = opened.readCached.bind(opened);
    opened.readCached = (target, start, length, position) =>
      fails(position, position + length) ? -1 : cached(target, start, length, position);
    opened.read = async (target, start, length, position) => {
      if (fails(position, position + length)) throw new StoreError('IO', 'a sector cannot be read');
      return await reading(target, start, length, position);
    };
    return opened;
  };
  return storage;
}
