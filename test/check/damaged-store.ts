/**
 * A store with some of everything, closed, of which each case takes a copy, damages it, and asks the checker: volumes,
 * snapshots, clones, holds, deletes that are finished and others that handed on, trims, moves of compaction, a log without
 * its beginning.
 *
 * Known chunks are found by their bytes. Records are forged with right checksums where a mistake is to be planted that no
 * disk makes.
 */

import { expect } from 'vitest';
import { ByteWriter } from '../../src/base/bytes.ts';
import {
  CATALOG_FIRST,
  CATALOG_LAST,
  ENTRY_CATALOG,
  type Entry,
  writeTextEntry,
} from '../../src/log/entries.ts';
import {
  COPY_TAIL_BYTES,
  encodeCopyTail,
  encodeEmptyRecord,
  encodeRecordHeader,
  encodeSegmentHeader,
  RECORD_CLOSING,
  RECORD_COPIED,
  RECORD_HEADER_BYTES,
  type RecordHeader,
  recordBytes,
  SEGMENT_MOVES,
  type SegmentHeader,
  segmentOfName,
  segmentPath,
  TRAILER_ROOM_BYTES,
} from '../../src/log/format.ts';
import { entriesOf, recordEnd, type ScannedRecord, SegmentScanner } from '../../src/log/scan.ts';
import { encodeSuperblock, readSuperblock, SLOT_BYTES, type Superblock } from '../../src/log/superblock.ts';
import { LogTail } from '../../src/log/tail.ts';
import type { CatalogPart } from '../../src/volume/catalog-parts.ts';
import type { CheckOptions } from '../../src/volume/check.ts';
import { checkClosedStore } from '../../src/volume/check-offline.ts';
import type { Finding } from '../../src/volume/summary.ts';
import { UUID } from '../log/rig.ts';
import { MemoryStorage } from '../support/memory-storage.ts';
import { Random } from '../support/random.ts';
import { closedEnvironment } from '../volume/checked-closed.ts';
import { CrashRig } from '../volume/crash-rig.ts';

export const CHUNK = 4096;
const DISK_BYTES = 4 << 20;

type Rows = [key: Buffer, value: Buffer][];

/** A finding that a case expects: its code, and as much more as matters. */
export type Expected = string | (Partial<Finding> & { code: string });

/** Damages a store, and answers what the checker must say of it. */
export type Plant = (store: DamagedStore) => Promise<readonly Expected[]>;

/** Kinds of damage, each with what it is. */
export type Damages = readonly (readonly [what: string, plant: Plant])[];

export function knownChunk(name: string): Buffer {
  return Buffer.alloc(CHUNK, `known ${name} `);
}

export class DamagedStore {
  readonly storage: MemoryStorage;
  rows: Rows;

  private constructor(storage: MemoryStorage, rows: Rows) {
    this.storage = storage;
    this.rows = rows;
  }

  /** `killed`: with records behind the last checkpoint, and no clean end. */
  static async make(end: 'closed' | 'killed' = 'closed', seed = 11): Promise<DamagedStore> {
    const rig = await CrashRig.begin();
    const random = new Random(seed);
    const store = await rig.open();
    const some = async (name: string, count: number): Promise<void> => {
      for (let i = 0; i < count; i++) {
        const length = CHUNK * random.pick([1, 4, 20]);
        // The first 64 chunks are for what is known.
        const offset = CHUNK * random.between(64, (DISK_BYTES - length) / CHUNK);
        if (random.chance(10)) await rig.device(name).zero(offset, length, false);
        else await rig.write(name, offset, random.bytes(length));
      }
    };
    const known = (name: string, chunk: number, what: string): Promise<void> =>
      rig.write(name, chunk * CHUNK, knownChunk(what));
    await store.createVolume('a', DISK_BYTES);
    await some('a', 120);
    await known('a', 1, 'moved');
    await store.snapshot(['a@1']);
    await store.hold('a@1', { owner: 'backup', reason: 'tape' });
    await some('a', 60);
    await store.clone('a@1', 'b');
    await some('b', 60);
    await store.snapshot(['b@gone']);
    await some('b', 30);
    await store.createVolume('c', DISK_BYTES);
    await some('c', 30);
    await store.delete(['b@gone', 'c'], { recursive: true });
    await store.pruned();
    for (let i = 0; i < 4; i++) await store.compactOnce();
    await known('a', 2, 'shared');
    await known('a', 3, 'frozen');
    await known('a', 4, 'dead');
    await rig.write(
      'a',
      8 * CHUNK,
      Buffer.concat([knownChunk('one'), knownChunk('two'), knownChunk('three')]),
    );
    await store.snapshot(['a@2']);
    await store.clone('a@2', 'd');
    await known('a', 3, 'newer');
    await known('a', 4, 'living');
    await some('a', 80);
    await known('a', 12, 'given up');
    await known('a', 12, 'taken');
    await known('a', 5, 'own');
    await some('a', 30);
    await store.setPriority('a@2', 7);
    await store.checkpoint();
    await known('a', 6, 'late');
    await known('b', 6, 'later');
    await store.flush();
    if (end === 'closed') {
      await rig.close();
    } else {
      rig.clock.advance(100);
      await rig.rest();
      await known('a', 7, 'last');
      await rig.rest();
    }
    const { storage } = rig;
    const database = await storage.openDatabase('index');
    const rows: Rows = [];
    for await (const [key, value] of database.iterator()) rows.push([Buffer.from(key), Buffer.from(value)]);
    if (end === 'killed') rig.kill();
    else await database.close();
    return new DamagedStore(storage, rows);
  }

  copy(): DamagedStore {
    return new DamagedStore(this.storage.copy(), [...this.rows]);
  }

  async check(options: CheckOptions = {}): Promise<Finding[]> {
    if (this.rows.length > 0) {
      const database = await this.storage.openDatabase('index');
      for (const [key, value] of this.rows) await database.put(key, value);
      await database.close();
    }
    const environment = closedEnvironment(this.storage);
    const superblock = await readSuperblock(this.storage);
    const findings: Finding[] = [];
    for await (const finding of checkClosedStore(environment, superblock, superblock.base, options))
      findings.push(finding);
    return findings;
  }

  get segments(): number[] {
    return this.storage.names('log').map((name) => segmentOfName(name)!);
  }

  bytes(segment: number): Buffer {
    return this.storage.bytes(segmentPath(segment));
  }

  /** Turns bits around. */
  flip(segment: number, ...offsets: number[]): void {
    this.storage.edit(segmentPath(segment), (bytes) => {
      for (const at of offsets) bytes[at]! ^= 0x55;
    });
  }

  fill(segment: number, from: number, to: number, byte = 0x55): void {
    this.storage.edit(segmentPath(segment), (bytes) => void bytes.fill(byte, from, to));
  }

  /** Puts another content in the place of a file, or makes one. */
  async replace(path: string, content: Buffer): Promise<void> {
    await this.storage.remove(path);
    const file = await this.storage.open(path, 'create');
    await file.write([content], 0);
    await file.datasync();
    await file.close();
  }

  async header(segment: number): Promise<SegmentHeader> {
    const scanner = (await SegmentScanner.open(this.storage, UUID, segment))!;
    await scanner.close();
    return scanner.header;
  }

  /** Writes another header with a right checksum. */
  async forgeHeader(segment: number, changes: Partial<SegmentHeader>): Promise<void> {
    const encoded = encodeSegmentHeader({ ...(await this.header(segment)), ...changes });
    this.storage.edit(segmentPath(segment), (bytes) => {
      encoded.copy(bytes, 0);
      encoded.copy(bytes, 2048);
    });
  }

  async records(segment: number): Promise<ScannedRecord[]> {
    const scanner = (await SegmentScanner.open(this.storage, UUID, segment))!;
    const records: ScannedRecord[] = [];
    for await (const record of scanner.walk()) records.push(record);
    await scanner.close();
    return records;
  }

  /** The footer of a sealed segment. */
  async footer(segment: number): Promise<ScannedRecord> {
    const scanner = (await SegmentScanner.open(this.storage, UUID, segment))!;
    const at = this.bytes(segment).length - TRAILER_ROOM_BYTES + 24;
    const footer = await scanner.recordAt(this.bytes(segment).readUInt32BE(at));
    await scanner.close();
    return footer!;
  }

  /** Segments of the chain from the base on, in order. */
  async chain(): Promise<number[]> {
    const { base } = await readSuperblock(this.storage);
    const tail = new LogTail(this.storage, UUID, base?.append ?? 0);
    for await (const _ of tail.records(base)) continue;
    return tail.segments;
  }

  async moves(): Promise<number[]> {
    const found: number[] = [];
    for (const segment of this.segments) {
      const scanner = await SegmentScanner.open(this.storage, UUID, segment);
      await scanner?.close();
      if (((scanner?.header.flags ?? 0) & SEGMENT_MOVES) !== 0) found.push(segment);
    }
    return found;
  }

  /** Where known chunks lie, the copy that is live last. */
  placesOf(what: string): { segment: number; offset: number }[] {
    const places: { segment: number; offset: number }[] = [];
    for (const segment of this.segments) {
      const offset = this.bytes(segment).indexOf(knownChunk(what));
      if (offset >= 0) places.push({ segment, offset });
    }
    expect(places.length).toBeGreaterThan(0);
    return places;
  }

  placeOf(what: string): { segment: number; offset: number } {
    return this.placesOf(what).at(-1)!;
  }

  /** The record that holds a known chunk. */
  async recordOf(what: string): Promise<ScannedRecord> {
    const { segment, offset } = this.placeOf(what);
    const records = await this.records(segment);
    return records.find(({ header }) => header.offset < offset && offset < recordEnd(header))!;
  }

  /** Damages header and table of a record in both places. */
  loseRecord({ header, table }: ScannedRecord): void {
    this.fill(header.segment, header.offset + 20, header.offset + 40);
    const copyAt = recordEnd(header) - COPY_TAIL_BYTES - RECORD_HEADER_BYTES - table.length;
    this.fill(header.segment, copyAt + 20, copyAt + 40);
  }

  /** Writes another header and table of a record, in both places and as long as they were, with right checksums. */
  forgeRecord({ header, table }: ScannedRecord, changes: Partial<RecordHeader>, other: Buffer = table): void {
    expect(other.length).toBe(table.length);
    const head = Buffer.concat([Buffer.alloc(RECORD_HEADER_BYTES), other]);
    encodeRecordHeader(head, { ...header, ...changes }, UUID);
    this.storage.edit(segmentPath(header.segment), (bytes) => {
      head.copy(bytes, header.offset);
      if ((header.flags & RECORD_COPIED) !== 0)
        head.copy(bytes, recordEnd(header) - COPY_TAIL_BYTES - head.length);
    });
  }

  /** Appends a record with a table, and a closing record that vouches for it. */
  async append(table: Buffer, entryCount: number, sequence: number): Promise<void> {
    const { end, highest } = await this.end();
    const header: RecordHeader = {
      flags: RECORD_COPIED,
      segment: end.segment,
      offset: Math.ceil(end.offset / 4096) * 4096,
      append: end.append + 1,
      firstSequence: sequence,
      durable: end.append,
      entryCount,
      tableBytes: table.length,
      payloadBytes: 0,
      previousChecksum: end.checksum,
      checksum: 0,
    };
    const bytes = Buffer.alloc(recordBytes(table.length, 0, header.flags));
    table.copy(bytes, RECORD_HEADER_BYTES);
    encodeRecordHeader(bytes, header, UUID);
    const head = bytes.subarray(0, RECORD_HEADER_BYTES + table.length);
    const tailAt = bytes.length - COPY_TAIL_BYTES;
    head.copy(bytes, tailAt - head.length);
    encodeCopyTail(head.length).copy(bytes, tailAt);
    const closing: RecordHeader = {
      ...header,
      flags: RECORD_CLOSING | RECORD_COPIED,
      offset: header.offset + Math.ceil(bytes.length / 4096) * 4096,
      append: header.append + 1,
      firstSequence: sequence + 1,
      durable: header.append,
      entryCount: 0,
      tableBytes: 0,
      previousChecksum: header.checksum,
    };
    const closingBytes = encodeEmptyRecord(closing, UUID);
    this.storage.edit(segmentPath(end.segment), (file) => {
      bytes.copy(file, header.offset);
      closingBytes.copy(file, closing.offset);
    });
    const sequences = Math.max(sequence, highest) + 1;
    await this.editSuperblock((block) => Object.assign(block, { appends: closing.append + 1, sequences }));
  }

  /** Appends a change; `text` may be anything. */
  async appendChange(text: string): Promise<void> {
    const { highest } = await this.end();
    await this.#appendText(3, 0, text, highest + 1);
  }

  /** Appends the newest catalog again, as `change` makes it. */
  async appendCatalog(change: (catalog: Required<CatalogPart>) => void): Promise<void> {
    const catalog = await this.newestCatalog();
    change(catalog);
    await this.appendCatalogText(JSON.stringify(catalog));
  }

  async appendCatalogText(text: string): Promise<void> {
    const { highest } = await this.end();
    await this.#appendText(ENTRY_CATALOG, CATALOG_FIRST | CATALOG_LAST, text, highest + 1);
  }

  async #appendText(kind: number, flags: number, text: string, sequence: number): Promise<void> {
    const body = Buffer.from(text);
    const out = new ByteWriter(Buffer.alloc(14 + body.length));
    writeTextEntry(out, kind, flags, sequence, body);
    await this.append(out.buffer, 1, sequence);
  }

  /** The newest catalog in one piece. */
  async newestCatalog(): Promise<Required<CatalogPart>> {
    let parts: CatalogPart[] = [];
    for (const entry of (await this.end()).entries) {
      if (entry.kind !== ENTRY_CATALOG) continue;
      if ((entry.flags & CATALOG_FIRST) !== 0) parts = [];
      parts.push(JSON.parse(entry.text) as CatalogPart);
    }
    const all = (field: keyof CatalogPart): never[] =>
      parts.flatMap((part) => (part[field] ?? []) as never[]);
    return {
      segments: all('segments'),
      retired: all('retired'),
      versions: all('versions'),
      volumes: all('volumes'),
      snapshots: all('snapshots'),
      receives: all('receives'),
      feeds: all('feeds'),
      pending: all('pending'),
      merged: all('merged'),
    };
  }

  /** Where the log ends, its highest sequence, and all entries from the base on. */
  async end(): Promise<{ end: NonNullable<LogTail['end']>; highest: number; entries: Entry[] }> {
    const { base } = await readSuperblock(this.storage);
    const tail = new LogTail(this.storage, UUID, base?.append ?? 0);
    const entries: Entry[] = [];
    for await (const record of tail.records(base)) entries.push(...entriesOf(record));
    const highest = entries.reduce((most, { sequence }) => Math.max(most, sequence), 0);
    return { end: tail.end!, highest, entries };
  }

  /** Writes a next generation of the superblock. */
  async editSuperblock(change: (block: Superblock) => void, generations = 1): Promise<void> {
    const block = await readSuperblock(this.storage);
    block.generation += generations;
    change(block);
    const slot = Buffer.alloc(SLOT_BYTES);
    encodeSuperblock(block).copy(slot);
    this.storage.edit('superblock', (bytes) => slot.copy(bytes, (block.generation % 2) * SLOT_BYTES));
  }

  /** The label of a volume or snapshot. */
  async labelOf(name: string): Promise<number> {
    const { volumes, snapshots } = await this.newestCatalog();
    const [volume, snapshot] = name.split('@') as [string, string?];
    const of = volumes.find((each) => each.name === volume)!;
    if (snapshot === undefined) return of.label;
    return snapshots.find((each) => each.volume === of.uuid && each.name === snapshot)!.label;
  }
}

/** Expects these findings, in any order, and no others; where more than the code is named, that too. */
export function expectFindings(found: readonly Finding[], expected: readonly Expected[]): void {
  const codeOf = (each: Expected): string => (typeof each === 'string' ? each : each.code);
  expect(found.map(({ code }) => code).sort(), JSON.stringify(found, undefined, 1)).toEqual(
    expected.map(codeOf).sort(),
  );
  for (const each of expected)
    if (typeof each !== 'string') expect(found).toContainEqual(expect.objectContaining(each));
}
