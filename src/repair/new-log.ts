/**
 * Makes a log that gives just the index that is wanted: of segments that stay as they are, of new ones with all that lives
 * elsewhere, and of a catalog that states both, with which it begins. Nothing of it counts yet, and nothing of the store is changed.
 *
 * 1. What lives in segments that do not stay is moved; what is lost of it stays lost.
 * 2. An index is made of that log, as a rebuild would, and held against the wanted one. What the log has too much (what was trimmed by an
 *    entry that is gone) is zeroed, and what it has in another place is moved.
 * 3. If there was anything, an index is made and compared again, and must be equal.
 */

import { StoreError } from '../base/errors.ts';
import { Reach, readersOf, type VersionNames } from '../check/readers.ts';
import type { AffectedVersion } from '../check/finding.ts';
import type { IndexView } from '../index/dump.ts';
import { Overlay } from '../index/overlay.ts';
import { HOLE, REGION_CHUNKS } from '../index/pointers.ts';
import { segmentPath } from '../log/format.ts';
import { entriesOf } from '../log/scan.ts';
import { SegmentLedger } from '../log/segment-ledger.ts';
import type { LogBase } from '../log/superblock.ts';
import type { Catalog } from '../volume/catalog.ts';
import { encodeCatalog } from '../volume/catalog-parts.ts';
import type { CheckEnvironment } from '../volume/check.ts';
import { IndexBuilder } from '../volume/index-builder.ts';
import { WholeLog } from '../volume/whole-log.ts';
import { catalogRecordCount, writeCatalogSegment } from './catalog-segment.ts';
import { Evacuation, type FreshNumbers } from './evacuation.ts';
import { IndexProof, regionsOf } from './index-proof.ts';
import type { ProposedStorage } from './proposed-storage.ts';

const START = { segment: 0, offset: 0, append: 0, at: 0 };

export interface NewLogPlan {
  /** Where new segments are made. */
  readonly storage: ProposedStorage;
  readonly wanted: IndexView;
  readonly catalog: Catalog;
  /** Of the catalog: higher than of any entry. */
  readonly sequence: number;
  readonly kept: ReadonlySet<number>;
  /** Versions of which the wanted index has nothing, though the log has. */
  readonly unknown: ReadonlySet<number>;
  readonly segmentBytes: number;
  readonly epoch: number;
  /** What is taken of them is taken. */
  readonly numbers: FreshNumbers;
  readonly signal?: AbortSignal | undefined;
}

export interface NewLog {
  readonly base: LogBase;
  readonly movedChunks: number;
  readonly lostChunks: number;
  /** Who reads what is lost. */
  readonly lost: readonly AffectedVersion[];
  /** How many more versions do. */
  readonly moreVersions: number;
}

/** `environment` is of the store. @throws CORRUPTION if the log does not become what is wanted, IO, NO_SPACE */
export async function makeNewLog(environment: CheckEnvironment, plan: NewLogPlan): Promise<NewLog> {
  const evacuation = new Evacuation(
    plan.storage,
    environment.uuid,
    plan.segmentBytes,
    plan.epoch,
    plan.numbers,
  );
  try {
    return await new NewLogMaker(environment, plan, evacuation).make();
  } finally {
    await evacuation.close();
  }
}

class NewLogMaker {
  readonly #environment: CheckEnvironment;
  readonly #plan: NewLogPlan;
  readonly #evacuation: Evacuation;
  readonly #lost = new Reach();

  constructor(environment: CheckEnvironment, plan: NewLogPlan, evacuation: Evacuation) {
    this.#environment = environment;
    this.#plan = plan;
    this.#evacuation = evacuation;
  }

  async make(): Promise<NewLog> {
    await this.#evacuate();
    let base = await this.#writeCatalog();
    if (await this.#correct(base)) {
      await this.#plan.storage.remove(segmentPath(base.segment));
      base = await this.#writeCatalog();
      const differing = await this.#withIndex(base, (made) => this.#proof.compare(made, undefined));
      if (differing > 0)
        throw new StoreError(
          'CORRUPTION',
          `the log cannot be made what it should be: ${differing} chunks would read differently; nothing was changed`,
        );
    }
    const { movedCount: movedChunks, lostCount: lostChunks } = this.#evacuation;
    const { affects: lost = [], moreVersions = 0 } = this.#lost.details(this.#names);
    return { base, movedChunks, lostChunks, lost, moreVersions };
  }

  get #names(): VersionNames {
    const { catalog } = this.#plan;
    return {
      tree: catalog.tree,
      describe: (label) => catalog.describe(label),
      nameOf: (label) => catalog.nameOf(label),
      holderOf: (label) => catalog.holderOf(label),
    };
  }

  get #proof(): IndexProof {
    const { wanted, catalog, kept, unknown } = this.#plan;
    return new IndexProof(wanted, catalog.tree, kept, unknown);
  }

  /** What lives in segments that do not stay. */
  async #evacuate(): Promise<void> {
    const { wanted, catalog, kept, signal } = this.#plan;
    const { tree } = catalog;
    for await (const { region, blocks } of regionsOf(wanted, tree, signal)) {
      const lost: { label: number; at: number }[] = [];
      for (const [label, block] of blocks) {
        if (tree.get(label) === undefined) continue;
        for (let at = 0; at < REGION_CHUNKS; at++) {
          const segment = block.segment(at);
          if (segment === 0 || segment === HOLE || kept.has(segment)) continue;
          const chunk = region * REGION_CHUNKS + at;
          const [offset, checksum, sequence] = [block.offset(at), block.checksum(at), block.sequence(at)];
          const moved = { label, chunk, sequence, segment, offset, checksum };
          if (!(await this.#evacuation.add(moved))) lost.push({ label, at });
        }
      }
      for (const { label, at } of lost.sort((a, b) => a.at - b.at)) {
        for (const reader of readersOf(tree, blocks, label, at))
          this.#lost.add(reader, region * REGION_CHUNKS + at);
      }
    }
    await this.#evacuation.flush();
  }

  /** Answers whether anything had to be appended. */
  async #correct(base: LogBase): Promise<boolean> {
    const corrections = {
      chunk: async (chunk: Parameters<Evacuation['add']>[0]): Promise<void> => {
        await this.#evacuation.add(chunk);
      },
      zeros: (zeros: Parameters<Evacuation['addZeros']>[0]) => this.#evacuation.addZeros(zeros),
    };
    const differing = await this.#withIndex(base, (made) =>
      this.#proof.compare(made, corrections, this.#plan.signal),
    );
    await this.#evacuation.flush();
    return differing > 0;
  }

  async #writeCatalog(): Promise<LogBase> {
    const { storage, catalog, kept, numbers, epoch, sequence } = this.#plan;
    const segment = numbers.segment++;
    const ledger = new SegmentLedger([...kept, ...storage.made, segment]);
    const texts = [...encodeCatalog(catalog, ledger)];
    const { append } = numbers;
    numbers.append += catalogRecordCount(texts);
    const { uuid } = this.#environment;
    return await writeCatalogSegment(storage, { uuid, segment, epoch, append, sequence }, texts);
  }

  /** Runs `use` over the index that a rebuild would make of the log with this base. */
  async #withIndex<T>(base: LogBase, use: (made: IndexView) => Promise<T>): Promise<T> {
    const { storage, signal } = this.#plan;
    const environment = { ...this.#environment, storage };
    const whole = await WholeLog.open(environment, base, base.append);
    const scratch = this.#environment.makeScratch();
    const overlays = { active: new Overlay(), frozen: undefined };
    try {
      const place = { ...environment, storage: scratch.storage };
      const builder = await IndexBuilder.begin(place, overlays, whole);
      try {
        for await (const record of whole.records()) {
          signal?.throwIfAborted();
          builder.replay.apply(record.header.segment, entriesOf(record), record.isKept);
          if (builder.isFull) await builder.commitPart(START);
        }
        await builder.commit(START);
        return await use({ index: builder.index, overlay: undefined });
      } finally {
        await builder.abandon();
      }
    } finally {
      scratch.remove();
    }
  }
}
