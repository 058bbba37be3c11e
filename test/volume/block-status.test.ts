/** What a device says of its extents: where they differ from a snapshot, and how deep they lie. */

import { afterEach, describe, expect, it, vi } from 'vitest';
import { Overlay } from '../../src/index/overlay.ts';
import { REGION_CHUNKS } from '../../src/index/pointers.ts';
import {
  type BlockDevice,
  CHANGED,
  CHANGED_TO_ZEROS,
  DEPTH_INHERITED,
  DEPTH_NONE,
  DEPTH_OWN,
  SAME,
  type StatusRun,
} from '../../src/volume/device.ts';
import { openLevel, Store } from '../../src/volume/store.ts';
import { slow } from '../index/slow-database.ts';
import { Random, seeds } from '../support/random.ts';
import { write } from '../support/stores.ts';
import { CHUNK, directoryOf } from './store-fixture.ts';

const MIB = 2 ** 20;
const TIB = 2 ** 40;

const open: Store[] = [];
afterEach(async () => {
  for (const store of open.splice(0)) await store.close();
});

async function makeStore(sizeBytes: number): Promise<Store> {
  const directory = directoryOf('store');
  await Store.init(directory, { segmentBytes: MIB });
  const store = await Store.open(directory, { compacts: false });
  open.push(store);
  await store.createVolume('disk', sizeBytes);
  return store;
}

/** All runs of a device, asked for piece by piece; they must follow each other, and differ. */
async function runsOf(
  device: BlockDevice,
  ask: (offset: number, lengthBytes: number) => Promise<StatusRun[]>,
  pieceBytes = device.sizeBytes,
): Promise<[offset: number, bytes: number, status: number][]> {
  const all: [number, number, number][] = [];
  for (let at = 0; at < device.sizeBytes; ) {
    const lengthBytes = Math.min(pieceBytes, device.sizeBytes - at);
    const runs = await ask(at, lengthBytes);
    expect(runs.length).toBeGreaterThan(0);
    let described = 0;
    let before = -1;
    for (const run of runs) {
      expect(run.lengthBytes).toBeGreaterThan(0);
      expect(run.status).not.toBe(before);
      before = run.status;
      const last = all.at(-1);
      if (last !== undefined && last[2] === run.status) last[1] += run.lengthBytes;
      else all.push([at + described, run.lengthBytes, run.status]);
      described += run.lengthBytes;
    }
    expect(described).toBeLessThanOrEqual(lengthBytes);
    at += described;
  }
  return all;
}

async function changesOf(store: Store, since: string, of: string, pieceBytes?: number, runsMax = 1000) {
  const [base, device] = [store.device(since), store.device(of)];
  try {
    const ask = (offset: number, bytes: number) => device.changes(base, offset, bytes, runsMax);
    return await runsOf(device, ask, pieceBytes);
  } finally {
    base.release();
    device.release();
  }
}

/** The same as a diff says it. */
async function diffOf(store: Store, since: string, of: string): Promise<[number, number, number][]> {
  const { size } = store.show(of);
  const all: [number, number, number][] = [];
  let at = 0;
  for await (const { offset, length, type } of store.diff(since, of)) {
    if (offset >= size) break;
    if (offset > at) all.push([at, offset - at, SAME]);
    const end = Math.min(size, offset + length);
    all.push([offset, end - offset, type === 'hole' ? CHANGED_TO_ZEROS : CHANGED]);
    at = end;
  }
  if (at < size) all.push([at, size - at, SAME]);
  return all;
}

async function onDisk(
  store: Store,
  name: string,
  work: (device: BlockDevice) => Promise<void>,
): Promise<void> {
  const device = store.device(name);
  try {
    await work(device);
  } finally {
    device.release();
  }
}

describe('what has changed since a snapshot', () => {
  for (const seed of seeds(6)) {
    it(`is what a diff says, without a checkpoint (SEED=${seed})`, async () => {
      const random = new Random(seed);
      const sizeBytes = random.pick([4 * MIB, 3 * TIB]) + random.pick([0, 512]);
      const store = await makeStore(sizeBytes);
      // Where anything happens: the beginning, a border of rows of extents, another window, the end.
      const places = [0, 255 * MIB, 1.5 * TIB, sizeBytes - 2 * MIB].filter((place) => place < sizeBytes);
      const near = (): number => {
        const at = random.pick(places) + random.below(300) * CHUNK;
        return Math.floor(Math.min(at, sizeBytes - 100 * CHUNK) / CHUNK) * CHUNK;
      };
      const volumes = ['disk'];
      let snapshots: string[] = [];
      for (let step = 0; step < 60; step++) {
        const volume = random.pick(volumes);
        const choice = random.below(100);
        if (choice < 45) {
          const count = random.between(1, 8);
          await onDisk(store, volume, (device) =>
            write(device, near(), Buffer.alloc(count * CHUNK, random.between(1, 255))),
          );
        } else if (choice < 60) {
          const count = random.pick([1, 5, 90]);
          await onDisk(store, volume, (device) => device.zero(near(), count * CHUNK, false));
        } else if (choice < 64) {
          await onDisk(store, volume, async (device) => {
            const from = near();
            await device.zero(from, Math.min(random.pick([3 * MIB, TIB]), device.sizeBytes - from), false);
          });
        } else if (choice < 75) {
          snapshots.push(`${volume}@s${step}`);
          await store.snapshot([snapshots.at(-1)!]);
        } else if (choice < 80 && snapshots.length > 0) {
          volumes.push(`clone${step}`);
          await store.clone(random.pick(snapshots), volumes.at(-1)!);
        } else if (choice < 85 && snapshots.length > 2) {
          const gone = random.pick(snapshots);
          snapshots = snapshots.filter((name) => name !== gone);
          await store.delete([gone]);
          if (random.chance(50)) await store.pruned();
        } else if (choice < 90) {
          await store.checkpoint();
        } else if (choice < 95) {
          await store.compactOnce();
        }
        if (snapshots.length === 0 || !random.chance(50)) continue;
        const since = random.pick([...snapshots, ...volumes]);
        const of = random.pick([...volumes, ...volumes, ...snapshots]);
        const pieceBytes = random.pick([undefined, 20_000 * MIB + 512, TIB + 512]);
        const runsMax = random.pick([1, 2, 1000]);
        const changes = await changesOf(store, since, of, pieceBytes, runsMax);
        expect(changes).toEqual(await diffOf(store, since, of));
        expect(await changesOf(store, since, of)).toEqual(changes); // all is in rows now
      }
    });
  }

  it('has a write that was answered before the question, and costs no checkpoint', async () => {
    const store = await makeStore(16 * MIB);
    await store.snapshot(['disk@base']);
    const { generation } = (await store.status()).lastCheckpoint;
    const [base, device] = [store.device('disk@base'), store.device('disk')];
    for (let chunk = 0; chunk < 100; chunk++) {
      await write(device, chunk * 3 * CHUNK, Buffer.alloc(CHUNK, 1));
      const runs = await device.changes(base, chunk * 3 * CHUNK, CHUNK, 10);
      expect(runs).toEqual([{ lengthBytes: CHUNK, status: CHANGED }]);
    }
    base.release();
    device.release();
    await store.checkpoint();
    expect((await store.status()).lastCheckpoint.generation).toBe(generation + 1);
  });

  for (const seed of seeds(2)) {
    it(`has what a delete hands on while it is finished, and what is committed meanwhile (SEED=${seed})`, async () => {
      const random = new Random(seed);
      const directory = directoryOf('store');
      await Store.init(directory, { segmentBytes: MIB });
      const openDatabase = async (location: string) => slow(await openLevel(location), random);
      const store = await Store.open(directory, { openDatabase });
      open.push(store);
      await store.createVolume('disk', 4 * MIB);
      for (let round = 0; round < 8; round++) {
        await store.snapshot([`disk@base${round}`]);
        const [base, device] = [store.device(`disk@base${round}`), store.device('disk')];
        const changed = new Set<number>();
        const middle: string[] = [];
        const put = async (): Promise<void> => {
          const chunk = random.below(1024);
          await write(device, chunk * CHUNK, Buffer.alloc(CHUNK, random.between(1, 255)));
          changed.add(chunk);
        };
        for (let i = 0; i < 4; i++) {
          for (let n = 0; n < 3; n++) await put();
          middle.push(`disk@m${round}-${i}`);
          await store.snapshot([middle.at(-1)!]);
        }
        const found = async (): Promise<Set<number>> => {
          const chunks = new Set<number>();
          let at = 0;
          for (const run of await device.changes(base, 0, 4 * MIB, 10_000)) {
            for (let from = at; from < at + run.lengthBytes; from += CHUNK)
              if (run.status !== SAME) chunks.add(from / CHUNK);
            at += run.lengthBytes;
          }
          expect(at).toBe(4 * MIB);
          return chunks;
        };
        await store.delete(middle);
        let isOver = false;
        const over = Promise.all([store.pruned(), store.checkpoint()]).then(() => {
          isOver = true;
        });
        while (!isOver) {
          expect(await found()).toEqual(changed);
          await put();
        }
        await over;
        expect(await found()).toEqual(changed);
        base.release();
        device.release();
      }
    });
  }

  it('has zeros over what a checkpoint is making rows of', async () => {
    const directory = directoryOf('store');
    await Store.init(directory, { segmentBytes: MIB });
    const openDatabase = async (location: string) => slow(await openLevel(location), new Random(1));
    const store = await Store.open(directory, { openDatabase });
    open.push(store);
    const [count, regionBytes] = [40, REGION_CHUNKS * CHUNK];
    await store.createVolume('disk', count * regionBytes);
    await onDisk(store, 'disk', async (device) => {
      for (let i = 0; i < count; i++) await write(device, i * regionBytes, Buffer.alloc(CHUNK, 1));
    });
    await store.snapshot(['disk@base']);
    const [base, device] = [store.device('disk@base'), store.device('disk')];
    let isOver = false;
    const over = store.checkpoint().then(() => {
      isOver = true;
    });
    for (let i = 0; i < count && !isOver; i++) {
      await device.zero(i * regionBytes, regionBytes, false);
      const [first] = await device.changes(base, i * regionBytes, regionBytes, 10);
      expect(first).toEqual({ lengthBytes: CHUNK, status: CHANGED_TO_ZEROS });
    }
    await over;
    base.release();
    device.release();
  });

  it('is bounded in what one answer costs, and goes on where it ended', async () => {
    const store = await makeStore(TIB);
    await store.snapshot(['disk@base']);
    await onDisk(store, 'disk', async (device) => {
      for (let region = 0; region < 600; region++) await write(device, region * MIB, Buffer.alloc(CHUNK, 1));
    });
    await store.snapshot(['disk@next']);
    await onDisk(store, 'disk', async (device) => {
      for (let region = 0; region < 600; region++) await write(device, region * MIB, Buffer.alloc(CHUNK, 1));
    });
    const [base, device] = [store.device('disk@next'), store.device('disk@base')];
    const first = await device.changes(base, 0, TIB, 10_000);
    expect(first.reduce((sum, run) => sum + run.lengthBytes, 0)).toBeLessThan(TIB);
    base.release();
    device.release();
    const all = await changesOf(store, 'disk@next', 'disk@base', undefined, 10_000);
    expect(all.filter(([, , status]) => status === CHANGED_TO_ZEROS).length).toBe(600);
  });

  it('looks once at what a clone has written, however many changes there are between', async () => {
    const count = 400;
    const store = await makeStore(TIB);
    await store.snapshot(['disk@base']);
    await store.clone('disk@base', 'clone');
    await onDisk(store, 'disk', async (device) => {
      for (let i = 0; i < count; i++) await write(device, 2 * i * MIB, Buffer.alloc(CHUNK, 1));
    });
    await store.checkpoint();
    await onDisk(store, 'clone', async (device) => {
      for (let i = 0; i < count; i++) await write(device, (2 * i + 1) * MIB, Buffer.alloc(CHUNK, 1));
    });
    const looks = vi.spyOn(Overlay.prototype, 'hasAny');
    try {
      const changes = await changesOf(store, 'disk@base', 'disk', TIB, 10_000);
      expect(changes.filter(([, , status]) => status === CHANGED).length).toBe(count);
      // For each of the two that are compared.
      expect(looks.mock.calls.length).toBe(2 * count);
    } finally {
      looks.mockRestore();
    }
  });
});

describe('depth', () => {
  it('tells what a version wrote itself from what it inherits', async () => {
    const store = await makeStore(2 * TIB);
    await onDisk(store, 'disk', async (device) => {
      await write(device, 0, Buffer.alloc(4 * CHUNK, 1));
      await write(device, TIB, Buffer.alloc(CHUNK, 1));
    });
    await store.snapshot(['disk@base']);
    await onDisk(store, 'disk', async (device) => {
      await write(device, CHUNK, Buffer.alloc(CHUNK, 2));
      await device.zero(2 * CHUNK, CHUNK, false);
    });
    for (const inRows of [false, true]) {
      if (inRows) await store.checkpoint();
      const device = store.device('disk');
      const runs = await runsOf(device, (offset, bytes) => device.depth(offset, bytes, 100));
      device.release();
      expect(runs).toEqual([
        [0, CHUNK, DEPTH_INHERITED],
        [CHUNK, 2 * CHUNK, DEPTH_OWN],
        [3 * CHUNK, CHUNK, DEPTH_INHERITED],
        [4 * CHUNK, TIB - 4 * CHUNK, DEPTH_NONE],
        [TIB, CHUNK, DEPTH_INHERITED],
        [TIB + CHUNK, TIB - CHUNK, DEPTH_NONE],
      ]);
    }
    const base = store.device('disk@base');
    expect(await base.depth(0, 10 * CHUNK, 100)).toEqual([
      { lengthBytes: 4 * CHUNK, status: DEPTH_OWN },
      { lengthBytes: 6 * CHUNK, status: DEPTH_NONE },
    ]);
    base.release();
  });
});
