/**
 * A version as it is read and written: one for each version that is in use, shared by all who have it open.
 *
 * Life of a write: whole chunks go to the log as they came; edges that cover part of a chunk are merged first, under
 * a lock of the chunk. When the log has them, overlay and page get the pointers, then the client its answer.
 * Life of a read: pages say where chunks live; what lies together is read at once; every checksum is verified.
 *
 * Invariants:
 * - A partial write reads its chunk when all writes that came before it are in the map, and holds the chunk until
 *   its own is: no write is lost between reading and writing.
 * - A chunk is handed out only if its checksum matches.
 */

import { crc32c } from '../base/crc.ts';
import { assert, StoreError } from '../base/errors.ts';
import { CHUNK_BYTES, chunkOf, chunksFor } from '../base/units.ts';
import type { Page, PageTable } from '../index/pages.ts';
import { fillHoles } from '../index/overlay.ts';
import type { Lineage } from '../index/pointer-index.ts';
import { HOLE, REGION_CHUNKS } from '../index/pointers.ts';
import { Append, type AppendOwner, AppendPromise } from '../log/append.ts';
import type { ChunkLog } from '../log/chunk-log.ts';
import { ENTRY_CHUNKS_MAX } from '../log/record-packer.ts';
import type { SegmentFiles } from '../log/segment-files.ts';
import { ChunkLocks } from './chunk-locks.ts';
import type { AllocationRun, WriteRequest } from './device.ts';
import type { IndexKeeper } from './index-keeper.ts';

/** Regions that one call of `allocation` looks into. */
const ALLOCATION_REGIONS_MAX = 256;
const ZERO_CHUNK = Buffer.alloc(CHUNK_BYTES);

/** A write of whole chunks on its way through the log, in one or more entries. */
class ChunkWrite implements AppendOwner {
  readonly #disk: Disk;
  readonly #log: ChunkLog;
  readonly #request: WriteRequest;
  #pending = 0;
  #error: StoreError | undefined;

  constructor(disk: Disk, log: ChunkLog, request: WriteRequest) {
    this.#disk = disk;
    this.#log = log;
    this.#request = request;
  }

  submit(first: number, count: number, slices: readonly Buffer[]): void {
    this.#disk.writeBegun();
    if (count <= ENTRY_CHUNKS_MAX) {
      this.#pending = 1;
      this.#log.submit(Append.chunks(this, this.#disk, first, count, slices));
      return;
    }
    this.#pending = Math.ceil(count / ENTRY_CHUNKS_MAX);
    const cursor = new SliceCursor(slices);
    for (let at = 0; at < count; at += ENTRY_CHUNKS_MAX) {
      const chunks = Math.min(ENTRY_CHUNKS_MAX, count - at);
      this.#log.submit(Append.chunks(this, this.#disk, first + at, chunks, cursor.take(chunks * CHUNK_BYTES)));
    }
  }

  appended(append: Append, error: StoreError | undefined): void {
    if (error === undefined) this.#disk.putChunks(append);
    else this.#error = error;
    this.#pending -= 1;
    if (this.#pending > 0) return;
    this.#disk.writeEnded();
    const request = this.#request;
    if (this.#error !== undefined || !request.forceUnitAccess) request.complete(this.#error);
    else {
      this.#log.flush().then(
        () => request.complete(undefined),
        (reason: StoreError) => request.complete(reason),
      );
    }
  }
}

/** Takes bytes off a list of slices, without copying them. */
export class SliceCursor {
  readonly #slices: readonly Buffer[];
  #index = 0;
  #from = 0;

  constructor(slices: readonly Buffer[]) {
    this.#slices = slices;
  }

  take(bytes: number): Buffer[] {
    const taken: Buffer[] = [];
    let left = bytes;
    while (left > 0) {
      const slice = this.#slices[this.#index]!;
      const count = Math.min(left, slice.length - this.#from);
      taken.push(slice.subarray(this.#from, this.#from + count));
      left -= count;
      this.#from += count;
      if (this.#from === slice.length) {
        this.#index += 1;
        this.#from = 0;
      }
    }
    return taken;
  }
}

export interface DiskEnvironment {
  log: ChunkLog;
  files: SegmentFiles;
  keeper: IndexKeeper;
}

export class Disk implements Lineage {
  readonly sizeBytes: number;
  readonly tree: number;
  /** The version and all above it. A snapshot adds the new head, and takes nothing away. */
  readonly path: Set<number>;
  /** What writes are labelled with. */
  label: number;
  users = 0;

  readonly #log: ChunkLog;
  readonly #files: SegmentFiles;
  readonly #keeper: IndexKeeper;
  readonly #pages: PageTable;
  readonly #loading = new Map<number, Promise<Page>>();
  readonly #locks = new ChunkLocks();
  readonly #scratch = Buffer.alloc(CHUNK_BYTES);
  #writesUnderWay = 0;
  #idleWaiters: (() => void)[] = [];

  constructor(
    environment: DiskEnvironment,
    pages: PageTable,
    sizeBytes: number,
    tree: number,
    path: readonly number[],
  ) {
    this.#log = environment.log;
    this.#files = environment.files;
    this.#keeper = environment.keeper;
    this.#pages = pages;
    this.sizeBytes = sizeBytes;
    this.tree = tree;
    this.path = new Set(path);
    this.label = path[0]!;
  }

  /** The head froze; what is written from now on belongs to `label`. Its pages hold for the new version as well. */
  moveTo(label: number): void {
    this.path.add(label);
    this.label = label;
  }

  close(): void {
    this.#pages.clear();
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

  // --- writing ---

  write(request: WriteRequest): void {
    const { offset, lengthBytes } = request;
    if (offset % CHUNK_BYTES === 0 && lengthBytes % CHUNK_BYTES === 0 && lengthBytes > 0) {
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

  /** A write with ragged edges, or one that has to wait for such. */
  async #writeSlowly(request: WriteRequest): Promise<void> {
    const { offset, lengthBytes } = request;
    if (lengthBytes === 0) {
      if (request.forceUnitAccess) await this.#log.flush();
      request.complete(undefined);
      return;
    }
    const first = chunkOf(offset);
    const count = chunksFor(offset + lengthBytes) - first;
    const edges = raggedEdges(offset, lengthBytes);
    if (edges.length === 0) {
      await this.#locks.untilFree(first, count);
      new ChunkWrite(this, this.#log, request).submit(first, count, request.slices);
      return;
    }
    await this.#merged(edges, first, count, async () => {
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

  /** Runs `work` while the edge chunks are held, the whole range is free of others, and all earlier writes are in. */
  async #merged(edges: readonly number[], first: number, count: number, work: () => Promise<void>): Promise<void> {
    await this.#locks.hold(edges);
    try {
      const inner = first + (edges.includes(first) ? 1 : 0);
      const last = first + count - 1;
      const innerCount = last - inner + (edges.includes(last) ? 0 : 1);
      if (innerCount > 0) await this.#locks.untilFree(inner, innerCount);
      await this.#log.settled();
      await work();
    } finally {
      this.#locks.release(edges);
    }
  }

  /** The present bytes of an edge chunk, of which `wanted` at its front or back are kept. */
  async #edgeBytes(wanted: number, chunk: number): Promise<Buffer> {
    const bytes = Buffer.alloc(CHUNK_BYTES);
    if (wanted > 0) await this.#readChunks(bytes, 0, chunk, 1);
    return bytes;
  }

  /** See BlockDevice.zero. */
  async zero(offset: number, lengthBytes: number, forceUnitAccess: boolean): Promise<void> {
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
    await Promise.all(parts);
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
      this.write({ offset, lengthBytes, slices, forceUnitAccess: false, complete });
    });
  }

  async #zeroChunks(first: number, count: number): Promise<void> {
    this.writeBegun();
    try {
      await this.#locks.untilFree(first, count);
      const owner = new AppendPromise((append) => this.#putZeros(append));
      this.#log.submit(Append.zeros(owner, this, first, count));
      await owner.promise;
    } finally {
      this.writeEnded();
    }
  }

  /** The log has these chunks: overlay, then page. */
  putChunks(append: Append): void {
    const { first, count, segment, offset, sequence, checksums, checksumsAt, label } = append;
    const { active } = this.#keeper.overlays;
    active.putChunks(this.tree, label, first, count, segment, offset, checksums, checksumsAt, sequence);
    let page: Page | undefined;
    let region = -1;
    for (let i = 0; i < count; i++) {
      const chunk = first + i;
      const at = Math.floor(chunk / REGION_CHUNKS);
      if (at !== region) {
        region = at;
        page = this.#pages.find(region);
      }
      page?.block.put(chunk % REGION_CHUNKS, segment, offset + i * CHUNK_BYTES, checksums[checksumsAt + i]!, sequence);
    }
    this.#keeper.noteChanges();
  }

  #putZeros(append: Append): void {
    const { first, count, sequence, label } = append;
    this.#keeper.overlays.active.putZeros(this.tree, label, first, count, sequence);
    const end = first + count;
    for (const page of this.#pages.pages()) {
      const start = page.region * REGION_CHUNKS;
      if (start >= end || start + REGION_CHUNKS <= first) continue;
      if (start >= first && start + REGION_CHUNKS <= end) {
        fillHoles(page.block, sequence);
        continue;
      }
      const from = Math.max(first, start);
      const to = Math.min(end, start + REGION_CHUNKS);
      for (let chunk = from; chunk < to; chunk++) page.block.put(chunk - start, HOLE, 0, 0, sequence);
    }
    this.#keeper.noteChanges();
  }

  flush(): Promise<void> {
    return this.#log.flush();
  }

  // --- reading ---

  /** See BlockDevice.tryRead. */
  tryRead(target: Buffer, start: number, offset: number, lengthBytes: number): boolean {
    let at = offset;
    const end = offset + lengthBytes;
    while (at < end) {
      const chunk = chunkOf(at);
      const page = this.#pages.find(Math.floor(chunk / REGION_CHUNKS));
      if (page === undefined) return false;
      const index = chunk % REGION_CHUNKS;
      const inChunk = at - chunk * CHUNK_BYTES;
      const to = start + at - offset;
      if (inChunk === 0 && end - at >= CHUNK_BYTES) {
        const count = runLength(page, index, Math.min(REGION_CHUNKS - index, Math.floor((end - at) / CHUNK_BYTES)));
        if (!this.#tryReadRun(page, index, count, target, to)) return false;
        at += count * CHUNK_BYTES;
      } else {
        const bytes = Math.min(CHUNK_BYTES - inChunk, end - at);
        if (!this.#tryReadRun(page, index, 1, this.#scratch, 0)) return false;
        this.#scratch.copy(target, to, inChunk, inChunk + bytes);
        at += bytes;
      }
    }
    return true;
  }

  #tryReadRun(page: Page, index: number, count: number, target: Buffer, to: number): boolean {
    const segment = page.block.segment(index);
    const bytes = count * CHUNK_BYTES;
    if (segment === 0 || segment === HOLE) {
      target.fill(0, to, to + bytes);
      return true;
    }
    if (this.#files.readCached(segment, target, to, bytes, page.block.offset(index)) !== bytes) return false;
    for (let i = 0; i < count; i++) {
      const from = to + i * CHUNK_BYTES;
      // A mismatch is for the other way to judge, which resolves the address again.
      if (crc32c(target.subarray(from, from + CHUNK_BYTES)) !== page.block.checksum(index + i)) return false;
    }
    return true;
  }

  /** See BlockDevice.read. */
  async read(target: Buffer, start: number, offset: number, lengthBytes: number): Promise<void> {
    const end = offset + lengthBytes;
    const first = chunkOf(offset);
    const edges = raggedEdges(offset, lengthBytes);
    const parts: Promise<void>[] = [];
    for (const edge of edges) {
      const from = Math.max(offset, edge * CHUNK_BYTES);
      const to = Math.min(end, (edge + 1) * CHUNK_BYTES);
      parts.push(this.#readPart(target, start + from - offset, edge, from - edge * CHUNK_BYTES, to - from));
    }
    const inner = first + (edges.includes(first) ? 1 : 0);
    const count = chunkOf(end) - inner;
    if (count > 0) parts.push(this.#readChunks(target, start + inner * CHUNK_BYTES - offset, inner, count));
    await Promise.all(parts);
  }

  async #readPart(target: Buffer, to: number, chunk: number, from: number, bytes: number): Promise<void> {
    const whole = Buffer.alloc(CHUNK_BYTES);
    await this.#readChunks(whole, 0, chunk, 1);
    whole.copy(target, to, from, from + bytes);
  }

  async #readChunks(target: Buffer, to: number, first: number, count: number): Promise<void> {
    const reads: Promise<void>[] = [];
    let chunk = first;
    while (chunk < first + count) {
      const region = Math.floor(chunk / REGION_CHUNKS);
      const page = this.#pages.find(region) ?? (await this.#load(region));
      const end = Math.min(first + count, (region + 1) * REGION_CHUNKS);
      while (chunk < end) {
        const index = chunk % REGION_CHUNKS;
        const run = runLength(page, index, end - chunk);
        reads.push(this.#readRun(page, index, run, target, to + (chunk - first) * CHUNK_BYTES));
        chunk += run;
      }
    }
    await Promise.all(reads);
  }

  /** Reads chunks that lie together; where a checksum does not match, the address is resolved once more. */
  async #readRun(page: Page, index: number, count: number, target: Buffer, to: number): Promise<void> {
    const segment = page.block.segment(index);
    if (segment === 0 || segment === HOLE) {
      target.fill(0, to, to + count * CHUNK_BYTES);
      return;
    }
    // The page may change or go while this waits: what is compared with is taken now.
    const offset = page.block.offset(index);
    const checksums = new Uint32Array(count);
    for (let i = 0; i < count; i++) checksums[i] = page.block.checksum(index + i);
    await this.#files.read(segment, target, to, count * CHUNK_BYTES, offset);
    for (let i = 0; i < count; i++) {
      const from = to + i * CHUNK_BYTES;
      if (crc32c(target.subarray(from, from + CHUNK_BYTES)) === checksums[i]) continue;
      await this.#readAgain(page.region * REGION_CHUNKS + index + i, segment, offset + i * CHUNK_BYTES, target, from);
    }
  }

  async #readAgain(chunk: number, segment: number, offset: number, target: Buffer, to: number): Promise<void> {
    const page = await this.#load(Math.floor(chunk / REGION_CHUNKS));
    const index = chunk % REGION_CHUNKS;
    const now = page.block.segment(index);
    if (now === 0 || now === HOLE) {
      target.fill(0, to, to + CHUNK_BYTES);
      return;
    }
    await this.#files.read(now, target, to, CHUNK_BYTES, page.block.offset(index));
    if (crc32c(target.subarray(to, to + CHUNK_BYTES)) === page.block.checksum(index)) return;
    target.fill(0, to, to + CHUNK_BYTES);
    throw new StoreError(
      'CORRUPTION',
      `chunk ${chunk} does not match its checksum (segment ${segment}, offset ${offset})`,
    );
  }

  /** The page of a region; those who want it at the same time share one load. */
  #load(region: number): Promise<Page> {
    let loading = this.#loading.get(region);
    if (loading === undefined) {
      loading = this.#keeper.load(this.#pages, this, region).finally(() => this.#loading.delete(region));
      this.#loading.set(region, loading);
    }
    return loading;
  }

  /** See BlockDevice.allocation. */
  async allocation(offset: number, lengthBytes: number, runsMax: number): Promise<AllocationRun[]> {
    const runs: AllocationRun[] = [];
    const end = offset + lengthBytes;
    const endRegion = Math.ceil(chunksFor(end) / REGION_CHUNKS);
    let at = offset;
    const push = (until: number, allocated: boolean): boolean => {
      const last = runs.at(-1);
      const bytes = Math.min(until, end) - at;
      if (last?.allocated === allocated) last.lengthBytes += bytes;
      else if (runs.length === runsMax) return false;
      else runs.push({ lengthBytes: bytes, allocated });
      at += bytes;
      return true;
    };
    for (let looked = 0; at < end && looked < ALLOCATION_REGIONS_MAX; looked++) {
      let region = Math.floor(chunkOf(at) / REGION_CHUNKS);
      if (this.#pages.find(region) === undefined) {
        const next = await this.#keeper.nextRegion(this.tree, region, endRegion);
        const stored = next < 0 ? end : next * REGION_CHUNKS * CHUNK_BYTES;
        if (stored > at && !push(stored, false)) break;
        if (at >= end) break;
        region = next;
      }
      const page = this.#pages.find(region) ?? (await this.#load(region));
      const regionEnd = Math.min(end, (region + 1) * REGION_CHUNKS * CHUNK_BYTES);
      while (at < regionEnd) {
        const index = chunkOf(at) % REGION_CHUNKS;
        let next = index + 1;
        const allocated = isStored(page, index);
        while (next < REGION_CHUNKS && isStored(page, next) === allocated) next += 1;
        if (!push((region * REGION_CHUNKS + next) * CHUNK_BYTES, allocated)) return runs;
      }
    }
    return runs;
  }
}

function isStored(page: Page, index: number): boolean {
  const segment = page.block.segment(index);
  return segment !== 0 && segment !== HOLE;
}

/** Chunks of a range of bytes that it covers only in part. */
function raggedEdges(offset: number, lengthBytes: number): number[] {
  const end = offset + lengthBytes;
  const first = chunkOf(offset);
  const last = chunkOf(end - 1);
  const edges: number[] = [];
  if (offset % CHUNK_BYTES !== 0 || (first === last && end % CHUNK_BYTES !== 0)) edges.push(first);
  if (end % CHUNK_BYTES !== 0 && last !== first) edges.push(last);
  return edges;
}

/** How many chunks from `index` on lie together in the log, or are all zeros; at most `max`. */
function runLength(page: Page, index: number, max: number): number {
  const { block } = page;
  const segment = block.segment(index);
  const step = segment === 0 || segment === HOLE ? 0 : CHUNK_BYTES;
  assert(max > 0, 'a run is not empty');
  const offset = block.offset(index);
  let count = 1;
  while (
    count < max &&
    block.segment(index + count) === segment &&
    (step === 0 || block.offset(index + count) === offset + count * step)
  ) {
    count += 1;
  }
  return count;
}
