/** Compaction of an open store: in the background, and when somebody asks for it. */

import { Mutex } from '../base/mutex.ts';
import { Background, type CompactionState, type Surroundings } from '../compaction/background.ts';
import { Compactor, type RoundResult } from '../compaction/compactor.ts';
import type { Mover } from '../compaction/mover.ts';
import { type HostParts, StoreCompactionHost } from './compaction-host.ts';
import { WriteGate } from './write-gate.ts';

export class StoreCompaction {
  readonly gate: WriteGate;
  readonly #compactor: Compactor;
  readonly #background: Background;
  readonly #parts: HostParts;
  readonly #isAutomatic: boolean;

  /** `isAutomatic`: rounds begin by themselves. */
  constructor(parts: Omit<HostParts, 'turn'>, mover: Mover, isAutomatic: boolean) {
    this.#parts = { ...parts, turn: new Mutex() };
    this.#isAutomatic = isAutomatic;
    this.#compactor = new Compactor(new StoreCompactionHost(this.#parts), mover);
    this.#background = new Background(this.#compactor, surroundings(this.#parts));
    this.gate = new WriteGate(parts.keeper, this.#background);
    parts.recovered.supply.onTaken = () => this.consider();
  }

  /** Something was written. */
  touch(): void {
    if (this.#isAutomatic) this.#background.touch();
  }

  /** What is dead is known anew. */
  consider(): void {
    if (this.#isAutomatic) this.#background.consider();
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

  close(): Promise<void> {
    return this.#background.close();
  }
}

function surroundings({ recovered, keeper, environment }: HostParts): Surroundings {
  const { log, numbers, supply, ledger } = recovered;
  return {
    clock: environment.clock,
    logger: environment.logger,
    segmentBytes: numbers.superblock.segmentBytes,
    liveChunks: (segment) => keeper.index.usage.of(segment),
    get allLiveChunks() {
      return keeper.index.usage.liveChunks;
    },
    get usedBytes() {
      return supply.usedBytes;
    },
    freeBytes: () => supply.roomBytes(),
    get writtenAppend() {
      return log.writtenAppend;
    },
    get nextAppend() {
      return numbers.peek('appends');
    },
    get bytesBehindCheckpoint() {
      return keeper.bytesBehindCheckpoint;
    },
    checkpoint: () => keeper.checkpoint(),
    segments: ledger.segments,
    retired: ledger.retired,
  };
}
