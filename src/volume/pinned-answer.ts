/** One answer out of the index of one moment, for who wants no stream of them. */

import { assert } from '../base/errors.ts';
import type { PinnedIndex } from '../index/pinned-index.ts';
import type { IndexKeeper } from './index-keeper.ts';

/** `read` is begun again, with the index of another moment, where the first has to be mended. @throws IO, CORRUPTION */
export async function pinnedAnswer<T>(
  keeper: IndexKeeper,
  read: (index: PinnedIndex) => Promise<T>,
): Promise<T> {
  const answers: T[] = [];
  const reading = keeper.reading(async function* (index) {
    yield await read(index);
  });
  for await (const answer of reading) answers.push(answer);
  assert(answers.length === 1, 'what is asked once is answered once');
  return answers[0]!;
}
