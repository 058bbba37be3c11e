/** What an index says has been used, where the superblock does not: the highest numbers, and how far each version has data. */

import type { IndexView } from '../index/dump.ts';
import { HOLE, REGION_CHUNKS } from '../index/pointers.ts';
import type { Catalog } from '../volume/catalog.ts';
import { regionsOf } from './index-proof.ts';
import type { HighestNumbers } from './log-survey.ts';

export interface IndexSurvey {
  readonly highest: HighestNumbers;
  /** By label, the highest chunk that it has a pointer for, and one. */
  readonly extents: ReadonlyMap<number, number>;
  /** Versions that the catalog does not know, each with its tree. */
  readonly strangers: ReadonlyMap<number, number>;
}

/** @throws INDEX_DAMAGED */
export async function surveyIndex(
  view: IndexView,
  catalog: Catalog,
  signal?: AbortSignal,
): Promise<IndexSurvey> {
  const { index } = view;
  const extents = new Map<number, number>();
  let [sequences, labels, segments] = [catalog.sequence, 0, 0];
  for (const { label } of catalog.tree.nodes()) labels = Math.max(labels, label);
  for (const [segment] of index.usage.entries()) segments = Math.max(segments, segment);
  const strangers = new Map<number, number>();
  for await (const { tree, region, blocks } of regionsOf(view, catalog.tree, signal)) {
    for (const [label, block] of blocks) {
      labels = Math.max(labels, label);
      if (catalog.tree.get(label) === undefined) strangers.set(label, tree);
      for (let at = 0; at < REGION_CHUNKS; at++) {
        if (block.segment(at) === 0) continue;
        sequences = Math.max(sequences, block.sequence(at));
        if (block.segment(at) !== HOLE) extents.set(label, region * REGION_CHUNKS + at + 1);
      }
    }
  }
  const highest = { sequences, appends: index.checkpoint.append, labels, segments, epochs: 0 };
  return { highest, extents, strangers };
}
