/**
 * The index under check held against one made anew from the log, region by region: every pointer against what the log says
 * at its place, usage and extents against a recount, rows against those that anything names.
 *
 * Every pointer of the index made anew was taken from the record at its place: its version, chunk, sequence and checksum are
 * that record's. So comparing pointers compares each with its record, and no record is read twice.
 *
 * What leads into a part of the log that is lost is no difference: whoever lost it is told what lived there.
 */

import { AssertionError, StoreError } from '../base/errors.ts';
import { REGIONS_MAX } from '../index/directory.ts';
import {
  CanonicalForm,
  countLive,
  firstDifference,
  inherited,
  type IndexView,
  nextRegionOf,
  treesOf,
} from '../index/dump.ts';
import { ExtentRecount } from '../index/extent-recount.ts';
import { HOLE, PointerBlock, REGION_CHUNKS } from '../index/pointers.ts';
import { type LogPlace, RecordLocator } from '../log/record-locator.ts';
import { type Finding, type FindingCode, finding } from './finding.ts';
import { Reach, readersOf, type VersionNames } from './readers.ts';

/** What of the log is lost, as far as it explains differences. */
export interface LostLog {
  /** True if the log cannot tell what lies there. */
  hasPlace(segment: number, offset: number): boolean;
  /** True if an entry with this sequence may have been lost. */
  hasSequence(sequence: number): boolean;
  /** True if a pointer with this sequence may have been taken away by an entry that was lost. */
  mayHaveTrimmed(sequence: number): boolean;
  /** True if what was written under this label could not be replayed. */
  hasLabel(label: number): boolean;
}

/** Differences of one version. */
interface Differing {
  readonly code: FindingCode;
  readonly first: number;
  count: number;
  readonly reach: Reach;
}

export class IndexComparison {
  readonly #view: IndexView;
  readonly #made: IndexView;
  readonly #names: VersionNames;
  readonly #lost: LostLog;
  readonly #canonical: CanonicalForm;
  readonly #locator: RecordLocator;
  readonly #live = new Map<number, number>();
  readonly #extents: ExtentRecount;
  readonly #differing = new Map<number, Differing>();
  #pointerRows = 0;
  #listRows = 0;

  constructor(place: LogPlace, view: IndexView, made: IndexView, names: VersionNames, lost: LostLog) {
    this.#view = view;
    this.#made = made;
    this.#names = names;
    this.#lost = lost;
    this.#canonical = new CanonicalForm(names.tree);
    this.#locator = new RecordLocator(place);
    this.#extents = new ExtentRecount(view.index.extents);
  }

  async *run(signal?: AbortSignal): AsyncGenerator<Finding> {
    try {
      for (const tree of treesOf(this.#view, this.#made)) {
        for (
          let region = await this.#next(tree, 0);
          region >= 0;
          region = await this.#next(tree, region + 1)
        ) {
          signal?.throwIfAborted();
          await this.#region(tree, region);
        }
      }
      await ofView(this.#extents.finish());
      yield* this.#differences();
      yield* this.#usage();
      yield* await ofView(this.#rows());
    } catch (error) {
      if (!(error instanceof StoreError)) throw error;
      yield* this.#differences();
      const message = `${error.message}; it is made anew when the store is opened`;
      yield finding('INDEX_DAMAGED', message, { mend: 'open' });
    } finally {
      await this.#locator.close();
    }
  }

  async #next(tree: number, from: number): Promise<number> {
    const inView = await ofView(nextRegionOf(tree, from, REGIONS_MAX, this.#view));
    const inMade = await nextRegionOf(tree, from, REGIONS_MAX, this.#made);
    return inView < 0 || inMade < 0 ? Math.max(inView, inMade) : Math.min(inView, inMade);
  }

  async #region(tree: number, region: number): Promise<void> {
    const recounted = async (blocks: ReadonlyMap<number, PointerBlock>): Promise<void> => {
      countLive(blocks, this.#live);
      await this.#extents.add(tree, region, blocks);
      const rows = (await this.#view.index.directory.rows(tree, region)).length;
      this.#pointerRows += rows;
      if (rows > 1) this.#listRows += 1;
    };
    const actual = await ofView(this.#canonical.region(this.#view, tree, region, recounted));
    const expected = await this.#canonical.region(this.#made, tree, region);
    for (const label of new Set([...actual.keys(), ...expected.keys()])) {
      if (this.#lost.hasLabel(label)) continue;
      const none = new PointerBlock();
      const [is, should] = [actual.get(label) ?? none, expected.get(label) ?? none];
      for (let at = firstDifference(is, should); at >= 0; at = firstDifference(is, should, at + 1)) {
        const chunk = region * REGION_CHUNKS + at;
        if (
          this.#isExplained(is, should, at) ||
          this.#hidesLost(label, actual, should, at) ||
          (await this.#isCopy(label, chunk, is, should, at))
        )
          continue;
        const blocks = should.segment(at) === 0 ? actual : expected;
        this.#note(label, chunk, readersOf(this.#names.tree, blocks, label, at));
      }
    }
  }

  #note(label: number, chunk: number, readers: readonly number[]): void {
    let of = this.#differing.get(label);
    if (of === undefined) {
      const code = this.#names.tree.get(label) === undefined ? 'ORPHAN_POINTERS' : 'INDEX_DIFFERS';
      of = { code, first: chunk, count: 0, reach: new Reach() };
      this.#differing.set(label, of);
    }
    of.count += 1;
    for (const reader of readers) of.reach.add(reader, chunk);
  }

  /** The pointer is of a part of the log that is lost. */
  #isExplained(is: PointerBlock, should: PointerBlock, at: number): boolean {
    const segment = is.segment(at);
    if (segment === 0) return this.#lost.mayHaveTrimmed(should.sequence(at));
    if (segment === HOLE) return this.#lost.hasSequence(is.sequence(at));
    return this.#lost.hasPlace(segment, is.offset(at));
  }

  /** A hole in front of something that is lost: where the log does not have that, the hole hides nothing, and is none. */
  #hidesLost(
    label: number,
    actual: ReadonlyMap<number, PointerBlock>,
    should: PointerBlock,
    at: number,
  ): boolean {
    if (should.segment(at) !== 0 || actual.get(label)?.segment(at) !== HOLE) return false;
    const above = inherited(actual, this.#names.tree, label);
    const segment = above.segment(at);
    return segment !== 0 && segment !== HOLE && this.#lost.hasPlace(segment, above.offset(at));
  }

  /**
   * True if two pointers lead to the same chunk in two places: moves that an interrupted compaction stated and did not come
   * to use. What the index says must be a record of that chunk all the same.
   */
  async #isCopy(
    label: number,
    chunk: number,
    is: PointerBlock,
    should: PointerBlock,
    at: number,
  ): Promise<boolean> {
    const [segment, offset, checksum] = [is.segment(at), is.offset(at), is.checksum(at)];
    const sequence = is.sequence(at);
    if (segment === 0 || segment === HOLE) return false;
    if (checksum !== should.checksum(at) || sequence !== should.sequence(at)) return false;
    const found = await this.#locator.look({ chunk, segment, offset, checksum, sequence });
    if (found.matches !== 'yes' || found.writtenUnder === undefined) return false;
    const holder = this.#names.holderOf(found.writtenUnder);
    return holder !== undefined && this.#canonical.holderOf(holder.label) === label;
  }

  *#differences(): Generator<Finding> {
    for (const [label, { code, first, count, reach }] of this.#differing) {
      const what = `chunk ${first} of ${this.#names.describe(label)}`;
      const more = count > 1 ? `, and ${count - 1} more of it` : '';
      const why =
        code === 'ORPHAN_POINTERS'
          ? 'the index has pointers of a version that the log does not know'
          : 'the index is not what the log says';
      yield finding(code, `${what}${more}: ${why}`, { ...reach.details(this.#names), mend: 'repair' });
    }
    this.#differing.clear();
  }

  /** Live chunks as stated, and as counted in the rows. */
  *#usage(): Generator<Finding> {
    const stated = new Map(this.#view.index.usage.entries());
    for (const segment of new Set([...stated.keys(), ...this.#live.keys()])) {
      const [says, has] = [stated.get(segment) ?? 0, this.#live.get(segment) ?? 0];
      if (says === has) continue;
      const message = `segment ${segment}: ${says} live chunks are stated, ${has} are counted`;
      yield finding('USAGE_DIFFERS', message, { segment, mend: 'repair' });
    }
  }

  /** Rows that nothing names: they are never read, and take room. */
  async #rows(): Promise<Finding[]> {
    const [pointers, lists] = await this.#view.index.countRows(['p', 'l']);
    const left = pointers! - this.#pointerRows + (lists! - this.#listRows);
    if (left <= 0) return [];
    return [
      finding('INDEX_LEFTOVER_ROWS', `${left} rows of the index are named by nothing`, { mend: 'repair' }),
    ];
  }
}

/** What the index under check answers; that it cannot be read is damage as well. */
export async function ofView<T>(answer: Promise<T>): Promise<T> {
  try {
    return await answer;
  } catch (error) {
    if (error instanceof StoreError || error instanceof AssertionError) throw error;
    throw new StoreError('INDEX_DAMAGED', `LevelDB cannot read it: ${(error as Error).message}`, error);
  }
}
