/** Whether anything reads chunks that were found damaged, and what: as the index and what is behind its checkpoint say. */

import { StoreError } from '../base/errors.ts';
import type { Overlays, PointerIndex } from '../index/pointer-index.ts';
import { PointerBlock, REGION_CHUNKS } from '../index/pointers.ts';
import type { BadChunk } from '../log/segment-scrub.ts';
import type { Catalog } from './catalog.ts';
import { finding } from '../check/finding.ts';
import { isOfDatabase } from './index-errors.ts';
import type { IndexKeeper } from './index-keeper.ts';
import type { Finding } from './summary.ts';

export interface JudgedStore {
  readonly catalog: Catalog;
  readonly keeper: IndexKeeper;
}

/** Findings about chunks of one segment. Of an index that cannot be read nobody knows: there they count as read. */
export async function judgeChunks(store: JudgedStore, chunks: readonly BadChunk[]): Promise<Finding[]> {
  if (chunks.length === 0) return [];
  const { catalog, keeper } = store;
  const findings: Finding[] = [];
  let dead = 0;
  await keeper.exclusively(async (index) => {
    const reader = new PointerOwners(index, keeper.overlays, catalog);
    for (const bad of chunks) {
      const name = await reader.nameOf(bad).catch((error: unknown) => {
        if (!(error instanceof StoreError) && !isOfDatabase(error)) throw error;
        return catalog.describe(bad.label);
      });
      if (name === undefined) dead += 1;
      else findings.push(chunkDamaged(bad, name));
    }
  });
  if (dead > 0) {
    const what = dead === 1 ? 'a chunk that nothing reads' : `${dead} chunks that nothing reads`;
    findings.push(finding('DEAD_CHUNK_DAMAGED', `segment ${chunks[0]!.segment}: wrong checksums of ${what}`));
  }
  return findings;
}

function chunkDamaged({ segment, sequence, chunk }: BadChunk, name: string): Finding {
  const what = `chunk ${chunk} of ${name} has a wrong checksum`;
  return finding('CHUNK_DAMAGED', `segment ${segment}, sequence ${sequence}: ${what}`);
}

/** Which versions' pointers lead to a place. The region that was looked at last is kept: what is damaged lies together. */
class PointerOwners {
  readonly #index: PointerIndex;
  readonly #overlays: Overlays;
  readonly #catalog: Catalog;
  #key = '';
  #blocks = new Map<number, PointerBlock>();

  constructor(index: PointerIndex, overlays: Overlays, catalog: Catalog) {
    this.#index = index;
    this.#overlays = overlays;
    this.#catalog = catalog;
  }

  /** The name of a version that reads the chunk; undefined if there is none. */
  async nameOf({ segment, offset, label, chunk }: BadChunk): Promise<string | undefined> {
    const tree = this.#catalog.holderOf(label)?.tree;
    if (tree === undefined) return undefined; // of a version that is gone, and left its pointers to nobody
    const at = chunk % REGION_CHUNKS;
    await this.#load(tree, Math.floor(chunk / REGION_CHUNKS));
    for (const [owner, block] of this.#blocks) {
      if (block.segment(at) !== segment || block.offset(at) !== offset) continue;
      const name = this.#readerOf(owner, at);
      if (name !== undefined) return name;
    }
    return undefined;
  }

  async #load(tree: number, region: number): Promise<void> {
    const key = `${tree}/${region}`;
    if (key === this.#key) return;
    this.#key = '';
    const blocks = await this.#index.regionBlocks(tree, region);
    for (const overlay of [this.#overlays.frozen, this.#overlays.active]) {
      if (overlay === undefined) continue;
      for (const label of new Set([...blocks.keys(), ...overlay.labels(tree, region)])) {
        const block = blocks.get(label) ?? new PointerBlock();
        overlay.mergeVersionInto(block, tree, region, label);
        blocks.set(label, block);
      }
    }
    this.#blocks = blocks;
    this.#key = key;
  }

  /** The version itself, or one below it that inherits the pointer. */
  #readerOf(owner: number, at: number): string | undefined {
    const { tree } = this.#catalog;
    const below = [owner];
    for (const label of below) {
      if (this.#catalog.at(label) !== undefined) return this.#catalog.describe(label);
      for (const child of tree.children(label)) {
        if ((this.#blocks.get(child)?.segment(at) ?? 0) === 0) below.push(child);
      }
    }
    return undefined;
  }
}
