/**
 * Holds the index that a log would give against the one that is wanted, region by region, and says what is missing in the log.
 *
 * Both are compared in their canonical form, by the versions that there are to be: what else has pointers is of nobody.
 */

import { StoreError } from '../base/errors.ts';
import { ofView } from '../check/index-comparison.ts';
import { REGIONS_MAX } from '../index/directory.ts';
import { CanonicalForm, type IndexView, nextRegionOf, treesOf } from '../index/dump.ts';
import { HOLE, PointerBlock, REGION_CHUNKS } from '../index/pointers.ts';
import type { VersionTree } from '../index/version-tree.ts';
import type { Zeros } from '../compaction/layout.ts';
import type { MovedChunk } from './evacuation.ts';

/** All versions' own pointers in a region. */
export interface RegionPointers {
  readonly tree: number;
  readonly region: number;
  readonly blocks: ReadonlyMap<number, PointerBlock>;
}

/** The regions of an index, by the versions of `tree`. @throws INDEX_DAMAGED */
export async function* regionsOf(
  view: IndexView,
  versions: VersionTree,
  signal?: AbortSignal,
): AsyncGenerator<RegionPointers> {
  const canonical = new CanonicalForm(versions);
  for (const tree of treesOf(view)) {
    let region = await ofView(nextRegionOf(tree, 0, REGIONS_MAX, view));
    while (region >= 0) {
      signal?.throwIfAborted();
      yield { tree, region, blocks: await ofView(canonical.region(view, tree, region)) };
      region = await ofView(nextRegionOf(tree, region + 1, REGIONS_MAX, view));
    }
  }
}

/** What has to be appended. */
export interface Corrections {
  chunk(chunk: MovedChunk): Promise<void>;
  zeros(zeros: Zeros): Promise<void>;
}

export class IndexProof {
  readonly #wanted: IndexView;
  readonly #versions: VersionTree;
  readonly #kept: ReadonlySet<number>;
  readonly #unknown: ReadonlySet<number>;

  /** `kept`: segments of which the log must use the very places that are wanted, unless it has moved what is there. `unknown`: versions of which the wanted index has nothing, and nobody knows why. */
  constructor(
    wanted: IndexView,
    versions: VersionTree,
    kept: ReadonlySet<number>,
    unknown: ReadonlySet<number>,
  ) {
    this.#wanted = wanted;
    this.#versions = versions;
    this.#kept = kept;
    this.#unknown = unknown;
  }

  /** Answers how many chunks differ. `corrections` undefined: that is all. @throws CORRUPTION if that cannot be corrected */
  async compare(
    made: IndexView,
    corrections: Corrections | undefined,
    signal?: AbortSignal,
  ): Promise<number> {
    let differing = 0;
    const canonical = new CanonicalForm(this.#versions);
    for (const tree of treesOf(this.#wanted, made)) {
      let region = await this.#next(made, tree, 0);
      while (region >= 0) {
        signal?.throwIfAborted();
        const should = await ofView(canonical.region(this.#wanted, tree, region));
        const is = await canonical.region(made, tree, region);
        differing += await this.#region(region, is, should, corrections);
        region = await this.#next(made, tree, region + 1);
      }
    }
    return differing;
  }

  #next(made: IndexView, tree: number, from: number): Promise<number> {
    return ofView(nextRegionOf(tree, from, REGIONS_MAX, this.#wanted, made));
  }

  async #region(
    region: number,
    made: ReadonlyMap<number, PointerBlock>,
    wanted: ReadonlyMap<number, PointerBlock>,
    corrections: Corrections | undefined,
  ): Promise<number> {
    const none = new PointerBlock();
    let differing = 0;
    for (const label of new Set([...made.keys(), ...wanted.keys()])) {
      if (this.#versions.get(label) === undefined) continue;
      const [is, should] = [made.get(label) ?? none, wanted.get(label) ?? none];
      const isUnknown = this.#unknown.has(label);
      for (let at = 0; at < REGION_CHUNKS; at++) {
        if (this.#isRight(is, should, at)) continue;
        if (isUnknown && should.segment(at) === 0) continue; // it keeps what the log has of it
        differing += 1;
        if (corrections !== undefined) await correct(label, region, at, is, should, corrections);
      }
    }
    return differing;
  }

  #isRight(is: PointerBlock, should: PointerBlock, at: number): boolean {
    const [found, segment] = [is.segment(at), should.segment(at)];
    if (segment === 0 || segment === HOLE || found === 0 || found === HOLE) return found === segment;
    if (is.sequence(at) !== should.sequence(at) || is.checksum(at) !== should.checksum(at)) return false;
    const isThere = found === segment && is.offset(at) === should.offset(at);
    // What was moved for this log is right too, wherever it came from.
    return isThere || !this.#kept.has(segment) || !this.#kept.has(found);
  }
}

/** Of two entries with one sequence the later counts. */
async function correct(
  label: number,
  region: number,
  at: number,
  is: PointerBlock,
  should: PointerBlock,
  corrections: Corrections,
): Promise<void> {
  const chunk = region * REGION_CHUNKS + at;
  const segment = should.segment(at);
  // A hole over what the log should not have either: it hides nothing any more once that is corrected.
  if (segment === 0 && is.segment(at) === HOLE) return;
  if (segment === 0 || segment === HOLE) {
    const sequence = Math.max(is.sequence(at), should.sequence(at));
    await corrections.zeros({ label, first: chunk, count: 1, sequence });
    return;
  }
  const sequence = should.sequence(at);
  if (is.segment(at) !== 0 && is.sequence(at) > sequence)
    throw new StoreError(
      'CORRUPTION',
      `the log has something newer of chunk ${chunk} of version ${label} than is known to be right; nothing was changed`,
    );
  const [offset, checksum] = [should.offset(at), should.checksum(at)];
  await corrections.chunk({ label, chunk, sequence, segment, offset, checksum });
}
