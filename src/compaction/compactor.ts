/**
 * Gives back the room of dead chunks: moves what lives out of some segments, and removes their files.
 *
 * A round:
 * 1. What victims hold is held against the index of one moment: a chunk lives if a pointer leads to just this place. No
 *    delete is being finished meanwhile, so the version that has a pointer is known (`Catalog.holderOf`).
 * 2. What lives is copied into segments of moves, sequences kept, sealed and synced (mover.ts).
 * 3. A catalog is appended and synced that states them in the place of the victims: from here on they are part of the log,
 *    and the victims are *retired*.
 * 4. Pointers follow, in the overlay, as if the chunks had been written anew with their old sequences: what is newer wins.
 * 5. The base of the log moves to the last checkpoint, and the files of the victims go (`removeRetired`). Rows lead to them
 *    until the next checkpoint; the overlay stands above the rows.
 *
 * A crash before 3 leaves copies that nothing states. Behind it, recovery does 4 again from the segments of moves.
 *
 * Invariant: victims stand before the checkpoint, and segments of moves are no victims before a checkpoint has 4 of them:
 * so rows have a pointer to everything that lives in a victim, and how many there are is known. A victim with another
 * number of them than its records explain is left alone.
 */

import { hasCode, StoreError } from '../base/errors.ts';
import { othersFirst } from '../base/event-loop.ts';
import type { Logger } from '../base/logger.ts';
import type { Storage } from '../base/storage.ts';
import { CHUNK_BYTES } from '../base/units.ts';
import { type MovesByRegion, MoveTable } from '../index/move.ts';
import type { PinnedIndex } from '../index/pinned-index.ts';
import type { Overlays, PointerIndex } from '../index/pointer-index.ts';
import { REGION_CHUNKS } from '../index/pointers.ts';
import { segmentPath } from '../log/format.ts';
import type { Numbers } from '../log/numbers.ts';
import type { SegmentFiles } from '../log/segment-files.ts';
import type { Replacement, SegmentLedger } from '../log/segment-ledger.ts';
import type { SegmentSupply } from '../log/segment-supply.ts';
import type { MoveOrder } from './layout.ts';
import { type Live, LiveChunks } from './live-chunks.ts';
import { AGE_CUTS_MAX, BESIDE_BYTES, roundRoomBytes, segmentCountMax } from './moved-size.ts';
import type { Found, Moved, Mover } from './mover.ts';
import { Scatter } from './scatter.ts';
import { SegmentTable } from './segment-table.ts';

/** Moves that are put together before requests have their turn. */
const MOVES_AT_ONCE = 256;

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
  /**
   * Appends a catalog that states the replacement, on the disk when it resolves, and leads pointers to where chunks are
   * now, as far as rows still have what they had at `moment`.
   */
  replace(replacement: Replacement, moves: MovesByRegion, moment: symbol): Promise<void>;
  /**
   * The catalogs at the checkpoint and at the base know who has taken over what versions had that are gone: labels of moves
   * are resolved by that, and mean nothing to who reads the log from an earlier catalog on. @throws IO, NO_SPACE
   */
  settleLabels(): Promise<void>;
  readonly overlays: Overlays;
  /** What is put into the overlay now is in rows once `committed` is higher than `freezes` is now. */
  readonly freezes: number;
  readonly committed: number;
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

const NOTHING_DONE: RoundResult = { victims: 0, movedBytes: 0, writtenBytes: 0, freedBytes: 0 };

export class Compactor {
  readonly #host: CompactionHost;
  readonly #mover: Mover;
  readonly #liveChunks: LiveChunks;
  readonly table: SegmentTable;
  /** Segments that cannot be emptied, and are not tried again; those of which one may be such: tried one by one. */
  readonly stuck = new Set<number>();
  readonly suspect = new Set<number>();
  #hasRefreshed = false;
  /** Segments of moves, and how often an overlay had frozen when pointers followed: in rows once more are committed. */
  readonly #settling = new Map<number, number>();
  /** Retired segments that no pointer leads to but in rows that the overlay stands above. */
  readonly #emptied = new Set<number>();
  /** Retired segments whose files are gone, which a crash may bring back. */
  readonly #unlinked = new Set<number>();
  /** What the round under way copies at most, until its victims are emptied. */
  #copiedBytes = 0;

  /** `followed`: segments of moves that recovery has led pointers to. */
  constructor(host: CompactionHost, mover: Mover, followed: Iterable<number> = []) {
    this.#host = host;
    this.#mover = mover;
    this.#liveChunks = new LiveChunks(host);
    for (const segment of followed) this.#settling.set(segment, host.freezes);
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
    return facts.isMoves ? this.#isSettled(segment) : segment < checkpoint.segment;
  }

  #isSettled(segment: number): boolean {
    const freezes = this.#settling.get(segment);
    if (freezes === undefined) return true;
    if (this.#host.committed <= freezes) return false;
    this.#settling.delete(segment);
    return true;
  }

  /** What the round under way has taken until its victims are emptied. */
  get copiedBytes(): number {
    return this.#copiedBytes;
  }

  /** What comes back at least, if all goes well: a round gives no less than it has taken, and what is emptied goes. */
  get comingBytes(): number {
    let bytes = this.#copiedBytes;
    for (const segment of this.#emptied)
      if (!this.#unlinked.has(segment)) bytes += this.table.get(segment)?.bytes ?? 0;
    return bytes;
  }

  /** True if a segment holds anything but chunks that live. @throws IO */
  holdsDead(segment: number, liveChunks: number): Promise<boolean> {
    return this.table.chunkCount(segment).then((count) => count !== liveChunks);
  }

  /** How far disks are spread over segments, as rows are. @throws IO, CORRUPTION */
  scatter(): Promise<Scatter> {
    return this.#host.reading(async (index) => {
      const scatter = new Scatter();
      for await (const { region, blocks } of index.regions())
        for (const [label, block] of blocks) scatter.add(label, region, block);
      return scatter;
    });
  }

  /** Empties victims, all of them eligible. @throws IO, NO_SPACE, CORRUPTION, POISONED, CLOSED */
  round(victims: readonly number[], order: MoveOrder): Promise<RoundResult> {
    return this.#host.withoutPrunes(async () => {
      await this.#host.settleLabels();
      // Another round may have come first, and be what a victim is of; and what stands behind a victim says where it ends.
      await this.refresh();
      const ready = victims.filter((each) => this.#host.ledger.segments.has(each) && this.isEligible(each));
      if (ready.length === 0) return NOTHING_DONE;
      const all = await this.#withPredecessors(ready);
      // Those of which one cannot be emptied are tried one by one, and that one never again.
      const blamed = ready.length === 1 ? this.stuck : this.suspect;
      if (all.size === 0) {
        for (const victim of ready) blamed.add(victim);
        return NOTHING_DONE;
      }
      const { index, supply } = this.#host;
      // Counted before it is there, so that nobody else takes the room.
      const liveChunks = [...all].reduce((sum, segment) => sum + index.usage.of(segment), 0);
      const leastBytes = roundRoomBytes(liveChunks, this.#host.numbers.superblock.segmentBytes);
      const roomBytes = await supply.roomBytes();
      if (leastBytes > roomBytes)
        throw new StoreError('NO_SPACE', 'there is no room for what compaction would copy');
      const cutsMax = Math.min(AGE_CUTS_MAX, Math.floor((roomBytes - leastBytes) / BESIDE_BYTES));
      const copiedBytes = leastBytes + cutsMax * BESIDE_BYTES;
      supply.usedBytes += copiedBytes;
      this.#copiedBytes = copiedBytes;
      const wanted = [...all].map((segment) => ({ segment, end: this.table.endOf(segment) }));
      try {
        const found = await this.#mover.find(wanted);
        const appends = await this.#takeAppends(found);
        const live = await this.#host.reading((index) => this.#liveChunks.find(found, all, index));
        for (const { segment, chunks } of live.unexplained) this.#leaveAlone(segment, chunks);
        const moved = await this.#move(live, appends, order, cutsMax);
        await this.#replace(live, moved);
        return this.#resultOf(live, moved);
      } catch (error) {
        if (hasCode(error, 'CORRUPTION')) for (const victim of ready) blamed.add(victim);
        throw error;
      } finally {
        supply.usedBytes -= copiedBytes;
        this.#copiedBytes = 0;
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

  #leaveAlone(segment: number, unexplained: number): void {
    this.stuck.add(segment);
    this.#host.logger.error(
      { segment, unexplained },
      'a segment holds chunks that its records do not explain; it is left alone',
    );
  }

  /**
   * Numbers of the records of moves, before it is looked up what lives: what is trimmed from here on has a higher one, and comes
   * behind the moves when the log is replayed. As many as there would be if everything lived.
   */
  async #takeAppends({ chunks, zeros }: Found): Promise<number[]> {
    const { numbers } = this.#host;
    const count = segmentCountMax(chunks.labels.length, zeros.length, numbers.superblock.segmentBytes);
    await numbers.reserve('appends', count);
    return Array.from({ length: count }, () => numbers.take('appends'));
  }

  /** Copies what lives. */
  async #move(
    { chunks, zeros }: Live,
    appendsTaken: readonly number[],
    order: MoveOrder,
    cutsMax: number,
  ): Promise<Moved> {
    const { numbers } = this.#host;
    const { segmentBytes, epoch } = numbers.superblock;
    const none = { segments: [], toSegments: new Uint32Array(), toOffsets: new Uint32Array() };
    const count = chunks.labels.length;
    if (count === 0 && zeros.length === 0) return none;
    const numbersMax = segmentCountMax(count, zeros.length, segmentBytes);
    await numbers.reserve('segments', numbersMax);
    const segments = Array.from({ length: numbersMax }, () => numbers.take('segments'));
    const appends = appendsTaken.slice(0, numbersMax);
    const ages = Float64Array.from(chunks.segments, (segment) => this.table.get(segment)!.age);
    try {
      return await this.#mover.move({
        chunks,
        ages: { ages, now: appends[0]!, cutsMax },
        zeros,
        order,
        segmentBytes,
        epoch,
        segments,
        appends,
      });
    } catch (error) {
      await this.#abandon(segments);
      throw error;
    }
  }

  /** Nothing refers to these: what cannot be removed now is removed when the store is opened. */
  async #abandon(segments: readonly number[]): Promise<void> {
    const { storage, logger } = this.#host;
    for (const segment of segments) {
      this.#settling.delete(segment);
      await storage.remove(segmentPath(segment)).catch((error: unknown) => {
        logger.warn({ err: error, segment }, 'what an interrupted compaction left could not be removed');
      });
    }
  }

  /** Has what was copied take the place of the victims. */
  async #replace(live: Live, moved: Moved): Promise<void> {
    const host = this.#host;
    const moves = moved.segments.map(({ segment }) => segment);
    // The log states them before pointers have followed: until then they look as if nothing in them lived.
    for (const segment of moves) this.#settling.set(segment, Number.POSITIVE_INFINITY);
    try {
      await host.replace({ victims: live.explained, moves }, await movesOf(live, moved), live.moment);
    } catch (error) {
      // A catalog whose write failed may be read again when the store is opened; one that was refused never is.
      if (hasCode(error, 'NO_SPACE')) await this.#abandon(moves);
      throw error;
    }
    for (const { segment, bytes, zerosBytes } of moved.segments) {
      host.supply.added(bytes);
      this.table.noteZeros(segment, zerosBytes);
      this.#settling.set(segment, host.freezes);
    }
    for (const segment of live.explained) this.#emptied.add(segment);
  }

  #resultOf({ chunks, explained }: Live, { segments }: Moved): RoundResult {
    const bytesOf = (segment: number): number => this.table.get(segment)!.bytes;
    return {
      victims: explained.size,
      movedBytes: chunks.labels.length * CHUNK_BYTES,
      writtenBytes: segments.reduce((sum, { bytes }) => sum + bytes, 0),
      freedBytes: [...explained].reduce((sum, segment) => sum + bytesOf(segment), 0),
    };
  }

  /** Removes the files of retired segments that nothing leads to; `onRoom` is called as their room comes back. @throws IO */
  async removeRetired(onRoom: () => void = () => undefined): Promise<void> {
    const { numbers, ledger, files, storage, supply, logger } = this.#host;
    await this.#host.exclusively(async (index) => {
      if (index.checkpoint.segment === 0) return;
      const gone = [...ledger.retired].filter(
        (segment) => this.#emptied.has(segment) || index.usage.of(segment) === 0,
      );
      if (gone.length === 0) return;
      await this.refresh();
      const { segment, offset, append } = index.checkpoint;
      await numbers.moveBase({ segment, offset, append });
      await this.#host.repaired(); // one that began before reads the log from the old base
      let bytes = 0;
      for (const each of gone) {
        if (this.#unlinked.has(each)) continue;
        await storage.remove(segmentPath(each));
        this.#unlinked.add(each);
        files.forget(each);
        const length = this.table.get(each)?.bytes ?? numbers.superblock.segmentBytes;
        supply.removed(length);
        bytes += length;
        onRoom();
      }
      // Behind this no catalog names them any more: they must not come back.
      await storage.syncDirectory('log');
      for (const each of gone) {
        ledger.retired.delete(each);
        this.#emptied.delete(each);
        this.#unlinked.delete(each);
        this.table.forget(each);
      }
      logger.debug({ segments: gone.length, bytes, base: append }, 'emptied segments removed');
    });
  }

  close(): Promise<void> {
    return this.#mover.close();
  }
}

async function movesOf({ chunks, trees }: Live, { toSegments, toOffsets }: Moved): Promise<MovesByRegion> {
  const { labels, chunks: numbers, sequences, segments, offsets, checksums } = chunks;
  const moves = new MoveTable();
  for (let i = 0; i < labels.length; i++) {
    if (i % MOVES_AT_ONCE === 0) await othersFirst();
    const label = labels[i]!;
    moves.add(trees.get(label)!, Math.floor(numbers[i]! / REGION_CHUNKS), {
      label,
      index: numbers[i]! % REGION_CHUNKS,
      segment: segments[i]!,
      offset: offsets[i]!,
      toSegment: toSegments[i]!,
      toOffset: toOffsets[i]!,
      checksum: checksums[i]!,
      sequence: sequences[i]!,
    });
  }
  return moves.trees;
}
