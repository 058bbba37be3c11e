/**
 * Pointers that versions changed, by tree and region, in flat memory: a scattered 4 KiB write costs one node of 32
 * bytes and an entry of a flat map, and nothing for the collector to follow. Pure.
 *
 *     tree -> region -> node -> node -> ...      node: next, label, index, segment, offset, checksum, sequence
 *
 * Invariants: nodes of a region are ordered by label, newest version first. A version has there either up to
 * SPARSE_MAX nodes, one for each chunk, or one node with the index BLOCK, which stands for a whole PointerBlock.
 */

import { CHUNK_BYTES } from '../base/units.ts';
import { BLOCK_BYTES, HOLE, mergeBlocks, PointerBlock } from './pointers.ts';
import { RegionMap } from './region-map.ts';

const NODE_WORDS = 8;
const NEXT = 0;
const LABEL = 1;
const INDEX = 2;
const SEGMENT = 3;
const OFFSET = 4;
const CHECKSUM = 5;
const SEQUENCE_HIGH = 6;
const SEQUENCE_LOW = 7;
const TWO_32 = 2 ** 32;

/** In the place of an index: SEGMENT is the number of a block. */
const BLOCK = 0xffffffff;
const SPARSE_MAX = 32;

/** Nodes are allocated in pieces, so that growing copies nothing. */
const PIECE_SHIFT = 13;
const PIECE_NODES = 1 << PIECE_SHIFT;

const LEAF_SHIFT = 8;

/** Where `count` chunks from `index` of a region on are stored, one behind the other; or HOLE, and nowhere. */
export interface StoredRun {
  index: number;
  count: number;
  segment: number;
  offset: number;
  checksums: Uint32Array;
  /** Where in `checksums` the first one stands. */
  from: number;
  sequence: number;
}

/** The changed regions of a tree. */
interface TreeChanges {
  /** The first node of each. */
  readonly heads: RegionMap;
  /** A bit for each 256 regions of which any changed: how the next one is found. */
  leaves: Uint32Array;
}

export class ChangeTable {
  readonly #trees = new Map<number, TreeChanges>();
  readonly #pieces: Uint32Array[] = [];
  readonly #blocks: PointerBlock[] = [];
  /** Node 0 is none. */
  #nodeCount = 1;
  #free = 0;
  #mapBytes = 0;
  readonly #labels = new Set<number>();
  /** Versions by region: one that changed two regions counts twice. */
  changeCount = 0;

  get usedBytes(): number {
    const nodes = this.#nodeCount * NODE_WORDS * 4;
    return nodes + this.#mapBytes + this.#blocks.length * (BLOCK_BYTES + 200);
  }

  hasVersion(label: number): boolean {
    return this.#labels.has(label);
  }

  trees(): IterableIterator<number> {
    return this.#trees.keys();
  }

  /** Changed regions of a tree, in order. */
  regions(tree: number): number[] {
    return this.#trees.get(tree)?.heads.sorted() ?? [];
  }

  /** The first changed region at or behind `from`, below `end`; -1 if there is none. */
  nextRegion(tree: number, from: number, end: number): number {
    const changes = this.#trees.get(tree);
    if (changes === undefined) return -1;
    const { heads, leaves } = changes;
    const leavesEnd = Math.min(leaves.length * 32, Math.ceil(end / 2 ** LEAF_SHIFT));
    let leaf = from >>> LEAF_SHIFT;
    while (leaf < leavesEnd) {
      const word = leaves[leaf >>> 5]! >>> (leaf & 31);
      if (word === 0) {
        leaf = (leaf | 31) + 1;
        continue;
      }
      leaf += 31 - Math.clz32(word & -word);
      const last = Math.min(end, (leaf + 1) << LEAF_SHIFT);
      for (let region = Math.max(from, leaf << LEAF_SHIFT); region < last; region++) {
        if (heads.get(region) !== 0) return region;
      }
      leaf += 1;
    }
    return -1;
  }

  /** Adds to `labels` the versions that changed anything in the region. */
  labelsInto(labels: Set<number>, tree: number, region: number): void {
    let node = this.#head(tree, region);
    while (node !== 0) {
      const { piece, at } = this.#at(node);
      labels.add(piece[at + LABEL]!);
      node = piece[at + NEXT]!;
    }
  }

  /** Puts what versions for which `takes` is true changed in the region into `block`. */
  mergeInto(block: PointerBlock, tree: number, region: number, takes: (label: number) => boolean): void {
    let node = this.#head(tree, region);
    while (node !== 0) {
      const { piece, at } = this.#at(node);
      if (takes(piece[at + LABEL]!)) this.#mergeNode(piece, at, block);
      node = piece[at + NEXT]!;
    }
  }

  #mergeNode(piece: Uint32Array, at: number, block: PointerBlock): void {
    const segment = piece[at + SEGMENT]!;
    if (piece[at + INDEX] === BLOCK) mergeBlocks(this.#blocks[segment]!, block);
    else
      block.put(
        piece[at + INDEX]!,
        segment,
        piece[at + OFFSET]!,
        piece[at + CHECKSUM]!,
        sequenceOf(piece, at),
      );
  }

  /** Puts pointers of one version in a region. */
  put(tree: number, label: number, region: number, run: StoredRun): void {
    const changes = this.#changesOf(tree);
    let before = 0;
    let first = changes.heads.get(region);
    if (first === 0) noteLeaf(changes, region >>> LEAF_SHIFT);
    while (first !== 0 && this.#word(first, LABEL) > label) {
      before = first;
      first = this.#word(first, NEXT);
    }
    let own = 0;
    let behind = first;
    while (behind !== 0) {
      const piece = this.#pieces[behind >>> PIECE_SHIFT]!;
      const at = (behind & (PIECE_NODES - 1)) * NODE_WORDS;
      if (piece[at + LABEL] !== label) break;
      if (run.count === 1 && piece[at + INDEX] === run.index) {
        // The one chunk has a node, and nothing else changes.
        fillAgain(piece, at, run, 0);
        return;
      }
      own += 1;
      behind = piece[at + NEXT]!;
    }
    if (own === 0) {
      this.changeCount += 1;
      this.#labels.add(label);
    }
    if (own > 0 && this.#word(first, INDEX) === BLOCK) {
      putRun(this.#blocks[this.#word(first, SEGMENT)]!, run);
      return;
    }
    let link = first;
    if (own + run.count > SPARSE_MAX) link = this.#becomeBlock(label, first, behind, run);
    else if (run.count === 1) link = this.#putNew(label, first, run, 0);
    else for (let i = 0; i < run.count; i++) link = this.#putOne(label, link, behind, run, i);
    if (before !== 0) this.#setWord(before, NEXT, link);
    else if (link !== first || first === 0) this.#setHead(changes.heads, region, link);
  }

  /** A version's nodes from `first` on, below `behind`, become a block; answers its node. */
  #becomeBlock(label: number, first: number, behind: number, run: StoredRun): number {
    const block = new PointerBlock();
    for (let node = first; node !== behind; ) {
      const { piece, at } = this.#at(node);
      this.#mergeNode(piece, at, block);
      const next = piece[at + NEXT]!;
      piece[at + NEXT] = this.#free;
      this.#free = node;
      node = next;
    }
    putRun(block, run);
    this.#blocks.push(block);
    const node = this.#take();
    const { piece, at } = this.#at(node);
    piece[at + NEXT] = behind;
    piece[at + LABEL] = label;
    piece[at + INDEX] = BLOCK;
    piece[at + SEGMENT] = this.#blocks.length - 1;
    return node;
  }

  /** Puts chunk `i` of the run into the version's nodes from `first` on, below `behind`; answers the first of them. */
  #putOne(label: number, first: number, behind: number, run: StoredRun, i: number): number {
    const index = run.index + i;
    let node = first;
    while (node !== behind && this.#word(node, INDEX) !== index) node = this.#word(node, NEXT);
    if (node === behind) return this.#putNew(label, first, run, i);
    const { piece, at } = this.#at(node);
    fillAgain(piece, at, run, i);
    return first;
  }

  /** A node for chunk `i` of the run, in front of `next`. */
  #putNew(label: number, next: number, run: StoredRun, i: number): number {
    const node = this.#take();
    const { piece, at } = this.#at(node);
    piece[at + NEXT] = next;
    piece[at + LABEL] = label;
    piece[at + INDEX] = run.index + i;
    fill(piece, at, run, i);
    return node;
  }

  #setHead(heads: RegionMap, region: number, node: number): void {
    const bytes = heads.usedBytes;
    heads.set(region, node);
    this.#mapBytes += heads.usedBytes - bytes;
  }

  #changesOf(tree: number): TreeChanges {
    let changes = this.#trees.get(tree);
    if (changes === undefined) {
      changes = { heads: new RegionMap(), leaves: new Uint32Array(2) };
      this.#mapBytes += changes.heads.usedBytes;
      this.#trees.set(tree, changes);
    }
    return changes;
  }

  #head(tree: number, region: number): number {
    return this.#trees.get(tree)?.heads.get(region) ?? 0;
  }

  #take(): number {
    if (this.#free !== 0) {
      const node = this.#free;
      this.#free = this.#word(node, NEXT);
      return node;
    }
    const node = this.#nodeCount++;
    if (node >>> PIECE_SHIFT === this.#pieces.length)
      this.#pieces.push(new Uint32Array(PIECE_NODES * NODE_WORDS));
    return node;
  }

  #at(node: number): { piece: Uint32Array; at: number } {
    return { piece: this.#pieces[node >>> PIECE_SHIFT]!, at: (node & (PIECE_NODES - 1)) * NODE_WORDS };
  }

  #word(node: number, word: number): number {
    return this.#pieces[node >>> PIECE_SHIFT]![(node & (PIECE_NODES - 1)) * NODE_WORDS + word]!;
  }

  #setWord(node: number, word: number, value: number): void {
    this.#pieces[node >>> PIECE_SHIFT]![(node & (PIECE_NODES - 1)) * NODE_WORDS + word] = value;
  }
}

function noteLeaf(changes: TreeChanges, leaf: number): void {
  if (leaf >>> 5 >= changes.leaves.length) {
    const longer = new Uint32Array(2 ** Math.ceil(Math.log2((leaf >>> 5) + 1)));
    longer.set(changes.leaves);
    changes.leaves = longer;
  }
  changes.leaves[leaf >>> 5]! |= 1 << (leaf & 31);
}

function sequenceOf(piece: Uint32Array, at: number): number {
  return piece[at + SEQUENCE_HIGH]! * TWO_32 + piece[at + SEQUENCE_LOW]!;
}

/** What the node of chunk `i` of the run says of it. */
function fill(piece: Uint32Array, at: number, run: StoredRun, i: number): void {
  const isHole = run.segment === HOLE;
  piece[at + SEGMENT] = run.segment;
  piece[at + OFFSET] = isHole ? 0 : run.offset + i * CHUNK_BYTES;
  piece[at + CHECKSUM] = isHole ? 0 : run.checksums[run.from + i]!;
  piece[at + SEQUENCE_HIGH] = Math.floor(run.sequence / TWO_32);
  piece[at + SEQUENCE_LOW] = run.sequence % TWO_32;
}

/** The same, unless the node has something newer. */
function fillAgain(piece: Uint32Array, at: number, run: StoredRun, i: number): void {
  if (sequenceOf(piece, at) <= run.sequence) fill(piece, at, run, i);
}

function putRun(block: PointerBlock, run: StoredRun): void {
  const { index, count, segment, offset, checksums, from, sequence } = run;
  for (let i = 0; i < count; i++) {
    if (segment === HOLE) block.put(index + i, HOLE, 0, 0, sequence);
    else block.put(index + i, segment, offset + i * CHUNK_BYTES, checksums[from + i]!, sequence);
  }
}
