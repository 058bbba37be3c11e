/**
 * The catalog as of the end of the log, without an index, and without opening the store: for who looks at a store that may be
 * damaged, or in use.
 *
 * The log is read twice: as recovery reads it, to find the newest catalog that is there as a whole; and from that one on,
 * for the changes behind it. Only texts are kept. Where the log is cut off, what lies behind the cut is looked at too.
 */

import { hasCode } from '../base/errors.ts';
import { CATALOG_FIRST, CATALOG_LAST, ENTRY_CATALOG, ENTRY_CHANGE, type TextEntry } from '../log/entries.ts';
import { entriesOf, type ScannedRecord, SegmentScanner } from '../log/scan.ts';
import type { LogBase } from '../log/superblock.ts';
import { LogTail, type TailOptions } from '../log/tail.ts';
import { Catalog, parseJson } from './catalog.ts';
import { decodeCatalog, decodeSegments, type StatedSegments } from './catalog-parts.ts';
import type { Change } from './change.ts';
import { applyIfPossible } from './change-audit.ts';
import type { LogPlace } from './whole-log.ts';

export interface EndOfLog {
  readonly catalog: Catalog;
  /** What the newest catalog says about segments; undefined if there is none, or one that says nothing. */
  readonly stated: StatedSegments | undefined;
  /** Where that catalog stands; undefined if the log has none. */
  readonly newest: LogBase | undefined;
  /** What is wrong with the log, a sentence each. */
  readonly damage: readonly string[];
}

/** @throws IO */
export async function readEndOfLog(
  place: LogPlace,
  base: LogBase | undefined,
  options: TailOptions = {},
): Promise<EndOfLog> {
  const damage: string[] = [];
  const newest = await findNewestCatalog(place, base, options, damage);
  let catalog: Catalog | undefined = newest === undefined ? new Catalog() : undefined;
  let stated: StatedSegments | undefined;
  let parts: string[] = [];
  const tail = new LogTail(place.storage, place.uuid, newest?.append ?? 0, options);
  for await (const record of tail.records(newest)) {
    for (const entry of textsOf(record)) {
      if (entry.kind === ENTRY_CHANGE) {
        if (catalog !== undefined) applyOrSay(catalog, entry, damage);
        continue;
      }
      if ((entry.flags & CATALOG_FIRST) !== 0) parts = [];
      parts.push(entry.text);
      if ((entry.flags & CATALOG_LAST) === 0) continue;
      if (catalog === undefined) {
        catalog = decodeCatalog(parts, entry.sequence);
        stated = decodeSegments(parts);
      }
      parts = [];
    }
  }
  return { catalog: catalog ?? new Catalog(), stated, newest, damage };
}

async function findNewestCatalog(
  { storage, uuid }: LogPlace,
  base: LogBase | undefined,
  options: TailOptions,
  damage: string[],
): Promise<LogBase | undefined> {
  const finder = new CatalogFinder();
  const tail = new LogTail(storage, uuid, base?.append ?? 0, options);
  for await (const record of tail.records(base)) finder.take(record);
  for (const { message } of tail.damage) damage.push(message);
  if (tail.damage.some(({ code }) => code === 'LOG_SEGMENT_LOST')) {
    for (const segment of [...tail.strays].sort((a, b) => a - b)) {
      const scanner = await SegmentScanner.open(storage, uuid, segment);
      if (scanner === undefined) continue;
      try {
        for await (const record of scanner.allRecords()) finder.take(record);
      } finally {
        await scanner.close();
      }
    }
  }
  return finder.newest;
}

/** Finds the newest catalog whose parts follow each other without a gap. */
class CatalogFinder {
  newest: LogBase | undefined;
  /** Where the catalog begins whose parts are coming. */
  #begun: LogBase | undefined;
  /** Behind a gap, nobody knows what the next part belongs to, unless it is a first one. */
  #isWhole = true;
  #append = 0;

  take(record: ScannedRecord): void {
    const { segment, offset, append } = record.header;
    if (append <= this.#append) return; // before the cut
    if (this.#append > 0 && append !== this.#append + 1) {
      this.#begun = undefined;
      this.#isWhole = false;
    }
    this.#append = append;
    for (const { kind, flags } of textsOf(record)) {
      if (kind !== ENTRY_CATALOG) continue;
      if ((flags & CATALOG_FIRST) !== 0) this.#begun = { segment, offset, append };
      else if (this.#isWhole) this.#begun ??= { segment, offset, append };
      if ((flags & CATALOG_LAST) === 0) continue;
      this.newest = this.#begun ?? this.newest;
      this.#begun = undefined;
      this.#isWhole = true;
    }
  }
}

/** Entries that are texts; none of a table that cannot be read. */
function* textsOf(record: ScannedRecord): Generator<TextEntry> {
  try {
    for (const entry of entriesOf(record)) {
      if (entry.kind === ENTRY_CHANGE || entry.kind === ENTRY_CATALOG) yield entry;
    }
  } catch (error) {
    if (!hasCode(error, 'CORRUPTION')) throw error;
  }
}

/** Where changes are lost, what builds on them cannot be applied. */
function applyOrSay(catalog: Catalog, { text, sequence }: TextEntry, damage: string[]): void {
  const say = (why: string): void => {
    damage.push(`the change with the sequence ${sequence} cannot be applied: ${why}`);
  };
  try {
    const problem = applyIfPossible(catalog, parseJson<Change>(text), sequence);
    if (problem !== undefined) say(problem);
  } catch (error) {
    if (!hasCode(error, 'CORRUPTION')) throw error;
    say((error as Error).message);
  }
}
