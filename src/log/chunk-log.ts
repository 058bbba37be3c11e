/**
 * The log: entries in, records out, one at a time; flushes; the durable watermark.
 *
 * Invariants:
 * - One record is written at a time; the next is issued when it is written, then its owners are told: the kernel is
 *   kept busy meanwhile. They are told in order, so answered writes are a prefix of the log at every moment.
 * - Behind a record with a change or a catalog nothing is packed before its owners have been told: it has taken effect.
 * - A flush is served only by syncs issued after it came in, of every segment with unsynced records, sealed ones
 *   included. A sync is issued only between two records.
 * - A failed write ends its segment: nothing is appended behind it. A failed sync is never retried: the log is
 *   poisoned, and takes no more entries until the store is opened again.
 */

import type { Clock } from '../base/clock.ts';
import { assert, fromSystemError, hasCode, StoreError } from '../base/errors.ts';
import { type Append, type IssuedRecord, rankOf, RANK_OF_CATALOGS, takesEffect } from './append.ts';
import { AppendQueue } from './append-queue.ts';
import {
  RECORD_CLOSING,
  RECORD_TAIL_REWRITTEN,
  type RecordHeader,
  SEGMENT_REWRITES_TAIL,
  type SegmentHeader,
} from './format.ts';
import { FlushWaiters } from './flush-waiters.ts';
import type { Numbers } from './numbers.ts';
import { RecordPacker } from './record-packer.ts';
import type { SegmentFiles } from './segment-files.ts';
import type { SegmentLedger } from './segment-ledger.ts';
import type { SegmentSupply } from './segment-supply.ts';
import type { SegmentWriter } from './segment-writer.ts';
import type { LogEnd, LogPosition } from './tail.ts';

/** Unsynced bytes at which the log syncs by itself, and those at which writes wait for that: a flush is never long. */
const [UNSYNCED_BYTES_MAX, UNSYNCED_BYTES_LIMIT] = [64 << 20, 256 << 20];
/** Bytes between two flushes below which the next segment is worth filling ahead: writing it twice costs less. */
const FILL_FLUSH_BYTES = 256 << 10;
const QUIET_MS = 100; // after a flush, before the watermark itself is put on the disk

export interface ChunkLogOptions {
  files: SegmentFiles;
  numbers: Numbers;
  supply: SegmentSupply;
  ledger: SegmentLedger;
  clock: Clock;
  /** What the first record is chained to; undefined for a store without records. */
  end: LogEnd | undefined;
  durable: number;
  /** The last segment, if it was closed cleanly and is to be appended to. */
  resume?: SegmentWriter | undefined;
}

export class ChunkLog {
  readonly #files: SegmentFiles;
  readonly #numbers: Numbers;
  readonly #supply: SegmentSupply;
  readonly #ledger: SegmentLedger;
  readonly #clock: Clock;
  readonly #packer: RecordPacker;
  readonly #queue = new AppendQueue();
  /** Resolves when nothing is left to pack; undefined while idle. */
  #draining: Promise<void> | undefined;
  /** The write of a record under way. */
  #writing: Promise<void> | undefined;
  #segment: SegmentWriter | undefined;
  /** Entries of a higher rank do not go into the present segment before there is room for them. */
  #rank = RANK_OF_CATALOGS;
  /** Syncs that served a flush since the segment was begun. */
  #segmentFlushes = 0;
  /** What the next segment is chained to when #segment is gone. */
  #end: LogEnd | undefined;
  #segmentFlags = 0;
  /** Set while recovery writes the tail again: the watermark before it. */
  #rewriteDurable: number | undefined;
  /** Sealed segments that no sync covers yet. */
  #unsyncedSealed: SegmentWriter[] = [];
  #writtenAppend: number;
  #durableAppend: number;
  /** The last record closes the log: it states the watermark of all before it, and holds nothing itself. */
  #closing: boolean;
  #unsyncedBytes = 0;
  /** Bytes that the sync under way covers, and its end. */
  #syncingBytes = 0;
  #dataSync: Promise<unknown> = Promise.resolve();
  readonly #waiters = new FlushWaiters();
  /** Set while a sync waits for its moment between two records: none is packed then. */
  #syncGate: Promise<void> | undefined;
  #syncing: Promise<void> | undefined;
  #cancelQuiet: (() => void) | undefined;
  #poison: StoreError | undefined;
  #closed = false;
  /** Bytes of records and headers written since the log was opened. */
  appendedBytes = 0;

  constructor(options: ChunkLogOptions) {
    [this.#files, this.#numbers] = [options.files, options.numbers];
    [this.#supply, this.#ledger, this.#clock] = [options.supply, options.ledger, options.clock];
    this.#packer = new RecordPacker(options.numbers.superblock.uuid);
    this.#end = options.end;
    this.#segment = options.resume;
    [this.#writtenAppend, this.#durableAppend] = [options.end?.append ?? 0, options.durable];
    this.#closing = options.resume !== undefined;
    if (options.resume) this.#files.adopt(options.resume.segment, options.resume.file);
  }

  get poison(): StoreError | undefined {
    return this.#poison;
  }

  /** Of the last record that was handed to the kernel. */
  get writtenAppend(): number {
    return this.#writtenAppend;
  }

  /** All records up to this append number are on the disk. */
  get durableAppend(): number {
    return this.#durableAppend;
  }

  get position(): LogPosition {
    const { segment, end } = this.#segment ?? {
      segment: this.#end?.segment ?? 0,
      end: this.#end?.offset ?? 0,
    };
    return { segment, offset: end };
  }

  /** Takes an entry; its owner is told when it is written. */
  submit(append: Append): void {
    this.#queue.push(append);
    if (this.#draining === undefined) this.#startDraining();
  }

  #startDraining(): void {
    // After this turn's events: what other connections bring in the same turn goes into the same record.
    this.#draining = new Promise<void>((resolve) => setImmediate(resolve))
      .then(() => this.#drain())
      .finally(() => {
        this.#draining = undefined;
        if (!this.#queue.isEmpty) this.#startDraining();
        else this.#awaitQuiet();
      });
  }

  async #drain(): Promise<void> {
    let issued: IssuedRecord | undefined;
    while (issued !== undefined || !this.#queue.isEmpty) {
      try {
        if (issued === undefined) {
          issued = await this.#issueNext();
        } else {
          const { appends, written }: IssuedRecord = issued;
          await written;
          this.#queue.takeOff();
          issued = appends.some(takesEffect) ? undefined : this.#issueAtOnce();
          this.#queue.tell(appends, undefined);
        }
      } catch (error) {
        // The segment is of no use any more, or there is none: those who wait are told, later ones try anew.
        this.#queue.refuse(fromSystemError(error, 'appending to the log'));
        return;
      }
    }
  }

  /** Resolves once the owners of all entries submitted before this call have been told. */
  settled(): Promise<void> {
    return this.#queue.settled();
  }

  /** Packs and issues what waits, with all that has to come first; undefined if it has to be tried again. */
  async #issueNext(): Promise<IssuedRecord | undefined> {
    if (this.#poison) throw this.#poison;
    if (this.#closed) throw new StoreError('CLOSED', 'the store is closed');
    const segment = this.#segment;
    const rank = rankOf(this.#queue.first!);
    if (segment === undefined || rank > this.#rank) {
      if (!(await this.#mayTake(rank, segment === undefined))) return undefined;
      if (this.#segment === undefined) await this.#begin();
      this.#rank = rank;
      return undefined; // the log may have been poisoned or closed meanwhile
    }
    if (this.#syncGate !== undefined) {
      await this.#syncGate;
      return undefined;
    }
    if (this.#unsyncedBytes + this.#syncingBytes > UNSYNCED_BYTES_LIMIT) {
      await this.#dataSync.catch(() => undefined);
      return undefined;
    }
    const issued = this.#issueAtOnce();
    // Without a next one this segment stays open: what is small still fits, the closing record above all.
    if (issued === undefined) {
      if (!(await this.#mayTake(rank, true)) || this.#syncGate !== undefined) return undefined;
      assert(!segment.isEmpty, 'an entry fits into an empty segment');
      await this.#roll(segment);
      this.#rank = rank;
    }
    return issued;
  }

  /** Those that wait for room try again. */
  roomChanged(): void {
    if (this.#queue.unpark() && this.#draining === undefined) this.#startDraining();
  }

  /** True if there is room for entries of a rank; otherwise those that wait go on waiting, or are told. @throws IO, NO_SPACE */
  async #mayTake(rank: number, needsSegment: boolean): Promise<boolean> {
    try {
      await this.#supply.ready(rank, needsSegment);
      return true;
    } catch (error) {
      if (!hasCode(error, 'NO_SPACE') || rank === RANK_OF_CATALOGS) throw error;
      this.#queue.withoutRoom(rank, this.#supply.isRoomComing(), error as StoreError);
      return false;
    }
  }

  /** Packs and issues what waits, if nothing has to come first. More may be queued behind it meanwhile. */
  #issueAtOnce(): IssuedRecord | undefined {
    const segment = this.#segment;
    const { first } = this.#queue;
    if (first === undefined || rankOf(first) > this.#rank) return undefined;
    if (segment === undefined || this.#syncGate || this.#poison || this.#closed) return undefined;
    if (this.#unsyncedBytes + this.#syncingBytes > UNSYNCED_BYTES_LIMIT) return undefined;
    const { entries, head } = this.#queue;
    const appends = this.#packer.choose(entries, head, segment.roomBytes, this.#rank);
    if (!segment.fits(this.#packer.tableBytes, this.#packer.payloadBytes)) return undefined;
    this.#queue.issue(appends.length);
    return { appends, written: this.#issueRecord(segment, 0) };
  }

  /** Packs what the packer has chosen, and writes it. */
  #issueRecord(segment: SegmentWriter, flags: number): Promise<void> {
    const numbers = this.#numbers;
    const header: RecordHeader = {
      flags,
      segment: segment.segment,
      offset: segment.position,
      append: numbers.take('appends'),
      firstSequence: 0,
      durable: this.#statedDurable,
      entryCount: 0,
      tableBytes: 0,
      payloadBytes: 0,
      previousChecksum: segment.checksum,
      checksum: 0,
    };
    numbers.advance('sequences', this.#packer.pack(header, numbers.peek('sequences')));
    if (numbers.isLow)
      numbers
        .reserve('appends', 1)
        .catch((error: unknown) => this.#poisonWith(error, 'writing the superblock'));
    this.#writing = this.#write(segment, header);
    return this.#writing;
  }

  async #write(segment: SegmentWriter, header: RecordHeader): Promise<void> {
    const { recordBytes } = this.#packer;
    try {
      await segment.write(header, this.#packer.head, this.#packer.buffers);
    } catch (error) {
      this.#abandon(segment);
      throw error;
    } finally {
      this.#writing = undefined;
    }
    this.#writtenAppend = header.append;
    this.#closing = (header.flags & RECORD_CLOSING) !== 0;
    this.appendedBytes += recordBytes;
    this.#unsyncedBytes += recordBytes;
    this.#cancelQuiet?.();
    this.#cancelQuiet = undefined;
    if (this.#unsyncedBytes > UNSYNCED_BYTES_MAX) this.#startSync();
  }

  async #begin(): Promise<SegmentWriter> {
    const segment = await this.#supply.take();
    const { uuid, segmentBytes, epoch } = this.#numbers.superblock;
    const header: SegmentHeader = {
      flags: this.#segmentFlags,
      uuid,
      segment: segment.segment,
      segmentBytes,
      epoch,
      predecessor: this.#end?.segment ?? 0,
      predecessorEnd: this.#end?.offset ?? 0,
      predecessorChecksum: this.#end?.checksum ?? 0,
      firstAppend: this.#numbers.peek('appends'),
      durable: this.#statedDurable,
    };
    try {
      await segment.begin(header);
    } catch (error) {
      await this.#supply.discard(segment).catch(() => undefined); // recovery removes it otherwise
      throw error;
    }
    this.#files.adopt(segment.segment, segment.file);
    this.#ledger.segments.add(segment.segment);
    this.#segmentFlags = 0;
    this.#segmentFlushes = 0;
    this.#segment = segment;
    return segment;
  }

  async #roll(segment: SegmentWriter): Promise<void> {
    this.#writing = segment.seal(this.#writtenAppend, this.#statedDurable);
    try {
      await this.#writing;
    } finally {
      this.#writing = undefined;
      this.#abandon(segment);
    }
    const isFlushedOften = this.#segmentFlushes * FILL_FLUSH_BYTES > segment.end;
    await this.#begin();
    this.#supply.prepare(isFlushedOften);
  }

  /** Nothing more goes into this segment; what was written to it still waits for its sync. */
  #abandon(segment: SegmentWriter): void {
    this.#end = {
      segment: segment.segment,
      offset: segment.end,
      checksum: segment.checksum,
      append: this.#writtenAppend,
    };
    this.#unsyncedSealed.push(segment);
    this.#segment = undefined;
  }

  /** All that was written before this call is on the disk when it resolves. @throws IO, POISONED, CLOSED */
  flush(): Promise<void> {
    if (this.#poison) return Promise.reject(this.#poison);
    if (this.#durableAppend === this.#writtenAppend && this.#syncing === undefined) return Promise.resolve();
    const flushed = this.#waiters.wait();
    this.#startSync();
    return flushed;
  }

  /** Unless one is under way. Behind one that failed there is none: it would prove nothing, and say that it did. */
  #startSync(): void {
    if (this.#syncing === undefined && this.#poison === undefined) this.#syncing = this.#sync();
  }

  /** Ends in the step that finds no waiter: one that comes later, even in the same turn, starts a sync of its own. */
  async #sync(): Promise<void> {
    do {
      // A record on its way to the kernel goes first: the block that it shares must not be written again later.
      let openGate: () => void = () => undefined;
      this.#syncGate = new Promise<void>((resolve) => {
        openGate = resolve;
      });
      await this.#writing?.catch(() => undefined);
      const served = this.#waiters.take();
      if (!served.isEmpty) this.#segmentFlushes += 1;
      const upTo = this.#writtenAppend;
      const sealed = this.#unsyncedSealed;
      this.#unsyncedSealed = [];
      this.#syncingBytes = this.#unsyncedBytes;
      this.#unsyncedBytes = 0;
      const targets = this.#segment?.isDirty ? [...sealed, this.#segment] : sealed;
      for (const target of targets) target.syncIssued();
      const syncs = Promise.all(targets.map((target) => target.file.datasync()));
      this.#dataSync = syncs;
      this.#syncGate = undefined;
      openGate();
      try {
        await syncs;
      } catch (error) {
        this.#poisonWith(error, 'syncing the log');
        served.settle(this.#poison);
        this.#syncing = undefined;
        return;
      }
      this.#syncingBytes = 0;
      for (const segment of sealed) this.#files.unpin(segment.segment);
      this.#durableAppend = Math.max(this.#durableAppend, upTo);
      served.settle(undefined);
    } while (!this.#waiters.isEmpty);
    this.#syncing = undefined;
    this.#awaitQuiet();
  }

  #poisonWith(error: unknown, doing: string): void {
    this.#poison ??= new StoreError('POISONED', `${doing} failed; the store must be opened again`, error);
    this.#waiters.take().settle(this.#poison);
  }

  /** After a while of quiet a record is written to witness the last flush, as a later one would have; then zeros are filled in. */
  #awaitQuiet(): void {
    this.#cancelQuiet?.();
    this.#cancelQuiet = this.#clock.after(QUIET_MS, () => {
      this.#cancelQuiet = undefined;
      if (this.#draining !== undefined || this.#syncing !== undefined || this.#closed || this.#poison) return;
      this.#inPlace(
        this.#useQuiet().catch((error: unknown) => this.#poisonWith(error, 'writing in a quiet moment')),
      );
    });
  }

  /** The queue is drained again when `work` is done. Requires: nobody drains it. */
  #inPlace(work: Promise<void>): void {
    this.#draining = work.finally(() => {
      this.#draining = undefined;
      if (!this.#queue.isEmpty) this.#startDraining();
    });
  }

  async #useQuiet(): Promise<void> {
    if (!this.#closing && this.#durableAppend === this.#writtenAppend) {
      // A courtesy: a failed sync has poisoned the log by itself, and a full store goes on without one.
      await this.#writeClosing(RECORD_CLOSING).catch(() => undefined);
    }
    while (this.#queue.isEmpty && this.#segment?.isFilled === false && !this.#closed) {
      await this.#segment.fillPiece();
      // By the one way that all syncs go: a second one beside a flush could take the report of its error away.
      if (this.#segment?.isFilled) this.#startSync();
    }
  }

  async #writeClosing(flags: number): Promise<void> {
    if (this.#poison) return;
    const segment = this.#segment ?? (await this.#begin());
    if (!segment.fitsClosing) {
      await this.#supply.ready(RANK_OF_CATALOGS);
      await this.#roll(segment);
    }
    while (this.#syncGate !== undefined) await this.#syncGate;
    this.#packer.choose([], 0, 0, RANK_OF_CATALOGS);
    if ((flags & RECORD_TAIL_REWRITTEN) !== 0)
      [this.#rewriteDurable, this.#rank] = [undefined, RANK_OF_CATALOGS];
    await this.#issueRecord(this.#segment!, flags);
    await this.flush();
  }

  /** What is appended from now on replaces an unproven tail; `markTailRewritten` makes it count. */
  beginRewrite(): void {
    this.#segmentFlags = SEGMENT_REWRITES_TAIL;
    this.#rewriteDurable = this.#durableAppend;
  }

  /**
   * The watermark that records and headers state. While the tail is written again it stands still: so the first
   * record that states a higher one proves that all of the tail is there, even if the mark itself is damaged.
   */
  get #statedDurable(): number {
    return this.#rewriteDurable ?? this.#durableAppend;
  }

  /** What was appended since `beginRewrite` is on the disk, and said to be complete. Nobody has asked for room yet. */
  async markTailRewritten(): Promise<void> {
    await this.idle();
    await this.flush();
    await this.#writeClosing(RECORD_TAIL_REWRITTEN);
  }

  /** Resolves once everything submitted before this call is written or has failed. */
  async idle(): Promise<void> {
    while (this.#draining !== undefined) await this.#draining;
  }

  /** What is appended from now on goes into another segment. @throws IO, NO_SPACE, POISONED, CLOSED */
  async roll(): Promise<void> {
    while (this.#draining !== undefined) await this.#draining;
    const rolling = this.#rollNow();
    this.#inPlace(rolling.catch(() => undefined));
    await rolling;
  }

  async #rollNow(): Promise<void> {
    if (this.#segment === undefined || this.#segment.isEmpty) return;
    await this.#supply.ready(RANK_OF_CATALOGS);
    while (this.#syncGate !== undefined) await this.#syncGate;
    if (this.#poison) throw this.#poison;
    await this.#roll(this.#segment);
    this.#closing = false;
  }

  /** Writes what waits, syncs, and closes the log so that nothing in it is unproven. */
  async close(): Promise<void> {
    await this.idle();
    this.#closed = true;
    this.#cancelQuiet?.();
    await this.#syncing;
    try {
      if (!this.#poison && !this.#closing && this.#writtenAppend > 0) {
        await this.flush();
        await this.#writeClosing(RECORD_CLOSING).catch((error: unknown) => {
          // All is on the disk; only the next opening has to prove it again.
          if (!hasCode(error, 'NO_SPACE')) throw error;
        });
      }
    } finally {
      await this.#supply.close();
    }
  }
}
