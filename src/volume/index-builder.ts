/**
 * Opens the index as it stands, or makes it anew from the log: beside the old one, and put in its place when it is whole.
 */

import type { Clock } from '../base/clock.ts';
import { hasCode, StoreError } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import type { Storage } from '../base/storage.ts';
import type { IndexDatabase } from '../index/directory.ts';
import { DEAD } from '../index/heirs.ts';
import { Overlay } from '../index/overlay.ts';
import { type CommitPosition, type Overlays, PointerIndex } from '../index/pointer-index.ts';
import { pruneBatches } from '../index/prune-batches.ts';
import { VersionView } from '../index/version-tree.ts';
import { entriesOf } from '../log/scan.ts';
import type { LogBase } from '../log/superblock.ts';
import type { Catalog } from './catalog.ts';
import type { StatedSegments } from './catalog-parts.ts';
import { REBUILD_OVERLAY_BYTES_MAX } from './checkpoint-policy.ts';
import { isTemporary, ofIndex } from './index-errors.ts';
import { type RebuildObserver, RebuildProgress } from './rebuild-progress.ts';
import { entriesBeforeCatalog, type Replay } from './replay.ts';
import { WholeLog } from './whole-log.ts';

export const INDEX_PATH = 'index';
const NEW_INDEX_PATH = 'index.new';
/** What an index states that is not whole yet: where the last of its batches are lost, it is taken for none. */
const NOWHERE: CommitPosition = { segment: 0, offset: 0, append: 0, at: 0 };

export type OpenDatabase = (path: string) => Promise<IndexDatabase>;

export interface IndexEnvironment {
  storage: Storage;
  uuid: Buffer;
  cacheBytes: number;
  openDatabase: OpenDatabase;
  logger: Logger;
  clock: Clock;
  /** Set: the index is made anew when the store is opened, whatever there is, and this is told how far that is. */
  onRebuild?: RebuildObserver | undefined;
  /** Bytes of changes that a replay of the log holds before it writes them; a test makes them few. */
  replayBytesMax?: number | undefined;
  /** Makes the index anew where the log is damaged, and only read. */
  rebuildFromRemains?: (() => Promise<void>) | undefined;
}

/** Opens the index as it stands, or answers undefined if it is missing or in doubt. It is closed then. */
export async function openIndex(
  environment: IndexEnvironment,
  overlays: Overlays,
): Promise<PointerIndex | undefined> {
  const { storage, uuid, cacheBytes, openDatabase, logger } = environment;
  await storage.remove(NEW_INDEX_PATH);
  if ((await storage.list(INDEX_PATH)).length === 0) return undefined;
  let database: IndexDatabase | undefined;
  try {
    database = await openDatabase(storage.nativePath(INDEX_PATH));
    return await PointerIndex.open(database, overlays, uuid, cacheBytes / 8);
  } catch (error) {
    await database?.close();
    // Not a reason to rebuild: the index is whole, and somebody holds it, or descriptors or room are short.
    if (isTemporary(error)) throw ofIndex(error, 'opening the index');
    if (hasCode(error, 'UNSUPPORTED_FORMAT'))
      logger.info({ err: error }, 'the index is of another revision and is made anew from the log');
    else logger.warn({ err: error }, 'the index cannot be trusted and is made anew from the log');
    return undefined;
  }
}

/**
 * Makes an index beside the old one from records of the log, a bounded overlay at a time; `finish` puts it in place.
 */
export class IndexBuilder {
  readonly #environment: IndexEnvironment;
  readonly #overlays: Overlays;
  readonly index: PointerIndex;
  readonly replay: Replay;

  private constructor(
    environment: IndexEnvironment,
    overlays: Overlays,
    index: PointerIndex,
    replay: Replay,
  ) {
    this.#environment = environment;
    this.#overlays = overlays;
    this.index = index;
    this.replay = replay;
  }

  /** For the records of `whole`. */
  static async begin(
    environment: IndexEnvironment,
    overlays: Overlays,
    whole: WholeLog,
  ): Promise<IndexBuilder> {
    const { storage, uuid, cacheBytes, openDatabase } = environment;
    await storage.remove(NEW_INDEX_PATH);
    await storage.makeDirectory(NEW_INDEX_PATH);
    const database = await openDatabase(storage.nativePath(NEW_INDEX_PATH)).catch((error: unknown) => {
      throw ofIndex(error, 'making the index anew');
    });
    return new IndexBuilder(
      environment,
      overlays,
      PointerIndex.empty(database, overlays, uuid, cacheBytes / 8),
      whole.replay(overlays),
    );
  }

  /** So much has been replayed that a part of it is to be written. */
  get isFull(): boolean {
    const { replayBytesMax = REBUILD_OVERLAY_BYTES_MAX } = this.#environment;
    return this.#overlays.active.usedBytes >= replayBytesMax;
  }

  /**
   * Writes what has been replayed, and more is to come. What was moved comes when it was moved: it may be older than zeros that
   * have come before it, and these hide it all the same.
   */
  async commitPart(position: CommitPosition): Promise<void> {
    const part = this.#overlays.active;
    this.index.freeze();
    await this.index.commit(position, viewOf(this.replay.catalog!), true);
    this.#overlays.active.goOnBehind(part);
  }

  /** Writes what has been replayed up to `position`, all there is. */
  async commit(position: CommitPosition): Promise<void> {
    this.index.freeze();
    await this.index.commit(position, viewOf(this.replay.catalog!));
  }

  /** A checkpoint that states `position` and takes nothing out of the overlay. */
  async commitNothing(position: CommitPosition): Promise<void> {
    const { active } = this.#overlays;
    this.#overlays.active = new Overlay();
    await this.commit(position);
    this.#overlays.active = active;
  }

  /**
   * Finishes the deletes that an open store has finished: `now` has forgotten the versions, and knows who has what they had.
   * Of others goes what nobody inherits: ghosts got it back with the log.
   */
  async finishDeletes(now: Catalog): Promise<void> {
    const catalog = this.replay.catalog!;
    const view = viewOf(catalog);
    const destinies = new Map<number, number>();
    for (const label of catalog.hidden()) destinies.set(label, now.holderOf(label)?.label ?? DEAD);
    for await (const { tree, regions } of pruneBatches(this.index, destinies.keys(), view)) {
      await this.index.prune(tree, regions, destinies, view);
    }
  }

  /** Puts the new index in the place of the old one, and opens it. */
  async finish(): Promise<PointerIndex> {
    const { storage, uuid, cacheBytes, openDatabase } = this.#environment;
    await this.index.close();
    await storage.remove(INDEX_PATH);
    await storage.rename(NEW_INDEX_PATH, INDEX_PATH);
    const database = await openDatabase(storage.nativePath(INDEX_PATH));
    return await PointerIndex.open(database, this.#overlays, uuid, cacheBytes / 8).catch(
      async (error: unknown) => {
        await database.close();
        throw error;
      },
    );
  }

  async abandon(): Promise<void> {
    await this.index.close();
    await this.#environment.storage.remove(NEW_INDEX_PATH);
  }
}

/** The version tree as of the last change. */
export function viewOf(catalog: Catalog): VersionView {
  return new VersionView(catalog.tree, catalog.sequence);
}

/**
 * Makes the index anew from the log up to the record `until`, in the place of the old one, which is closed; it states
 * `checkpoint`. `present`: the segments of the log; `now`: the catalog of the open store, which says what versions are gone.
 * @throws CORRUPTION if part of the log cannot be reached, IO, NO_SPACE
 */
export async function makeAnew(
  environment: IndexEnvironment,
  base: LogBase | undefined,
  present: StatedSegments,
  until: number,
  checkpoint: CommitPosition,
  now: Catalog,
): Promise<void> {
  if (environment.rebuildFromRemains !== undefined) return await environment.rebuildFromRemains();
  const overlays: Overlays = { active: new Overlay(), frozen: undefined };
  const whole = await WholeLog.open(environment, base, until, present);
  const builder = await IndexBuilder.begin(environment, overlays, whole);
  const progress = new RebuildProgress(whole, environment.clock, environment.logger);
  try {
    for await (const record of whole.records(until)) {
      progress.reached(record.header.segment);
      const { header, isKept } = record;
      const entries = entriesOf(record);
      const isLast = !isKept && header.append === until;
      builder.replay.apply(header.segment, isLast ? entriesBeforeCatalog(entries) : entries, isKept);
      if (builder.isFull) await builder.commitPart(NOWHERE);
    }
    // A segment of the chain that was begun meanwhile is not lost: up to `until` all is there, or this fails.
    const behind = whole.tail.damage.filter(({ code }) => code !== 'LOG_SEGMENT_LOST');
    for (const damage of [...whole.damage, ...behind])
      environment.logger.error({ damage }, 'part of the log is damaged');
    if (whole.reached < until || whole.damage.some(({ code }) => code === 'LOG_SEGMENT_LOST'))
      throw new StoreError('CORRUPTION', 'part of the log cannot be reached; run `coppice fsck`');
    await builder.commit(NOWHERE);
    await builder.finishDeletes(now);
    await builder.commitNothing(checkpoint);
    await (await builder.finish()).close();
    environment.logger.info(progress.result, 'the index was made anew from the log');
  } catch (error) {
    await builder.abandon().catch(() => undefined);
    throw error;
  }
}
