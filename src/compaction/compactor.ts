/**
 * Gives back the room of dead chunks: moves what lives out of some segments, and removes their files.
 *
 * A round:
 * 1. What victims hold is held against the index of one moment: a chunk lives if a pointer leads to just this place. No
 *    delete is being finished meanwhile, so the version that has a pointer is known (`Catalog.holderOf`).
 * 2. What lives is copied into segments of moves, sequences kept, sealed and synced (mover.ts).
 * 3. A catalog that states them is appended and synced. From here on they are part of the log.
 * 4. The index follows, by compare-and-swap: a write, trim or delete that came meanwhile wins. So do pages in memory.
 * 5. Victims in which nothing lives any more are *retired*.
 *
 * And now and then (`removeRetired`): once a checkpoint's catalog states that they are, the base of the log moves to that
 * checkpoint, so that a rebuild begins behind all moves, and the files go.
 *
 * A crash between any two steps leaves a log that is whole: before 3 the copies are leftovers, behind it they are copies,
 * of which a rebuild takes the later one.
 */

import { hasCode, StoreError } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import type { Storage } from '../base/storage.ts';
import { CHUNK_BYTES } from '../base/units.ts';
import type { PinnedIndex } from '../index/pinned-index.ts';
import type { PointerIndex } from '../index/pointer-index.ts';
import { type PointerBlock, REGION_CHUNKS } from '../index/pointers.ts';
import type { Move, MovesByRegion } from '../index/region-relocate.ts';
import { segmentPath } from '../log/format.ts';
import type { Numbers } from '../log/numbers.ts';
import type { SegmentFiles } from '../log/segment-files.ts';
import type { SegmentLedger } from '../log/segment-ledger.ts';
import type { SegmentSupply } from '../log/segment-supply.ts';
import { type ChunkArrays, ChunkList } from './chunk-list.ts';
import { uncovered } from './kept-zeros.ts';
import { movedBytes, type MoveOrder, segmentCountMax, type Zeros } from './layout.ts';
import type { Found, Moved, Mover } from './mover.ts';
import { SegmentTable } from './segment-table.ts';

/** Regions that are looked up at once. */
const REGIONS_AT_ONCE = 32;
/** Moves of one batch of the index. */
const BATCH_MOVES = 8192;

/** What compaction needs of the store around it. */
export interface CompactionHost {
  readonly storage: Storage;
  readonly uuid: Buffer;
  readonly logger: Logger;
  readonly numbers: Numbers;
  readonly ledger: SegmentLedger;
  readonly supply: SegmentSupply;
  readonly files: SegmentFiles;
  readonly index: PointerIndex;
  /** The version that has what the log holds under a label, if there is one. */
  holderOf(label: number): { readonly label: number; readonly tree: number } | undefined;
  /** Runs `work` while no delete is being finished. */
  withoutPrunes<T>(work: () => Promise<T>): Promise<T>;
  /** Runs `read` over the index of one moment. */
  reading<T>(read: (index: PinnedIndex) => Promise<T>): Promise<T>;
  /** Appends a catalog, which states the ledger; on the disk when it resolves. */
  announce(): Promise<void>;
  /** Leads pointers to where chunks are now, in the index and in memory. */
  relocate(moves: MovesByRegion): Promise<void>;
  /** Retired segments that the catalog of the index's checkpoint states as such. */
  readonly statedRetired: ReadonlySet<number>;
  /** Runs `work` while nothing changes the index. */
  exclusively(work: (index: PointerIndex) => Promise<void>): Promise<void>;
  /** Resolves when nobody makes the index anew. */
  repaired(): Promise<void>;
}

export interface RoundResult {
  readonly victims: number;
  readonly movedBytes: number;
  /** Bytes of the new segments. */
  readonly writtenBytes: number;
  readonly freedBytes: number;
}

interface Live {
  readonly chunks: ChunkArrays;
  readonly zeros: Zeros[];
  /** The tree of each version. */
  readonly trees: Map<number, number>;
}

export class Compactor {
  readonly #host: CompactionHost;
  readonly #mover: Mover;
  readonly table: SegmentTable;
  /** Segments that cannot be emptied, and are not tried again; those of which one may be such: tried one by one. */
  readonly stuck = new Set<number>();
  readonly suspect = new Set<number>();
  #hasRefreshed = false;

  constructor(host: CompactionHost, mover: Mover) {
    this.#host = host;
    this.#mover = mover;
    this.table = new SegmentTable(host.storage, host.uuid, host.ledger);
  }

  /** Gets to know the segments that have come. @throws IO */
  async refresh(): Promise<void> {
    const { ledger, supply, numbers } = this.#host;
    await this.table.refresh();
    if (this.#hasRefreshed) return;
    this.#hasRefreshed = true;
    // Until now each was taken to be as long as a segment may be.
    for (const segment of [...ledger.segments, ...ledger.retired]) {
      const facts = this.table.get(segment);
      if (facts?.isMoves === true) supply.usedBytes -= numbers.superblock.segmentBytes - facts.bytes;
    }
  }

  /** True if all of a segment is in the index, and it may be emptied. */
  isEligible(segment: number): boolean {
    const facts = this.table.get(segment);
    const { checkpoint } = this.#host.index;
    // Of an index that was made anew, part is in memory only before its first checkpoint.
    if (facts === undefined || this.stuck.has(segment) || checkpoint.segment === 0) return false;
    return facts.isMoves || segment < checkpoint.segment;
  }

  /** True if a segment holds anything but chunks that live. @throws IO */
  holdsDead(segment: number, liveChunks: number): Promise<boolean> {
    return this.table.chunkCount(segment).then((count) => count !== liveChunks);
  }

  /** Empties victims, all of them eligible. @throws IO, NO_SPACE, CORRUPTION, POISONED, CLOSED */
  round(victims: readonly number[], order: MoveOrder): Promise<RoundResult> {
    return this.#host.withoutPrunes(async () => {
      // Another round may have come first; and what stands behind a victim says where it ends.
      await this.refresh();
      const all = await this.#withPredecessors(
        victims.filter((each) => this.#host.ledger.segments.has(each)),
      );
      // Those of which one cannot be emptied are tried one by one, and that one never again.
      const blamed = victims.length === 1 ? this.stuck : this.suspect;
      if (all.size === 0) {
        for (const victim of victims) blamed.add(victim);
        return { victims: 0, movedBytes: 0, writtenBytes: 0, freedBytes: 0 };
      }
      const { index, supply } = this.#host;
      // Counted before it is there, so that nobody else takes the room.
      const copiedBytes = movedBytes([...all].reduce((sum, segment) => sum + index.usage.of(segment), 0));
      if (copiedBytes > (await supply.roomBytes()))
        throw new StoreError('NO_SPACE', 'there is no room for what compaction would copy');
      supply.usedBytes += copiedBytes;
      const wanted = [...all].map((segment) => ({ segment, end: this.table.endOf(segment) }));
      try {
        const found = await this.#mover.find(wanted);
        const live = await this.#host.reading((index) => this.#findLive(found, index));
        const moved = await this.#move(live, order);
        await this.#relocate(live, moved);
        return this.#retire(all, live, moved);
      } catch (error) {
        if (hasCode(error, 'CORRUPTION')) for (const victim of victims) blamed.add(victim);
        throw error;
      } finally {
        supply.usedBytes -= copiedBytes;
      }
    });
  }

  /**
   * A segment without a footer that ends where the log does says where it ends only by its successor: it goes with it, or
   * before. @throws IO
   */
  async #withPredecessors(victims: readonly number[]): Promise<Set<number>> {
    const { ledger } = this.#host;
    const all = new Set<number>();
    for (const victim of victims) {
      const line: number[] = [];
      let at = victim;
      for (;;) {
        line.push(at);
        const facts = this.table.get(at)!;
        if (facts.isMoves || !ledger.segments.has(facts.predecessor) || all.has(facts.predecessor)) break;
        if (await this.table.isClosed(facts.predecessor)) break;
        at = facts.predecessor;
        if (this.isEligible(at)) continue;
        line.length = 0; // what says where that one ends has to stay
        break;
      }
      for (const segment of line) all.add(segment);
    }
    return all;
  }

  async #findLive({ chunks, zeros }: Found, index: PinnedIndex): Promise<Live> {
    const live = new ChunkList();
    const trees = new Map<number, number>();
    const { labels, chunks: numbers, sequences, segments, offsets, checksums } = chunks;
    const count = labels.length;
    const regionOf = (at: number): number => Math.floor(numbers[at]! / REGION_CHUNKS);
    for (let at = 0; at < count; ) {
      const groups: { from: number; to: number; label: number; block: Promise<PointerBlock[]> }[] = [];
      while (groups.length < REGIONS_AT_ONCE && at < count) {
        const from = at;
        const region = regionOf(from);
        while (at < count && labels[at] === labels[from] && regionOf(at) === region) at += 1;
        const holder = this.#host.holderOf(labels[from]!);
        if (holder === undefined) continue;
        trees.set(holder.label, holder.tree);
        const block = index.blocks(holder.tree, region, [holder.label]);
        groups.push({ from, to: at, label: holder.label, block });
      }
      const blocks = await Promise.all(groups.map((group) => group.block));
      groups.forEach(({ from, to, label }, i) => {
        const block = blocks[i]![0]!;
        for (let c = from; c < to; c++) {
          const inRegion = numbers[c]! % REGION_CHUNKS;
          if (block.segment(inRegion) !== segments[c] || block.offset(inRegion) !== offsets[c]) continue;
          live.add(label, numbers[c]!, sequences[c]!, segments[c]!, offsets[c]!, checksums[c]!);
        }
      });
    }
    return { chunks: live.arrays(), zeros: await this.#neededZeros(zeros, index), trees };
  }

  async #neededZeros(zeros: readonly Zeros[], index: PinnedIndex): Promise<Zeros[]> {
    const held: Zeros[] = [];
    for (const each of zeros) {
      const holder = this.#host.holderOf(each.label);
      if (holder !== undefined) held.push({ ...each, label: holder.label });
    }
    const needed: Zeros[] = [];
    for (const each of uncovered(held)) {
      if (!(await this.#isWrittenOver(each, index))) needed.push(each);
    }
    return needed;
  }

  /** True if every chunk of an extent in one region has been written since. */
  async #isWrittenOver({ label, first, count, sequence }: Zeros, index: PinnedIndex): Promise<boolean> {
    const region = Math.floor(first / REGION_CHUNKS);
    if (Math.floor((first + count - 1) / REGION_CHUNKS) !== region) return false;
    const { tree } = this.#host.holderOf(label)!;
    const [block] = await index.blocks(tree, region, [label]);
    for (let chunk = first; chunk < first + count; chunk++) {
      const at = chunk % REGION_CHUNKS;
      if (block!.segment(at) === 0 || block!.sequence(at) <= sequence) return false;
    }
    return true;
  }

  /** Copies what lives, and has the log state it. */
  async #move({ chunks, zeros }: Live, order: MoveOrder): Promise<Moved> {
    const { numbers, ledger, supply } = this.#host;
    const { segmentBytes, epoch } = numbers.superblock;
    const none = { segments: [], toSegments: new Uint32Array(), toOffsets: new Uint32Array() };
    const count = chunks.labels.length;
    if (count === 0 && zeros.length === 0) return none;
    const numbersMax = segmentCountMax(count, zeros.length, segmentBytes);
    await numbers.reserve('segments', numbersMax);
    await numbers.reserve('appends', numbersMax);
    const segments = Array.from({ length: numbersMax }, () => numbers.take('segments'));
    const appends = Array.from({ length: numbersMax }, () => numbers.take('appends'));
    const ages = Float64Array.from(chunks.segments, (segment) => this.table.get(segment)!.age);
    try {
      const request = { chunks, ages, zeros, order, segmentBytes, epoch, segments, appends };
      const moved = await this.#mover.move(request);
      for (const { segment } of moved.segments) ledger.segments.add(segment);
      await this.#host.announce();
      for (const { bytes } of moved.segments) supply.added(bytes);
      return moved;
    } catch (error) {
      await this.#abandon(segments);
      throw error;
    }
  }

  /** Nothing refers to these: what cannot be removed now is removed when the store is opened. */
  async #abandon(segments: readonly number[]): Promise<void> {
    const { ledger, storage, logger } = this.#host;
    for (const segment of segments) {
      ledger.segments.delete(segment);
      await storage.remove(segmentPath(segment)).catch((error: unknown) => {
        logger.warn({ err: error, segment }, 'what an interrupted compaction left could not be removed');
      });
    }
  }

  async #relocate({ chunks, trees }: Live, { toSegments, toOffsets }: Moved): Promise<void> {
    const { labels, chunks: numbers, segments, offsets } = chunks;
    let moves = new Map<number, Map<number, Move[]>>();
    let size = 0;
    for (let i = 0; i < labels.length; i++) {
      const label = labels[i]!;
      const region = Math.floor(numbers[i]! / REGION_CHUNKS);
      const isNew = addMove(moves, trees.get(label)!, region, {
        label,
        index: numbers[i]! % REGION_CHUNKS,
        segment: segments[i]!,
        offset: offsets[i]!,
        toSegment: toSegments[i]!,
        toOffset: toOffsets[i]!,
      });
      size += 1;
      if (size < BATCH_MOVES || !isNew) continue;
      await this.#host.relocate(moves);
      moves = new Map();
      size = 0;
    }
    if (size > 0) await this.#host.relocate(moves);
  }

  #retire(victims: ReadonlySet<number>, { chunks }: Live, moved: Moved): RoundResult {
    const { index, ledger, logger } = this.#host;
    let freedBytes = 0;
    let retired = 0;
    for (const segment of victims) {
      const left = index.usage.of(segment);
      if (left > 0) {
        this.stuck.add(segment);
        logger.error(
          { segment, left },
          'a segment holds chunks that its records do not explain; it is left alone',
        );
        continue;
      }
      ledger.retire(segment);
      freedBytes += this.table.get(segment)!.bytes;
      retired += 1;
    }
    return {
      victims: retired,
      movedBytes: chunks.labels.length * CHUNK_BYTES,
      writtenBytes: moved.segments.reduce((sum, { bytes }) => sum + bytes, 0),
      freedBytes,
    };
  }

  /** Removes the files of retired segments that a checkpoint states as such; answers the bytes. @throws IO */
  async removeRetired(): Promise<number> {
    const { numbers, ledger, files, storage, supply, logger } = this.#host;
    let bytes = 0;
    await this.#host.exclusively(async (index) => {
      const gone = [...this.#host.statedRetired].filter(
        (segment) => ledger.retired.has(segment) && index.usage.of(segment) === 0,
      );
      if (gone.length === 0 || index.checkpoint.segment === 0) return;
      await this.refresh();
      const { segment, offset, append } = index.checkpoint;
      await numbers.moveBase({ segment, offset, append });
      await this.#host.repaired(); // one that began before reads the log from the old base
      for (const each of gone) {
        await storage.remove(segmentPath(each));
        files.forget(each);
        ledger.retired.delete(each);
        const length = this.table.get(each)?.bytes ?? numbers.superblock.segmentBytes;
        supply.removed(length);
        bytes += length;
        this.table.forget(each);
      }
      await storage.syncDirectory('log');
      logger.debug({ segments: gone.length, bytes, base: append }, 'emptied segments removed');
    });
    return bytes;
  }

  close(): Promise<void> {
    return this.#mover.close();
  }
}

/** Answers true if the region is the first of the batch that the move is in. */
function addMove(moves: Map<number, Map<number, Move[]>>, tree: number, region: number, move: Move): boolean {
  let regions = moves.get(tree);
  if (regions === undefined) {
    regions = new Map();
    moves.set(tree, regions);
  }
  const there = regions.get(region);
  if (there === undefined) regions.set(region, [move]);
  else there.push(move);
  return there === undefined;
}
