/** A segment that has lost both copies of its header, as its records tell: each says which segment it is of, and where. */

import type { ReadStorage } from '../base/storage.ts';
import { RECORD_FOOTER, SEGMENT_MOVES, type SegmentHeader } from './format.ts';
import { SegmentScanner } from './scan.ts';

/** Stands for a predecessor that nobody knows. */
const UNKNOWN_SEGMENT = 0xffffffff;

/**
 * What can be known of the header; undefined if there is no file, or no whole record in it. Of two records of moves both
 * have one append number; where there is only one, it is taken for one of the chain.
 */
export async function inferHeader(
  storage: ReadStorage,
  uuid: Buffer,
  segment: number,
): Promise<SegmentHeader | undefined> {
  const scanner = await SegmentScanner.openAnyway(storage, uuid, segment);
  if (scanner === undefined) return undefined;
  try {
    const appends: number[] = [];
    for await (const { header } of scanner.allRecords()) {
      if ((header.flags & RECORD_FOOTER) === 0) appends.push(header.append);
      if (appends.length === 2) break;
    }
    const [first, second] = appends;
    if (first === undefined) return undefined;
    const flags = first === second ? SEGMENT_MOVES : 0;
    return { ...scanner.header, flags, predecessor: UNKNOWN_SEGMENT, firstAppend: first };
  } finally {
    await scanner.close();
  }
}
