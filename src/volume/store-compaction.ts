/** Compaction of an open store: in the background, and when somebody asks for it. */

import { StoreError } from '../base/errors.ts';
import { NodeStorage } from '../base/node-storage.ts';
import { Mutex } from '../base/mutex.ts';
import { Background, type CompactionState, type Surroundings } from '../compaction/background.ts';
import { Compactor, type RoundResult } from '../compaction/compactor.ts';
import { type RoomState, roomStateOf } from '../compaction/pace.ts';
import { type Mover, SegmentMover } from '../compaction/mover.ts';
import {
  type CompactionEstimate,
  type CompactionProgress,
  ThoroughCompaction,
  type ThoroughOptions,
} from '../compaction/thorough.ts';
import { WorkerMover } from '../compaction/worker-mover.ts';
import { type HostParts, StoreCompactionHost } from './compaction-host.ts';
import type { IndexEnvironment } from './index-builder.ts';
import type { StoreEnvironment } from './open-options.ts';
import { WriteGate } from './write-gate.ts';

/** Below it a target means nothing. */
const TARGET_MIN = 0.5;

export class StoreCompaction {
  readonly gate: WriteGate;
  readonly #compactor: Compactor;
  readonly #background: Background;
  readonly #parts: HostParts;
  readonly #isAutomatic: boolean;
  #isMeasured = false;

  constructor(
    parts: Omit<HostParts, 'turn'>,
    mover: Mover,
    { compacts, compactionRate }: Pick<StoreEnvironment, 'compacts' | 'compactionRate'>,
    deleteExpendable: () => Promise<string | undefined>,
  ) {
    this.#parts = { ...parts, turn: new Mutex() };
    this.#isAutomatic = compacts;
    this.#compactor = new Compactor(new StoreCompactionHost(this.#parts), mover, parts.recovered.followed);
    this.#background = new Background(
      this.#compactor,
      surroundings(this.#parts, compactionRate, deleteExpendable),
    );
    this.gate = new WriteGate(parts.keeper, this.#background);
    const { supply } = parts.recovered;
    supply.onTaken = () => this.consider();
    supply.isRoomComing = () => this.#background.isWorking;
    supply.measured = () => this.measure(true);
  }

  /** Something was written. */
  touch(): void {
    if (this.#isAutomatic) this.#background.touch();
  }

  /** What is dead is known anew. */
  consider(): void {
    if (this.#isAutomatic) this.#background.consider();
  }

  /** Finds out how long files are, which opening does not wait for; unless `isNeeded`, only where there may be little room. */
  async measure(isNeeded: boolean): Promise<void> {
    if (this.#isMeasured) return; // what has come since is known
    try {
      if (!isNeeded && (await this.room()).state === 'enough') return;
      await this.#compactor.refresh();
      this.#isMeasured = true;
    } catch (error) {
      // Each that is not known counts as a full one.
      this.#parts.environment.logger.warn({ err: error }, 'segments could not be looked at');
    }
  }

  /** How much room there is, and how much that is to a store with segments of this size. @throws IO */
  async room(): Promise<{ state: RoomState; freeBytes: number }> {
    const { supply, numbers } = this.#parts.recovered;
    const { segmentBytes } = numbers.superblock;
    const freeBytes = await supply.roomBytes();
    return {
      state: roomStateOf({ freeBytes, segmentBytes }),
      freeBytes,
    };
  }

  /** See Background.roomComing. */
  roomComing(): Promise<void> | undefined {
    return this.#background.roomComing();
  }

  get state(): CompactionState {
    return this.#background.state;
  }

  pause(): Promise<void> {
    return this.#background.pause();
  }

  resume(): void {
    this.#background.resume();
  }

  /** One round as if the store were idle, and all that it takes for files to go. @throws IO, NO_SPACE, CORRUPTION */
  async once(): Promise<RoundResult | undefined> {
    const { keeper } = this.#parts;
    await keeper.checkpoint();
    const result = await this.#background.roundOf('full', 'disk');
    await keeper.checkpoint();
    await this.#compactor.removeRetired();
    return result;
  }

  /** @throws INVALID_ARGUMENT */
  #thorough(options: ThoroughOptions): ThoroughCompaction {
    const { target, bytesPerSecond = 1 } = options;
    if (!(target >= TARGET_MIN && target <= 1))
      throw new StoreError('INVALID_ARGUMENT', 'the target must be from 50 to 100 percent of live bytes');
    if (!(bytesPerSecond > 0)) throw new StoreError('INVALID_ARGUMENT', 'the rate must be above zero');
    const { environment, keeper, recovered } = this.#parts;
    const { clock } = environment;
    const around = surroundings(this.#parts, bytesPerSecond, async () => undefined);
    return new ThoroughCompaction(
      this.#compactor,
      {
        segments: around.segments,
        segmentBytes: around.segmentBytes,
        liveChunks: (segment) => around.liveChunks(segment),
        freeBytes: () => around.freeBytes(),
        checkpoint: (isMoved) => keeper.checkpoint(isMoved),
        get chainSegment() {
          return { segment: recovered.log.position.segment };
        },
        roll: () => recovered.log.roll(),
        sleep: (ms) => new Promise((resolve) => clock.after(ms, resolve)),
        now: () => clock.now(),
      },
      options,
    );
  }

  /** What `thoroughly` would do. @throws INVALID_ARGUMENT, IO, NO_SPACE */
  async estimate(options: ThoroughOptions): Promise<CompactionEstimate> {
    const thorough = this.#thorough(options);
    await this.#parts.pruner.idle();
    return await thorough.estimate();
  }

  /**
   * Compacts all that there is. Where room is short, rounds in the background go on, in turns with these: guests need them.
   * @throws INVALID_ARGUMENT, IO, NO_SPACE, CORRUPTION, POISONED, CLOSED
   */
  async *thoroughly(options: ThoroughOptions): AsyncGenerator<CompactionProgress> {
    const thorough = this.#thorough(options);
    await this.#parts.pruner.idle();
    const { turn } = this.#parts;
    // What a round under way took for alive may have been deleted since, and is to be purged.
    const steps = async function* (): AsyncGenerator<CompactionProgress> {
      await turn.run(async () => undefined);
      yield* thorough.run();
    };
    yield* this.#background.lending(steps());
  }

  close(): Promise<void> {
    return this.#background.close();
  }
}

function surroundings(
  { recovered, keeper, environment }: HostParts,
  bytesPerSecond: number,
  deleteExpendable: () => Promise<string | undefined>,
): Surroundings {
  const { log, numbers, supply, ledger } = recovered;
  return {
    clock: environment.clock,
    logger: environment.logger,
    segmentBytes: numbers.superblock.segmentBytes,
    bytesPerSecond,
    liveChunks: (segment) => keeper.index.usage.of(segment),
    get allLiveChunks() {
      return keeper.index.usage.liveChunks;
    },
    get usedBytes() {
      return supply.usedBytes;
    },
    freeBytes: () => supply.roomBytes(),
    get chainBytes() {
      return supply.aheadBytes + numbers.superblock.segmentBytes - log.position.offset;
    },
    get writtenAppend() {
      return log.writtenAppend;
    },
    get bytesBehindCheckpoint() {
      return keeper.bytesBehindCheckpoint;
    },
    checkpoint: () => keeper.checkpoint(),
    deleteExpendable,
    roomChanged: () => log.roomChanged(),
    segments: ledger.segments,
  };
}

/** In a thread of its own, where there are real files and compiled code. */
export function makeMover({ storage, uuid }: IndexEnvironment, directory: string): Mover {
  const isReal = storage instanceof NodeStorage && import.meta.url.endsWith('.js');
  return isReal ? new WorkerMover(directory, uuid) : new SegmentMover(storage, uuid);
}
