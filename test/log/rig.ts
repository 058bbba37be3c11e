/** A log over a disk in memory, and what of it can be read again. */

import { randomBytes } from 'node:crypto';
import { Append, AppendPromise } from '../../src/log/append.ts';
import { ChunkLog } from '../../src/log/chunk-log.ts';
import type { Entry } from '../../src/log/entries.ts';
import { Numbers } from '../../src/log/numbers.ts';
import { entriesOf, type ScannedRecord, SegmentScanner } from '../../src/log/scan.ts';
import { SegmentFiles } from '../../src/log/segment-files.ts';
import { SegmentLedger } from '../../src/log/segment-ledger.ts';
import { SegmentSupply } from '../../src/log/segment-supply.ts';
import {
  createSuperblock,
  readSuperblock,
  SUPERBLOCK_REVISION,
  type Superblock,
} from '../../src/log/superblock.ts';
import { type LogEnd, type LogPosition, LogTail } from '../../src/log/tail.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { MemoryStorage } from '../support/memory-storage.ts';

export const UUID = Buffer.from('00112233445566778899aabbccddeeff', 'hex');
export const MIB = 1 << 20;
export const CHUNK = 4096;

export function freshSuperblock(options: Partial<Superblock> = {}): Superblock {
  return {
    revision: SUPERBLOCK_REVISION,
    generation: 1,
    uuid: UUID,
    segmentBytes: MIB,
    epoch: 0,
    capacityBytes: 0,
    sequences: 1,
    appends: 1,
    labels: 1,
    segments: 1,
    created: 0,
    base: undefined,
    ...options,
  };
}

export class LogRig {
  readonly storage: MemoryStorage;
  readonly clock = new ManualClock();
  readonly numbers: Numbers;
  readonly supply: SegmentSupply;
  readonly files: SegmentFiles;
  readonly log: ChunkLog;

  private constructor(storage: MemoryStorage, numbers: Numbers, end?: LogEnd, durable = 0) {
    this.storage = storage;
    this.numbers = numbers;
    this.supply = new SegmentSupply(storage, numbers, 0);
    this.files = new SegmentFiles(storage);
    const { files, supply, clock } = this;
    const ledger = new SegmentLedger();
    this.log = new ChunkLog({ files, numbers, supply, ledger, clock, end, durable });
  }

  static async begin(options: Partial<Superblock> = {}): Promise<LogRig> {
    const storage = new MemoryStorage();
    const superblock = freshSuperblock(options);
    await createSuperblock(storage, superblock);
    await storage.syncDirectory('.');
    const none = { sequences: 0, appends: 0, labels: 0, segments: 0 };
    return new LogRig(storage, await Numbers.begin(storage, superblock, none));
  }

  /** A later process, which goes on behind what is proven of the log that it has read. */
  static async goOn(storage: MemoryStorage, { end, provenEnd, highestSegment }: LogTail): Promise<LogRig> {
    const seen = { sequences: 0, appends: end?.append ?? 0, labels: 0, segments: highestSegment };
    const numbers = await Numbers.begin(storage, await readSuperblock(storage), seen);
    return new LogRig(storage, numbers, provenEnd, provenEnd?.append);
  }

  /** Appends chunks with random bytes (or those given). */
  write(first: number, bytes: Buffer = randomBytes(CHUNK), label = 1): Promise<Append> {
    const owner = new AppendPromise();
    const count = bytes.length / CHUNK;
    this.log.submit(Append.chunks(owner, { label }, first, count, [bytes]));
    return owner.promise;
  }

  zeros(first: number, count: number): Promise<Append> {
    const owner = new AppendPromise();
    this.log.submit(Append.zeros(owner, { label: 1 }, first, count));
    return owner.promise;
  }

  change(text: string): Promise<Append> {
    const owner = new AppendPromise();
    this.log.submit(Append.change(owner, text));
    return owner.promise;
  }

  catalog(text: string): Promise<Append> {
    const owner = new AppendPromise();
    this.log.submit(Append.catalog(owner, text, 0));
    return owner.promise;
  }

  /** Lets everything that goes on by itself come to rest. */
  async rest(turns = 50): Promise<void> {
    for (let i = 0; i < turns; i++) await new Promise((resolve) => setImmediate(resolve));
  }

  records(segment: number): Promise<ScannedRecord[]> {
    return recordsOf(this.storage, segment);
  }
}

/** The chained records of one segment. */
export async function recordsOf(storage: MemoryStorage, segment: number): Promise<ScannedRecord[]> {
  const scanner = await SegmentScanner.open(storage, UUID, segment);
  if (scanner === undefined) throw new Error(`segment ${segment} has no header`);
  const records: ScannedRecord[] = [];
  for await (const record of scanner.walk()) records.push(record);
  await scanner.close();
  return records;
}

export interface LogRead {
  tail: LogTail;
  records: ScannedRecord[];
  entries: Entry[];
  sequences: number[];
}

/** The log as recovery reads it. */
export async function readLog(storage: MemoryStorage, durable = 0, start?: LogPosition): Promise<LogRead> {
  const tail = new LogTail(storage, UUID, durable);
  const records: ScannedRecord[] = [];
  for await (const record of tail.records(start)) records.push(record);
  const entries = records.flatMap((record) => entriesOf(record));
  return { tail, records, entries, sequences: entries.map((entry) => entry.sequence) };
}

/** Segment numbers of the files in `log`. */
export async function segmentFiles(storage: MemoryStorage): Promise<number[]> {
  return (await storage.list('log')).map((name) => Number(name.slice(0, 10)));
}
