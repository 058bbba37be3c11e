/**
 * Chunks of the log in flat memory, one after the other: tens of thousands of them cross from thread to thread without a
 * copy, and cost the collector nothing. Pure.
 */

/** The arrays of a list, by which it crosses threads; all of one length. */
export interface ChunkArrays {
  labels: Uint32Array;
  /** Position in the disk. */
  chunks: Float64Array;
  sequences: Float64Array;
  segments: Uint32Array;
  offsets: Uint32Array;
  checksums: Uint32Array;
}

const FIRST_CAPACITY = 1024;

export class ChunkList {
  count = 0;
  #arrays: ChunkArrays = arraysOf(FIRST_CAPACITY);

  add(
    label: number,
    chunk: number,
    sequence: number,
    segment: number,
    offset: number,
    checksum: number,
  ): void {
    if (this.count === this.#arrays.labels.length) this.#grow();
    const { labels, chunks, sequences, segments, offsets, checksums } = this.#arrays;
    const at = this.count++;
    labels[at] = label;
    chunks[at] = chunk;
    sequences[at] = sequence;
    segments[at] = segment;
    offsets[at] = offset;
    checksums[at] = checksum;
  }

  #grow(): void {
    const grown = arraysOf(2 * this.#arrays.labels.length);
    grown.labels.set(this.#arrays.labels);
    grown.chunks.set(this.#arrays.chunks);
    grown.sequences.set(this.#arrays.sequences);
    grown.segments.set(this.#arrays.segments);
    grown.offsets.set(this.#arrays.offsets);
    grown.checksums.set(this.#arrays.checksums);
    this.#arrays = grown;
  }

  /** As long as the list: views, not copies. */
  arrays(): ChunkArrays {
    const { labels, chunks, sequences, segments, offsets, checksums } = this.#arrays;
    const { count } = this;
    return {
      labels: labels.subarray(0, count),
      chunks: chunks.subarray(0, count),
      sequences: sequences.subarray(0, count),
      segments: segments.subarray(0, count),
      offsets: offsets.subarray(0, count),
      checksums: checksums.subarray(0, count),
    };
  }

  /** The same chunks in the order of version and chunk, and of sequence where these are the same. */
  inOrder(): ChunkArrays {
    const from = this.arrays();
    const { labels, chunks, sequences } = from;
    const inDisk = byDisk(from);
    const order = orderOf(this.count, (a, b) => inDisk(a, b) || sequences[a]! - sequences[b]!);
    const to = arraysOf(this.count);
    to.labels.forEach((_, i) => {
      const at = order[i]!;
      to.labels[i] = labels[at]!;
      to.chunks[i] = chunks[at]!;
      to.sequences[i] = sequences[at]!;
      to.segments[i] = from.segments[at]!;
      to.offsets[i] = from.offsets[at]!;
      to.checksums[i] = from.checksums[at]!;
    });
    return to;
  }
}

function arraysOf(capacity: number): ChunkArrays {
  return {
    labels: new Uint32Array(capacity),
    chunks: new Float64Array(capacity),
    sequences: new Float64Array(capacity),
    segments: new Uint32Array(capacity),
    offsets: new Uint32Array(capacity),
    checksums: new Uint32Array(capacity),
  };
}

/** The numbers below `count` in the order that `compare` says. Quick where long runs are in order: unlike typed arrays, arrays see that. */
export function orderOf(count: number, compare: (a: number, b: number) => number): Uint32Array {
  const order: number[] = [];
  for (let i = 0; i < count; i++) order.push(i);
  return Uint32Array.from(order.sort(compare));
}

/** Compares two by version and chunk. */
export function byDisk({ labels, chunks }: ChunkArrays): (a: number, b: number) => number {
  return (a, b) => labels[a]! - labels[b]! || chunks[a]! - chunks[b]!;
}
