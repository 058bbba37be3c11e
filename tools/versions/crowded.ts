/** A volume with very many snapshots; two versions that differ in scattered chunks; and how fast space is counted. */

import path from 'node:path';
import { performance } from 'node:perf_hooks';
import { CHUNK_BYTES } from '../../src/base/units.ts';
import type { BlockDevice } from '../../src/volume/device.ts';
import { Store } from '../../src/volume/store.ts';
import { percentile } from './under-load.ts';

const QUEUE_DEPTH = 32;

function writeChunk(device: BlockDevice, chunk: number, bytes: Buffer): Promise<void> {
  return new Promise((resolve, reject) => {
    device.write({
      offset: chunk * CHUNK_BYTES,
      lengthBytes: bytes.length,
      slices: [bytes],
      forceUnitAccess: false,
      complete: (error) => (error === undefined ? resolve() : reject(error)),
    });
  });
}

/** Deterministic chunk numbers below `count`. */
function* chunksBelow(count: number, seed: number): Generator<number> {
  let state = seed;
  for (;;) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    yield (state >>> 0) % count;
  }
}

/** Requests in a second at a queue depth. */
async function rate(ms: number, request: (target: Buffer) => Promise<void>): Promise<number> {
  let done = 0;
  const started = performance.now();
  const client = async (): Promise<void> => {
    const target = Buffer.alloc(CHUNK_BYTES); // its own: what is read is verified where it lies
    while (performance.now() - started < ms) {
      await request(target);
      done += 1;
    }
  };
  await Promise.all(Array.from({ length: QUEUE_DEPTH }, client));
  return (1000 * done) / (performance.now() - started);
}

async function readWriteRates(
  device: BlockDevice,
  chunks: number,
  ms: number,
  seed: number,
): Promise<{ read: number; write: number }> {
  const at = chunksBelow(chunks, seed);
  const bytes = Buffer.alloc(CHUNK_BYTES, seed);
  const read = await rate(ms, async (target) => {
    const offset = (at.next().value as number) * CHUNK_BYTES;
    if (!device.tryRead(target, 0, offset, CHUNK_BYTES)) await device.read(target, 0, offset, CHUNK_BYTES);
    else await Promise.resolve();
  });
  const write = await rate(ms, () => writeChunk(device, at.next().value as number, bytes));
  return { read, write };
}

export async function measureSnapshots(directory: string, count: number): Promise<void> {
  const store = path.join(directory, 'store');
  const gib = 1;
  const chunks = gib * 2 ** 18;
  await Store.init(store);
  let open = await Store.open(store);
  const bytes = Buffer.alloc(64 * CHUNK_BYTES, 7);
  const devices = new Map<string, BlockDevice>();
  for (const name of ['plain', 'deep']) {
    await open.createVolume(name, gib * 2 ** 30);
    devices.set(name, open.device(name));
    for (let chunk = 0; chunk < chunks; chunk += 64) await writeChunk(devices.get(name)!, chunk, bytes);
  }
  const at = chunksBelow(chunks, 12_345);
  const took: number[] = [];
  for (let i = 0; i < count; i++) {
    for (let write = 0; write < 4; write++)
      await writeChunk(devices.get('deep')!, at.next().value as number, bytes.subarray(0, CHUNK_BYTES));
    const started = performance.now();
    await open.snapshot([`deep@s${i}`]);
    took.push(performance.now() - started);
  }
  const tenth = Math.floor(count / 10);
  const [first, last] = [percentile(took.slice(0, tenth), 50), percentile(took.slice(-tenth), 50)];
  console.log(
    `${count} snapshots: the first tenth takes ${first.toFixed(3)} ms each, the last ${last.toFixed(3)} (medians; ratio ${(last / first).toFixed(2)})`,
  );
  const ratios = { read: [] as number[], write: [] as number[] };
  await readWriteRates(devices.get('plain')!, chunks, 500, 3);
  await readWriteRates(devices.get('deep')!, chunks, 500, 3);
  for (let pair = 0; pair < 12; pair++) {
    const order = pair % 2 === 0 ? ['plain', 'deep'] : ['deep', 'plain'];
    const rates = new Map<string, { read: number; write: number }>();
    for (const name of order)
      rates.set(name, await readWriteRates(devices.get(name)!, chunks, 400, 17 + pair));
    for (const kind of ['read', 'write'] as const)
      ratios[kind].push(rates.get('deep')![kind] / rates.get('plain')![kind]);
  }
  console.log(
    `at ${count} snapshots, to a volume without, median of 12 pairs: random read ${percentile(ratios.read, 50).toFixed(3)}, write ${percentile(ratios.write, 50).toFixed(3)}`,
  );
  for (const device of devices.values()) device.release();
  await open.close();
  const opening = performance.now();
  open = await Store.open(store);
  console.log(`opened in ${(performance.now() - opening).toFixed(0)} ms`);
  const counting = performance.now();
  await open.listWithSpace();
  console.log(`space of all of them counted in ${(performance.now() - counting).toFixed(0)} ms`);
  const names = Array.from({ length: count / 2 }, (_, i) => `deep@s${2 * i}`);
  const deleting = performance.now();
  await open.delete(names);
  const answered = performance.now() - deleting;
  const device = open.device('deep');
  const target = Buffer.alloc(CHUNK_BYTES);
  let reads = 0;
  let pruned = false;
  const done = open.pruned().then(() => {
    pruned = true;
  });
  for (const chunk of chunksBelow(chunks, 99)) {
    if (pruned) break;
    await device.read(target, 0, chunk * CHUNK_BYTES, CHUNK_BYTES);
    if (target[0] !== target[CHUNK_BYTES - 1]) throw new Error(`chunk ${chunk} is torn`);
    reads += 1;
  }
  await done;
  console.log(
    `every second one deleted: answered in ${answered.toFixed(1)} ms, pointers out in ${((performance.now() - deleting) / 1000).toFixed(2)} s, ${reads} reads meanwhile`,
  );
  device.release();
  await open.close();
}

export async function measureDiff(directory: string, gib: number, changed: number): Promise<void> {
  const store = path.join(directory, 'store');
  await Store.init(store);
  const open = await Store.open(store);
  const chunks = gib * 2 ** 18;
  await open.createVolume('disk', gib * 2 ** 30);
  await open.snapshot(['disk@before']);
  const device = open.device('disk');
  const bytes = Buffer.alloc(CHUNK_BYTES, 5);
  const picked = new Set<number>();
  for (const chunk of chunksBelow(chunks, 4242)) {
    picked.add(chunk);
    if (picked.size === changed) break;
  }
  for (const chunk of picked) await writeChunk(device, chunk, bytes);
  await open.snapshot(['disk@after']);
  device.release();
  const took: number[] = [];
  for (let i = 0; i < 9; i++) {
    const started = performance.now();
    let found = 0;
    for await (const { length } of open.diff('disk@before', 'disk@after')) found += length / CHUNK_BYTES;
    took.push(performance.now() - started);
    if (found !== changed) throw new Error(`${found} chunks differ, not ${changed}`);
  }
  console.log(
    `diff of ${gib} GiB with ${changed} chunks changed: first ${took[0]!.toFixed(1)} ms (with its checkpoint), then ${percentile(took.slice(1), 50).toFixed(1)} ms (median)`,
  );
  await open.close();
}

export async function measureSpace(directory: string, pointers: number): Promise<void> {
  const store = path.join(directory, 'store');
  await Store.init(store);
  const open = await Store.open(store);
  const chunks = 8 * 2 ** 18;
  await open.createVolume('disk', 8 * 2 ** 30);
  const device = open.device('disk');
  const bytes = Buffer.alloc(CHUNK_BYTES, 5);
  const at = chunksBelow(chunks, 777);
  const snapshots = 20;
  for (let i = 0; i < snapshots; i++) {
    for (let done = 0; done < pointers / snapshots; done += QUEUE_DEPTH)
      await Promise.all(
        Array.from({ length: QUEUE_DEPTH }, () => writeChunk(device, at.next().value as number, bytes)),
      );
    await open.snapshot([`disk@s${i}`]);
  }
  await open.checkpoint();
  const took: number[] = [];
  for (let i = 0; i < 5; i++) {
    const started = performance.now();
    await open.listWithSpace();
    took.push(performance.now() - started);
  }
  console.log(
    `space of ${pointers} scattered pointers counted in ${percentile(took, 50).toFixed(0)} ms (median of 5)`,
  );
  device.release();
  await open.close();
}
