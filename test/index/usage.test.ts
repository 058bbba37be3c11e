/** Live chunks by segment: figures change when a batch is written, and not before. */

import { expect, it } from 'vitest';
import type { RowSink } from '../../src/index/directory.ts';
import { UsageTable } from '../../src/index/usage.ts';

const NOWHERE: RowSink = { put: () => undefined, del: () => undefined };

it('changes of a batch that is not written leave figures and digest as they are', () => {
  const usage = new UsageTable();
  usage.edit(new Map([[7, 3]]), NOWHERE).install();
  const before = [usage.of(7), usage.liveChunks, usage.digest, usage.diminished];
  expect(before.slice(0, 2)).toEqual([3, 3]);
  const edit = usage.edit(new Map([[7, -3]]), NOWHERE);
  expect([usage.of(7), usage.liveChunks, usage.digest, usage.diminished]).toEqual(before);
  edit.install();
  expect([usage.of(7), usage.liveChunks, usage.digest, usage.diminished]).toEqual([0, 0, 0, [7]]);
  expect(edit.digest).toBe(0);
});
