/**
 * Repairs a store that nobody has open: what is still there is put in order, what is lost stays lost, and is named.
 *
 * 1. All of it is checked. Where an opening mends what is wrong, or an index made anew from the log, that is done, and nothing else.
 * 2. Otherwise it is read what is left: the catalog, and an index of everything (wanted-state.ts). Where something older might be read
 *    in the place of what is lost, and nobody knows where, the repair goes no further unless it is told to accept that.
 * 3. A log is made beside that gives just that index (new-log.ts). Whole segments stay where they are.
 * 4. One rename of the superblock makes it the log of the store. What was replaced is kept in a directory of its own.
 * 5. The store is opened, which makes the index from the log, and checked again.
 *
 * Killed before 4, the store is as it was; behind it, it is repaired, and the next opening does what is left of 5
 * (volume/interrupted-repair.ts). No step of it takes anything away that the state before needs.
 */

import { randomUUID } from 'node:crypto';
import { hasCode, StoreError } from '../base/errors.ts';
import type { Storage } from '../base/storage.ts';
import { type AffectedVersion, type Finding, finding } from '../check/finding.ts';
import type { CheckObserver } from '../check/audit-run.ts';
import type { SegmentAudit } from '../check/segment-audit.ts';
import { SEGMENT_BYTES_DEFAULT } from '../log/format.ts';
import { type LogBase, type Superblock, SUPERBLOCK_REVISION, switchSuperblock } from '../log/superblock.ts';
import {
  type ClosedStoreEnvironment,
  checkClosedStore,
  identifyStore,
  likelyBase,
  segmentsOf,
} from '../volume/check-offline.ts';
import { clearInterruptedRepair } from '../volume/interrupted-repair.ts';
import { mendCatalog } from './catalog-mending.ts';
import { keptSegments } from './kept-segments.ts';
import { type IndexSurvey, surveyIndex } from './index-survey.ts';
import { highestOf, type HighestNumbers, type LogSurvey, surveyLog } from './log-survey.ts';
import { makeNewLog, type NewLog } from './new-log.ts';
import { ProposedStorage } from './proposed-storage.ts';
import { ReadableStorage } from './readable-storage.ts';
import { keepReplaced, nameMade, withdraw } from './replaced.ts';
import { readWantedState, type WantedState } from './wanted-state.ts';

/** Mended by an index that is made anew from the log, if the log is whole; if it is not, the index is of no help. */
const OF_INDEX = new Set(['INDEX_DAMAGED', 'INDEX_DIFFERS', 'ORPHAN_POINTERS', 'USAGE_DIFFERS']);
/** The log is in order: only bytes are missing, which read as errors. */
const IN_PLACE = new Set(['CHUNK_DAMAGED']);

const NOTHING_CHANGED = 'nothing was changed';
const SUPERBLOCK_ANEW =
  'the superblock was made anew: what only it had said is lost, a capacity that was set and the time when the store was made; now it may grow as far as the file system lets it';

/** The store, and what is needed around it. */
export interface RepairSurroundings {
  /** Of the store, once it is known which one it is. */
  environment(uuid: Buffer): ClosedStoreEnvironment;
  readonly storage: Storage;
  /** The files of an environment, of which only an index may be written, which is a copy; to be removed. */
  shelter(
    environment: ClosedStoreEnvironment,
  ): Promise<{ environment: ClosedStoreEnvironment; remove(): void }>;
  /** Opens the store and closes it again: with an index made anew, if that is wanted. */
  openOnce(options: { rebuildsIndex: boolean }): Promise<void>;
}

export interface RepairOptions {
  /** Goes on where something older may be read in the place of what is lost. */
  readonly acceptsOldData?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
  /** What is wrong before, and what is left behind. */
  onFinding?(finding: Finding, when: 'before' | 'after'): void;
  /** What is being done, a sentence. */
  onStep?(sentence: string): void;
  onProgress?: CheckObserver | undefined;
}

export interface RepairResult {
  /** Nothing was wrong; all of it is mended; something is lost. */
  readonly state: 'clean' | 'mended' | 'left';
  /** What was done, a sentence each. */
  readonly done: readonly string[];
  /** Where what was replaced is kept, in the store's directory. */
  readonly replaced: string | undefined;
  readonly lostChunks: number;
  /** Who reads what is lost, as far as it was found by this repair. */
  readonly lost: readonly AffectedVersion[];
  readonly moreVersions: number;
  /** What is lost that nobody can name, a sentence each. */
  readonly unknown: readonly string[];
}

/** Requires the lock of the store. @throws CORRUPTION if it cannot be repaired, IO, NO_SPACE: it is as it was then */
export async function repairStore(
  surroundings: RepairSurroundings,
  options: RepairOptions = {},
): Promise<RepairResult> {
  return await new Repair(surroundings, options).run();
}

interface CheckedStore {
  readonly superblock: Superblock | undefined;
  readonly environment: ClosedStoreEnvironment;
  readonly base: LogBase | undefined;
  readonly findings: readonly Finding[];
  readonly audits: ReadonlyMap<number, SegmentAudit>;
}

class Repair {
  readonly #surroundings: RepairSurroundings;
  readonly #options: RepairOptions;
  readonly #storage: ReadableStorage;
  readonly #done: string[] = [];
  #replaced: string | undefined;
  #made: NewLog | undefined;
  #unknown: readonly string[] = [];

  constructor(surroundings: RepairSurroundings, options: RepairOptions) {
    this.#surroundings = surroundings;
    this.#options = options;
    this.#storage = new ReadableStorage(surroundings.storage);
  }

  async run(): Promise<RepairResult> {
    const { superblock } = await identifyStore(this.#storage);
    await clearInterruptedRepair(this.#storage, superblock?.base);
    const checked = await this.#checkBefore();
    const damage = checked.findings.filter(({ severity }) => severity === 'damage');
    if (damage.length === 0) return this.#result('clean');
    const isOfLog = ({ mend, code }: Finding): boolean =>
      mend !== 'open' && !IN_PLACE.has(code) && !OF_INDEX.has(code);
    // So is what the disk does not give: it has to be written somewhere else, or nobody could read around it.
    if (damage.some(isOfLog)) await this.#rebase(checked);
    else if (damage.some(({ code }) => OF_INDEX.has(code)))
      await this.#open('the index is made anew from the log', true);
    else if (damage.some(({ mend }) => mend === 'open'))
      await this.#open('the store is opened and closed', false);
    else {
      for (const each of checked.findings) this.#options.onFinding?.(each, 'after');
      return this.#result('left');
    }
    this.#say('the store is checked again');
    const after = await this.#checkAgain().catch((error: unknown) => {
      throw asNotChecked(error);
    });
    const isLeft = this.#unknown.length > 0 || after.findings.some(({ severity }) => severity === 'damage');
    return this.#result(isLeft ? 'left' : 'mended');
  }

  #result(state: RepairResult['state']): RepairResult {
    const { lostChunks = 0, lost = [], moreVersions = 0 } = this.#made ?? {};
    const [done, replaced, unknown] = [this.#done, this.#replaced, this.#unknown];
    return { state, done, replaced, lostChunks, lost, moreVersions, unknown };
  }

  #say(sentence: string): void {
    this.#options.onStep?.(sentence);
  }

  /** Where the disk does not give all of it, past that. */
  async #checkBefore(): Promise<CheckedStore> {
    const told = new Set<string>();
    const tell = (finding: Finding): void => {
      const text = JSON.stringify(finding);
      if (!told.has(text)) this.#options.onFinding?.(finding, 'before');
      told.add(text);
    };
    try {
      return await this.#check(this.#surroundings.storage, tell, this.#options.signal);
    } catch (error) {
      if (!hasCode(error, 'IO')) throw error;
      const checked = await this.#check(this.#storage, tell, this.#options.signal);
      const bytes = this.#storage.unreadableBytes;
      if (bytes === 0) throw error;
      const unreadable = finding('UNREADABLE', `the disk does not give ${bytes} bytes of the log`, {
        mend: 'none',
      });
      tell(unreadable);
      return { ...checked, findings: [...checked.findings, unreadable] };
    }
  }

  #checkAgain(): Promise<CheckedStore> {
    const tell = (finding: Finding): void => this.#options.onFinding?.(finding, 'after');
    return this.#check(this.#surroundings.storage, tell, undefined);
  }

  async #check(
    storage: Storage,
    tell: (finding: Finding) => void,
    signal: AbortSignal | undefined,
  ): Promise<CheckedStore> {
    const { superblock, uuid } = await identifyStore(storage);
    const environment = { ...this.#surroundings.environment(uuid), storage };
    const base = superblock === undefined ? await likelyBase(environment) : superblock.base;
    const findings: Finding[] = [];
    let audits: ReadonlyMap<number, SegmentAudit> = new Map();
    const options = {
      onProgress: this.#options.onProgress,
      signal,
      onAudits: (all: ReadonlyMap<number, SegmentAudit>): void => {
        audits = all;
      },
    };
    for await (const each of checkClosedStore(environment, superblock, base, options)) {
      findings.push(each);
      tell(each);
    }
    return { superblock, environment, base, findings, audits };
  }

  async #open(what: string, rebuildsIndex: boolean): Promise<void> {
    this.#options.signal?.throwIfAborted();
    this.#say(what);
    await this.#surroundings.openOnce({ rebuildsIndex });
    this.#done.push(what);
  }

  /** Makes another log, and switches to it. */
  async #rebase(checked: CheckedStore): Promise<void> {
    const { findings } = checked;
    const environment = { ...checked.environment, storage: this.#storage };
    this.#say('what is left is read');
    const survey = await surveyLog(environment, await segmentsOf(this.#storage));
    const of = { ...checked, environment };
    let trustsIndex = !findings.some(({ code }) => OF_INDEX.has(code));
    try {
      await this.#rebaseBy(of, survey, trustsIndex);
    } catch (error) {
      // Nobody has looked at its rows where the log was cut off.
      if (!trustsIndex || !hasCode(error, 'INDEX_DAMAGED')) throw error;
      trustsIndex = false;
      await this.#rebaseBy(of, survey, trustsIndex);
    }
    try {
      await this.#surroundings.openOnce({ rebuildsIndex: false });
    } catch (error) {
      if (!(error instanceof StoreError)) throw error;
      const what = `the log is repaired, and the store cannot be opened yet: ${error.message}`;
      throw new StoreError(error.code, `${what}; repair it again once it can`, error);
    }
  }

  /** @throws INDEX_DAMAGED, with nothing changed */
  async #rebaseBy(checked: CheckedStore, survey: LogSurvey, trustsIndex: boolean): Promise<void> {
    const { environment, superblock, base } = checked;
    const sheltered = await this.#surroundings.shelter(environment);
    try {
      const appends = superblock?.appends ?? survey.highest.appends + 1;
      const wanted = await readWantedState(sheltered.environment, { base, appends }, trustsIndex);
      try {
        const { index } = wanted.remains;
        const seen = await surveyIndex(
          { index, overlay: undefined },
          wanted.remains.catalog,
          this.#options.signal,
        );
        const uncertain = [...wanted.uncertain];
        if (superblock === undefined && index.checkpoint.segment === 0)
          uncertain.push('superblock and index are lost: nothing says whether the end of the log is there');
        this.#refuseUncertain(uncertain, trustsIndex);
        await this.#makeAndSwitch(checked, wanted, survey, seen);
        this.#unknown = uncertain;
      } finally {
        await wanted.remains.index.close();
      }
    } finally {
      sheltered.remove();
    }
  }

  #refuseUncertain(uncertain: readonly string[], trustsIndex: boolean): void {
    if (uncertain.length === 0 || this.#options.acceptsOldData === true) return;
    const why = trustsIndex ? '' : 'the index is damaged, and of no help; ';
    throw new StoreError(
      'CORRUPTION',
      `${why}${uncertain.join('; ')}; ${NOTHING_CHANGED}: repair it with --accept-old-data if that is what you want, and put back what you can from a backup`,
    );
  }

  async #makeAndSwitch(
    { superblock, environment, findings, audits }: CheckedStore,
    { remains }: WantedState,
    survey: LogSurvey,
    seen: IndexSurvey,
  ): Promise<void> {
    const { storage, uuid, clock } = environment;
    const { signal } = this.#options;
    const wanted = { index: remains.index, overlay: undefined };
    const next = nextSuperblock(superblock, highestOf(survey.highest, seen.highest), uuid, clock.now());
    next.segmentBytes = superblock?.segmentBytes ?? survey.segmentBytes ?? SEGMENT_BYTES_DEFAULT;
    const sequence = next.sequences++;
    // Of which nothing is left but what was written to them: nobody knows what they inherited from.
    for (const [label, tree] of seen.strangers) remains.catalog.tree.add(label, 0, sequence, tree);
    const mended = mendCatalog(remains.catalog, sequence, {
      extentOf: (label) => seen.extents.get(label) ?? 0,
      freshLabel: () => next.labels++,
      freshUuid: randomUUID,
      now: clock.now(),
    });
    const { segments } = remains.ledger;
    const durable = remains.index.checkpoint.append;
    const kept = keptSegments(segments, audits, survey, findings, next.segmentBytes, durable);
    const numbers = { segment: next.segments, append: next.appends };
    this.#say(`what lives outside of the ${kept.size} segments that are whole is moved`);
    try {
      const proposed = await ProposedStorage.over(storage);
      const made = await makeNewLog(environment, {
        storage: proposed,
        wanted,
        catalog: mended.catalog,
        sequence,
        kept,
        unknown: remains.unknown,
        segmentBytes: next.segmentBytes,
        epoch: next.epoch,
        numbers,
        signal,
      });
      Object.assign(next, { segments: numbers.segment, appends: numbers.append, base: made.base });
      const others = (await segmentsOf(storage)).filter((segment) => !kept.has(segment));
      const replaced = await keepReplaced(storage, Math.min(...proposed.made), others);
      await nameMade(storage, proposed.made);
      signal?.throwIfAborted();
      await switchSuperblock(storage, next);
      this.#made = made;
      this.#replaced = replaced;
    } catch (error) {
      const { storage: disk } = this.#surroundings;
      throw (await withdraw(disk, next.base)) ? asItWas(error) : asItMayBe(error);
    }
    this.#done.push(...mended.changes, describe(this.#made, kept.size));
    if (superblock === undefined) this.#done.push(SUPERBLOCK_ANEW);
  }
}

/** What failed before the switch. */
function asItWas(error: unknown): unknown {
  if (!(error instanceof StoreError) || error.message.includes(NOTHING_CHANGED)) return error;
  const advice = error.code === 'NO_SPACE' ? ': make room, then try again' : '';
  return new StoreError(error.code, `${error.message}; ${NOTHING_CHANGED}${advice}`, error);
}

/** What failed when the superblock had its name already. */
function asItMayBe(error: unknown): unknown {
  if (!(error instanceof StoreError)) return error;
  const what = 'the log is repaired, and perhaps not yet on the disk: repair it again';
  return new StoreError(error.code, `${error.message}; ${what}`, error);
}

/** What failed when all was done. */
function asNotChecked(error: unknown): unknown {
  if (!(error instanceof StoreError)) return error;
  const what = 'the store is repaired, and cannot be checked again yet';
  return new StoreError(error.code, `${what}: ${error.message}`, error);
}

function describe({ movedChunks, lostChunks }: NewLog, kept: number): string {
  const lost =
    lostChunks === 0
      ? 'none is lost'
      : `${lostChunks} are lost, and read as errors until they are written over`;
  return `the log was made anew: ${kept} segments stay, ${movedChunks} chunks of others were moved, ${lost}`;
}

/** Above all that there is, or may have been used. */
function nextSuperblock(
  superblock: Superblock | undefined,
  highest: HighestNumbers,
  uuid: Buffer,
  now: number,
): Superblock {
  const above = (reserved: number | undefined, seen: number): number => Math.max(reserved ?? 1, seen + 1);
  return {
    revision: SUPERBLOCK_REVISION,
    generation: (superblock?.generation ?? 0) + 1,
    uuid,
    segmentBytes: SEGMENT_BYTES_DEFAULT,
    epoch: Math.max(superblock?.epoch ?? 0, highest.epochs) + 1,
    capacityBytes: superblock?.capacityBytes ?? 0,
    sequences: above(superblock?.sequences, highest.sequences),
    appends: above(superblock?.appends, highest.appends),
    labels: above(superblock?.labels, highest.labels),
    segments: above(superblock?.segments, highest.segments),
    created: superblock?.created ?? now,
    base: undefined,
  };
}
