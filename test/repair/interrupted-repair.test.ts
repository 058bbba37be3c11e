/** What is cleared away of a repair that was killed: only what it has made itself. */

import { expect, it } from 'vitest';
import { encodeSegmentStart, SEGMENT_MOVES, segmentPath } from '../../src/log/format.ts';
import {
  clearInterruptedRepair,
  NEW_SEGMENTS_PATH,
  newSegmentPath,
} from '../../src/volume/interrupted-repair.ts';
import { UUID } from '../log/rig.ts';
import { MemoryStorage } from '../support/memory-storage.ts';

async function put(storage: MemoryStorage, path: string, epoch: number): Promise<void> {
  const file = await storage.open(path, 'create');
  const [flags, segment, segmentBytes] = [SEGMENT_MOVES, 5, 1 << 20];
  const [predecessor, predecessorEnd, predecessorChecksum] = [0, 0, 0];
  const link = { predecessor, predecessorEnd, predecessorChecksum, firstAppend: 9, durable: 0 };
  await file.write([encodeSegmentStart({ flags, uuid: UUID, segment, segmentBytes, epoch, ...link })], 0);
  await file.close();
}

it('a segment stays that another release has made under the number of one that a killed repair made', async () => {
  const storage = new MemoryStorage();
  await storage.makeDirectory(NEW_SEGMENTS_PATH);
  await put(storage, newSegmentPath(5), 3);
  await put(storage, newSegmentPath(6), 3);
  await storage.link(newSegmentPath(6), segmentPath(6));
  await put(storage, segmentPath(5), 4);
  await clearInterruptedRepair(storage, undefined);
  expect(storage.names('log')).toEqual([segmentPath(5).slice('log/'.length)]);
  expect(storage.names(NEW_SEGMENTS_PATH)).toEqual([]);
});
