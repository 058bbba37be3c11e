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

  /** Live chunks by segment, as of now. */
  copy(): Map<number, number> {
    return new Map(this.entries());
  }

  entries(): [number, number][] {
    return [...this.#segments].map(([segment, usage]) => [segment, usage.liveChunks]);
  }

  /**
   * Hands out the rows that state changes, and the digest that the table has with them; `install` makes them count, once
   * LevelDB has the batch, and notes which segments lost chunks.
   */
  edit(changes: ReadonlyMap<number, number>, sink: RowSink): { digest: number; install(): void } {
    const changed = new Map<number, SegmentUsage | undefined>();
    let digest = this.#digest;
    for (const [segment, change] of changes) {
      if (change === 0) continue;
      const before = this.#segments.get(segment);
      const liveChunks = (before?.liveChunks ?? 0) + change;
      const key = usageKey(segment);
      digest ^= before?.checksum ?? 0;
      if (liveChunks === 0) {
        changed.set(segment, undefined);
        sink.del(key);
        continue;
      }
      const value = encodeUsage(liveChunks);
      const checksum = sealRow(key, value);
      digest ^= checksum;
      changed.set(segment, { liveChunks, checksum });
      sink.put(key, value);
    }
    const install = (): void => {
      this.diminished = [...changes].filter(([, change]) => change < 0).map(([segment]) => segment);
      this.#digest = digest;
      for (const [segment, usage] of changed) {
        this.liveChunks += (usage?.liveChunks ?? 0) - this.of(segment);
        if (usage === undefined) this.#segments.delete(segment);
        else this.#segments.set(segment, usage);
      }
    };
    return { digest: digest >>> 0, install };
  }
}
