/**
 * The checker: every segment, every record, every checksum, footers against records, volumes and versions against each
 * other, and the index against one made anew from the log. Yields findings; repairs nothing.
 *
 * 1. Segments are audited (check/segment-audit.ts), beside the rest, in a thread where there is one.
 * 2. The log is read into an index of its own, in a temporary directory, a bounded overlay at a time.
 * 3. The index under check is compared with that one, region by region.
 * 4. If anything of the log is damaged, a walk over all pointers tells whom that reaches.
 */

import { Damage, attribute } from '../check/attribution.ts';
import { AuditRun, type CheckObserver } from '../check/audit-run.ts';
import { makeAuditor } from '../check/auditor.ts';
import { DamagedPlaces } from '../check/damaged-places.ts';
import { type Finding, finding } from '../check/finding.ts';
import { IndexComparison } from '../check/index-comparison.ts';
import type { VersionNames } from '../check/readers.ts';
import type { Scratch } from '../check/scratch.ts';
import type { SegmentAudit } from '../check/segment-audit.ts';
import {
  type ChunkFault,
  chunkFaults,
  describeChunks,
  describeGivenUp,
  extentOf,
  segmentFindings,
  toldAt,
} from '../check/segment-findings.ts';
import type { Storage } from '../base/storage.ts';
import { segmentOfName } from '../log/format.ts';
import type { Catalog } from './catalog.ts';
import type { IndexEnvironment } from './index-builder.ts';
import { type CheckedIndex, type CheckSubject, LogReading, openLog } from './log-reading.ts';
import { brokenLog, closedEnd, LostDamage } from './lost-damage.ts';

export { type Scratch, temporaryScratch } from '../check/scratch.ts';
export { checkSuperblock } from '../check/superblock-check.ts';
export type { CheckedIndex, CheckSubject } from './log-reading.ts';

export interface CheckEnvironment extends IndexEnvironment {
  makeScratch(): Scratch;
}

export interface CheckOptions {
  /** No payloads; records are believed where a whole footer has them. */
  readonly quick?: boolean | undefined;
  readonly onProgress?: CheckObserver | undefined;
  /** Given what all segment files are. */
  readonly onAudits?: ((audits: ReadonlyMap<number, SegmentAudit>) => void) | undefined;
  /** Ends the check with its reason. */
  readonly signal?: AbortSignal | undefined;
}

/** A note about deletes that are still to be finished, if there are any. */
export function* noteUnfinished(catalog: Catalog | undefined): Generator<Finding> {
  const count = catalog?.pending.size ?? 0;
  const message = `the space of ${count} deleted versions has still to be given back`;
  if (count > 0) yield finding('UNFINISHED_DELETE', message, { mend: 'open' });
  for (const { name } of catalog?.receives.values() ?? [])
    yield finding('UNFINISHED_RECEIVE', `${name} has not been received whole, and takes up space`);
}

/** Checks log and index. `environment` is of the store. */
export async function* checkStore(
  environment: CheckEnvironment,
  subject: CheckSubject,
  options: CheckOptions = {},
): AsyncGenerator<Finding> {
  const { storage, uuid } = environment;
  const { checked, base } = subject;
  const beginAudit = async (): Promise<AuditRun> => {
    const names = await storage.list('log');
    const segments = names.map(segmentOfName).filter((segment) => segment !== undefined);
    const auditor = makeAuditor(storage, uuid, options.quick !== true);
    return await AuditRun.begin(storage, auditor, segments, options);
  };
  // Of a store in use, segments are looked at once it is known what of them is to be looked at.
  let audit = checked?.until === undefined ? await beginAudit() : undefined;
  const scratch = environment.makeScratch();
  let reading: LogReading | undefined;
  try {
    const durable = checked?.durable ?? checked?.until ?? base?.append ?? 0;
    const { whole, findings } = await openLog(
      environment,
      base,
      durable,
      checked?.present,
      await neededBy(storage, checked),
    );
    yield* findings;
    if (whole !== undefined) {
      reading = await LogReading.begin(environment, whole, scratch);
      await reading.read(checked, options.signal);
      await checked?.followed?.();
    }
    audit ??= await beginAudit();
    options.onAudits?.(await audit.results());
    if (reading === undefined) yield* auditAlone(await audit.results(), subject, options);
    else yield* new StoreCheck(environment, subject, options, reading).run(audit);
  } finally {
    await audit?.end();
    await reading?.close();
    scratch.remove();
  }
}

/**
 * Segments that the index leads into, and that no catalog may state any more which can be read. What stood before its
 * checkpoint compaction may have taken away since: then other places have it.
 */
async function neededBy(storage: Storage, checked: CheckedIndex | undefined): Promise<number[]> {
  if (checked === undefined || checked.present !== undefined) return [];
  const { usage, checkpoint } = checked.view.index;
  const files = new Set((await storage.list('log')).map(segmentOfName));
  const segments = usage.entries().map(([segment]) => segment);
  return segments.filter((segment) => segment === checkpoint.segment || files.has(segment));
}

/** Where nothing says what belongs to the log. */
async function* auditAlone(
  audits: ReadonlyMap<number, SegmentAudit>,
  { superblock }: CheckSubject,
  { signal }: CheckOptions,
): AsyncGenerator<Finding> {
  const role = { end: Number.POSITIVE_INFINITY, isSealed: false };
  for (const audit of audits.values()) {
    signal?.throwIfAborted();
    yield* segmentFindings(audit, role, superblock, () => false);
    const { single, givenUp } = chunkFaults(audit, role);
    for (const fault of [...single, ...givenUp])
      yield finding('CHUNK_DAMAGED', describeChunks(fault, `version ${fault.fault.label}`), {
        segment: audit.segment,
        offset: fault.fault.at,
        mend: 'none',
      });
  }
}

class StoreCheck {
  readonly #environment: CheckEnvironment;
  readonly #subject: CheckSubject;
  readonly #options: CheckOptions;
  readonly #reading: LogReading;
  readonly #names: VersionNames;
  readonly #places = new DamagedPlaces<Damage>();
  /** Damaged chunks, each with what is to be found out about it. */
  readonly #chunks: { fault: ChunkFault; more: number; damage: Damage }[] = [];
  /** Those that a repair has given up, by segment. */
  readonly #givenUp: { faults: readonly ChunkFault[]; damage: Damage }[] = [];

  constructor(
    environment: CheckEnvironment,
    subject: CheckSubject,
    options: CheckOptions,
    reading: LogReading,
  ) {
    this.#environment = environment;
    this.#subject = subject;
    this.#options = options;
    this.#reading = reading;
    const { catalog } = reading;
    this.#names = {
      tree: catalog.tree,
      describe: (label) => catalog.describe(label),
      nameOf: (label) => catalog.nameOf(label),
      holderOf: (label) => catalog.holderOf(label),
    };
  }

  get #isOnline(): boolean {
    return this.#subject.checked?.until !== undefined;
  }

  async *run(audit: AuditRun): AsyncGenerator<Finding> {
    const reading = this.#reading;
    const { checked, superblock } = this.#subject;
    yield* reading.replay.judge();
    yield* reading.findings;
    let isCompared = checked === undefined;
    if (checked !== undefined && this.#canCompare(checked)) {
      const { view } = checked;
      const comparison = new IndexComparison(
        this.#environment,
        view,
        reading.made,
        this.#names,
        reading.lost,
      );
      for await (const each of comparison.run(this.#options.signal)) {
        if (each.code === 'INDEX_DAMAGED') isCompared = true;
        yield each;
      }
      isCompared = true;
    }
    if (!isCompared) {
      const why = checked?.unfit ?? 'the log cannot be read as far as it goes';
      yield finding('INDEX_NOT_COMPARED', `the index is not compared: ${why}`);
    }
    const audits = await audit.results();
    this.#options.signal?.throwIfAborted();
    const lost = brokenLog(reading, audits, this.#subject);
    const isTold = toldAt(reading.damage);
    for (const each of audits.values()) {
      const role = reading.roleOf(each.segment, audits);
      if (role === undefined) continue;
      yield* segmentFindings(each, role, superblock, isTold);
      this.#takeChunks(each, role);
    }
    yield* reading.linkFindings(audits);
    const isShort = reading.isCut || lost.some(({ isEnd }) => isEnd);
    if (!this.#isOnline) yield* this.#leftovers(audits, isShort);
    yield* this.#numbers(audits);
    yield* await this.#attributed(lost);
  }

  /** False where differences would only say that the log is cut off before the index's checkpoint. */
  #canCompare(checked: CheckedIndex): boolean {
    const { isCut, end } = this.#reading;
    if (checked.unfit !== undefined) return false;
    return checked.isComparable !== false && !isCut && end >= (checked.durable ?? checked.until ?? 0);
  }

  #takeChunks(audit: SegmentAudit, role: { end: number; isSealed: boolean }): void {
    const { single, rest, givenUp } = chunkFaults(audit, role);
    const note = (fault: ChunkFault, damage: Damage): void => {
      const [from, to] = extentOf(fault);
      this.#places.add(fault.segment, from, to, damage);
    };
    for (const fault of single) {
      const damage = new Damage(false);
      this.#chunks.push({ fault, more: 0, damage });
      note(fault, damage);
    }
    if (givenUp.length > 0) {
      const damage = new Damage(false);
      this.#givenUp.push({ faults: givenUp, damage });
      for (const fault of givenUp) note(fault, damage);
    }
    const [first] = rest;
    if (first === undefined) return;
    const damage = new Damage(false);
    this.#chunks.push({ fault: first, more: rest.length - 1, damage });
    for (const fault of rest) note(fault, damage);
  }

  /** What is damaged, with whom it reaches. */
  async #attributed(lost: readonly LostDamage[]): Promise<Finding[]> {
    for (const each of lost) each.addTo(this.#places);
    if (!this.#places.isEmpty) {
      const { checked } = this.#subject;
      const { made } = this.#reading;
      const walk = (view: typeof made): Promise<boolean> =>
        attribute(this.#environment, view, this.#names, this.#places, this.#options.signal);
      const isUnfit = checked === undefined || checked.unfit !== undefined;
      if (isUnfit || !(await walk(checked.view))) {
        for (const { damage } of [...lost, ...this.#chunks, ...this.#givenUp]) damage.clear();
        await walk(made);
      }
    }
    return [
      ...lost.map((each) => each.told(this.#names)),
      ...this.#chunks.map((each) => this.#chunk(each)),
      ...this.#givenUp.map(({ faults, damage }) =>
        this.#chunkFinding(faults[0]!, describeGivenUp(faults), damage),
      ),
    ];
  }

  #chunk({ fault, more, damage }: { fault: ChunkFault; more: number; damage: Damage }): Finding {
    const holder = this.#names.holderOf(fault.fault.label)?.label ?? fault.fault.label;
    const message = describeChunks(fault, this.#names.describe(holder));
    const others = more > 0 ? `, and ${more} more places of this segment` : '';
    return this.#chunkFinding(fault, `${message}${others}`, damage);
  }

  #chunkFinding({ segment, fault: { at: offset } }: ChunkFault, message: string, damage: Damage): Finding {
    if (damage.live === 0)
      return finding('DEAD_CHUNK_DAMAGED', `${message}; nobody reads it`, { segment, offset });
    return finding('CHUNK_DAMAGED', message, {
      segment,
      offset,
      ...damage.reach.details(this.#names),
      mend: 'none',
    });
  }

  /** `isShort`: it is told already that the end of the log is gone. */
  *#leftovers(audits: ReadonlyMap<number, SegmentAudit>, isShort: boolean): Generator<Finding> {
    const { whole, replay } = this.#reading;
    const { tail } = whole;
    const last = tail.segments.at(-1);
    if (last !== undefined && !isShort && audits.get(last)?.footer === 'whole') {
      const what = `segment ${last} is sealed, and none comes behind it: unless power was cut in that moment, the next one is gone`;
      yield finding('LOG_END_UNSURE', what, { segment: last });
    }
    // Records whose write failed have numbers too.
    const closedAt = isShort ? 0 : closedEnd(this.#reading.end, this.#subject.superblock);
    if (closedAt > 0) {
      const what = `the log ends with record ${this.#reading.end}, and numbers up to ${closedAt} were used when the store was closed: unless writes failed, its end is gone`;
      yield finding('LOG_END_UNSURE', what);
    }
    if (tail.torn) {
      const { segment = 0, offset = 0 } = tail.end ?? {};
      const message = `an interrupted append ends the log, in segment ${segment} at ${offset}`;
      yield finding('TORN_TAIL', message, { segment, offset, mend: 'open' });
    }
    const used = new Set([...(replay.stated?.segments ?? []), ...(replay.stated?.retired ?? [])]);
    const lost = new Set(this.#reading.damage.map((each) => each.segment));
    if (this.#reading.isCut) for (const segment of tail.strays) lost.add(segment);
    for (const segment of whole.leftovers()) {
      if (used.has(segment) || lost.has(segment)) continue;
      const foreign =
        audits.get(segment)?.headerState === 'foreign' ? ': it is of another store or segment' : '';
      const message = `segment ${segment} is not part of the log${foreign}`;
      yield finding('LEFTOVER_SEGMENT', message, { segment, mend: 'open' });
    }
  }

  /** Numbers in the log that nobody reserved might be given out again. */
  *#numbers(audits: ReadonlyMap<number, SegmentAudit>): Generator<Finding> {
    const { superblock } = this.#subject;
    if (superblock === undefined) return;
    const { replay } = this.#reading;
    const own = [...audits.keys()].filter((segment) => this.#reading.roleOf(segment, audits) !== undefined);
    const seen = {
      sequences: replay.replay.sequence,
      appends: this.#reading.end,
      labels: replay.replay.label,
      segments: Math.max(0, ...own),
    };
    for (const kind of ['sequences', 'appends', 'labels', 'segments'] as const) {
      if (seen[kind] < superblock[kind]) continue;
      const message = `the log has ${kind} up to ${seen[kind]}, and the superblock reserves those below ${superblock[kind]}`;
      yield finding('NUMBERS_BEHIND', message, { mend: 'open' });
    }
  }
}
