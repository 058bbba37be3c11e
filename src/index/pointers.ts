/**
 * Pointers of a region in memory: where the chunks of 1 MiB of disk live. Pure.
 *
 * A region is REGION_CHUNKS consecutive chunks of a tree. A pointer is {segment, offset, checksum, sequence};
 * segment 0 means that there is none, segment HOLE that the chunk reads as zeros and hides what an ancestor has.
 *
 * Among pointers of one chunk the higher sequence counts. That holds along a path of the version tree too, because
 * only leaves are written: whatever a version wrote itself is newer than all that it inherits.
 */

import { assert } from '../base/errors.ts';

export const REGION_CHUNKS = 256;
export const REGION_SHIFT = 8;
/** A pointer that says: zeros from here on. */
export const HOLE = 0xffffffff;

const WORDS = 5;
/** With more pointers a block has a place for each chunk. */
const COMPACT_MAX = REGION_CHUNKS / 2;
/** A byte for each chunk: its place. */
const PLACES_WORDS = REGION_CHUNKS / 4;
const SEGMENT = 0;
const OFFSET = 1;
const CHECKSUM = 2;
const SEQUENCE_HIGH = 3;
const SEQUENCE_LOW = 4;
const TWO_32 = 2 ** 32;

/**
 * A pointer for each chunk of a region: the page of a head, or what a version changed there, if that is much. It has a place for
 * each; or, `compacted`, for those that there are: then the first words say which place a chunk has, a byte each, and place 0
 * stays empty, for chunks that have none.
 */
export class PointerBlock {
  #words: Uint32Array;
  #isCompact: boolean;
  /** Places that are given away, of a compact one. */
  #taken = 0;

  /** `pointers`: how many there is room for at first, if they are few. */
  constructor(pointers = REGION_CHUNKS) {
    this.#isCompact = pointers <= COMPACT_MAX;
    this.#words = new Uint32Array(this.#isCompact ? compactWords(pointers) : REGION_CHUNKS * WORDS);
  }

  /** The same pointers in less memory, if they are few: this one otherwise. */
  compacted(): PointerBlock {
    const count = this.count();
    if (count > COMPACT_MAX) return this;
    const small = new PointerBlock(count);
    for (let index = 0; index < REGION_CHUNKS; index++) {
      const at = this.#at(index);
      if (this.#words[at] !== 0) copyPointer(this.#words, at, small.#words, small.#take(index));
    }
    return small;
  }

  /** Of memory. */
  get bytes(): number {
    return this.#words.byteLength;
  }

  segment(index: number): number {
    return this.#words[this.#at(index) + SEGMENT]!;
  }

  offset(index: number): number {
    return this.#words[this.#at(index) + OFFSET]!;
  }

  checksum(index: number): number {
    return this.#words[this.#at(index) + CHECKSUM]!;
  }

  sequence(index: number): number {
    const at = this.#at(index);
    return this.#words[at + SEQUENCE_HIGH]! * TWO_32 + this.#words[at + SEQUENCE_LOW]!;
  }

  /** Takes the pointer if it is not older than the one that is there: a chunk that moved keeps its sequence. */
  put(index: number, segment: number, offset: number, checksum: number, sequence: number): void {
    if (this.segment(index) !== 0 && this.sequence(index) > sequence) return;
    this.#set(index, segment, offset, checksum, sequence);
  }

  /** Takes the pointer if it is newer than the one that is there: for who goes from later to earlier. */
  putBeneath(index: number, segment: number, offset: number, checksum: number, sequence: number): void {
    if (this.segment(index) !== 0 && this.sequence(index) >= sequence) return;
    this.#set(index, segment, offset, checksum, sequence);
  }

  /** Where the words of a chunk begin. Of those that have no place: with words that are all 0. */
  #at(index: number): number {
    return this.#isCompact ? PLACES_WORDS + this.#place(index) * WORDS : index * WORDS;
  }

  #place(index: number): number {
    return (this.#words[index >>> 2]! >>> ((index & 3) << 3)) & 0xff;
  }

  #set(index: number, segment: number, offset: number, checksum: number, sequence: number): void {
    const at = this.#isCompact && this.#place(index) === 0 ? this.#take(index) : this.#at(index);
    this.#words[at + SEGMENT] = segment;
    this.#words[at + OFFSET] = offset;
    this.#words[at + CHECKSUM] = checksum;
    this.#words[at + SEQUENCE_HIGH] = Math.floor(sequence / TWO_32);
    this.#words[at + SEQUENCE_LOW] = sequence % TWO_32;
  }

  /** Gives a chunk a place; answers where its words begin. Requires: it is compact, and the chunk has none. */
  #take(index: number): number {
    if (this.#taken === COMPACT_MAX) {
      this.#spread();
      return this.#at(index);
    }
    this.#taken += 1;
    if (compactWords(this.#taken) > this.#words.length) {
      const words = new Uint32Array(compactWords(Math.min(COMPACT_MAX, Math.max(4, 2 * this.#taken))));
      words.set(this.#words);
      this.#words = words;
    }
    this.#words[index >>> 2]! |= this.#taken << ((index & 3) << 3);
    return this.#at(index);
  }

  /** A place for each. */
  #spread(): void {
    const words = new Uint32Array(REGION_CHUNKS * WORDS);
    for (let index = 0; index < REGION_CHUNKS; index++)
      copyPointer(this.#words, this.#at(index), words, index * WORDS);
    this.#words = words;
    this.#isCompact = false;
  }

  clear(index: number): void {
    const at = this.#at(index);
    this.#words.fill(0, at, at + WORDS);
  }

  reset(): void {
    this.#words.fill(0);
    this.#taken = 0;
  }

  /** Requires: both have a place for each chunk. */
  copyFrom(other: PointerBlock): void {
    assert(!this.#isCompact && !other.#isCompact, 'whole blocks are copied');
    this.#words.set(other.#words);
  }

  /** True if every chunk has a pointer. */
  isFull(): boolean {
    for (let index = 0; index < REGION_CHUNKS; index++) if (this.segment(index) === 0) return false;
    return true;
  }

  /** How many chunks have a pointer, holes included. */
  count(): number {
    let count = 0;
    for (let index = 0; index < REGION_CHUNKS; index++) if (this.segment(index) !== 0) count += 1;
    return count;
  }
}

function compactWords(pointers: number): number {
  return PLACES_WORDS + (1 + pointers) * WORDS;
}

function copyPointer(from: Uint32Array, at: number, into: Uint32Array, to: number): void {
  for (let word = 0; word < WORDS; word++) into[to + word] = from[at + word]!;
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
