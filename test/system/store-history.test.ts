/** What the rigs of `npm run torture` hold a store to: answers of before a blow bind it, those behind it do not. */

import { expect, it } from 'vitest';
import { SECTOR_BYTES } from '../../src/base/units.ts';
import { StoreHistory } from '../../tools/torture/store-history.ts';

const DISK_BYTES = 8 * SECTOR_BYTES;
const EMPTY = Buffer.alloc(DISK_BYTES);

/** A forced write whose answer comes before or behind the first blow; then there is a second one. */
function struckTwice(isAnsweredBefore: boolean): string | undefined {
  const history = new StoreHistory(1);
  const { history: disk } = history.addDisk('disk', EMPTY);
  const forced = disk.send(0, 8, { isZero: false, isForced: true });
  if (isAnsweredBefore) disk.answer(forced);
  history.endPromises();
  if (!isAnsweredBefore) disk.answer(forced);
  history.endPromises();
  return history.settle(new Map([['disk', EMPTY]]));
}

it('a forced write that was answered before the first blow must be there behind the second', () => {
  expect(struckTwice(true)).toMatch(/8 sectors are wrong; answers promised something until/);
});

it('an answer between two blows promises nothing: the power was off', () => {
  expect(struckTwice(false)).toBeUndefined();
});
