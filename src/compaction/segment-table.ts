/**
 * What is known of the segments of the log beside what lives in them: length, age, what stands before each. Read from their
 * headers when it is first asked for, so that opening a store does not wait for it.
 */

import type { Storage } from '../base/storage.ts';
import { CHUNK_BYTES } from '../base/units.ts';
import { ENTRY_CATALOG, ENTRY_CHANGE } from '../log/entries.ts';
import { SEGMENT_MOVES, segmentPath } from '../log/format.ts';
import { entriesOf, recordEnd, type ScannedRecord, SegmentScanner } from '../log/scan.ts';
import type { SegmentLedger } from '../log/segment-ledger.ts';

export interface SegmentFacts {
  readonly bytes: number;
  readonly isMoves: boolean;
  readonly age: number;
  readonly predecessor: number;
  readonly predecessorEnd: number;
}

export class SegmentTable {
  readonly #storage: Storage;
  readonly #uuid: Buffer;
  readonly #ledger: SegmentLedger;
  readonly #facts = new Map<number, SegmentFacts>();
  /** Missing, or without a header: nothing can be said of them. */
  readonly #unreadable = new Set<number>();
  readonly #zeros = new Map<number, number>();
  /** Those whose footer says where they end, and is on the disk. */
  readonly #closed = new Set<number>();
  /** By segment, where it ends as what follows it says, and the epoch in which that was begun. */
  readonly #ends = new Map<number, { readonly end: number; readonly epoch: number }>();

  constructor(storage: Storage, uuid: Buffer, ledger: SegmentLedger) {
    this.#storage = storage;
    this.#uuid = uuid;
    this.#ledger = ledger;
  }

  /** Reads what is not known yet; segments whose header cannot be read stay unknown. @throws IO */
  async refresh(): Promise<void> {
    const { segments, retired } = this.#ledger;
    for (const segment of [...segments, ...retired]) {
      if (this.#facts.has(segment) || this.#unreadable.has(segment)) continue;
      const scanner = await SegmentScanner.open(this.#storage, this.#uuid, segment);
      if (scanner === undefined) {
        this.#unreadable.add(segment);
        continue;
      }
      const { flags, segmentBytes, firstAppend, durable, epoch, predecessor, predecessorEnd } =
        scanner.header;
      await scanner.close();
      const isMoves = (flags & SEGMENT_MOVES) !== 0;
      const age = isMoves ? durable : firstAppend;
      this.#facts.set(segment, { bytes: segmentBytes, isMoves, age, predecessor, predecessorEnd });
      if (!isMoves) this.#ends.set(predecessor, { end: predecessorEnd, epoch });
    }
  }

  get(segment: number): SegmentFacts | undefined {
    return this.#facts.get(segment);
  }

  /** Compaction has put zeroed extents into a segment: they are moved on, however often it is emptied. */
  noteZeros(segment: number, bytes: number): void {
    if (bytes > 0) this.#zeros.set(segment, bytes);
  }

  forgetZeros(): void {
    this.#zeros.clear();
  }

  /** Bytes of a segment that zeroed extents take, as far as that is known: those that were moved since the store was opened. */
  zerosBytes(segment: number): number {
    return this.#zeros.get(segment) ?? 0;
  }

  /** Where the records of a segment end that belong to the log. */
  endOf(segment: number): number {
    return this.#ends.get(segment)?.end ?? Number.POSITIVE_INFINITY;
  }

  /** True if the segment's own footer says where it ends, for ever, so that what follows it may go. @throws NO_SPACE, IO */
  async isClosed(segment: number): Promise<boolean> {
    if (this.#closed.has(segment)) return true;
    const scanner = await SegmentScanner.open(this.#storage, this.#uuid, segment);
    if (scanner === undefined) return false;
    try {
      const last = (await scanner.footer())?.at(-1);
      if (last === undefined || recordEnd(last.header) !== this.endOf(segment)) return false;
      // Who sealed it and went on has synced it with the records behind it. Another process went on behind one that may not have.
      if (this.#ends.get(segment)?.epoch !== scanner.header.epoch) {
        const { header } = (await scanner.footerRecord())!;
        await this.#writeAgain(segment, header.offset, scanner.header.segmentBytes);
      }
    } finally {
      await scanner.close();
    }
    this.#closed.add(segment);
    return true;
  }

  /**
   * Writes the end of a segment as it stands: an earlier process may have left its footer in the page cache, where a sync that
   * failed then has it called clean.
   */
  async #writeAgain(segment: number, from: number, to: number): Promise<void> {
    const file = await this.#storage.open(segmentPath(segment), 'write');
    try {
      const bytes = Buffer.alloc(to - from);
      const length = await file.read(bytes, 0, bytes.length, from);
      await file.write([bytes.subarray(0, length)], from);
      await file.datasync();
    } finally {
      await file.close();
    }
  }

  /** Chunks that its records hold, alive or dead; -1 if its own footer does not say all of it, or says of changes and catalogs. @throws IO */
  async chunkCount(segment: number): Promise<number> {
    const scanner = await SegmentScanner.open(this.#storage, this.#uuid, segment);
    if (scanner === undefined) return -1;
    try {
      const records = await scanner.footer();
      if (records === undefined) return -1;
      const end = this.endOf(segment);
      const last = records.at(-1);
      if (end !== Number.POSITIVE_INFINITY && (last === undefined || recordEnd(last.header) !== end))
        return -1;
      if (records.some(hasText)) return -1;
      return records.reduce((sum, { header }) => sum + header.payloadBytes / CHUNK_BYTES, 0);
    } finally {
      await scanner.close();
    }
  }

  forget(segment: number): void {
    this.#facts.delete(segment);
    this.#ends.delete(segment);
    this.#closed.delete(segment);
    this.#zeros.delete(segment);
  }
}

/** True if a record names anything: a volume that was deleted, perhaps. */
function hasText(record: ScannedRecord): boolean {
  return entriesOf(record).some(({ kind }) => kind === ENTRY_CHANGE || kind === ENTRY_CATALOG);
}
