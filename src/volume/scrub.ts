/**
 * Scrub: reads everything that the log of an open store holds, in the order of the disk, at a pace, and verifies every checksum
 * on the way, so that bits that rot are found while another copy may still be somewhere.
 *
 * Invariants:
 * - It changes nothing, keeps no checkpoint or round of compaction waiting while it reads, and holds one window in memory.
 * - It reads the segments that there were when it began. What compaction moves meanwhile, compaction verifies; what it has
 *   emptied is passed by, and whatever was found in it forgotten: an open file keeps its content until it is closed.
 * - A chunk is damage if some version reads it, as the index says in the moment after its segment was read.
 */

import type { Clock } from '../base/clock.ts';
import { StoreError } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import { Rate } from '../base/rate.ts';
import type { Storage } from '../base/storage.ts';
import { SegmentTable } from '../compaction/segment-table.ts';
import type { Numbers } from '../log/numbers.ts';
import { PacedFiles } from '../log/paced-files.ts';
import { SegmentScanner } from '../log/scan.ts';
import type { SegmentLedger } from '../log/segment-ledger.ts';
import { type BadChunk, scrubSegment, type SegmentExtent } from '../log/segment-scrub.ts';
import type { LogPosition } from '../log/tail.ts';
import type { Catalog } from './catalog.ts';
import { finding } from '../check/finding.ts';
import { checkSuperblock } from './check.ts';
import type { IndexKeeper } from './index-keeper.ts';
import { judgeChunks } from './scrub-verdict.ts';
import type { Finding, ScrubState, ScrubStep } from './summary.ts';

export const SCRUB_BYTES_PER_SECOND = 64 << 20;
/** A step is told after so many bytes, or as soon as anything is found. */
const STEP_BYTES = 4 << 20;

export interface ScrubOptions {
  /** Default: 64 MiB. */
  readonly bytesPerSecond: number | undefined;
}

/** What a scrub needs of the store. */
export interface ScrubbedStore {
  readonly storage: Storage;
  readonly uuid: Buffer;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly numbers: Numbers;
  readonly ledger: SegmentLedger;
  readonly catalog: Catalog;
  readonly keeper: IndexKeeper;
  /** How far the segment is written that the log is in. */
  position(): LogPosition;
}

export class StoreScrub {
  readonly #store: ScrubbedStore;
  readonly #closing = new AbortController();
  #running: Scrub | undefined;
  #last: ScrubState['last'] = null;

  constructor(store: ScrubbedStore) {
    this.#store = store;
  }

  get state(): ScrubState {
    const { readBytes = 0, totalBytes = 0 } = this.#running ?? {};
    return { state: this.#running ? 'running' : 'idle', readBytes, totalBytes, last: this.#last };
  }

  /**
   * Reads it all; `signal` ends it with its reason.
   * @throws INVALID_ARGUMENT (a rate that is none), IN_USE (one is running), IO, CLOSED
   */
  async *run(
    { bytesPerSecond = SCRUB_BYTES_PER_SECOND }: ScrubOptions,
    signal?: AbortSignal,
  ): AsyncGenerator<ScrubStep> {
    signal?.throwIfAborted();
    if (!(bytesPerSecond > 0)) throw new StoreError('INVALID_ARGUMENT', 'the rate must be above zero');
    if (this.#running !== undefined)
      throw new StoreError('IN_USE', 'a scrub of this store is running already');
    const ending = AbortSignal.any(
      signal === undefined ? [this.#closing.signal] : [this.#closing.signal, signal],
    );
    const scrub = new Scrub(this.#store, bytesPerSecond, ending);
    this.#running = scrub;
    let [found, isWhole] = [0, false];
    try {
      for await (const step of scrub.steps()) {
        for (const finding of step.findings) {
          if (finding.severity !== 'damage') continue;
          found += 1;
          this.#store.logger.error({ finding }, 'a scrub has found damage');
        }
        yield step;
      }
      isWhole = true;
    } finally {
      this.#running = undefined;
      const at = new Date(this.#store.clock.now()).toISOString();
      this.#last = { at, readBytes: scrub.readBytes, damage: found, isWhole };
    }
  }

  /** One that runs ends with CLOSED. */
  close(): void {
    this.#closing.abort(new StoreError('CLOSED', 'the store is closed, and the scrub of it stopped'));
  }
}

class Scrub {
  readonly #store: ScrubbedStore;
  readonly #ending: AbortSignal;
  readonly #pace: Rate;
  readonly #files: PacedFiles;
  readonly #table: SegmentTable;
  readBytes = 0;
  totalBytes = 0;

  constructor(store: ScrubbedStore, bytesPerSecond: number, ending: AbortSignal) {
    this.#store = store;
    this.#ending = ending;
    this.#pace = new Rate(bytesPerSecond);
    this.#files = new PacedFiles(store.storage, (bytes) => this.#mayRead(bytes));
    this.#table = new SegmentTable(store.storage, store.uuid, store.ledger);
  }

  /** Resolves when so many bytes may be read, and others have had their turn. @throws what it is ended with */
  async #mayRead(bytes: number): Promise<void> {
    const { clock } = this.#store;
    const waitMs = this.#pace.take(bytes, clock.now());
    this.#ending.throwIfAborted();
    await new Promise<void>((resolve) => {
      const cancel = clock.after(waitMs, () => {
        this.#ending.removeEventListener('abort', stop);
        resolve();
      });
      const stop = (): void => {
        cancel();
        resolve();
      };
      this.#ending.addEventListener('abort', stop, { once: true });
    });
    this.#ending.throwIfAborted();
  }

  #step(findings: Finding[]): ScrubStep {
    return { readBytes: this.readBytes, totalBytes: this.totalBytes, findings };
  }

  async *steps(): AsyncGenerator<ScrubStep> {
    const { storage, numbers, ledger, logger } = this.#store;
    const superblock: Finding[] = [];
    for await (const each of checkSuperblock(storage, (read) => numbers.between(read))) superblock.push(each);
    // In this order: a segment that is begun meanwhile says where the one before it ends.
    const written = this.#store.position();
    const segments = [...ledger.segments].sort((a, b) => a - b);
    await this.#table.refresh();
    for (const segment of segments) this.totalBytes += this.#bytesOf(segment);
    yield this.#step(superblock);
    for (const segment of segments) {
      const before = this.readBytes;
      try {
        yield* this.#segment(segment, written);
      } catch (error) {
        // Its file may have gone while it was being opened.
        if (!(error instanceof StoreError) || ledger.segments.has(segment) || this.#ending.aborted)
          throw error;
        logger.debug({ err: error, segment }, 'a segment went away while it was scrubbed');
      }
      this.readBytes = before + this.#bytesOf(segment);
    }
    yield this.#step([]);
  }

  #bytesOf(segment: number): number {
    return this.#table.get(segment)?.bytes ?? 0;
  }

  async *#segment(segment: number, written: LogPosition): AsyncGenerator<ScrubStep> {
    const { uuid, ledger } = this.#store;
    if (!ledger.segments.has(segment)) return;
    const whole = await SegmentScanner.open(this.#files, uuid, segment);
    const scanner = whole ?? (await SegmentScanner.openAnyway(this.#files, uuid, segment));
    if (scanner === undefined) {
      if (ledger.segments.has(segment))
        yield this.#step([finding('LOG_SEGMENT_LOST', `segment ${segment} is missing`)]);
      return;
    }
    const findings: Finding[] = [];
    if (whole === undefined)
      findings.push(
        finding('SEGMENT_HEADER_DAMAGED', `segment ${segment}: both copies of its header are damaged`),
      );
    const chunks: BadChunk[] = [];
    const [began, unreadable] = [this.readBytes, this.#files.unreadableBytes];
    try {
      for await (const step of scrubSegment(scanner, this.#extentOf(segment, written, whole !== undefined))) {
        for (const { code, message } of step.flaws) findings.push(finding(code, message));
        chunks.push(...step.chunks);
        if (step.at - (this.readBytes - began) < STEP_BYTES) continue;
        this.readBytes = began + step.at;
        yield this.#step([]);
      }
    } finally {
      await scanner.close();
    }
    const lost = this.#files.unreadableBytes - unreadable;
    if (lost > 0)
      findings.push(finding('UNREADABLE', `segment ${segment}: the disk does not give ${lost} bytes of it`));
    findings.push(...(await judgeChunks(this.#store, chunks)));
    // What it was emptied of is elsewhere, and nothing reads what was found here.
    if (findings.length > 0 && ledger.segments.has(segment)) yield this.#step(findings);
  }

  #extentOf(segment: number, written: LogPosition, hasHeader: boolean): SegmentExtent {
    const stated = this.#table.endOf(segment);
    const isOpen = segment === written.segment;
    if (stated !== Number.POSITIVE_INFINITY) return { hasHeader, end: stated, isOpen };
    return { hasHeader, end: isOpen ? written.offset : undefined, isOpen };
  }
}
