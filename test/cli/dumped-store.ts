/** A closed store of small segments with known contents, and the dumps of it as rows. */

import { createHash } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { afterEach } from 'vitest';
import { dumpEntries, dumpRecords, dumpSegments, dumpSuperblock } from '../../src/cli/dump-log.ts';
import { findLog, type LogToDump, openPlace } from '../../src/cli/dump-place.ts';
import { dumpPointers, dumpVersions } from '../../src/cli/dump-versions.ts';
import { Output } from '../../src/cli/output.ts';
import { Store } from '../../src/volume/store.ts';
import { Random } from '../support/random.ts';
import { read, scratchDirectory, write } from '../support/stores.ts';

export const CHUNK = 4096;
export const SEGMENT_BYTES = 1 << 20;
export const DISK_BYTES = 4 << 20;

const scratch: string[] = [];
afterEach(() => {
  for (const directory of scratch.splice(0)) fs.rmSync(directory, { recursive: true, force: true });
});

export function newDirectory(): string {
  const directory = scratchDirectory();
  scratch.push(directory);
  return path.join(directory, 'store');
}

/** What a dump printed, and complained about. */
export interface Dumped {
  // What is printed is JSON, and a test looks at single fields of it.
  rows: Record<string, unknown>[];
  complaints: string[];
}

export type Subject = (output: Output, log: LogToDump, complain: (sentence: string) => void) => Promise<void>;

export const superblock: Subject = async (output, log) => dumpSuperblock(output, log);
export const segments: Subject = dumpSegments;
export const versions: Subject = dumpVersions;
export const records =
  (segment: number): Subject =>
  (output, log) =>
    dumpRecords(output, log, segment);
export const entries =
  (segment: number, offset?: number): Subject =>
  (output, log) =>
    dumpEntries(output, log, segment, offset);
export const pointers =
  (name: string, first: number, count = 1): Subject =>
  (output, log, complain) =>
    dumpPointers(output, log, { name, first, count }, complain);

export async function dump(directory: string, subject: Subject): Promise<Dumped> {
  let text = '';
  const complaints: string[] = [];
  const complain = (sentence: string): void => void complaints.push(sentence);
  const output = new Output(true, (some) => {
    text += some;
  });
  await subject(output, await findLog(await openPlace(directory, complain), complain), complain);
  const lines = text.split('\n').filter((line) => line !== '');
  return { rows: lines.map((line) => JSON.parse(line) as Record<string, unknown>), complaints };
}

/** As a table. */
export async function draw(directory: string, subject: Subject): Promise<string> {
  let text = '';
  const ignore = (): void => undefined;
  const output = new Output(false, (some) => {
    text += some;
  });
  await subject(output, await findLog(await openPlace(directory, ignore), ignore), ignore);
  return text;
}

/** Volumes `a` and `b` (a clone of `a@1`), snapshots `a@1` and `a@2`, and what each of them reads. */
export class DumpedStore {
  readonly directory = newDirectory();
  readonly contents = new Map<string, Buffer>();
  readonly random: Random;
  store!: Store;

  constructor(seed: number) {
    this.random = new Random(seed);
  }

  static async make(seed = 1): Promise<DumpedStore> {
    const made = new DumpedStore(seed);
    await Store.init(made.directory, { segmentBytes: SEGMENT_BYTES });
    await made.open();
    await made.store.createVolume('a', DISK_BYTES);
    await made.writeSome('a', 20);
    await made.store.snapshot(['a@1']);
    await made.writeSome('a', 20);
    await made.store.snapshot(['a@2']);
    await made.store.clone('a@1', 'b');
    await made.writeSome('b', 20);
    await made.writeSome('a', 5);
    for (const name of ['a', 'b', 'a@1', 'a@2']) made.contents.set(name, await made.content(name));
    return made;
  }

  async open(): Promise<void> {
    this.store = await Store.open(this.directory, { compacts: false });
  }

  async content(name: string): Promise<Buffer> {
    const device = this.store.device(name);
    try {
      return await read(device, 0, DISK_BYTES);
    } finally {
      device.release();
    }
  }

  async writeSome(name: string, count: number): Promise<void> {
    const device = this.store.device(name);
    for (let i = 0; i < count; i++) {
      const lengthBytes = CHUNK * this.random.pick([1, 2, 30, 60]);
      const offset = CHUNK * this.random.below((DISK_BYTES - lengthBytes) / CHUNK);
      if (this.random.chance(15)) await device.zero(offset, lengthBytes, false);
      else await write(device, offset, this.random.bytes(lengthBytes));
    }
    device.release();
  }

  /** A copy of the files as they are now: what a kill leaves. */
  killed(): string {
    const directory = newDirectory();
    fs.cpSync(this.directory, directory, { recursive: true });
    return directory;
  }

  file(segment: number): string {
    return segmentFile(this.directory, segment);
  }
}

export function segmentFile(directory: string, segment: number): string {
  return path.join(directory, 'log', `${String(segment).padStart(10, '0')}.seg`);
}

/** Turns bits of single bytes of a file around. */
export function damageFile(file: string, ...offsets: number[]): void {
  const bytes = fs.readFileSync(file);
  for (const at of offsets) bytes[at]! ^= 0x55;
  fs.writeFileSync(file, bytes);
}

/** Every file with a digest of its content. */
export function filesUnder(directory: string): Map<string, string> {
  const found = new Map<string, string>();
  for (const entry of fs.readdirSync(directory, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue;
    const file = path.join(entry.parentPath, entry.name);
    found.set(file, createHash('sha256').update(fs.readFileSync(file)).digest('hex'));
  }
  return found;
}

export async function closedStore(): Promise<DumpedStore> {
  const made = await DumpedStore.make();
  await made.store.close();
  return made;
}

/** The first segment with a footer, and its records. */
export async function sealedSegment(directory: string) {
  const { rows } = await dump(directory, segments);
  const sealed = rows.find((row) => row.sealed === 'yes')!;
  const segment = sealed.segment as number;
  return { segment, rows: (await dump(directory, records(segment))).rows };
}
