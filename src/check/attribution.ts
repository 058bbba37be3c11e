/**
 * Whom damage of the log reaches: walks over all pointers of an index, and notes those that lead into damaged places, with
 * all versions that read them. Only for a log that is damaged: it reads the whole index.
 */

import { crc32c } from '../base/crc.ts';
import { StoreError } from '../base/errors.ts';
import { CHUNK_BYTES } from '../base/units.ts';
import { REGIONS_MAX } from '../index/directory.ts';
import { CanonicalForm, type IndexView, nextRegionOf, treesOf } from '../index/dump.ts';
import { HOLE, type PointerBlock, REGION_CHUNKS } from '../index/pointers.ts';
import type { LogPlace } from '../log/record-locator.ts';
import { SegmentScanner } from '../log/scan.ts';
import type { DamagedPlaces } from './damaged-places.ts';
import { ofView } from './index-comparison.ts';
import { Reach, readersOf, type VersionNames } from './readers.ts';

/** Damage at some place, and whom it reaches. */
export class Damage {
  reach = new Reach();
  /** True where the chunk itself may be whole, though the log does not tell of it any more. */
  readonly mayBeWhole: boolean;
  /** Chunks that live there; of those, whole ones. */
  live = 0;
  whole = 0;

  constructor(mayBeWhole: boolean) {
    this.mayBeWhole = mayBeWhole;
  }

  /** Nothing is known any more. */
  clear(): void {
    this.reach = new Reach();
    this.live = 0;
    this.whole = 0;
  }
}

interface Hit {
  readonly label: number;
  readonly index: number;
  readonly damage: Damage;
}

/** Answers false if the index could not be read to its end. */
export async function attribute(
  place: LogPlace,
  view: IndexView,
  names: VersionNames,
  places: DamagedPlaces<Damage>,
  signal?: AbortSignal,
): Promise<boolean> {
  const canonical = new CanonicalForm(names.tree);
  const chunks = new ChunkReader(place);
  try {
    for (const tree of treesOf(view)) {
      let region = await ofView(nextRegionOf(tree, 0, REGIONS_MAX, view));
      while (region >= 0) {
        signal?.throwIfAborted();
        const blocks = await ofView(canonical.region(view, tree, region));
        for (const { label, index, damage } of hitsIn(blocks, places)) {
          damage.live += 1;
          for (const reader of readersOf(names.tree, blocks, label, index))
            damage.reach.add(reader, region * REGION_CHUNKS + index);
          const block = blocks.get(label)!;
          if (damage.mayBeWhole && (await chunks.isWhole(block, index))) damage.whole += 1;
        }
        region = await ofView(nextRegionOf(tree, region + 1, REGIONS_MAX, view));
      }
    }
    return true;
  } catch (error) {
    if (!(error instanceof StoreError)) throw error;
    return false;
  } finally {
    await chunks.close();
  }
}

/** In the order of their chunks. */
function hitsIn(blocks: ReadonlyMap<number, PointerBlock>, places: DamagedPlaces<Damage>): Hit[] {
  const hits: Hit[] = [];
  for (const [label, block] of blocks) {
    for (let index = 0; index < REGION_CHUNKS; index++) {
      const segment = block.segment(index);
      if (segment === 0 || segment === HOLE) continue;
      const damage = places.at(segment, block.offset(index));
      if (damage !== undefined) hits.push({ label, index, damage });
    }
  }
  return hits.sort((a, b) => a.index - b.index);
}

/** Reads single chunks; the segment that was read last stays open. */
class ChunkReader {
  readonly #place: LogPlace;
  #scanner: SegmentScanner | undefined;
  #segment = 0;

  constructor(place: LogPlace) {
    this.#place = place;
  }

  async isWhole(block: PointerBlock, index: number): Promise<boolean> {
    const segment = block.segment(index);
    if (segment !== this.#segment) {
      await this.close();
      this.#segment = segment;
      this.#scanner = await SegmentScanner.openAnyway(this.#place.storage, this.#place.uuid, segment);
    }
    const bytes = await this.#scanner?.bytesAt(block.offset(index), CHUNK_BYTES);
    return bytes?.length === CHUNK_BYTES && crc32c(bytes) === block.checksum(index);
  }

  async close(): Promise<void> {
    const scanner = this.#scanner;
    this.#scanner = undefined;
    await scanner?.close();
  }
}
