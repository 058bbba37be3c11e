/**
 * Reading a disk: pages say where chunks live, what lies together is read at once, every checksum is verified.
 *
 * Invariant: a chunk is handed out only if its checksum matches. `tryRead` gives up where it would have to wait, or
 * where anything is amiss; `read` waits, and judges.
 */

import { allOf } from '../base/all-of.ts';
import { crc32c } from '../base/crc.ts';
import { hasCode, StoreError } from '../base/errors.ts';
import { CHUNK_BYTES, chunkOf } from '../base/units.ts';
import { HOLE, type PointerBlock, REGION_CHUNKS } from '../index/pointers.ts';
import type { SegmentFiles } from '../log/segment-files.ts';
import type { HoleListener, Run } from './device.ts';
import type { DiskPages } from './disk-pages.ts';

/** Chunks that are copied from the page cache at once: more are better copied in a thread, beside all else. */
const QUICK_CHUNKS = 16;

export class DiskReader {
  readonly #files: SegmentFiles;
  readonly #pages: DiskPages;
  readonly #scratch = Buffer.alloc(CHUNK_BYTES);

  constructor(files: SegmentFiles, pages: DiskPages) {
    this.#files = files;
    this.#pages = pages;
  }

  /** See BlockDevice.tryRead. */
  tryRead(target: Buffer, start: number, offset: number, lengthBytes: number, holes?: HoleListener): boolean {
    let at = offset;
    const end = offset + lengthBytes;
    while (at < end) {
      const chunk = chunkOf(at);
      const block = this.#pages.find(Math.floor(chunk / REGION_CHUNKS))?.block;
      if (block === undefined) return false;
      const index = chunk % REGION_CHUNKS;
      const inChunk = at - chunk * CHUNK_BYTES;
      const to = start + at - offset;
      if (inChunk === 0 && end - at >= CHUNK_BYTES) {
        const count = runLength(
          block,
          index,
          Math.min(REGION_CHUNKS - index, Math.floor((end - at) / CHUNK_BYTES)),
        );
        if (!this.#tryReadRun(block, index, count, target, to, holes)) return false;
        at += count * CHUNK_BYTES;
      } else {
        const bytes = Math.min(CHUNK_BYTES - inChunk, end - at);
        if (isUnstored(block, index)) {
          target.fill(0, to, to + bytes);
          holes?.hole(to, bytes);
        } else {
          if (!this.#tryReadRun(block, index, 1, this.#scratch, 0, undefined)) return false;
          this.#scratch.copy(target, to, inChunk, inChunk + bytes);
        }
        at += bytes;
      }
    }
    return true;
  }

  #tryReadRun(
    block: PointerBlock,
    index: number,
    count: number,
    target: Buffer,
    to: number,
    holes: HoleListener | undefined,
  ): boolean {
    const segment = block.segment(index);
    const bytes = count * CHUNK_BYTES;
    if (segment === 0 || segment === HOLE) {
      target.fill(0, to, to + bytes);
      holes?.hole(to, bytes);
      return true;
    }
    if (this.#files.readCached(segment, target, to, bytes, block.offset(index)) !== bytes) return false;
    for (let i = 0; i < count; i++) {
      const from = to + i * CHUNK_BYTES;
      // A mismatch is for the other way to judge, which resolves the address again.
      if (crc32c(target.subarray(from, from + CHUNK_BYTES)) !== block.checksum(index + i)) return false;
    }
    return true;
  }

  /** See BlockDevice.read. */
  async read(
    target: Buffer,
    start: number,
    offset: number,
    lengthBytes: number,
    holes?: HoleListener,
  ): Promise<void> {
    const end = offset + lengthBytes;
    const first = chunkOf(offset);
    const edges = raggedEdges(offset, lengthBytes);
    const parts: Promise<void>[] = [];
    for (const edge of edges) {
      const from = Math.max(offset, edge * CHUNK_BYTES);
      const to = Math.min(end, (edge + 1) * CHUNK_BYTES);
      const at = start + from - offset;
      parts.push(this.#readPart(target, at, edge, from - edge * CHUNK_BYTES, to - from, holes));
    }
    const inner = first + (edges.includes(first) ? 1 : 0);
    const count = chunkOf(end) - inner;
    if (count > 0)
      parts.push(this.readChunks(target, start + inner * CHUNK_BYTES - offset, inner, count, holes));
    await allOf(parts);
  }

  async #readPart(
    target: Buffer,
    to: number,
    chunk: number,
    from: number,
    bytes: number,
    holes: HoleListener | undefined,
  ): Promise<void> {
    const whole = Buffer.alloc(CHUNK_BYTES);
    await this.readChunks(whole, 0, chunk, 1, holes && { hole: () => holes.hole(to, bytes) });
    whole.copy(target, to, from, from + bytes);
  }

  /** Whole chunks. @throws IO, CORRUPTION */
  async readChunks(
    target: Buffer,
    to: number,
    first: number,
    count: number,
    holes?: HoleListener,
  ): Promise<void> {
    const parts: Promise<void>[] = [];
    for (let chunk = first; chunk < first + count; ) {
      const region = Math.floor(chunk / REGION_CHUNKS);
      const end = Math.min(first + count, (region + 1) * REGION_CHUNKS);
      const at = to + (chunk - first) * CHUNK_BYTES;
      parts.push(this.#readInRegion(target, at, region, chunk, end, holes));
      chunk = end;
    }
    await allOf(parts);
  }

  /** Chunks [first, end) of one region. */
  async #readInRegion(
    target: Buffer,
    to: number,
    region: number,
    first: number,
    end: number,
    holes: HoleListener | undefined,
  ): Promise<void> {
    const { block } = this.#pages.find(region) ?? (await this.#pages.load(region));
    const reads: Promise<void>[] = [];
    for (let chunk = first; chunk < end; ) {
      const index = chunk % REGION_CHUNKS;
      const run = runLength(block, index, end - chunk);
      const at = to + (chunk - first) * CHUNK_BYTES;
      if (isUnstored(block, index)) {
        target.fill(0, at, at + run * CHUNK_BYTES);
        holes?.hole(at, run * CHUNK_BYTES);
      } else {
        reads.push(this.#readRun(block, chunk, run, target, at));
      }
      chunk += run;
    }
    await allOf(reads);
  }

  /** See BlockDevice.readRuns. */
  async readRuns(target: Buffer, runs: readonly Run[]): Promise<void> {
    const reads: Promise<void>[] = [];
    const wanted = new RegionSpans();
    let start = 0;
    for (const [offset, lengthBytes] of runs) {
      if (offset % CHUNK_BYTES === 0 && lengthBytes % CHUNK_BYTES === 0) {
        wanted.add(chunkOf(offset), lengthBytes / CHUNK_BYTES, start);
      } else if (!this.tryRead(target, start, offset, lengthBytes)) {
        reads.push(this.read(target, start, offset, lengthBytes));
      }
      start += lengthBytes;
    }
    if (wanted.regions.length > 0) reads.push(this.#readSpans(target, wanted.regions));
    await allOf(reads);
  }

  async #readSpans(target: Buffer, wanted: readonly SpansOfRegion[]): Promise<void> {
    const blocks = await this.#pages.resolve(wanted);
    const reads: Promise<void>[] = [];
    for (const [i, { region, spans }] of wanted.entries()) {
      const block = blocks[i]!;
      for (const { index, count, to } of spans) {
        for (let done = 0; done < count; ) {
          const run = runLength(block, index + done, count - done);
          const at = to + done * CHUNK_BYTES;
          const isQuick = run <= QUICK_CHUNKS || isUnstored(block, index + done);
          if (!isQuick || !this.#tryReadRun(block, index + done, run, target, at, undefined))
            reads.push(this.#readRun(block, region * REGION_CHUNKS + index + done, run, target, at));
          done += run;
        }
      }
    }
    await allOf(reads);
  }

  /** Reads chunks that lie together; where a checksum does not match, the address is resolved once more. */
  async #readRun(
    block: PointerBlock,
    chunk: number,
    count: number,
    target: Buffer,
    to: number,
  ): Promise<void> {
    const index = chunk % REGION_CHUNKS;
    const segment = block.segment(index);
    // The pointers may change or go while this waits: what is compared with is taken now.
    const offset = block.offset(index);
    const checksums = new Uint32Array(count);
    for (let i = 0; i < count; i++) checksums[i] = block.checksum(index + i);
    if (!(await this.#readSegment(segment, target, to, count * CHUNK_BYTES, offset))) {
      for (let i = 0; i < count; i++)
        await this.#readAgain(chunk + i, segment, offset + i * CHUNK_BYTES, target, to + i * CHUNK_BYTES);
      return;
    }
    for (let i = 0; i < count; i++) {
      const from = to + i * CHUNK_BYTES;
      if (crc32c(target.subarray(from, from + CHUNK_BYTES)) === checksums[i]) continue;
      await this.#readAgain(chunk + i, segment, offset + i * CHUNK_BYTES, target, from);
    }
  }

  /** False if the segment is not there, or ends before: compaction may have taken it away meanwhile. @throws IO */
  async #readSegment(
    segment: number,
    target: Buffer,
    to: number,
    bytes: number,
    offset: number,
  ): Promise<boolean> {
    // Who waited for a page finds the chunks themselves in the page cache as often as anybody else.
    if (this.#files.readCached(segment, target, to, bytes, offset) === bytes) return true;
    try {
      await this.#files.read(segment, target, to, bytes, offset);
      return true;
    } catch (error) {
      if (hasCode(error, 'CORRUPTION')) return false;
      throw error;
    }
  }

  /** Resolves the address of a chunk once more, and as long as it is another one than that which was tried. */
  async #readAgain(
    chunk: number,
    segment: number,
    offset: number,
    target: Buffer,
    to: number,
  ): Promise<void> {
    let tried = { segment: 0, offset: 0 };
    for (;;) {
      const page = await this.#pages.load(Math.floor(chunk / REGION_CHUNKS));
      const index = chunk % REGION_CHUNKS;
      const now = { segment: page.block.segment(index), offset: page.block.offset(index) };
      const checksum = page.block.checksum(index);
      if (now.segment === 0 || now.segment === HOLE) {
        target.fill(0, to, to + CHUNK_BYTES);
        return;
      }
      if (now.segment === tried.segment && now.offset === tried.offset) break;
      tried = now;
      if (!(await this.#readSegment(now.segment, target, to, CHUNK_BYTES, now.offset))) continue;
      if (crc32c(target.subarray(to, to + CHUNK_BYTES)) === checksum) return;
    }
    target.fill(0, to, to + CHUNK_BYTES);
    const where = `segment ${segment}, offset ${offset}`;
    const message = `chunk ${chunk} does not match its checksum, or is missing (${where})`;
    const error = new StoreError('CORRUPTION', message);
    error.diskOffset = chunk * CHUNK_BYTES;
    throw error;
  }
}

/** Chunks of a region that are read into `to` and behind. */
interface SpansOfRegion {
  readonly region: number;
  readonly spans: { readonly index: number; readonly count: number; readonly to: number }[];
}

/** Ranges of chunks, by the regions that they lie in. */
class RegionSpans {
  readonly regions: SpansOfRegion[] = [];

  add(first: number, count: number, start: number): void {
    for (let done = 0; done < count; ) {
      const chunk = first + done;
      const region = Math.floor(chunk / REGION_CHUNKS);
      const index = chunk % REGION_CHUNKS;
      const span = {
        index,
        count: Math.min(count - done, REGION_CHUNKS - index),
        to: start + done * CHUNK_BYTES,
      };
      const last = this.regions.at(-1);
      if (last?.region === region) last.spans.push(span);
      else this.regions.push({ region, spans: [span] });
      done += span.count;
    }
  }
}

/** Chunks of a range of bytes that it covers only in part. */
export function raggedEdges(offset: number, lengthBytes: number): number[] {
  const end = offset + lengthBytes;
  const first = chunkOf(offset);
  const last = chunkOf(end - 1);
  const edges: number[] = [];
  if (offset % CHUNK_BYTES !== 0 || (first === last && end % CHUNK_BYTES !== 0)) edges.push(first);
  if (end % CHUNK_BYTES !== 0 && last !== first) edges.push(last);
  return edges;
}

function isUnstored(block: PointerBlock, index: number): boolean {
  const segment = block.segment(index);
  return segment === 0 || segment === HOLE;
}

/** How many chunks from `index` on lie together in the log, or are all zeros; at most `max`. */
function runLength(block: PointerBlock, index: number, max: number): number {
  const segment = block.segment(index);
  const step = isUnstored(block, index) ? 0 : CHUNK_BYTES;
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
