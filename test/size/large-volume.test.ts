/** 64 TiB: the far ends of a volume work as its beginning does, and what is empty costs nothing however large it is. */

import fs from 'node:fs';
import path from 'node:path';
import { performance } from 'node:perf_hooks';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { BlockDevice } from '../../src/volume/device.ts';
import { Store } from '../../src/volume/store.ts';
import { Cleanup, runTool, tool } from '../support/programs.ts';
import { ServedStore } from '../support/served-store.ts';
import { onStore, read, scratchDirectory, write } from '../support/stores.ts';
import { requireTools } from '../support/tools.ts';

const TIB = 2 ** 40;
const SIZE = 64 * TIB;
/** Where numbers of chunks, regions or directory nodes need another bit. */
const EDGES = [8 * TIB, 16 * TIB, 32 * TIB, SIZE];

describe('a volume of 64 TiB, empty', () => {
  const directory = path.join(scratchDirectory(), 'store');
  let store: Store;
  beforeAll(async () => {
    await Store.init(directory);
    store = await Store.open(directory);
    await store.createVolume('v', SIZE);
    await store.createVolume('warm', SIZE);
    await timed('warm');
  });
  afterAll(async () => {
    await store.close();
    fs.rmSync(path.dirname(directory), { recursive: true });
  });

  async function timed(name: string): Promise<Record<string, number>> {
    const device = store.device(name);
    const took: Record<string, number> = {};
    const time = async (what: string, work: () => Promise<unknown>): Promise<void> => {
      const started = performance.now();
      await work();
      took[what] = performance.now() - started;
    };
    const walk = async (): Promise<void> => {
      let at = 0;
      while (at < SIZE) {
        for (const run of await device.allocation(at, SIZE - at, 1000)) {
          expect(run.allocated).toBe(false);
          at += run.lengthBytes;
        }
      }
    };
    await time('block status', walk);
    await time('trim', () => device.zero(0, SIZE, false));
    await time('block status behind a trim', walk);
    await time('checkpoint', () => store.checkpoint());
    await time('snapshot', () => store.snapshot([`${name}@s`]));
    await time('block status behind a snapshot', walk);
    await time('trim behind a snapshot', () => device.zero(0, SIZE, false));
    device.release();
    return took;
  }

  it('is trimmed, walked and snapshotted in 50 ms each', async () => {
    for (const [what, ms] of Object.entries(await timed('v'))) expect(ms, what).toBeLessThan(50);
  });
});

describe('a volume of 64 TiB, its far ends', () => {
  it('reads, writes, trims, snapshots and clones there, over restarts', async () => {
    const directory = path.join(scratchDirectory(), 'store');
    await Store.init(directory);
    let store = await Store.open(directory);
    await store.createVolume('v', SIZE);
    const chunk = (value: number): Buffer => Buffer.alloc(8192, value);
    const at = (edge: number): number => (edge === SIZE ? edge - 8192 : edge - 4096);
    await onStore(store, 'v', async (device) => {
      for (const [i, edge] of EDGES.entries()) await write(device, at(edge), chunk(i + 1));
    });
    await store.snapshot(['v@s']);
    await store.clone('v@s', 'c');
    await onStore(store, 'v', async (device) => {
      for (const edge of EDGES) await device.zero(at(edge), 4096, false);
    });
    await onStore(store, 'c', async (device) => {
      for (const edge of EDGES) await write(device, at(edge) + 4096, Buffer.alloc(4096, 0xcc));
    });
    for (let round = 0; round < 3; round++) {
      for (const [i, edge] of EDGES.entries()) {
        const half = (value: number): Buffer => Buffer.alloc(4096, value);
        const expected = {
          'v@s': [half(i + 1), half(i + 1)],
          v: [half(0), half(i + 1)],
          c: [half(i + 1), half(0xcc)],
        };
        for (const [name, halves] of Object.entries(expected)) {
          const bytes = await onStore(store, name, (device) => read(device, at(edge), 8192));
          expect(bytes.equals(Buffer.concat(halves)), `${name} at ${edge}, round ${round}`).toBe(true);
        }
        // What lies on the other side of 2^32 chunks or bytes is not this.
        const far = await onStore(store, 'v@s', (device) => read(device, at(edge) - 16_384, 8192));
        expect(far.every((byte) => byte === 0)).toBe(true);
      }
      const found = await onStore(store, 'v@s', (device) => stored(device));
      expect(found).toEqual(EDGES.map((edge) => [at(edge), 8192]));
      await store.close();
      store = await Store.open(directory);
    }
    await store.close();
    fs.rmSync(path.dirname(directory), { recursive: true });
  });
});

async function stored(device: BlockDevice): Promise<[number, number][]> {
  const runs: [number, number][] = [];
  for (let at = 0; at < SIZE; ) {
    for (const run of await device.allocation(at, SIZE - at, 100)) {
      if (run.allocated) runs.push([at, run.lengthBytes]);
      at += run.lengthBytes;
    }
  }
  return runs;
}
interface MapExtent {
  offset: number;
  length: number;
  /** 0 is data. */
  type: number;
}

describe.skipIf(!requireTools(['qemu-io', 'nbdinfo']))('the far ends through NBD', () => {
  const cleanup = new Cleanup();
  afterAll(() => cleanup.run());

  it('the last chunk and those around 8, 16 and 32 TiB are written, read, trimmed, snapshotted and cloned', async () => {
    const served = await ServedStore.make(cleanup);
    await served.start();
    await served.coppice('create', 'v', '--size', '64T');
    const qemuIo = async (name: string, ...commands: string[]): Promise<string> => {
      const args = [
        '-d',
        'unmap',
        '-f',
        'raw',
        ...commands.flatMap((line) => ['-c', line]),
        served.uri(name),
      ];
      const { output } = await runTool('qemu-io', args);
      expect(output).not.toMatch(/failed|error|Invalid/i);
      return output;
    };
    const places = EDGES.map((edge) => (edge === SIZE ? edge - 8192 : edge - 4096));
    await qemuIo('v', ...places.map((at, i) => `write -P ${i + 1} ${at} 8192`), 'flush');
    await served.coppice('snapshot', 'v@s');
    await served.coppice('clone', 'v@s', 'c');
    await qemuIo('v', ...places.map((at) => `discard ${at} 4096`));
    await qemuIo('c', ...places.map((at) => `write -P 0xcc ${at + 4096} 4096`));
    await qemuIo(
      'v',
      ...places.flatMap((at, i) => [`read -P 0 ${at} 4096`, `read -P ${i + 1} ${at + 4096} 4096`]),
    );
    await qemuIo(
      'c',
      ...places.flatMap((at, i) => [`read -P ${i + 1} ${at} 4096`, `read -P 0xcc ${at + 4096} 4096`]),
    );
    const map = JSON.parse(await tool('nbdinfo', ['--map', '--json', served.uri('v')])) as MapExtent[];
    const data = map.filter((extent) => extent.type === 0).map((extent) => [extent.offset, extent.length]);
    expect(data).toEqual(places.map((at) => [at + 4096, 4096]));
    await served.stop();
    expect(await served.damage()).toBeUndefined();
  });
});
