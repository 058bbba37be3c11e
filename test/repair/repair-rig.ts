/**
 * A repair over a disk in memory, and what can be read of a store before and behind it: every chunk of every version, where it
 * stood, and whether its bytes are still there.
 */

import fs from 'node:fs';
import { expect } from 'vitest';
import { hasCode } from '../../src/base/errors.ts';
import type { Storage } from '../../src/base/storage.ts';
import { Overlay } from '../../src/index/overlay.ts';
import { PointerIndex } from '../../src/index/pointer-index.ts';
import { HOLE, REGION_CHUNKS } from '../../src/index/pointers.ts';
import { segmentPath } from '../../src/log/format.ts';
import {
  type RepairOptions,
  type RepairResult,
  type RepairSurroundings,
  repairStore,
} from '../../src/repair/repair.ts';
import type { ClosedStoreEnvironment } from '../../src/volume/check-offline.ts';
import { Store } from '../../src/volume/store.ts';
import type { Finding } from '../../src/volume/summary.ts';
import { CHUNK, type DamagedStore } from '../check/damaged-store.ts';
import { UUID } from '../log/rig.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { MemoryStorage } from '../support/memory-storage.ts';
import { scratchDirectory } from '../support/stores.ts';
import { closedEnvironment } from '../volume/checked-closed.ts';
import { CrashRig } from '../volume/crash-rig.ts';

/** Read at once, where nothing is wrong. */
const READ_BYTES = 64 * CHUNK;

/** The store's files, but for an index, which stands beside it. */
function shelterOf(store: Storage, beside: MemoryStorage): Storage {
  const of = (path: string): Storage => (path.startsWith('index') ? beside : store);
  return {
    open: (path, mode) => of(path).open(path, mode),
    list: (path) => of(path).list(path),
    makeDirectory: (path) => of(path).makeDirectory(path),
    remove: (path) => of(path).remove(path),
    rename: (from, to) => of(from).rename(from, to),
    link: (from, to) => of(from).link(from, to),
    syncDirectory: (path) => of(path).syncDirectory(path),
    freeBytes: () => store.freeBytes(),
    nativePath: (path) => path,
  };
}

/** `files`: what is seen of the disk. */
function surroundingsOf(storage: MemoryStorage, files: Storage): RepairSurroundings {
  return {
    storage: files,
    environment: (uuid) => closedEnvironment(storage, uuid, files),
    async shelter(environment: ClosedStoreEnvironment) {
      const beside = new MemoryStorage();
      if ((await storage.list('index')).length > 0) {
        const [from, to] = [await storage.openDatabase('index'), await beside.openDatabase('index')];
        for await (const [key, value] of from.iterator()) await to.put(key, value);
        await from.close();
        await to.close();
      }
      const { openDatabase } = beside;
      return {
        environment: { ...environment, storage: shelterOf(environment.storage, beside), openDatabase },
        remove: () => undefined,
      };
    },
    async openOnce({ rebuildsIndex }) {
      const directory = scratchDirectory();
      try {
        const onRebuild = rebuildsIndex ? () => undefined : undefined;
        const { openDatabase } = storage;
        const clock = new ManualClock();
        const store = await Store.open(directory, {
          storage,
          openDatabase,
          clock,
          compacts: false,
          onRebuild,
        });
        await store.close();
      } finally {
        fs.rmSync(directory, { recursive: true, force: true });
      }
    },
  };
}

/** Puts the rows of a damaged store to where a process finds its index. */
export async function placeIndex(store: DamagedStore): Promise<void> {
  if (store.rows.length === 0) return;
  await store.storage.remove('index');
  const database = await store.storage.openDatabase('index');
  for (const [key, value] of store.rows) await database.put(key, value);
  await database.close();
}

export interface Repaired {
  readonly result: RepairResult;
  readonly before: Finding[];
  readonly after: Finding[];
}

export async function repair(
  storage: MemoryStorage,
  options: RepairOptions = {},
  files: Storage = storage,
): Promise<Repaired> {
  const before: Finding[] = [];
  const after: Finding[] = [];
  const onFinding = (finding: Finding, when: 'before' | 'after'): void =>
    void (when === 'before' ? before : after).push(finding);
  const result = await repairStore(surroundingsOf(storage, files), { ...options, onFinding });
  return { result, before, after };
}

/** What a version reads: its bytes, and where each chunk stands; 0 where nothing does. */
export interface Version {
  readonly bytes: Buffer;
  readonly segments: Uint32Array;
  readonly offsets: Uint32Array;
}

/** All versions of a whole store, by name. */
export async function contentOf(whole: DamagedStore): Promise<Map<string, Version>> {
  const store = whole.copy();
  await placeIndex(store);
  const database = await store.storage.openDatabase('index');
  const overlays = { active: new Overlay(), frozen: undefined };
  const index = await PointerIndex.open(database, overlays, UUID, 1 << 20);
  const { versions } = await store.newestCatalog();
  const parents = new Map(versions.map(([label, parent]) => [label, parent]));
  const trees = new Map(versions.map(([label, , , , tree]) => [label, tree ?? label]));
  const rig = CrashRig.over(store.copy().storage);
  const opened = await rig.open();
  const contents = new Map<string, Version>();
  for (const { name, size: sizeBytes } of opened.list()) {
    const bytes = await rig.read(name, 0, sizeBytes);
    const label = await store.labelOf(name);
    const path = new Set<number>();
    for (let at = label; at !== 0; at = parents.get(at)!) path.add(at);
    const [segments, offsets] = [new Uint32Array(sizeBytes / CHUNK), new Uint32Array(sizeBytes / CHUNK)];
    for (let region = 0; region * REGION_CHUNKS < segments.length; region++) {
      const block = await index.resolve({ tree: trees.get(Math.min(...path))!, label, path }, region);
      for (let i = 0; i < REGION_CHUNKS; i++) {
        if (block.segment(i) === HOLE) continue;
        segments[region * REGION_CHUNKS + i] = block.segment(i);
        offsets[region * REGION_CHUNKS + i] = block.offset(i);
      }
    }
    contents.set(name, { bytes, segments, offsets });
  }
  await rig.close();
  await index.close();
  return contents;
}

/** Chunks of versions whose bytes are not where they stood, as `version/chunk`. */
export function goneFrom(storage: MemoryStorage, contents: ReadonlyMap<string, Version>): string[] {
  const gone: string[] = [];
  for (const [name, { bytes, segments, offsets }] of contents) {
    for (let chunk = 0; chunk < segments.length; chunk++) {
      const segment = segments[chunk]!;
      if (segment === 0) continue;
      const path = segmentPath(segment);
      const at = offsets[chunk]!;
      const is = storage.has(path) ? storage.bytes(path).subarray(at, at + CHUNK) : undefined;
      if (is?.equals(bytes.subarray(chunk * CHUNK, (chunk + 1) * CHUNK)) !== true)
        gone.push(`${name}/${chunk}`);
    }
  }
  return gone;
}

/** Chunks that read as errors; those that read as anything but what they were are the `others`. */
export async function readAll(
  rig: CrashRig,
  contents: ReadonlyMap<string, Version>,
): Promise<{ errors: string[]; others: string[] }> {
  const [errors, others]: [string[], string[]] = [[], []];
  const isAs = async (name: string, bytes: Buffer, at: number, end: number): Promise<boolean | undefined> => {
    try {
      return (await rig.read(name, at, end - at)).equals(bytes.subarray(at, end));
    } catch (error) {
      if (!hasCode(error, 'CORRUPTION') && !hasCode(error, 'IO')) throw error;
      return undefined;
    }
  };
  for (const [name, { bytes }] of contents) {
    for (let from = 0; from < bytes.length; from += READ_BYTES) {
      const to = Math.min(from + READ_BYTES, bytes.length);
      if (await isAs(name, bytes, from, to)) continue;
      for (let at = from; at < to; at += CHUNK) {
        const is = await isAs(name, bytes, at, at + CHUNK);
        if (is !== true) (is === undefined ? errors : others).push(`${name}/${at / CHUNK}`);
      }
    }
  }
  return { errors, others };
}

/** Damage that nothing mends, and that is all that may be left. */
export function expectNothingButLost(findings: readonly Finding[]): void {
  for (const finding of findings.filter(({ severity }) => severity === 'damage'))
    expect(finding).toMatchObject({ code: 'CHUNK_DAMAGED', mend: 'none' });
}

export interface Expectation {
  /** Chunks that are lost besides those whose bytes are gone. */
  readonly lost?: readonly string[] | undefined;
  /** Chunks that the index does not have yet: where records are lost, nobody knows of them. */
  readonly late?: readonly string[] | undefined;
  /** Nothing that is left says that anything is lost. */
  readonly isSilent?: boolean | undefined;
}

/**
 * Repairs a store, and expects that all reads as it did that is still there, and all else as errors. Where the repair refuses,
 * because nobody knows what is lost (the names of versions may be), it is told to go on: then no more than that reads as errors.
 */
export async function expectNothingOld(
  storage: MemoryStorage,
  versions: ReadonlyMap<string, Version>,
  { lost = [], late = [], isSilent = false }: Expectation = {},
): Promise<{ isCertain: boolean; gone: readonly string[] }> {
  const gone = [...goneFrom(storage, versions), ...lost].sort();
  let isCertain = !isSilent;
  const { after } = await repair(storage).catch(async (error: unknown) => {
    if (!hasCode(error, 'CORRUPTION') || !(error as Error).message.includes('--accept-old-data')) throw error;
    isCertain = false;
    return await repair(storage, { acceptsOldData: true });
  });
  expectNothingButLost(after);
  const rig = CrashRig.over(storage);
  await rig.open();
  const { errors, others } = await readAll(rig, versions);
  await rig.close();
  if (isCertain) expect({ errors: errors.sort(), others }).toEqual({ errors: gone, others: [] });
  else {
    const isHole = (where: string): boolean => {
      const [name, chunk] = where.split('/') as [string, string];
      return versions.get(name)!.segments[Number(chunk)] === 0;
    };
    const known = new Set([...gone, ...late]);
    expect(errors.filter((where) => !known.has(where) && !isHole(where))).toEqual([]);
  }
  return { isCertain, gone };
}
