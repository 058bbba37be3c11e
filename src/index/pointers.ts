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

/** A pointer for each chunk of a region: the page of a head, or what a version changed there, if that is much. */
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

  /** Takes the pointer if it is not older than the one that is there: a chunk that moved keeps its sequence. */
  put(index: number, segment: number, offset: number, checksum: number, sequence: number): void {
    if (this.words[index * WORDS + SEGMENT] !== 0 && this.sequence(index) > sequence) return;
    this.#set(index, segment, offset, checksum, sequence);
  }

  /** Takes the pointer if it is newer than the one that is there: for who goes from later to earlier. */
  putBeneath(index: number, segment: number, offset: number, checksum: number, sequence: number): void {
    if (this.words[index * WORDS + SEGMENT] !== 0 && this.sequence(index) >= sequence) return;
    this.#set(index, segment, offset, checksum, sequence);
  }

  #set(index: number, segment: number, offset: number, checksum: number, sequence: number): void {
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

/** Puts every pointer of `from` into `into`, where the higher sequence counts. */
export function mergeBlocks(from: PointerBlock, into: PointerBlock): void {
  for (let index = 0; index < REGION_CHUNKS; index++) {
    const segment = from.segment(index);
    if (segment !== 0)
      into.put(index, segment, from.offset(index), from.checksum(index), from.sequence(index));
  }
}
