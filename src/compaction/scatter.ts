/**
 * How far what lies together on disks is spread over segments, and which to empty so that it lies together again. Pure.
 *
 * What counts is what one version has of one region: in a log that was written in order, or put in order, that is in one
 * segment, or in two where one ends. A segment is *scattered* where its chunks share their regions with many others.
 *
 * Putting in order is an external sort. A round sorts as much as it may move; where that is not all, what it makes is one
 * sorted sequence of several, and a second pass that takes segments by the place they begin at merges these.
 */

import { CHUNK_BYTES } from '../base/units.ts';
import { HOLE, type PointerBlock, REGION_CHUNKS } from '../index/pointers.ts';
import type { SegmentUse } from './victims.ts';

/** Segments that what a version has of a region may lie in, on average over a segment's chunks. */
const SEGMENTS_MAX = 3;

interface Spread {
  chunks: number;
  /** For each chunk, how many segments there are in its region. */
  segments: number;
  /** The lowest place of a chunk. */
  label: number;
  region: number;
}

export class Scatter {
  readonly #spreads = new Map<number, Spread>();
  readonly #counts = new Map<number, number>();

  /** Takes the pointers that a version has in a region. */
  add(label: number, region: number, block: PointerBlock): void {
    const counts = this.#counts;
    counts.clear();
    for (let at = 0; at < REGION_CHUNKS; at++) {
      const segment = block.segment(at);
      if (segment !== 0 && segment !== HOLE) counts.set(segment, (counts.get(segment) ?? 0) + 1);
    }
    for (const [segment, chunks] of counts) {
      const spread = this.#spreads.get(segment);
      if (spread === undefined) {
        this.#spreads.set(segment, { chunks, segments: chunks * counts.size, label, region });
        continue;
      }
      spread.chunks += chunks;
      spread.segments += chunks * counts.size;
      if (label < spread.label || (label === spread.label && region < spread.region))
        [spread.label, spread.region] = [label, region];
    }
  }

  isScattered(segment: number): boolean {
    const spread = this.#spreads.get(segment);
    return spread !== undefined && spread.segments > SEGMENTS_MAX * spread.chunks;
  }

  /** Those that begin first on disks, as many as hold so many live bytes. */
  firstOf(candidates: readonly SegmentUse[], liveBytesMax: number): SegmentUse[] {
    const place = (use: SegmentUse): Spread | undefined => this.#spreads.get(use.segment);
    const ordered = [...candidates].sort((a, b) => {
      const [one, other] = [place(a), place(b)];
      if (one === undefined || other === undefined)
        return (one === undefined ? 1 : 0) - (other === undefined ? 1 : 0);
      return one.label - other.label || one.region - other.region || a.segment - b.segment;
    });
    let liveBytes = 0;
    const end = ordered.findIndex(({ liveChunks }) => (liveBytes += liveChunks * CHUNK_BYTES) > liveBytesMax);
    return end < 0 ? ordered : ordered.slice(0, end);
  }
}
