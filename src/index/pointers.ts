/**
 * Pointers of a region in memory: where the chunks of 1 MiB of disk live. Pure.
 *
 * A region is REGION_CHUNKS consecutive chunks of a tree. A pointer is {segment, offset, checksum, sequence};
 * segment 0 means that there is none, segment HOLE that the chunk reads as zeros and hides what an ancestor has.
 *
 * Among pointers of one chunk the higher sequence counts. That holds along a path of the version tree too, because
 * only leaves are written: whatever a version wrote itself is newer than all that it inherits.
 */

export const REGION_CHUNKS = 256;
export const REGION_SHIFT = 8;
/** A pointer that says: zeros from here on. */
export const HOLE = 0xffffffff;

const WORDS = 5;
const SEGMENT = 0;
const OFFSET = 1;
const CHECKSUM = 2;
const SEQUENCE_HIGH = 3;
const SEQUENCE_LOW = 4;
const TWO_32 = 2 ** 32;

/** Entries of a sparse set before it becomes a full one. */
const SPARSE_MAX = 32;
const SPARSE_FIRST = 4;

/** A pointer for each chunk of a region: the page of a head, or a set with many members. */
export class PointerBlock {
  readonly words = new Uint32Array(REGION_CHUNKS * WORDS);

  segment(index: number): number {
    return this.words[index * WORDS + SEGMENT]!;
  }

  offset(index: number): number {
    return this.words[index * WORDS + OFFSET]!;
  }

  checksum(index: number): number {
    return this.words[index * WORDS + CHECKSUM]!;
  }

  sequence(index: number): number {
    return this.words[index * WORDS + SEQUENCE_HIGH]! * TWO_32 + this.words[index * WORDS + SEQUENCE_LOW]!;
  }

  /** Takes the pointer if it is not older than the one that is there. */
  put(index: number, segment: number, offset: number, checksum: number, sequence: number): void {
    if (this.words[index * WORDS + SEGMENT] !== 0 && this.sequence(index) > sequence) return;
    const at = index * WORDS;
    this.words[at + SEGMENT] = segment;
    this.words[at + OFFSET] = offset;
    this.words[at + CHECKSUM] = checksum;
    this.words[at + SEQUENCE_HIGH] = Math.floor(sequence / TWO_32);
    this.words[at + SEQUENCE_LOW] = sequence % TWO_32;
  }

  clear(index: number): void {
    this.words.fill(0, index * WORDS, (index + 1) * WORDS);
  }

  reset(): void {
    this.words.fill(0);
  }

  copyFrom(other: PointerBlock): void {
    this.words.set(other.words);
  }

  /** True if every chunk has a pointer. */
  isFull(): boolean {
    for (let at = 0; at < this.words.length; at += WORDS) if (this.words[at] === 0) return false;
    return true;
  }

  /** How many chunks have a pointer, holes included. */
  count(): number {
    let count = 0;
    for (let at = 0; at < this.words.length; at += WORDS) if (this.words[at] !== 0) count += 1;
    return count;
  }
}

export const BLOCK_BYTES = REGION_CHUNKS * WORDS * 4;

/** Some pointers of a region: what one version changed there. Small while it has few members. */
export class PointerSet {
  #sparse: Uint32Array | undefined = new Uint32Array(SPARSE_FIRST * (WORDS + 1));
  #count = 0;
  #full: PointerBlock | undefined;

  get count(): number {
    return this.#full ? this.#full.count() : this.#count;
  }

  put(index: number, segment: number, offset: number, checksum: number, sequence: number): void {
    if (this.#full) {
      this.#full.put(index, segment, offset, checksum, sequence);
      return;
    }
    let sparse = this.#sparse!;
    let at = 0;
    const end = this.#count * (WORDS + 1);
    while (at < end && sparse[at] !== index) at += WORDS + 1;
    if (at === end) {
      if (this.#count === SPARSE_MAX) {
        this.#becomeFull().put(index, segment, offset, checksum, sequence);
        return;
      }
      if (at === sparse.length) {
        sparse = new Uint32Array(sparse.length * 2);
        sparse.set(this.#sparse!);
        this.#sparse = sparse;
      }
      this.#count += 1;
    } else if (sparse[at + 1 + SEQUENCE_HIGH]! * TWO_32 + sparse[at + 1 + SEQUENCE_LOW]! > sequence) {
      return;
    }
    sparse[at] = index;
    sparse[at + 1 + SEGMENT] = segment;
    sparse[at + 1 + OFFSET] = offset;
    sparse[at + 1 + CHECKSUM] = checksum;
    sparse[at + 1 + SEQUENCE_HIGH] = Math.floor(sequence / TWO_32);
    sparse[at + 1 + SEQUENCE_LOW] = sequence % TWO_32;
  }

  #becomeFull(): PointerBlock {
    const full = new PointerBlock();
    this.mergeInto(full);
    this.#full = full;
    this.#sparse = undefined;
    return full;
  }

  /** Puts every pointer of the set into `block`, where the higher sequence counts. */
  mergeInto(block: PointerBlock): void {
    if (this.#full) {
      mergeBlocks(this.#full, block);
      return;
    }
    const sparse = this.#sparse!;
    for (let at = 0; at < this.#count * (WORDS + 1); at += WORDS + 1) {
      const sequence = sparse[at + 1 + SEQUENCE_HIGH]! * TWO_32 + sparse[at + 1 + SEQUENCE_LOW]!;
      block.put(sparse[at]!, sparse[at + 1]!, sparse[at + 2]!, sparse[at + 3]!, sequence);
    }
  }
}

/** Puts every pointer of `from` into `into`, where the higher sequence counts. */
export function mergeBlocks(from: PointerBlock, into: PointerBlock): void {
  for (let index = 0; index < REGION_CHUNKS; index++) {
    const segment = from.segment(index);
    if (segment !== 0)
      into.put(index, segment, from.offset(index), from.checksum(index), from.sequence(index));
  }
}
