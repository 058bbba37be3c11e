/**
 * What is in all segment files, whatever state they are in: the highest numbers that were ever used, and which records could
 * be replayed as they stand. Reads tables only.
 */

import { hasCode } from '../base/errors.ts';
import { ENTRY_CATALOG, ENTRY_CHUNKS, ENTRY_ZEROS, type Entry } from '../log/entries.ts';
import { RECORD_FOOTER, type RecordHeader, SEGMENT_MOVES, type SegmentHeader } from '../log/format.ts';
import { entriesOf, SegmentScanner } from '../log/scan.ts';
import { parseJson } from '../volume/catalog.ts';
import type { CatalogPart } from '../volume/catalog-parts.ts';
import { type Change, labelsOf } from '../volume/change.ts';
import { segmentOfReplaced } from '../volume/interrupted-repair.ts';
import type { LogPlace } from '../volume/whole-log.ts';

/** The highest of each kind. */
export interface HighestNumbers {
  sequences: number;
  appends: number;
  labels: number;
  segments: number;
  epochs: number;
}

/** The higher of each kind. */
export function highestOf(a: HighestNumbers, b: HighestNumbers): HighestNumbers {
  return {
    sequences: Math.max(a.sequences, b.sequences),
    appends: Math.max(a.appends, b.appends),
    labels: Math.max(a.labels, b.labels),
    segments: Math.max(a.segments, b.segments),
    epochs: Math.max(a.epochs, b.epochs),
  };
}

export interface LogSurvey {
  readonly highest: HighestNumbers;
  /** Length of segments of the chain; undefined if no header says it. */
  readonly segmentBytes: number | undefined;
  /** Where segments end, as what follows them says. */
  readonly ends: ReadonlyMap<number, number>;
  /** Segments with entries that a replay would stop at. */
  readonly unusable: ReadonlySet<number>;
  readonly chain: ChainProof;
}

/** @throws IO */
export async function surveyLog(place: LogPlace, segments: readonly number[]): Promise<LogSurvey> {
  const highest = { sequences: 0, appends: 0, labels: 0, segments: 0, epochs: 0 };
  const ends = new Map<number, number>();
  const unusable = new Set<number>();
  const chain = new ChainProof();
  let segmentBytes: number | undefined;
  const raise = (kind: keyof HighestNumbers, number: number): void => {
    if (Number.isInteger(number) && number > highest[kind]) highest[kind] = number;
  };
  // What an earlier repair has replaced stays where it is.
  for (const name of await place.storage.list('.')) raise('segments', segmentOfReplaced(name));
  for (const segment of segments) {
    raise('segments', segment);
    const whole = await SegmentScanner.open(place.storage, place.uuid, segment);
    const scanner = whole ?? (await SegmentScanner.openAnyway(place.storage, place.uuid, segment));
    if (scanner === undefined) continue;
    try {
      if (whole !== undefined) {
        const { epoch, firstAppend, flags, predecessor, predecessorEnd } = whole.header;
        raise('epochs', epoch);
        raise('appends', firstAppend);
        if ((flags & SEGMENT_MOVES) === 0) {
          ends.set(predecessor, predecessorEnd);
          chain.takeHeader(whole.header);
          segmentBytes ??= whole.header.segmentBytes;
        }
      }
      for await (const record of (await scanner.footer()) ?? scanner.allRecords()) {
        raise('appends', record.header.append);
        chain.takeRecord(record.header);
        try {
          for (const entry of entriesOf(record)) note(entry, raise);
        } catch (error) {
          if (!hasCode(error, 'CORRUPTION')) throw error;
          unusable.add(segment);
        }
      }
    } finally {
      await scanner.close();
    }
  }
  return { highest, segmentBytes, ends, unusable, chain };
}

/**
 * Which segments of the chain are on the disk. A process that was killed leaves some in the page cache, whole with their
 * footers, and no later sync would prove anything of them.
 */
export class ChainProof {
  /** The last record of each segment, and the first of the one that is chained to it. */
  readonly #lasts = new Map<number, number>();
  readonly #nexts = new Map<number, number>();
  #durable = 0;

  takeHeader({ segment, predecessor, firstAppend, durable }: SegmentHeader): void {
    this.#lasts.set(segment, firstAppend);
    this.#nexts.set(predecessor, firstAppend);
    this.#durable = Math.max(this.#durable, durable);
  }

  /** Passes those of segments of moves by. */
  takeRecord({ segment, append, durable, flags }: RecordHeader): void {
    if (!this.#lasts.has(segment) || (flags & RECORD_FOOTER) !== 0) return;
    this.#lasts.set(segment, append);
    this.#durable = Math.max(this.#durable, durable);
  }

  /**
   * Whether all of a segment that has a footer was synced: a record behind it was, and its process went on there. `durable`: records
   * up to it are known to be. True for segments of moves, which are synced before anything states them.
   */
  isProven(segment: number, durable: number): boolean {
    const last = this.#lasts.get(segment);
    if (last === undefined) return true;
    // Another process does not go on with the next number where one was killed.
    const next = this.#nexts.get(segment) ?? last + 1;
    return next === last + 1 && Math.max(this.#durable, durable) > last;
  }
}

type NumberKind = 'sequences' | 'labels' | 'segments';

/** Versions that are gone among it: an entry of an older one may be theirs. Of a catalog that cannot be read, nothing. */
function noteCatalog(text: string, raise: (kind: NumberKind, number: number) => void): void {
  try {
    const { versions = [], merged = [], segments = [], retired = [] } = parseJson<CatalogPart>(text);
    for (const [label] of versions) raise('labels', label);
    for (const [, heir] of merged) raise('labels', heir);
    for (const [, last] of [...segments, ...retired]) raise('segments', last);
  } catch {
    // Nobody goes by it.
  }
}

/** @throws CORRUPTION if it is a change that cannot be read */
function note(entry: Entry, raise: (kind: NumberKind, number: number) => void): void {
  raise('sequences', entry.sequence);
  if (entry.kind === ENTRY_CHUNKS || entry.kind === ENTRY_ZEROS) return raise('labels', entry.label);
  if (entry.kind === ENTRY_CATALOG) return noteCatalog(entry.text, raise);
  const change = parseJson<Change | null>(entry.text);
  try {
    for (const label of labelsOf(change!)) raise('labels', label);
  } catch {
    parseJson(''); // no change at all: a replay stops there
  }
}
