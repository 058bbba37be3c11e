/**
 * A replay of a log that may be damaged: what cannot be applied is told and left out, where recovery would refuse the store.
 *
 * Where changes were lost, the next catalog of the log has what they made, and the replay goes on with that one. The last
 * catalog, with the changes behind it, must be what all changes together have made.
 */

import { type Finding, finding } from '../check/finding.ts';
import { hasCode } from '../base/errors.ts';
import {
  CATALOG_FIRST,
  CATALOG_LAST,
  ENTRY_CATALOG,
  ENTRY_CHUNKS,
  ENTRY_ZEROS,
  type Entry,
  type TextEntry,
} from '../log/entries.ts';
import { auditCatalog, auditParts, catalogDifferences, treeProblems } from './catalog-audit.ts';
import { parseJson } from './catalog.ts';
import { type CatalogPart, decodeCatalog, decodeSegments, type StatedSegments } from './catalog-parts.ts';
import type { Change } from './change.ts';
import { applyIfPossible, changeProblem } from './change-audit.ts';
import type { Replay } from './replay.ts';
import type { LogRecord } from './whole-log.ts';

const DIFFERENCES_MAX = 20;

/** A catalog of the log, and what came behind it. */
interface StatedCatalog {
  readonly texts: readonly string[];
  readonly sequence: number;
  readonly segment: number;
  readonly offset: number;
  readonly changes: TextEntry[];
}

export class CheckedReplay {
  readonly replay: Replay;
  /** What could not be applied. */
  readonly findings: Finding[] = [];
  /** Labels of entries that no version is known for, with the place of the first one. */
  readonly unplaced = new Map<number, { segment: number; offset: number }>();
  readonly #isLost: () => boolean;
  #isResynced = false;
  #isIncomplete = false;
  #parts: Entry[] = [];
  #newest: StatedCatalog | undefined;

  /** `isLost`: whether part of what comes was lost. */
  constructor(replay: Replay, isLost: () => boolean) {
    this.replay = replay;
    this.#isLost = isLost;
  }

  apply(record: Pick<LogRecord, 'header' | 'isKept'>, entries: readonly Entry[]): void {
    for (const entry of entries) {
      if (entry.kind === ENTRY_CHUNKS || entry.kind === ENTRY_ZEROS) {
        const { catalog } = this.replay;
        const { segment, offset } = record.header;
        const isKnown =
          catalog?.tree.get(entry.label) !== undefined || catalog?.merged.has(entry.label) === true;
        if (!record.isKept && catalog !== undefined && !isKnown && !this.unplaced.has(entry.label))
          this.unplaced.set(entry.label, { segment, offset });
        this.replay.apply(segment, [entry], record.isKept);
      } else if (entry.kind === ENTRY_CATALOG) this.#takePart(record, entry);
      else this.#change(record, entry);
    }
  }

  #change(
    { header: { segment, offset }, isKept }: Pick<LogRecord, 'header' | 'isKept'>,
    entry: TextEntry,
  ): void {
    const { catalog } = this.replay;
    const say = (why: string): void => {
      this.#isIncomplete = true;
      const message = `segment ${segment}, offset ${offset}: the change with the sequence ${entry.sequence} cannot be applied: ${why}`;
      this.findings.push(finding('CHANGE_UNUSABLE', message, { segment, offset, mend: 'repair' }));
    };
    try {
      const change = parseJson<Change>(entry.text);
      const isNew = catalog !== undefined && entry.sequence > catalog.sequence;
      const problem = isNew ? changeProblem(catalog, change) : undefined;
      if (problem !== undefined) return say(problem);
      this.#newest?.changes.push(entry);
      this.replay.apply(segment, [entry], isKept);
    } catch (error) {
      if (!hasCode(error, 'CORRUPTION')) throw error;
      say((error as Error).message);
    }
  }

  #takePart(record: Pick<LogRecord, 'header' | 'isKept'>, entry: TextEntry): void {
    if (record.isKept) return;
    if ((entry.flags & CATALOG_FIRST) !== 0) this.#parts = [];
    this.#parts.push(entry);
    if ((entry.flags & CATALOG_LAST) === 0) return;
    const parts = this.#parts as TextEntry[];
    this.#parts = [];
    const { segment, offset } = record.header;
    const texts = parts.map(({ text }) => text);
    this.#newest = { texts, sequence: entry.sequence, segment, offset, changes: [] };
    try {
      if (this.#isIncomplete || this.#isLost()) this.#resync(texts, entry.sequence);
      this.replay.apply(segment, parts, false);
    } catch (error) {
      if (!hasCode(error, 'CORRUPTION')) throw error;
      this.#newest = undefined;
      const message = `segment ${segment}, offset ${offset}: ${(error as Error).message}`;
      this.findings.push(finding('CATALOG_UNREADABLE', message, { segment, offset, mend: 'repair' }));
    }
  }

  /** Goes on with a catalog of the log, if that is not what has been replayed. */
  #resync(texts: readonly string[], sequence: number): void {
    const { catalog } = this.replay;
    if (catalog === undefined) return;
    const stated = decodeCatalog(texts, sequence);
    const differences = [...catalogDifferences(stated, catalog)];
    if (differences.length === 0) return;
    this.#isResynced = true;
    this.#isIncomplete = false;
    this.replay.catalog = stated;
    this.replay.catalogSequence = sequence;
    for (const { label } of stated.tree.nodes()) this.replay.label = Math.max(this.replay.label, label);
    this.#differ(differences);
  }

  #differ(differences: readonly string[]): void {
    const { segment, offset } = this.#newest!;
    for (const each of differences.slice(0, DIFFERENCES_MAX))
      this.findings.push(finding('CATALOG_DIFFERS', each, { segment, offset, mend: 'repair' }));
    const more = differences.length - DIFFERENCES_MAX;
    if (more > 0)
      this.findings.push(finding('CATALOG_DIFFERS', `${more} more differences`, { mend: 'repair' }));
  }

  /** True if what was written under a label was left out, and the label has turned out to be one of a version. */
  hasLost(label: number): boolean {
    return this.#isResynced && this.unplaced.has(label) && this.replay.catalog?.tree.get(label) !== undefined;
  }

  /** What the newest catalog says about segments. @throws nothing: what cannot be read says nothing */
  get stated(): StatedSegments | undefined {
    try {
      return decodeSegments(this.#newest?.texts ?? []);
    } catch {
      return undefined;
    }
  }

  /** What is wrong with volumes, snapshots and versions, at the end of the log. */
  *judge(): Generator<Finding> {
    yield* this.#judgeNewest();
    yield* this.findings;
    for (const [label, { segment, offset }] of this.unplaced) {
      if (this.replay.catalog?.tree.get(label) !== undefined) continue;
      const message = `segment ${segment}, offset ${offset}: there are writes of a version ${label}, which the log does not know`;
      yield finding('UNKNOWN_VERSION', message, { segment, offset, mend: 'none' });
    }
    if (this.replay.catalog !== undefined) yield* auditCatalog(this.replay.catalog);
  }

  *#judgeNewest(): Generator<Finding> {
    const newest = this.#newest;
    const made = this.replay.catalog;
    if (newest === undefined || made === undefined) return;
    const { segment, offset } = newest;
    const at = { segment, offset, mend: 'repair' as const };
    let parts: CatalogPart[];
    try {
      parts = newest.texts.map((text) => parseJson<CatalogPart>(text));
    } catch {
      const message = `segment ${segment}, offset ${offset}: the newest catalog cannot be read`;
      yield finding('CATALOG_UNREADABLE', message, at);
      return;
    }
    const broken = [...treeProblems(parts)];
    for (const problem of broken) yield finding('TREE_DAMAGED', `the newest catalog: ${problem}`, at);
    if (broken.length > 0) return;
    yield* auditParts(parts);
    const stated = decodeCatalog(newest.texts, newest.sequence);
    for (const { text, sequence } of newest.changes)
      applyIfPossible(stated, parseJson<Change>(text), sequence);
    this.#differ([...catalogDifferences(stated, made)]);
  }
}
