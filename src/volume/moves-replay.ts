/**
 * Leads pointers to where compaction had moved their chunks behind the index's checkpoint: what an open store holds in its
 * overlay, from the segments of moves that catalogs have stated since.
 *
 * Rows have a pointer to all that was moved, unless it has been written over or deleted since: so a row with the same
 * sequence says that the chunk lives, and nothing else does.
 */

import { type MovesByRegion, MoveTable } from '../index/move.ts';
import type { Overlay } from '../index/overlay.ts';
import type { PointerIndex } from '../index/pointer-index.ts';
import { REGION_CHUNKS } from '../index/pointers.ts';
import { CHUNK_BYTES } from '../base/units.ts';
import { ENTRY_CHUNKS } from '../log/entries.ts';
import { SEGMENT_MOVES } from '../log/format.ts';
import { entriesOf, type ScannedRecord, SegmentScanner } from '../log/scan.ts';
import type { Catalog } from './catalog.ts';
import type { Replay } from './replay.ts';
import type { LogPlace } from './whole-log.ts';

/** Segments that catalogs have stated since the one that a replay began with. */
export function statedSince({ stated, newest }: Replay): number[] {
  return [...(newest?.segments ?? [])].filter((segment) => stated?.segments.has(segment) === false);
}

/** Answers those of `segments` that hold moves, and were followed. @throws INDEX_DAMAGED, IO */
export async function followMoves(
  place: LogPlace,
  segments: readonly number[],
  catalog: Catalog,
  index: PointerIndex,
  overlay: Overlay,
): Promise<Set<number>> {
  const followed = new Set<number>();
  for (const segment of [...segments].sort((a, b) => a - b)) {
    const scanner = await SegmentScanner.open(place.storage, place.uuid, segment);
    try {
      if (scanner === undefined || (scanner.header.flags & SEGMENT_MOVES) === 0) continue;
      const records = (await scanner.footer()) ?? scanner.walk();
      overlay.putMoves(await index.stillThere(await movesOf(segment, records, catalog)));
      followed.add(segment);
    } finally {
      await scanner?.close();
    }
  }
  return followed;
}

/** How many chunks of these records, all of one segment, rows lead to. @throws INDEX_DAMAGED, IO */
export async function chunksInRows(
  segment: number,
  records: readonly ScannedRecord[],
  catalog: Catalog,
  index: PointerIndex,
): Promise<number> {
  let count = 0;
  for (const regions of (await index.stillThere(await movesOf(segment, records, catalog))).values())
    for (const chunks of regions.values()) count += chunks.length;
  return count;
}

async function movesOf(
  toSegment: number,
  records: Iterable<ScannedRecord> | AsyncIterable<ScannedRecord>,
  catalog: Catalog,
): Promise<MovesByRegion> {
  const moves = new MoveTable();
  for await (const record of records) {
    for (const entry of entriesOf(record)) {
      const node = entry.kind === ENTRY_CHUNKS ? catalog.holderOf(entry.label) : undefined;
      if (entry.kind !== ENTRY_CHUNKS || node === undefined) continue;
      const { first, count, offset, sequence, checksums } = entry;
      for (let i = 0; i < count; i++) {
        moves.add(node.tree, Math.floor((first + i) / REGION_CHUNKS), {
          label: node.label,
          index: (first + i) % REGION_CHUNKS,
          segment: 0, // wherever it was
          offset: 0,
          toSegment,
          toOffset: offset + i * CHUNK_BYTES,
          checksum: checksums[i]!,
          sequence,
        });
      }
    }
  }
  return moves.trees;
}
