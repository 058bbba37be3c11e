/**
 * Stores in which many versions share regions, each beside a lone volume with as many pointers; and how fast they are
 * read cold: the store reopened, each read into a region that no page has, both in turn in one run.
 */

import { performance } from 'node:perf_hooks';
import { CHUNK_BYTES } from '../../src/base/units.ts';
import { REGION_CHUNKS } from '../../src/index/pointers.ts';
import type { BlockDevice } from '../../src/volume/device.ts';
import { Store } from '../../src/volume/store.ts';
import { makeStore, Mapping, onSparseStore, segmentsFor } from './mapped-store.ts';

const REGION_BYTES = REGION_CHUNKS * CHUNK_BYTES;
const QUEUE_DEPTH = 4;

/** A place that is read: a version, and a region of it. */
export interface Place {
  version: string;
  region: number;
}

export interface Crowd {
  /** Places that many versions share, and as many of a lone volume. */
  crowded: Place[];
  lone: Place[];
}

/** Labels of what `prepare` made: the first is 1, and so on in order. */
async function mapped(
  directory: string,
  chunks: number,
  prepare: (store: Store) => Promise<void>,
  fill: (mapping: Mapping) => Promise<void>,
): Promise<void> {
  const uuid = await makeStore(directory, segmentsFor(chunks) + 1);
  await onSparseStore(directory, async (store) => {
    await prepare(store);
    await store.checkpoint();
  });
  const mapping = await Mapping.begin(directory, uuid);
  await fill(mapping);
  await mapping.end();
}

/** `count` clones of one snapshot; each has overwritten the same `regions`. */
export async function makeSiblings(directory: string, count: number, regions: number): Promise<Crowd> {
  const chunks = (count + 2) * regions * REGION_CHUNKS;
  await mapped(
    directory,
    chunks,
    async (store) => {
      await store.createVolume('lone', regions * REGION_BYTES);
      await store.createVolume('base', regions * REGION_BYTES);
      await store.snapshot(['base@s']);
      for (let i = 0; i < count; i++) await store.clone('base@s', `clone${i}`);
    },
    async (mapping) => {
      for (let region = 0; region < regions; region++) {
        const first = region * REGION_CHUNKS;
        await mapping.write(1, 1, first, REGION_CHUNKS);
        await mapping.write(2, 2, first, REGION_CHUNKS);
        for (let i = 0; i < count; i++) await mapping.write(2, 4 + i, first, REGION_CHUNKS);
      }
    },
  );
  const places = (version: (region: number) => string): Place[] =>
    Array.from({ length: regions }, (_, region) => ({ version: version(region), region }));
  return { crowded: places((region) => `clone${(region * 389) % count}`), lone: places(() => 'lone') };
}

/**
 * A volume with `count` snapshots, each of which overwrote `chunks` chunks of a region: all of the same one, or each
 * of one of its own.
 */
export async function makeSnapshots(
  directory: string,
  count: number,
  chunks: number,
  shared: boolean,
): Promise<Crowd> {
  const regions = shared ? 1 : count;
  await mapped(
    directory,
    count * (chunks + REGION_CHUNKS),
    async (store) => {
      await store.createVolume('lone', count * REGION_BYTES);
      await store.createVolume('many', regions * REGION_BYTES);
      for (let i = 0; i < count; i++) await store.snapshot([`many@s${i}`]);
    },
    async (mapping) => {
      for (let i = 0; i < count; i++) await mapping.write(1, 1, i * REGION_CHUNKS, REGION_CHUNKS);
      for (let i = 0; i < count; i++) {
        const first = chunks === REGION_CHUNKS ? 0 : (i * 37) % (REGION_CHUNKS - chunks + 1);
        // The volume's head has label 2 first, then 3, and so on.
        await mapping.write(2, 2 + i, (shared ? 0 : i) * REGION_CHUNKS + first, chunks);
      }
    },
  );
  const lone = Array.from({ length: count }, (_, region) => ({ version: 'lone', region }));
  const crowded = lone.map(({ region }) => {
    return shared ? { version: `many@s${region}`, region: 0 } : { version: 'many', region };
  });
  return { crowded, lone };
}

export interface ColdReads {
  /** Reads in a second, the median of the rounds. */
  crowdedPerSecond: number;
  lonePerSecond: number;
  /** The median of each round's ratio. */
  ratio: number;
}

/** Reads 4 KiB in `reads` places of each, in `rounds` pieces of one and then the other. */
export async function readCold(
  directory: string,
  crowd: Crowd,
  reads: number,
  rounds: number,
): Promise<ColdReads> {
  const store = await Store.open(directory);
  const rates = { crowded: [] as number[], lone: [] as number[] };
  const shuffled = { crowded: some(crowd.crowded, reads), lone: some(crowd.lone, reads) };
  const perRound = Math.floor(shuffled.lone.length / (rounds + 1));
  const devices = new Map<Place, BlockDevice>();
  for (const place of [...shuffled.crowded, ...shuffled.lone])
    devices.set(place, store.device(place.version));
  try {
    await readPlaces(devices, shuffled.lone.splice(0, perRound)); // what is compiled and opened once
    await readPlaces(devices, shuffled.crowded.splice(0, perRound));
    for (let round = 0; round < rounds; round++) {
      for (const which of round % 2 === 0 ? (['crowded', 'lone'] as const) : (['lone', 'crowded'] as const)) {
        const places = shuffled[which].slice(round * perRound, (round + 1) * perRound);
        const started = performance.now();
        await readPlaces(devices, places);
        rates[which].push((1000 * places.length) / (performance.now() - started));
      }
    }
  } finally {
    for (const device of devices.values()) device.release();
    await store.close();
  }
  return {
    crowdedPerSecond: median(rates.crowded),
    lonePerSecond: median(rates.lone),
    ratio: median(rates.crowded.map((rate, i) => rate / rates.lone[i]!)),
  };
}

async function readPlaces(devices: ReadonlyMap<Place, BlockDevice>, places: readonly Place[]): Promise<void> {
  let next = 0;
  const reader = async (): Promise<void> => {
    const target = Buffer.alloc(CHUNK_BYTES);
    for (let place = places[next++]; place !== undefined; place = places[next++]) {
      const device = devices.get(place)!;
      const chunk = (place.region * 7919) % REGION_CHUNKS;
      await device.read(target, 0, place.region * REGION_BYTES + chunk * CHUNK_BYTES, CHUNK_BYTES);
    }
  };
  await Promise.all(Array.from({ length: QUEUE_DEPTH }, reader));
}

/** `count` of the places, each at most once, in an order of its own. */
function some(places: readonly Place[], count: number): Place[] {
  const step = 7_368_787; // a prime
  return Array.from(
    { length: Math.min(count, places.length) },
    (_, i) => places[(i * step) % places.length]!,
  );
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)]!;
}
