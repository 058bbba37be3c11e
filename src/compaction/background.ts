/**
 * Compaction beside everything else: decides when a round is due, chooses its victims, and holds writers back while there
 * is no room for what they write.
 *
 * Invariants: one round at a time; writers wait only while compaction is at work and gains room: once it fails or gains
 * nothing they go on, into NO_SPACE if need be.
 */

import type { Clock } from '../base/clock.ts';
import { AssertionError, hasCode } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import { CHUNK_BYTES } from '../base/units.ts';
import type { Compactor, RoundResult } from './compactor.ts';
import type { MoveOrder } from './layout.ts';
import {
  deadShareMin,
  type LogRoom,
  mustWait,
  nextStep,
  type RoomState,
  roundBytesMax,
  roomStateOf,
  type Urgency,
  urgencyOf,
} from './pace.ts';
import { chooseVictims, gainOf, SeenSegments, type SegmentUse } from './victims.ts';

/** Quiet after which a store counts as idle. */
const IDLE_MS = 2000;
/** How long a compaction that failed is not tried again; doubled each time. */
const RETRY_MS = 1000;
const RETRY_MS_MAX = 60_000;
/** How long a rest is before it is asked whether room is needed. */
const REST_MS = 50;
const VICTIMS_MAX = 64;

/** Rounds of a run that may come to nothing, for what is damaged or was emptied by others. */
const VAIN_ROUNDS_MAX = 64;
const NOTHING_MOVED: RoundResult = { victims: 0, movedBytes: 0, writtenBytes: 0, freedBytes: 0 };

/** What a round has to gain at least, in segments. */
const GAIN_SHARE_MIN: Record<Urgency, number> = { none: 1, idle: 1, busy: 0.5, full: 0.03 };

/** What the rest of the store tells, and does for it. */
export interface Surroundings {
  readonly clock: Clock;
  readonly logger: Logger;
  readonly segmentBytes: number;
  /** What rounds copy at most, as long as nobody needs the room. */
  readonly bytesPerSecond: number;
  /** Live chunks of a segment, and of all. */
  liveChunks(segment: number): number;
  readonly allLiveChunks: number;
  readonly usedBytes: number;
  /** Bytes that new segments may still take. */
  freeBytes(): Promise<number>;
  /** Bytes beside them that the segment in use has left, and one that was made ahead. */
  readonly chainBytes: number;
  /** Moves on with everything that is written. */
  readonly writtenAppend: number;
  readonly bytesBehindCheckpoint: number;
  /** @throws IO, NO_SPACE, POISONED */
  checkpoint(): Promise<void>;
  /**
   * Deletes a snapshot that its owner has marked for this, and answers its name once its space may come back; undefined if
   * there is none. @throws IO, NO_SPACE, POISONED
   */
  deleteExpendable(): Promise<string | undefined>;
  readonly segments: Iterable<number>;
  /** Called when room may have come, or none will. */
  roomChanged(): void;
}

export interface CompactionState {
  /** `working`, or why not. */
  readonly state: 'idle' | 'working' | 'paused' | 'failing';
  readonly rounds: number;
  readonly movedBytes: number;
  readonly writtenBytes: number;
  readonly freedBytes: number;
}

export class Background {
  readonly #compactor: Compactor;
  readonly #around: Surroundings;
  #running: Promise<void> | undefined;
  #cancelTimer: (() => void) | undefined;
  #retryAt = 0;
  #retryMs = RETRY_MS;
  /** What was written when the index had all of it, and victims were looked for. */
  #searched = 0;
  #isPaused = false;
  #isClosed = false;
  /** What could still be taken when the file system was last looked at, and what had been taken. */
  #free = Number.POSITIVE_INFINITY;
  #usedThen = 0;
  #roomState: RoomState = 'enough';
  #waiters: (() => void)[] = [];
  readonly #seen = new SeenSegments();
  /** Since the last checkpoint. */
  #haveWaited = false;
  /** Somebody else empties segments, in turns with this: there are rounds only where room is short. */
  #lentTo = 0;
  readonly #done = { rounds: 0, movedBytes: 0, writtenBytes: 0, freedBytes: 0 };

  constructor(compactor: Compactor, around: Surroundings) {
    this.#compactor = compactor;
    this.#around = around;
  }

  get state(): CompactionState {
    const isFailing = this.#retryMs > RETRY_MS;
    const isWorking = this.#running !== undefined || this.#lentTo > 0;
    const state = isWorking ? 'working' : this.#isPaused ? 'paused' : isFailing ? 'failing' : 'idle';
    return { state, ...this.#done };
  }

  /** Something was written: once that has ended for a while, the store is idle. Cheap. */
  touch(): void {
    if (this.#cancelTimer === undefined && !this.#isClosed) this.#arm(this.#around.writtenAppend);
  }

  #arm(written: number): void {
    this.#cancelTimer = this.#around.clock.after(IDLE_MS, () => {
      this.#cancelTimer = undefined;
      if (this.#around.writtenAppend === written) this.#start(true);
      else this.touch();
    });
  }

  /** What is dead is known anew, or room has been taken. */
  consider(): void {
    this.#start(false);
  }

  #start(isIdle: boolean): void {
    if (this.#running !== undefined || this.#isClosed || this.#isPaused) return;
    if (this.#around.clock.now() < this.#retryAt) {
      this.touch();
      return;
    }
    this.#running = this.#run(isIdle)
      .then(
        () => {
          this.#retryMs = RETRY_MS;
          // A full store is not searched again for every write that it refuses.
          if (roomStateOf(this.#room()) === 'full') this.#retryAt = this.#around.clock.now() + RETRY_MS;
        },
        (error: unknown) => this.#failed(error),
      )
      .finally(() => {
        this.#running = undefined;
        this.#watchRoom();
        this.#tell();
      });
  }

  #failed(error: unknown): void {
    if (error instanceof AssertionError) {
      setImmediate(() => {
        throw error; // a programmer's mistake: nobody waits for this promise, and the process must not go on
      });
    }
    if (this.#isClosed || hasCode(error, 'CLOSED')) return;
    this.#around.logger.warn({ err: error }, 'compaction failed; it is tried again');
    this.#retryAt = this.#around.clock.now() + this.#retryMs;
    this.#retryMs = Math.min(2 * this.#retryMs, RETRY_MS_MAX);
    this.touch();
  }

  /** Rounds, for as long as one is due. */
  async #run(isIdle: boolean): Promise<void> {
    const { clock } = this.#around;
    const written = this.#around.writtenAppend;
    let vainRounds = 0;
    await this.#lookAtRoom();
    await this.#compactor.refresh();
    for (;;) {
      await this.#removeRetired();
      if (this.#isClosed || this.#isPaused) return;
      const stillIdle = isIdle && this.#around.writtenAppend === written;
      const { bytesBehindCheckpoint } = this.#around;
      const step = nextStep(this.#room(), stillIdle, bytesBehindCheckpoint, this.#haveWaited);
      if (this.#lentTo > 0 && step.urgency !== 'full') return;
      if (step.checkpoint) await this.#checkpoint();
      if (step.urgency === 'none') return;
      const began = clock.now();
      const result = await this.roundOf(step.urgency, stillIdle ? 'disk' : 'age').catch((error: unknown) => {
        // Those that it was about are tried one by one from here on, and what fails alone is left: others may be worth it.
        if (!hasCode(error, 'CORRUPTION') || vainRounds >= VAIN_ROUNDS_MAX) throw error;
        this.#around.logger.error({ err: error }, 'a segment cannot be emptied');
        return NOTHING_MOVED;
      });
      if (result?.victims === 0 && vainRounds++ < VAIN_ROUNDS_MAX) continue;
      // One that wrote as much as it freed is not begun again: what it moved would be moved for ever.
      if (result !== undefined && result.freedBytes > result.writtenBytes) {
        await this.#rest(began + (1000 * result.writtenBytes) / this.#around.bytesPerSecond);
        continue;
      }
      if (step.urgency !== 'busy' && this.#around.writtenAppend !== this.#searched) await this.#checkpoint();
      else if (!(await this.#makeRoom())) return;
    }
  }

  /** Until then, or until somebody needs room. */
  async #rest(until: number): Promise<void> {
    const { clock } = this.#around;
    for (;;) {
      const ms = Math.min(until - clock.now(), REST_MS);
      const isOver = ms <= 0 || this.#isClosed || this.#isPaused;
      if (isOver || mustWait(this.#room()) || urgencyOf(this.#room(), false) === 'full') return;
      await new Promise<void>((resolve) => clock.after(ms, resolve));
      // Others fill the file system too, and who finds it full waits for this run.
      await this.#lookAtRoom();
    }
  }

  async #checkpoint(): Promise<void> {
    await this.#around.checkpoint();
    this.#searched = this.#around.writtenAppend;
    this.#haveWaited = false;
  }

  /** When compaction gains nothing and writers would be refused: what may be deleted for them is. */
  async #makeRoom(): Promise<boolean> {
    if (!isFull(this.#room())) return false;
    const name = await this.#around.deleteExpendable();
    if (name === undefined) return false;
    this.#around.logger.warn({ snapshot: name }, 'the store is full: an expendable snapshot was deleted');
    return true;
  }

  /** Says when room gets short, and when there is enough again. */
  #watchRoom(): void {
    const room = this.#room();
    const state = roomStateOf(room);
    if (state === this.#roomState) return;
    this.#roomState = state;
    const { freeBytes } = room;
    if (state === 'enough') this.#around.logger.info({ freeBytes }, 'there is enough room again');
    else if (state === 'low') this.#around.logger.warn({ freeBytes }, 'the store is nearly full');
    else
      this.#around.logger.warn({ freeBytes }, 'the store is full: writes get no space until room comes back');
  }

  async #removeRetired(): Promise<void> {
    await this.#compactor.removeRetired(() => this.#tell());
    await this.#lookAtRoom();
    this.#tell();
  }

  async #lookAtRoom(): Promise<void> {
    this.#free = await this.#around.freeBytes();
    this.#usedThen = this.#around.usedBytes;
  }

  /** As of now; what the file system has, as of the last look at it. */
  #room(): LogRoom {
    const { usedBytes: taken, allLiveChunks, segmentBytes } = this.#around;
    const freeBytes = this.#free - (taken - this.#usedThen);
    const { comingBytes, copiedBytes } = this.#compactor;
    // What others copy at once may be more than the log is to have beside what lives.
    const usedBytes = this.#lentTo > 0 ? taken - copiedBytes : taken;
    const { chainBytes } = this.#around;
    return {
      usedBytes,
      liveBytes: allLiveChunks * CHUNK_BYTES,
      segmentBytes,
      freeBytes,
      comingBytes,
      chainBytes,
    };
  }

  /** One round; undefined if it would gain nothing. @throws what `Compactor.round` throws */
  async roundOf(urgency: Urgency, order: MoveOrder): Promise<RoundResult | undefined> {
    const { segmentBytes } = this.#around;
    await this.#compactor.refresh();
    const freeBytes = await this.#around.freeBytes();
    const candidates = this.#candidates();
    const room = { ...this.#room(), freeBytes };
    const choose = (uses: readonly SegmentUse[], size: Urgency): SegmentUse[] =>
      chooseVictims(uses, {
        now: candidates.length,
        liveBytesMax: roundBytesMax(room, size),
        victimsMax: VICTIMS_MAX,
        deadShareMin: deadShareMin(urgency),
      });
    const isWorthwhile = (some: readonly SegmentUse[]): boolean =>
      some.length > 0 && gainOf(some) >= GAIN_SHARE_MIN[urgency] * segmentBytes;
    let chosen = choose(candidates, urgency);
    // A short round gains little where most of each victim lives.
    if (urgency === 'busy' && !isWorthwhile(chosen)) chosen = choose(candidates, 'full');
    // Where that gains nothing every byte counts, whatever its age.
    if (urgency === 'full' && !isWorthwhile(chosen))
      chosen = choose(
        candidates.map(({ segment, bytes, liveChunks, zerosBytes }) => ({
          segment,
          bytes,
          liveChunks,
          zerosBytes,
          age: 0,
        })),
        urgency,
      );
    if (!isWorthwhile(chosen)) return undefined;
    const alone = chosen.find(({ segment }) => this.#compactor.suspect.has(segment));
    const victims = (alone === undefined ? chosen : [alone]).map(({ segment }) => segment);
    const began = this.#around.clock.now();
    let result: RoundResult;
    try {
      result = await this.#compactor.round(victims, order);
    } catch (error) {
      // Writers were faster; they are refused when there is less.
      if (hasCode(error, 'NO_SPACE')) return undefined;
      throw error;
    }
    this.#done.rounds += 1;
    this.#done.movedBytes += result.movedBytes;
    this.#done.writtenBytes += result.writtenBytes;
    this.#done.freedBytes += result.freedBytes;
    this.#around.logger.debug({ ...result, urgency, ms: this.#around.clock.now() - began }, 'compaction');
    return result;
  }

  /** Ages are ranks: append numbers jump where a process has ended. */
  #candidates(): SegmentUse[] {
    const candidates: SegmentUse[] = [];
    for (const segment of this.#around.segments) {
      if (!this.#compactor.isEligible(segment)) continue;
      const { bytes, age } = this.#compactor.table.get(segment)!;
      const liveChunks = this.#around.liveChunks(segment);
      const zerosBytes = this.#compactor.table.zerosBytes(segment);
      candidates.push({ segment, bytes, age, liveChunks, zerosBytes });
    }
    candidates.sort((a, b) => a.age - b.age);
    const ranked = candidates.map((use, rank) => ({ ...use, age: rank }));
    return this.#seen.decayed(ranked, (segment) => this.#compactor.table.get(segment)!.isMoves);
  }

  /** False while writers are to wait for `room`: compaction is at work, and there is little left. */
  get hasRoom(): boolean {
    return this.#running === undefined || !mustWait(this.#room());
  }

  /** True while a run is under way, or a round of somebody else that it was lent to: whoever finds no room is told at its end. */
  get isWorking(): boolean {
    return this.#running !== undefined || (this.#lentTo > 0 && this.#compactor.copiedBytes > 0);
  }

  /** Undefined unless a round is under way; resolves when it has given its room back, or none. */
  roomComing(): Promise<void> | undefined {
    if (this.#running === undefined || this.#compactor.comingBytes === 0) return undefined;
    return new Promise<void>((resolve) => this.#waiters.push(resolve));
  }

  /** Resolves when writers may go on. */
  async room(): Promise<void> {
    while (!this.hasRoom) {
      this.#haveWaited = true;
      await new Promise<void>((resolve) => this.#waiters.push(resolve));
    }
  }

  /** Those who wait look again. */
  #tell(): void {
    this.#around.roomChanged();
    const waiting = this.#waiters;
    this.#waiters = [];
    for (const resolve of waiting) resolve();
  }

  /** Runs rounds of somebody else; whoever waits for room is told behind each step. */
  async *lending<T>(steps: AsyncGenerator<T>): AsyncGenerator<T> {
    this.#lentTo += 1;
    try {
      for await (const step of steps) {
        await this.#lookAtRoom();
        this.#tell();
        yield step;
      }
    } finally {
      this.#lentTo -= 1;
      this.#tell();
    }
  }

  /** No round begins until `resume`; resolves when none is under way. */
  async pause(): Promise<void> {
    this.#isPaused = true;
    await this.#running;
  }

  resume(): void {
    this.#isPaused = false;
    this.touch();
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    this.#cancelTimer?.();
    await this.#compactor.close(); // what is being copied is given up: a server has to stop in time
    await this.#running;
  }
}

/** True if writers are refused, also when what is being copied has given its room back. */
function isFull({ freeBytes, comingBytes, segmentBytes }: LogRoom): boolean {
  return roomStateOf({ freeBytes: freeBytes + comingBytes, segmentBytes }) === 'full';
}
