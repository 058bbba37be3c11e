/**
 * A version as it is read and written: one for each version that is in use, shared by all who have it open.
 *
 * Life of a write: whole chunks go to the log as they came; edges that cover part of a chunk are merged first, under
 * a lock of all chunks of the write. When the log has them, overlay and page get the pointers, then the client its answer.
 *
 * Invariants:
 * - A partial write reads its edges when all writes that came before it are in the map, and holds all its chunks until
 *   its own is: no write is lost between reading and writing, and none slips between its edges.
 * - While the disk is paused no write is under way; nothing is written behind its end, whatever size a client knows.
 */

import { allOf } from '../base/all-of.ts';
import { assert, StoreError } from '../base/errors.ts';
import { CHUNK_BYTES, chunkOf, chunksFor } from '../base/units.ts';
import type { Page, PageTable } from '../index/pages.ts';
import { fillHoles } from '../index/overlay.ts';
import type { Lineage } from '../index/pointer-index.ts';
import { HOLE, REGION_CHUNKS } from '../index/pointers.ts';
import { follow, type Move } from '../index/move.ts';
import { Append, AppendPromise } from '../log/append.ts';
import type { ChunkLog } from '../log/chunk-log.ts';
import type { SegmentFiles } from '../log/segment-files.ts';
import { allocationRuns } from './allocation.ts';
import { changedRuns } from './changed-runs.ts';
import { ChunkLocks } from './chunk-locks.ts';
import { type ChunkTarget, ChunkWrite } from './chunk-write.ts';
import type { AllocationRun, HoleListener, Run, StatusRun, WriteRequest } from './device.ts';
import { depthRuns } from './depth-runs.ts';
import { DiskPages } from './disk-pages.ts';
import { DiskReader, raggedEdges } from './disk-reader.ts';
import type { IndexKeeper } from './index-keeper.ts';
import type { WriteGate } from './write-gate.ts';

const ZERO_CHUNK = Buffer.alloc(CHUNK_BYTES);

export interface DiskEnvironment {
  log: ChunkLog;
  files: SegmentFiles;
  keeper: IndexKeeper;
  gate: WriteGate;
}

export class Disk implements Lineage, ChunkTarget {
  sizeBytes: number;
  readonly tree: number;
  /** The version and all above it. A snapshot adds the new head, and takes nothing away. */
  readonly path: Set<number>;
  /** What writes are labelled with. */
  label: number;

  readonly #log: ChunkLog;
  readonly #keeper: IndexKeeper;
  readonly #gate: WriteGate;
  readonly #pages: DiskPages;
  readonly #reader: DiskReader;
  readonly #locks = new ChunkLocks();
  #writesUnderWay = 0;
  #idleWaiters: (() => void)[] = [];
  /** Set while the disk is paused: writes wait for it. */
  #pause: Promise<void> | undefined;
  /** Set while the disk is taken back from who has it: what waited for the end of a pause is refused as well. */
  isTakenBack = false;

  constructor(
    environment: DiskEnvironment,
    pages: PageTable,
    sizeBytes: number,
    tree: number,
    path: readonly number[],
  ) {
    this.#log = environment.log;
    this.#keeper = environment.keeper;
    this.#gate = environment.gate;
    this.sizeBytes = sizeBytes;
    this.tree = tree;
    this.path = new Set(path);
    this.label = path[0]!;
    this.#pages = new DiskPages(environment.keeper, pages, this);
    this.#reader = new DiskReader(environment.files, this.#pages);
  }

  /** The head froze; what is written from now on belongs to `label`. Its pages hold for the new version as well. */
  moveTo(label: number): void {
    this.path.add(label);
    this.label = label;
  }

  close(): void {
    this.#pages.table.clear();
  }

  writeBegun(): void {
    this.#writesUnderWay += 1;
  }

  writeEnded(): void {
    this.#writesUnderWay -= 1;
    if (this.#writesUnderWay > 0) return;
    const waiting = this.#idleWaiters;
    this.#idleWaiters = [];
    for (const idle of waiting) idle();
  }

  /** Calls `idle` when no write is under way: at once if that is so. */
  whenIdle(idle: () => void): void {
    if (this.#writesUnderWay === 0) idle();
    else this.#idleWaiters.push(idle);
  }

  /** Resolves when no write is under way; those that come wait until the answer is called. One pause at a time. */
  async pause(): Promise<() => void> {
    assert(this.#pause === undefined, 'a disk is paused once');
    let end: () => void = () => undefined;
    this.#pause = new Promise((resolve) => {
      end = resolve;
    });
    await new Promise<void>((resolve) => this.whenIdle(resolve));
    return () => {
      this.#pause = undefined;
      end();
    };
  }

  /** The end moved; `cut` chunks from `first` on read as zeros since `sequence`. */
  resized(sizeBytes: number, first: number, cut: number, sequence: number): void {
    this.sizeBytes = sizeBytes;
    if (cut > 0) this.#zeroPages(first, cut, sequence);
  }

  /** Zeroes what stands behind the end in the last chunk, if anything does: nobody sees it before the disk grows. */
  async clearBehindEnd(): Promise<void> {
    if (!(await this.hasBytesBehind(this.sizeBytes))) return;
    const used = this.sizeBytes % CHUNK_BYTES;
    await new Promise<void>((resolve, reject) => {
      const complete = (error: StoreError | undefined): void => (error ? reject(error) : resolve());
      const slices = [ZERO_CHUNK.subarray(used)];
      const lengthBytes = CHUNK_BYTES - used;
      this.#write({ offset: this.sizeBytes, lengthBytes, slices, forceUnitAccess: false, complete });
    });
  }

  /** True if the chunk that `end` lies in has anything but zeros behind it. */
  async hasBytesBehind(end: number): Promise<boolean> {
    if (end % CHUNK_BYTES === 0) return false;
    const bytes = Buffer.alloc(CHUNK_BYTES);
    await this.#reader.readChunks(bytes, 0, chunkOf(end), 1);
    return bytes.subarray(end % CHUNK_BYTES).some((byte) => byte !== 0);
  }

  // --- writing ---

  write(request: WriteRequest): void {
    if (this.#pause !== undefined) {
      void this.#pause.then(() => this.write(request));
      return;
    }
    const refusal = this.#refusal(request.offset + request.lengthBytes);
    if (refusal !== undefined) {
      setImmediate(() => request.complete(refusal));
      return;
    }
    this.#write(request);
  }

  /** Why nothing is written up to `end`, if so. */
  #refusal(end: number): StoreError | undefined {
    if (this.isTakenBack)
      return new StoreError('CLOSED', 'the volume is being deleted, rolled back or demoted');
    // A client that connected before the disk was cut off still knows the old size.
    return end > this.sizeBytes
      ? new StoreError('NO_SPACE', 'the volume has become smaller; connect again to see its size')
      : undefined;
  }

  #write(request: WriteRequest): void {
    const { offset, lengthBytes } = request;
    const isWhole = offset % CHUNK_BYTES === 0 && lengthBytes % CHUNK_BYTES === 0 && lengthBytes > 0;
    if (isWhole && this.#gate.isOpen) {
      const first = chunkOf(offset);
      const count = lengthBytes / CHUNK_BYTES;
      if (this.#locks.isFree(first, count)) {
        new ChunkWrite(this, this.#log, request).submit(first, count, request.slices);
        return;
      }
    }
    this.writeBegun();
    this.#writeSlowly(request)
      .catch((error: StoreError) => request.complete(error))
      .finally(() => this.writeEnded());
  }

  /** A write with ragged edges, or one that has to wait: for such, or for a checkpoint. */
  async #writeSlowly(request: WriteRequest): Promise<void> {
    const { offset, lengthBytes } = request;
    if (!this.#gate.isOpen) await this.#gate.opened();
    if (lengthBytes === 0) {
      if (request.forceUnitAccess) await this.#log.flush();
      request.complete(undefined);
      return;
    }
    const first = chunkOf(offset);
    const count = chunksFor(offset + lengthBytes) - first;
    const edges = raggedEdges(offset, lengthBytes);
    if (edges.length === 0) {
      await this.#locks.whenFree(first, count, () => {
        new ChunkWrite(this, this.#log, request).submit(first, count, request.slices);
      });
      return;
    }
    await this.#merged(first, count, async () => {
      const head = await this.#edgeBytes(offset - first * CHUNK_BYTES, first);
      const behind = (first + count) * CHUNK_BYTES - (offset + lengthBytes);
      const tail = await this.#edgeBytes(behind, first + count - 1);
      const slices = [
        head.subarray(0, offset - first * CHUNK_BYTES),
        ...request.slices,
        tail.subarray(CHUNK_BYTES - behind),
      ].filter((slice) => slice.length > 0);
      await new Promise<void>((resolve, reject) => {
        const merged: WriteRequest = {
          offset: first * CHUNK_BYTES,
          lengthBytes: count * CHUNK_BYTES,
          slices,
          forceUnitAccess: false,
          complete: (error) => (error ? reject(error) : resolve()),
        };
        new ChunkWrite(this, this.#log, merged).submit(first, count, slices);
      });
    });
    if (request.forceUnitAccess) await this.#log.flush();
    request.complete(undefined);
  }

  /** Runs `work` while the whole range is held, and all earlier writes are in. */
  async #merged(first: number, count: number, work: () => Promise<void>): Promise<void> {
    const held = await this.#locks.hold(first, count);
    try {
      await this.#log.settled();
      await work();
    } finally {
      this.#locks.release(held);
    }
  }

  /** The present bytes of an edge chunk, of which `wanted` at its front or back are kept. */
  async #edgeBytes(wanted: number, chunk: number): Promise<Buffer> {
    const bytes = Buffer.alloc(CHUNK_BYTES);
    if (wanted > 0) await this.#reader.readChunks(bytes, 0, chunk, 1);
    return bytes;
  }

  /** See BlockDevice.zero. */
  async zero(offset: number, lengthBytes: number, forceUnitAccess: boolean): Promise<void> {
    while (this.#pause !== undefined) await this.#pause;
    const refusal = this.#refusal(offset + lengthBytes);
    if (refusal !== undefined) throw refusal;
    const atEnd = offset + lengthBytes === this.sizeBytes;
    // Nothing is behind the end of the disk: its last chunk is zeroed whole.
    const end = atEnd ? chunksFor(this.sizeBytes) * CHUNK_BYTES : offset + lengthBytes;
    const firstWhole = chunksFor(offset);
    const endWhole = chunkOf(end);
    const parts: Promise<void>[] = [];
    if (firstWhole >= endWhole) {
      if (lengthBytes > 0) parts.push(this.#writeZeros(offset, lengthBytes));
    } else {
      const head = firstWhole * CHUNK_BYTES - offset;
      if (head > 0) parts.push(this.#writeZeros(offset, head));
      parts.push(this.#zeroChunks(firstWhole, endWhole - firstWhole));
      const tail = end - endWhole * CHUNK_BYTES;
      if (tail > 0) parts.push(this.#writeZeros(endWhole * CHUNK_BYTES, tail));
    }
    await allOf(parts);
    if (forceUnitAccess) await this.#log.flush();
  }

  /** Zeros over part of one or two chunks: stored as data. */
  #writeZeros(offset: number, lengthBytes: number): Promise<void> {
    return new Promise((resolve, reject) => {
      const slices: Buffer[] = [];
      for (let left = lengthBytes; left > 0; left -= CHUNK_BYTES) {
        slices.push(ZERO_CHUNK.subarray(0, Math.min(left, CHUNK_BYTES)));
      }
      const complete = (error: StoreError | undefined): void => (error ? reject(error) : resolve());
      this.#write({ offset, lengthBytes, slices, forceUnitAccess: false, complete });
    });
  }

  async #zeroChunks(first: number, count: number): Promise<void> {
    this.writeBegun();
    try {
      if (!this.#keeper.hasRoom) await this.#keeper.room();
      const owner = new AppendPromise((append) => this.#putZeros(append));
      await this.#locks.whenFree(first, count, () => {
        this.#log.submit(Append.zeros(owner, this, first, count));
      });
      await owner.promise;
    } finally {
      this.writeEnded();
    }
  }

  /** The log has these chunks: overlay, then page. */
  putChunks(append: Append): void {
    const { first, count, segment, offset, sequence, checksums, label } = append;
    const { active } = this.#keeper.overlays;
    active.putChunks(this.tree, label, first, count, segment, offset, checksums, sequence);
    let page: Page | undefined;
    let region = -1;
    for (let i = 0; i < count; i++) {
      const chunk = first + i;
      const at = Math.floor(chunk / REGION_CHUNKS);
      if (at !== region) {
        page?.changed();
        region = at;
        page = this.#pages.find(region);
      }
      page?.block.put(chunk % REGION_CHUNKS, segment, offset + i * CHUNK_BYTES, checksums[i]!, sequence);
    }
    page?.changed();
    this.#keeper.noteChanges();
  }

  #putZeros(append: Append): void {
    const { first, count, sequence, label } = append;
    this.#keeper.overlays.active.putZeros(this.tree, label, first, count, sequence);
    this.#zeroPages(first, count, sequence);
    this.#keeper.noteChanges();
  }

  #zeroPages(first: number, count: number, sequence: number): void {
    const end = first + count;
    for (const page of this.#pages.table.pages()) {
      const start = page.region * REGION_CHUNKS;
      if (start >= end || start + REGION_CHUNKS <= first) continue;
      if (start >= first && start + REGION_CHUNKS <= end) {
        fillHoles(page.block, sequence);
        page.changed();
        continue;
      }
      const from = Math.max(first, start);
      const to = Math.min(end, start + REGION_CHUNKS);
      for (let chunk = from; chunk < to; chunk++) page.block.put(chunk - start, HOLE, 0, 0, sequence);
      page.changed();
    }
  }

  /** Chunks were moved: pages lead to where they are now. */
  relocated(regions: ReadonlyMap<number, readonly Move[]>): void {
    for (const [region, moves] of regions) {
      const page = this.#pages.table.peek(region);
      if (page !== undefined) for (const move of moves) follow(page.block, move);
    }
  }

  flush(): Promise<void> {
    return this.#log.flush();
  }

  // --- reading ---

  /** See BlockDevice.tryRead. */
  tryRead(target: Buffer, start: number, offset: number, lengthBytes: number, holes?: HoleListener): boolean {
    return this.#reader.tryRead(target, start, offset, lengthBytes, holes);
  }

  /** See BlockDevice.read. */
  read(
    target: Buffer,
    start: number,
    offset: number,
    lengthBytes: number,
    holes?: HoleListener,
  ): Promise<void> {
    return this.#reader.read(target, start, offset, lengthBytes, holes);
  }

  /** See BlockDevice.readRuns. */
  readRuns(target: Buffer, runs: readonly Run[]): Promise<void> {
    return this.#reader.readRuns(target, runs);
  }

  /** See BlockDevice.allocation. */
  allocation(offset: number, lengthBytes: number, runsMax: number): Promise<AllocationRun[]> {
    return allocationRuns(this.#pages, offset, lengthBytes, runsMax);
  }

  /** See BlockDevice.depth. */
  depth(offset: number, lengthBytes: number, runsMax: number): Promise<StatusRun[]> {
    return depthRuns(this.#keeper, this, offset, lengthBytes, runsMax);
  }

  /** See BlockDevice.changes. */
  changes(since: Disk, offset: number, lengthBytes: number, runsMax: number): Promise<StatusRun[]> {
    return changedRuns(this.#keeper, since, this, offset, lengthBytes, runsMax);
  }
}
