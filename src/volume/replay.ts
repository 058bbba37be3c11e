/**
 * Replay: entries of the log, in order, onto a catalog and an overlay. The same code recovers the tail behind a
 * checkpoint and rebuilds the index from the beginning of the log. Pure.
 *
 * A replay that starts at a checkpoint meets its catalog first: entries before its last part wait for it. One that
 * starts at the beginning builds the catalog from the changes. Later catalogs are passed by, but for the segments that they
 * state: the newest one says which files hold the log.
 */

import {
  ENTRY_CATALOG,
  ENTRY_CHANGE,
  ENTRY_CHUNKS,
  ENTRY_ZEROS,
  type Entry,
  type TextEntry,
} from '../log/entries.ts';
import type { Overlays } from '../index/pointer-index.ts';
import { type Catalog, parseJson } from './catalog.ts';
import { CatalogParts, decodeCatalog, decodeSegments, type StatedSegments } from './catalog-parts.ts';
import { type Change, labelsOf } from './change.ts';

export class Replay {
  catalog: Catalog | undefined;
  /** Highest numbers seen. */
  sequence = 0;
  label = 0;
  /** The catalog as it was when it was read: changes behind it have a higher sequence. 0 from the beginning. */
  catalogSequence = 0;
  /** What the catalog says about segments, and what the newest one that was read does. */
  stated: StatedSegments | undefined;
  newest: StatedSegments | undefined;
  /** Catalogs that were read as a whole. */
  catalogCount = 0;

  /** Pointers go to the active one. */
  readonly #overlays: Overlays;
  readonly #waiting: { segment: number; entry: Entry }[] = [];
  readonly #parts = new CatalogParts();

  /** `catalog` is empty for a replay from the beginning, undefined for one from a checkpoint. */
  constructor(overlays: Overlays, catalog: Catalog | undefined) {
    this.#overlays = overlays;
    this.catalog = catalog;
  }

  /**
   * The entries of a record of `segment`. `isKept`: it stands before the catalog, or holds moves; catalogs in it are
   * outdated, and so are changes, which the catalog knows to be.
   */
  apply(segment: number, entries: readonly Entry[], isKept = false): void {
    for (const entry of entries) {
      if (isKept && entry.kind === ENTRY_CATALOG) continue;
      if (entry.sequence > this.sequence) this.sequence = entry.sequence;
      if (entry.kind === ENTRY_CATALOG) this.#takePart(entry);
      else if (this.catalog !== undefined) this.#applyTo(this.catalog, segment, entry);
      else this.#waiting.push({ segment, entry });
    }
  }

  #takePart(entry: TextEntry): void {
    const texts = this.#parts.take(entry);
    if (texts === undefined) return;
    this.newest = decodeSegments(texts);
    this.catalogCount += 1;
    if (this.catalog !== undefined) return;
    const catalog = decodeCatalog(texts, entry.sequence);
    this.stated = this.newest;
    this.catalog = catalog;
    this.catalogSequence = entry.sequence;
    for (const node of catalog.tree.nodes()) this.label = Math.max(this.label, node.label);
    for (const { segment, entry: waiting } of this.#waiting) this.#applyTo(catalog, segment, waiting);
    this.#waiting.length = 0;
  }

  #applyTo(catalog: Catalog, segment: number, entry: Entry): void {
    switch (entry.kind) {
      case ENTRY_CHUNKS: {
        const { tree, label } = catalog.holderOf(entry.label) ?? {};
        if (tree === undefined || label === undefined) return; // of a version that is gone
        const { first, count, offset, checksums, sequence } = entry;
        this.#overlays.active.putChunks(tree, label, first, count, segment, offset, checksums, sequence);
        return;
      }
      case ENTRY_ZEROS: {
        const node = catalog.holderOf(entry.label);
        if (node !== undefined)
          this.#overlays.active.putZeros(node.tree, node.label, entry.first, entry.count, entry.sequence);
        return;
      }
      case ENTRY_CHANGE:
        this.#applyChange(catalog, parseJson<Change>(entry.text), entry.sequence);
        return;
      case ENTRY_CATALOG:
        return;
    }
  }

  #applyChange(catalog: Catalog, change: Change, sequence: number): void {
    catalog.apply(change, sequence);
    for (const label of labelsOf(change)) this.label = Math.max(this.label, label);
    if (change.op !== 'resize' || change.cut === null) return;
    const { label, first, count } = change.cut;
    const node = catalog.holderOf(label);
    if (node !== undefined) this.#overlays.active.putZeros(node.tree, node.label, first, count, sequence);
  }
}

/** Of a record that a checkpoint's catalog stands in, what the checkpoint has. */
export function entriesBeforeCatalog(entries: readonly Entry[]): readonly Entry[] {
  const at = entries.findIndex((entry) => entry.kind === ENTRY_CATALOG);
  return at < 0 ? entries : entries.slice(0, at);
}
