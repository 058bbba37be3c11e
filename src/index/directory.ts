/**
 * Which pointer rows there are: a tree of checksums over the rows of each version tree, so that a missing row, an
 * outdated one or a damaged one is noticed by whoever loads a region, and never reads as zeros or as old data.
 *
 *     checkpoint -> root of a tree -> 512 middle nodes -> 512 leaf nodes each -> 256 regions each -> pointer rows
 *
 * A leaf names for each region the only pointer row {label, generation, checksum}, or, with the label LIST, the
 * list row that names them all. A node above holds the checksums of those below. The xor of the roots' checksums
 * stands in the checkpoint row.
 *
 * Layout of a node behind its checksum: a bitmap of what it has (leaf 32 bytes, else 64), then for each in order
 * label u32, generation u32, checksum u32 in a leaf, checksum u32 above. A list row: {label u32, generation u32,
 * checksum u32} for each pointer row, newest version first.
 *
 * Nodes are changed by a copy (DirectoryEdit), and put in place once LevelDB has the batch.
 */

import type { AbstractLevel } from 'abstract-level';
import { ByteReader, ByteWriter } from '../base/bytes.ts';
import { assert } from '../base/errors.ts';
import { othersFirst } from '../base/event-loop.ts';
import { ListCache, type StatedList } from './list-cache.ts';
import { encodeRowList, RowList, type RowReference } from './row-list.ts';
import { directoryKey, listKey, openRow, openStatedRow, sealRow } from './rows.ts';

export type IndexDatabase = AbstractLevel<string | Buffer | Uint8Array, Buffer, Buffer>;

/** What rows are read from: the database, or a snapshot of it. */
export interface RowSource {
  get(key: Buffer): Promise<Buffer | undefined>;
  getMany(keys: Buffer[]): Promise<(Buffer | undefined)[]>;
  iterator(range: { gte: Buffer; lt: Buffer }): AsyncIterable<[Buffer, Buffer]>;
}

const CHECKSUM_BYTES = 4;

/** What takes rows of a batch. */
export interface RowSink {
  put(key: Buffer, value: Buffer): void;
  del(key: Buffer): void;
}

/** Label in a leaf that stands for a list row. */
const LIST = 0xffffffff;
const LEAF_REGIONS = 256;
const FANOUT = 512;
export const REGIONS_MAX = LEAF_REGIONS * FANOUT * FANOUT;
const LEAF = 1;
const MIDDLE = 2;
const ROOT = 3;
/** Nodes that are written before requests have their turn. */
const NODES_AT_ONCE = 8;
const LEAF_NODE_BYTES = 3 * 4 * LEAF_REGIONS;

class LeafNode {
  readonly labels = new Uint32Array(LEAF_REGIONS);
  readonly generations = new Uint32Array(LEAF_REGIONS);
  readonly checksums = new Uint32Array(LEAF_REGIONS);

  copy(): LeafNode {
    const node = new LeafNode();
    node.labels.set(this.labels);
    node.generations.set(this.generations);
    node.checksums.set(this.checksums);
    return node;
  }

  encode(): Buffer | undefined {
    const present = this.labels.reduce((count, label) => count + (label === 0 ? 0 : 1), 0);
    if (present === 0) return undefined;
    const value = Buffer.alloc(CHECKSUM_BYTES + LEAF_REGIONS / 8 + 12 * present);
    const out = new ByteWriter(value, CHECKSUM_BYTES + LEAF_REGIONS / 8);
    for (let i = 0; i < LEAF_REGIONS; i++) {
      if (this.labels[i] === 0) continue;
      setBit(value, i);
      out.u32(this.labels[i]!).u32(this.generations[i]!).u32(this.checksums[i]!);
    }
    return value;
  }

  static decode(value: Buffer): LeafNode {
    const node = new LeafNode();
    const input = new ByteReader(value, CHECKSUM_BYTES + LEAF_REGIONS / 8);
    for (let i = 0; i < LEAF_REGIONS; i++) {
      if (!hasBit(value, i)) continue;
      node.labels[i] = input.u32();
      node.generations[i] = input.u32();
      node.checksums[i] = input.u32();
    }
    return node;
  }
}

class UpperNode {
  readonly present = new Uint8Array(FANOUT);
  readonly checksums = new Uint32Array(FANOUT);

  copy(): UpperNode {
    const node = new UpperNode();
    node.present.set(this.present);
    node.checksums.set(this.checksums);
    return node;
  }

  set(index: number, checksum: number | undefined): void {
    this.present[index] = checksum === undefined ? 0 : 1;
    this.checksums[index] = checksum ?? 0;
  }

  encode(): Buffer | undefined {
    const count = this.present.reduce((sum, bit) => sum + bit, 0);
    if (count === 0) return undefined;
    const value = Buffer.alloc(CHECKSUM_BYTES + FANOUT / 8 + 4 * count);
    const out = new ByteWriter(value, CHECKSUM_BYTES + FANOUT / 8);
    for (let i = 0; i < FANOUT; i++) {
      if (this.present[i] === 0) continue;
      setBit(value, i);
      out.u32(this.checksums[i]!);
    }
    return value;
  }

  static decode(value: Buffer): UpperNode {
    const node = new UpperNode();
    const input = new ByteReader(value, CHECKSUM_BYTES + FANOUT / 8);
    for (let i = 0; i < FANOUT; i++) if (hasBit(value, i)) node.set(i, input.u32());
    return node;
  }
}

function setBit(value: Buffer, index: number): void {
  value[CHECKSUM_BYTES + (index >> 3)]! |= 0x80 >> (index & 7);
}

function hasBit(value: Buffer, index: number): boolean {
  return (value[CHECKSUM_BYTES + (index >> 3)]! & (0x80 >> (index & 7))) !== 0;
}

/** The only row that a leaf names, or none. */
function rowsIn({ labels, generations, checksums }: LeafNode, slot: number): RowList {
  const label = labels[slot]!;
  if (label === 0) return new RowList();
  return RowList.of({ label, generation: generations[slot]!, checksum: checksums[slot]! });
}

/** The list that a leaf names. */
function listIn({ generations, checksums }: LeafNode, tree: number, region: number): StatedList {
  const slot = region % LEAF_REGIONS;
  return { tree, region, generation: generations[slot]!, checksum: checksums[slot]! };
}

interface Root {
  node: UpperNode;
  checksum: number;
}

const leafOf = (region: number): number => Math.floor(region / LEAF_REGIONS);
const middleOf = (leaf: number): number => Math.floor(leaf / FANOUT);
const leafKey = (tree: number, leaf: number): number => tree * FANOUT * FANOUT + leaf;
const middleKey = (tree: number, middle: number): number => tree * FANOUT + middle;

export class Directory {
  readonly #database: RowSource;
  readonly #boundBytes: number;
  readonly #roots: Map<number, Root>;
  readonly #middles = new Map<number, UpperNode>();
  /** In order of last use. */
  readonly #leaves = new Map<number, LeafNode>();
  readonly #lists = new ListCache();

  constructor(database: RowSource, boundBytes: number, roots: ReadonlyMap<number, Root> = new Map()) {
    this.#database = database;
    this.#boundBytes = boundBytes;
    this.#roots = new Map(roots);
  }

  /** The directory as it is now, read from a source that stays as it is now. */
  pinned(source: RowSource, boundBytes: number): Directory {
    return new Directory(source, boundBytes, this.#roots);
  }

  get usedBytes(): number {
    return this.#leaves.size * LEAF_NODE_BYTES + this.#middles.size * 5 * FANOUT;
  }

  /** Reads every root. @throws INDEX_DAMAGED if they are not those of the checkpoint */
  async open(): Promise<number> {
    let digest = 0;
    const range = { gte: directoryKey(0, ROOT, 0), lt: directoryKey(0, ROOT + 1, 0) };
    for await (const [key, value] of this.#database.iterator(range)) {
      const checksum = openRow(key, value);
      digest ^= checksum;
      this.#roots.set(key.readUInt32BE(2), { node: UpperNode.decode(value), checksum });
    }
    return digest >>> 0;
  }

  /** The pointer rows of a region, newest version first; none is an answer. @throws INDEX_DAMAGED */
  async rows(tree: number, region: number): Promise<RowReference[]> {
    const leaf = await this.leaf(tree, leafOf(region));
    return leaf === undefined ? [] : await this.rowsOf(leaf, tree, region);
  }

  async rowsOf(leaf: LeafNode, tree: number, region: number): Promise<RowReference[]> {
    return (await this.#listOf(leaf, tree, region)).next(Infinity);
  }

  /** Those of several regions, in their order; asks for all lists at once. @throws INDEX_DAMAGED */
  async rowsOfAll(
    places: readonly { tree: number; region: number }[],
    leafAt?: (tree: number, number: number) => Promise<LeafNode | undefined>,
  ): Promise<RowReference[][]> {
    return (await this.rowLists(places, leafAt)).map((list) => list.next(Infinity));
  }

  /** The same, for who may not want all rows. @throws INDEX_DAMAGED */
  async rowLists(
    places: readonly { tree: number; region: number }[],
    leafAt = (tree: number, number: number): Promise<LeafNode | undefined> => this.leaf(tree, number),
  ): Promise<RowList[]> {
    const all: RowList[] = [];
    const keys: Buffer[] = [];
    const listed: { place: number; stated: StatedList }[] = [];
    for (const [place, { tree, region }] of places.entries()) {
      const leaf = await leafAt(tree, leafOf(region));
      const slot = region % LEAF_REGIONS;
      const stated = leaf?.labels[slot] === LIST ? listIn(leaf, tree, region) : undefined;
      const value = stated === undefined ? undefined : this.#lists.get(stated);
      all.push(leaf === undefined || stated !== undefined ? new RowList(value) : rowsIn(leaf, slot));
      if (stated === undefined || value !== undefined) continue;
      keys.push(listKey(tree, region));
      listed.push({ place, stated });
    }
    const values = keys.length > 0 ? await this.#database.getMany(keys) : [];
    listed.forEach(({ place, stated }, i) => {
      all[place] = this.#opened(stated, keys[i]!, values[i]);
    });
    return all;
  }

  /** The same as `rows`, for who may not want all of them. @throws INDEX_DAMAGED */
  async rowList(tree: number, region: number): Promise<RowList> {
    const leaf = await this.leaf(tree, leafOf(region));
    return leaf === undefined ? new RowList() : await this.#listOf(leaf, tree, region);
  }

  async #listOf(leaf: LeafNode, tree: number, region: number): Promise<RowList> {
    const slot = region % LEAF_REGIONS;
    if (leaf.labels[slot] !== LIST) return rowsIn(leaf, slot);
    const stated = listIn(leaf, tree, region);
    const value = this.#lists.get(stated);
    if (value !== undefined) return new RowList(value);
    const key = listKey(tree, region);
    return this.#opened(stated, key, await this.#database.get(key));
  }

  #opened(stated: StatedList, key: Buffer, value: Buffer | undefined): RowList {
    const opened = openStatedRow(key, value, stated.checksum);
    this.#lists.put(stated, opened);
    return new RowList(opened);
  }

  /** The first region at or behind `from` that has rows, below `end`; -1 if there is none. */
  async nextRegion(tree: number, from: number, end: number): Promise<number> {
    const root = this.#roots.get(tree)?.node;
    let region = from;
    while (root !== undefined && region < end) {
      const leafNumber = leafOf(region);
      const middleNumber = middleOf(leafNumber);
      if (root.present[middleNumber] === 0) {
        region = (middleNumber + 1) * FANOUT * LEAF_REGIONS;
        continue;
      }
      const middle = await this.#middle(tree, middleNumber);
      if (middle === undefined || middle.present[leafNumber % FANOUT] === 0) {
        region = (leafNumber + 1) * LEAF_REGIONS;
        continue;
      }
      const leaf = await this.leaf(tree, leafNumber);
      const slot =
        leaf?.labels.findIndex((label, index) => label !== 0 && index >= region % LEAF_REGIONS) ?? -1;
      if (slot >= 0) {
        const found = leafNumber * LEAF_REGIONS + slot;
        return found < end ? found : -1;
      }
      region = (leafNumber + 1) * LEAF_REGIONS;
    }
    return -1;
  }

  /** Trees that have rows. */
  trees(): number[] {
    return [...this.#roots.keys()].sort((a, b) => a - b);
  }

  root(tree: number): UpperNode | undefined {
    return this.#roots.get(tree)?.node;
  }

  async #middle(tree: number, number: number): Promise<UpperNode | undefined> {
    const root = this.#roots.get(tree)?.node;
    if (root === undefined || root.present[number] === 0) return undefined;
    const cached = this.#middles.get(middleKey(tree, number));
    if (cached !== undefined) return cached;
    const key = directoryKey(tree, MIDDLE, number);
    const node = UpperNode.decode(openStatedRow(key, await this.#database.get(key), root.checksums[number]!));
    // A checkpoint may have put a newer node in place while this read was under way.
    if (this.#roots.get(tree)?.node === root) this.#middles.set(middleKey(tree, number), node);
    return node;
  }

  middle(tree: number, number: number): Promise<UpperNode | undefined> {
    return this.#middle(tree, number);
  }

  async leaf(tree: number, number: number): Promise<LeafNode | undefined> {
    const cacheKey = leafKey(tree, number);
    const cached = this.#leaves.get(cacheKey);
    if (cached !== undefined) {
      this.#leaves.delete(cacheKey);
      this.#leaves.set(cacheKey, cached);
      return cached;
    }
    const root = this.#roots.get(tree)?.node;
    const middle = await this.#middle(tree, middleOf(number));
    if (middle === undefined || middle.present[number % FANOUT] === 0) return undefined;
    const key = directoryKey(tree, LEAF, number);
    const stated = middle.checksums[number % FANOUT]!;
    const node = LeafNode.decode(openStatedRow(key, await this.#database.get(key), stated));
    if (this.#roots.get(tree)?.node === root) this.#keepLeaf(cacheKey, node);
    return node;
  }

  #keepLeaf(cacheKey: number, node: LeafNode): void {
    this.#leaves.delete(cacheKey);
    this.#leaves.set(cacheKey, node);
    for (const oldest of this.#leaves.keys()) {
      if (this.#leaves.size * LEAF_NODE_BYTES <= this.#boundBytes) break;
      this.#leaves.delete(oldest);
    }
  }

  /** Puts what an edit changed in place; the rows are in LevelDB. */
  install(
    leaves: Map<number, LeafNode>,
    middles: Map<number, UpperNode>,
    roots: Map<number, Root | undefined>,
  ): void {
    for (const [tree, root] of roots) {
      if (root === undefined) this.#roots.delete(tree);
      else this.#roots.set(tree, root);
    }
    for (const [key, node] of middles) this.#middles.set(key, node);
    for (const [key, node] of leaves) this.#keepLeaf(key, node);
  }

  rootChecksum(tree: number): number | undefined {
    return this.#roots.get(tree)?.checksum;
  }

  rootsDigest(changed: Map<number, Root | undefined>): number {
    let digest = 0;
    for (const [tree, root] of this.#roots) if (!changed.has(tree)) digest ^= root.checksum;
    for (const root of changed.values()) digest ^= root?.checksum ?? 0;
    return digest >>> 0;
  }
}

/** Changes to the directory for one batch. One edit at a time; reads go on over the old nodes until `install`. */
export class DirectoryEdit {
  readonly #directory: Directory;
  readonly #sink: RowSink;
  readonly #generation: number;
  readonly #leaves = new Map<number, { tree: number; number: number; node: LeafNode }>();
  readonly #middles = new Map<number, UpperNode>();
  readonly #roots = new Map<number, Root | undefined>();

  constructor(directory: Directory, sink: RowSink, generation: number) {
    this.#directory = directory;
    this.#sink = sink;
    this.#generation = generation;
  }

  async rows(tree: number, region: number): Promise<RowReference[]> {
    const changed = this.#leaves.get(leafKey(tree, leafOf(region)));
    if (changed === undefined) return await this.#directory.rows(tree, region);
    return await this.#directory.rowsOf(changed.node, tree, region);
  }

  /** See Directory.rowsOfAll. */
  rowsOfAll(places: readonly { tree: number; region: number }[]): Promise<RowReference[][]> {
    return this.#directory.rowsOfAll(
      places,
      async (tree, number) =>
        this.#leaves.get(leafKey(tree, number))?.node ?? (await this.#directory.leaf(tree, number)),
    );
  }

  /** States the pointer rows of a region, which replace `before`; writes or removes its list row. */
  async set(tree: number, region: number, before: number, rows: RowReference[]): Promise<void> {
    assert(region < REGIONS_MAX, 'a region lies in the directory');
    const leaf = await this.#leafForChange(tree, leafOf(region));
    const slot = region % LEAF_REGIONS;
    const key = listKey(tree, region);
    if (rows.length > 1) {
      rows.sort((a, b) => b.label - a.label || b.generation - a.generation);
      const value = encodeRowList(rows);
      leaf.labels[slot] = LIST;
      leaf.generations[slot] = this.#generation;
      leaf.checksums[slot] = sealRow(key, value);
      this.#sink.put(key, value);
      return;
    }
    if (before > 1) this.#sink.del(key);
    leaf.labels[slot] = rows[0]?.label ?? 0;
    leaf.generations[slot] = rows[0]?.generation ?? 0;
    leaf.checksums[slot] = rows[0]?.checksum ?? 0;
  }

  async #leafForChange(tree: number, number: number): Promise<LeafNode> {
    const key = leafKey(tree, number);
    let changed = this.#leaves.get(key);
    if (changed === undefined) {
      const node = (await this.#directory.leaf(tree, number))?.copy() ?? new LeafNode();
      changed = { tree, number, node };
      this.#leaves.set(key, changed);
    }
    return changed.node;
  }

  /** Writes the changed nodes from the leaves up; answers the digest of all roots. */
  async finish(): Promise<number> {
    let written = 0;
    for (const { tree, number, node } of this.#leaves.values()) {
      if (++written % NODES_AT_ONCE === 0) await othersFirst();
      const middle = await this.#middleForChange(tree, middleOf(number));
      middle.set(number % FANOUT, this.#write(directoryKey(tree, LEAF, number), node.encode()));
    }
    for (const [key, node] of this.#middles) {
      const tree = Math.floor(key / FANOUT);
      const root = this.#rootForChange(tree);
      root.node.set(key % FANOUT, this.#write(directoryKey(tree, MIDDLE, key % FANOUT), node.encode()));
    }
    for (const [tree, root] of this.#roots) {
      const checksum = this.#write(directoryKey(tree, ROOT, 0), root!.node.encode());
      this.#roots.set(tree, checksum === undefined ? undefined : { node: root!.node, checksum });
    }
    return this.#directory.rootsDigest(this.#roots);
  }

  #write(key: Buffer, value: Buffer | undefined): number | undefined {
    if (value === undefined) {
      this.#sink.del(key);
      return undefined;
    }
    const checksum = sealRow(key, value);
    this.#sink.put(key, value);
    return checksum;
  }

  async #middleForChange(tree: number, number: number): Promise<UpperNode> {
    const key = middleKey(tree, number);
    let node = this.#middles.get(key);
    if (node === undefined) {
      node = (await this.#directory.middle(tree, number))?.copy() ?? new UpperNode();
      this.#middles.set(key, node);
    }
    return node;
  }

  #rootForChange(tree: number): Root {
    let root = this.#roots.get(tree);
    if (root === undefined) {
      root = { node: this.#directory.root(tree)?.copy() ?? new UpperNode(), checksum: 0 };
      this.#roots.set(tree, root);
    }
    return root;
  }

  /** The batch is in LevelDB: from now on reads see it. */
  install(): void {
    const leaves = new Map([...this.#leaves].map(([key, { node }]) => [key, node]));
    this.#directory.install(leaves, this.#middles, this.#roots);
  }
}
