/**
 * What the index says about chunks of a version, and whether the log has there what it says: for who looks at a store when
 * something is wrong. The store is not opened: pointers come from rows, and from a replay of what stands behind the checkpoint.
 */

import { hasCode, StoreError } from '../base/errors.ts';
import { chunksFor } from '../base/units.ts';
import type { IndexDatabase } from '../index/directory.ts';
import { Overlay } from '../index/overlay.ts';
import { type Overlays, PointerIndex } from '../index/pointer-index.ts';
import { HOLE, PointerBlock, REGION_CHUNKS } from '../index/pointers.ts';
import { readBlocks } from '../index/region-read.ts';
import { type PlaceFound, RecordLocator } from '../log/record-locator.ts';
import { entriesOf } from '../log/scan.ts';
import type { LogBase } from '../log/superblock.ts';
import { LogTail } from '../log/tail.ts';
import type { Catalog } from './catalog.ts';
import { INDEX_PATH, type OpenDatabase } from './index-builder.ts';
import { openIndexCopy } from './index-copy.ts';
import { isOfDatabase, isTemporary, ofIndex } from './index-errors.ts';
import { readEndOfLog } from './log-end.ts';
import { followMoves, statedSince } from './moves-replay.ts';
import { Replay } from './replay.ts';
import type { LogPlace } from './whole-log.ts';

const CACHE_BYTES = 16 << 20;
/** Versions whose rows are read at once. */
const LABELS_AT_ONCE = 32;

export interface PointerRow {
  readonly chunk: number;
  /** `none`: no version on the path has a pointer, it reads as zeros; `damaged`: the index cannot be read there. */
  readonly kind: 'data' | 'hole' | 'none' | 'damaged';
  /** `index`: a row; `log`: the log behind the index's checkpoint. */
  readonly source: 'index' | 'log' | undefined;
  readonly segment: number | undefined;
  readonly offset: number | undefined;
  readonly checksum: number | undefined;
  readonly sequence: number | undefined;
  /** The version that has the pointer, and what it is called. */
  readonly label: number | undefined;
  readonly version: string | undefined;
  /** Of data. */
  readonly place: PlaceFound | undefined;
  /** Of what is damaged. */
  readonly damage: string | undefined;
}

const EMPTY: Omit<PointerRow, 'chunk' | 'kind'> = {
  source: undefined,
  segment: undefined,
  offset: undefined,
  checksum: undefined,
  sequence: undefined,
  label: undefined,
  version: undefined,
  place: undefined,
  damage: undefined,
};

export interface WantedPointers {
  /** `volume` or `volume@snapshot`. */
  readonly name: string;
  readonly first: number;
  /** Cut at the end of the disk. */
  readonly count: number;
}

/**
 * Rows for the chunks in order; `warn` gets what is wrong with the rest.
 * @throws NOT_FOUND (a version, or the index), INVALID_ARGUMENT (a chunk behind the end), IO
 */
export async function* lookUpPointers(
  place: LogPlace,
  base: LogBase | undefined,
  openDatabase: OpenDatabase,
  wanted: WantedPointers,
  warn: (sentence: string) => void,
): AsyncGenerator<PointerRow> {
  if ((await place.storage.list(INDEX_PATH)).length === 0) {
    const what = 'there is no index; it is made when the store is opened, or by `coppice rebuild-index`';
    throw new StoreError('NOT_FOUND', what);
  }
  const overlays: Overlays = { active: new Overlay(), frozen: undefined };
  const location = place.storage.nativePath(INDEX_PATH);
  const copy = await openIndexCopy(location, openDatabase).catch((error: unknown) => {
    throw unreadable(error);
  });
  const locator = new RecordLocator(place);
  try {
    const index = await PointerIndex.open(copy.database, overlays, place.uuid, CACHE_BYTES).catch(
      (error: unknown) => {
        throw unreadable(error);
      },
    );
    const catalog =
      (await replayBehind(place, base, index, overlays)) ?? (await catalogAlone(place, base, warn));
    const reader = new PointerReader(copy.database, index, overlays.active, catalog, wanted.name);
    const chunks = chunksFor(catalog.find(wanted.name).sizeBytes);
    if (wanted.first >= chunks) {
      const what = `${wanted.name} has no chunk ${wanted.first}; it has ${chunks}, from 0 to ${chunks - 1}`;
      throw new StoreError('INVALID_ARGUMENT', what);
    }
    const end = Math.min(wanted.first + wanted.count, chunks);
    for (let chunk = wanted.first; chunk < end; ) {
      const region = Math.floor(chunk / REGION_CHUNKS);
      const regionEnd = Math.min(end, (region + 1) * REGION_CHUNKS);
      for (const row of await reader.rows(region, chunk, regionEnd)) {
        const { segment = 0, offset = 0, checksum = 0, sequence = 0 } = row;
        const claimed = { chunk: row.chunk, segment, offset, checksum, sequence };
        yield row.kind === 'data' ? { ...row, place: await locator.look(claimed) } : row;
      }
      chunk = regionEnd;
    }
  } finally {
    await locator.close();
    await copy.close();
  }
}

function unreadable(error: unknown): unknown {
  if (isTemporary(error)) return ofIndex(error, 'opening the index');
  const isDatabase = isOfDatabase(error);
  if (!isDatabase && !(error instanceof StoreError)) return error;
  const reason = isDatabase ? 'LevelDB cannot open it' : (error as Error).message;
  return new StoreError(
    'IO',
    `the index cannot be read: ${reason}; \`coppice rebuild-index\` makes it anew`,
    error,
  );
}

/** Replays what stands behind the checkpoint; undefined if the log does not have what the checkpoint claims. */
async function replayBehind(
  { storage, uuid }: LogPlace,
  base: LogBase | undefined,
  index: PointerIndex,
  overlays: Overlays,
): Promise<Catalog | undefined> {
  const { segment, offset, append } = index.checkpoint;
  if (segment === 0 || append < (base?.append ?? 0)) return undefined;
  const replay = new Replay(overlays, undefined);
  let isFirst = true;
  for await (const record of new LogTail(storage, uuid, append).records({ segment, offset })) {
    const { header } = record;
    if (isFirst && (header.offset !== offset || header.append !== append)) return undefined;
    isFirst = false;
    replay.apply(header.segment, entriesOf(record));
  }
  const { catalog } = replay;
  if (catalog === undefined) return undefined;
  const since = statedSince(replay);
  await followMoves({ storage, uuid }, since, catalog, index, overlays.active).catch((error: unknown) => {
    if (!hasCode(error, 'INDEX_DAMAGED')) throw error; // told where it is looked at
  });
  return catalog;
}

async function catalogAlone(
  place: LogPlace,
  base: LogBase | undefined,
  warn: (sentence: string) => void,
): Promise<Catalog> {
  warn('the index is not of this log as it stands, and is made anew when the store is opened');
  const { catalog, damage } = await readEndOfLog(place, base);
  for (const each of damage) warn(each);
  return catalog;
}

/** The pointers that a version reads, and whose they are. */
class PointerReader {
  readonly #database: IndexDatabase;
  readonly #index: PointerIndex;
  readonly #overlay: Overlay;
  readonly #catalog: Catalog;
  readonly #tree: number;
  /** The version itself first. */
  readonly #path: readonly number[];

  constructor(
    database: IndexDatabase,
    index: PointerIndex,
    overlay: Overlay,
    catalog: Catalog,
    name: string,
  ) {
    this.#database = database;
    this.#index = index;
    this.#overlay = overlay;
    this.#catalog = catalog;
    const { label } = catalog.find(name);
    this.#tree = catalog.tree.get(label)!.tree;
    this.#path = catalog.tree.path(label);
  }

  /** One for each chunk from `first` on, below `end`, all in one region. */
  async rows(region: number, first: number, end: number): Promise<PointerRow[]> {
    const rows: (PointerRow | undefined)[] = Array.from({ length: end - first });
    let damage: string | undefined;
    try {
      await this.#fill(rows, region, first);
    } catch (error) {
      if (!hasCode(error, 'INDEX_DAMAGED') && !isOfDatabase(error)) throw error;
      damage = (error as Error).message;
    }
    return rows.map((row, i) => {
      const chunk = first + i;
      if (row !== undefined) return row;
      return damage === undefined
        ? { chunk, kind: 'none', ...EMPTY }
        : { chunk, kind: 'damaged', ...EMPTY, damage };
    });
  }

  /** Nearest versions first: what a version wrote itself is newer than all it inherits. */
  async #fill(found: (PointerRow | undefined)[], region: number, first: number): Promise<void> {
    const rows = await this.#index.directory.rows(this.#tree, region);
    const own = new Set([...rows.map(({ label }) => label), ...this.#overlay.labels(this.#tree, region)]);
    const path = this.#path.filter((label) => own.has(label));
    for (let from = 0; from < path.length; from += LABELS_AT_ONCE) {
      const labels = path.slice(from, from + LABELS_AT_ONCE);
      const blocks = await readBlocks(this.#database, this.#tree, region, rows, labels);
      labels.forEach((label, at) => {
        const inRows = blocks[at]!;
        const block = new PointerBlock();
        block.copyFrom(inRows);
        this.#overlay.mergeVersionInto(block, this.#tree, region, label);
        for (let i = 0; i < found.length; i++) {
          found[i] ??= this.#rowOf(first + i, label, block, inRows);
        }
      });
      if (found.every((row) => row !== undefined)) return;
    }
  }

  #rowOf(chunk: number, label: number, block: PointerBlock, inRows: PointerBlock): PointerRow | undefined {
    const at = chunk % REGION_CHUNKS;
    const segment = block.segment(at);
    if (segment === 0) return undefined;
    const isInRows =
      inRows.segment(at) === segment &&
      inRows.offset(at) === block.offset(at) &&
      inRows.sequence(at) === block.sequence(at);
    const common = {
      ...EMPTY,
      chunk,
      source: isInRows ? ('index' as const) : ('log' as const),
      sequence: block.sequence(at),
      label,
      version: this.#catalog.describe(label),
    };
    if (segment === HOLE) return { ...common, kind: 'hole' };
    return { ...common, kind: 'data', segment, offset: block.offset(at), checksum: block.checksum(at) };
  }
}
