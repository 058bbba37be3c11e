/** What compaction needs of an open store, and where in it that is. */

import { AssertionError } from '../base/errors.ts';
import type { Mutex } from '../base/mutex.ts';
import type { CompactionHost } from '../compaction/compactor.ts';
import type { MovesByRegion } from '../index/move.ts';
import type { PinnedIndex } from '../index/pinned-index.ts';
import type { Overlays, PointerIndex } from '../index/pointer-index.ts';
import type { VersionNode } from '../index/version-tree.ts';
import type { Replacement } from '../log/segment-ledger.ts';
import type { CatalogAppender } from './catalog-append.ts';
import type { IndexEnvironment } from './index-builder.ts';
import type { IndexKeeper } from './index-keeper.ts';
import type { Recovered } from './recovery.ts';
import type { VersionPruner } from './version-pruner.ts';

export interface HostParts {
  readonly environment: IndexEnvironment;
  readonly recovered: Recovered;
  readonly keeper: IndexKeeper;
  /** Told where chunks have been moved: pages in memory follow. */
  readonly onRelocated: (moves: MovesByRegion) => void;
  readonly pruner: VersionPruner;
  readonly appender: CatalogAppender;
  /** One round at a time, whoever asks for it. */
  readonly turn: Mutex;
}

export class StoreCompactionHost implements CompactionHost {
  readonly #parts: HostParts;

  constructor(parts: HostParts) {
    this.#parts = parts;
  }

  get storage(): CompactionHost['storage'] {
    return this.#parts.environment.storage;
  }

  get uuid(): Buffer {
    return this.#parts.environment.uuid;
  }

  get logger(): CompactionHost['logger'] {
    return this.#parts.environment.logger;
  }

  get numbers(): CompactionHost['numbers'] {
    return this.#parts.recovered.numbers;
  }

  get ledger(): CompactionHost['ledger'] {
    return this.#parts.recovered.ledger;
  }

  get supply(): CompactionHost['supply'] {
    return this.#parts.recovered.supply;
  }

  get files(): CompactionHost['files'] {
    return this.#parts.recovered.files;
  }

  get index(): PointerIndex {
    return this.#parts.keeper.index;
  }

  holderOf(label: number): VersionNode | undefined {
    return this.#parts.recovered.catalog.holderOf(label);
  }

  withoutPrunes<T>(work: () => Promise<T>): Promise<T> {
    return this.#parts.turn.run(() => this.#parts.pruner.between(work));
  }

  async reading<T>(read: (index: PinnedIndex) => Promise<T>): Promise<T> {
    const answers = this.#parts.keeper.reading(async function* (index): AsyncGenerator<T> {
      yield await read(index);
    });
    for await (const answer of answers) return answer;
    throw new AssertionError('a reading answers once');
  }

  async replace(replacement: Replacement, moves: MovesByRegion, moment: symbol): Promise<void> {
    const { keeper, appender, recovered, onRelocated } = this.#parts;
    const announce = async (): Promise<void> => {
      await appender.announce(replacement);
      await recovered.log.flush();
      recovered.ledger.replace(replacement);
    };
    await keeper.relocate(moves, moment, announce, onRelocated);
  }

  async settleLabels(): Promise<void> {
    const { keeper, recovered } = this.#parts;
    if (keeper.catalogChanged()) await keeper.checkpoint();
    const { segment, offset, append } = keeper.index.checkpoint;
    if (segment > 0) await recovered.numbers.moveBase({ segment, offset, append });
  }

  get overlays(): Overlays {
    return this.#parts.keeper.overlays;
  }

  get freezes(): number {
    return this.#parts.keeper.freezes;
  }

  get committed(): number {
    return this.#parts.keeper.committed;
  }

  exclusively(work: (index: PointerIndex) => Promise<void>): Promise<void> {
    return this.#parts.keeper.exclusively(work);
  }

  repaired(): Promise<void> {
    return this.#parts.keeper.repaired();
  }
}
