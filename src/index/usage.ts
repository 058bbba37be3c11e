/**
 * Live chunks of each segment: how many pointers of the index lead into it. Pure but for rows it hands out.
 *
 * Figures are absolute and written in the batch that changes them, so that a lost batch loses both or neither.
 */

import type { RowSink } from './directory.ts';
import { encodeUsage, sealRow, usageKey } from './rows.ts';

interface SegmentUsage {
  liveChunks: number;
  /** Checksum of the row. */
  checksum: number;
}

export class UsageTable {
  readonly #segments = new Map<number, SegmentUsage>();
  #digest = 0;
  liveChunks = 0;
  /** Segments that the last changes took chunks from. */
  diminished: number[] = [];

  /** Takes a row as it was read. */
  load(segment: number, liveChunks: number, checksum: number): void {
    this.#segments.set(segment, { liveChunks, checksum });
    this.#digest ^= checksum;
    this.liveChunks += liveChunks;
  }

  /** The xor of the rows' checksums. */
  get digest(): number {
    return this.#digest >>> 0;
  }

  of(segment: number): number {
    return this.#segments.get(segment)?.liveChunks ?? 0;
  }

  entries(): [number, number][] {
    return [...this.#segments].map(([segment, usage]) => [segment, usage.liveChunks]);
  }

  /** Applies changes and hands out the rows that state them. Notes which segments lost chunks. */
  apply(changes: ReadonlyMap<number, number>, sink: RowSink): void {
    this.diminished = [];
    for (const [segment, change] of changes) {
      if (change < 0) this.diminished.push(segment);
      if (change === 0) continue;
      const before = this.#segments.get(segment);
      const liveChunks = (before?.liveChunks ?? 0) + change;
      const key = usageKey(segment);
      this.#digest ^= before?.checksum ?? 0;
      this.liveChunks += change;
      if (liveChunks === 0) {
        this.#segments.delete(segment);
        sink.del(key);
        continue;
      }
      const value = encodeUsage(liveChunks);
      const checksum = sealRow(key, value);
      this.#digest ^= checksum;
      this.#segments.set(segment, { liveChunks, checksum });
      sink.put(key, value);
    }
  }
}
