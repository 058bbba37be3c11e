/** Parts of the log that are lost as findings: records, segments, the end; each with what lived there. Pure. */

import { Damage } from '../check/attribution.ts';
import type { DamagedPlaces } from '../check/damaged-places.ts';
import { type Finding, type FindingCode, finding } from '../check/finding.ts';
import type { VersionNames } from '../check/readers.ts';
import type { SegmentAudit } from '../check/segment-audit.ts';
import { RESERVED_APPENDS_MIN } from '../log/numbers.ts';
import type { Superblock } from '../log/superblock.ts';
import type { CheckSubject, LogReading } from './log-reading.ts';

/** Bytes [from, until) of a segment. */
interface Range {
  readonly segment: number;
  readonly from: number;
  readonly until: number;
}

export class LostDamage {
  readonly #code: FindingCode;
  readonly #message: string;
  readonly #ranges: readonly Range[];
  readonly damage: Damage;

  /** `mayBeWhole`: the bytes may be there, and pointers lead to them. */
  constructor(code: FindingCode, message: string, ranges: readonly Range[], mayBeWhole: boolean) {
    this.#code = code;
    this.#message = message;
    this.#ranges = ranges;
    this.damage = new Damage(mayBeWhole);
  }

  /** It is the end of the log. */
  get isEnd(): boolean {
    return this.#code === 'LOG_END_LOST';
  }

  addTo(places: DamagedPlaces<Damage>): void {
    for (const { segment, from, until } of this.#ranges) places.add(segment, from, until, this.damage);
  }

  told(names: VersionNames): Finding {
    const { live, whole, reach } = this.damage;
    const [first] = this.#ranges;
    const place = first === undefined ? {} : { segment: first.segment, offset: first.from };
    const gone = live - whole;
    return finding(this.#code, `${this.#message}${livingThere(live, whole)}`, {
      ...place,
      ...reach.details(names),
      mend: gone > 0 || (live === 0 && this.isEnd) ? 'none' : 'repair',
    });
  }
}

function livingThere(live: number, whole: number): string {
  if (live === 0) return '';
  const chunks = live === 1 ? 'one chunk lives' : `${live} chunks live`;
  if (whole === live) return `; ${chunks} there, and can be read by the index alone`;
  if (whole === 0) return `; ${chunks} there, and ${live === 1 ? 'is' : 'are'} gone`;
  return `; ${chunks} there, ${live - whole} of them are gone`;
}

/** What is lost, as the reading of the log and the audits tell it. */
export function brokenLog(
  reading: LogReading,
  audits: ReadonlyMap<number, SegmentAudit>,
  { superblock, checked }: Pick<CheckSubject, 'superblock' | 'checked'>,
): LostDamage[] {
  const isOnline = checked?.until !== undefined;
  const { whole, replay } = reading;
  const { tail } = whole;
  // A store in use goes on: what is not yet chained to what is checked is not lost.
  const isKnown = (code: string): boolean => !isOnline || code !== 'LOG_SEGMENT_LOST';
  const cutOff: Range[] = [];
  const missing = new Map<number, string>();
  const lost: LostDamage[] = [];
  for (const { code, segment, offset, until, message } of [
    ...whole.damage,
    ...tail.damage.filter((each) => isKnown(each.code)),
  ]) {
    const range = { segment, from: offset, until };
    const audit = audits.get(segment);
    if (code === 'LOG_RECORD_DAMAGED') {
      if (!isUnchained(audit, offset, until)) lost.push(new LostDamage(code, message, [range], true));
    } else if (audit === undefined) missing.set(segment, 'its file is not there');
    else if (audit.headerState === 'damaged')
      lost.push(new LostDamage(code, withoutHeader(segment), [range], true));
    else if (audit.headerState === 'foreign')
      lost.push(
        new LostDamage(code, `segment ${segment} is the file of another store or segment`, [range], true),
      );
    else cutOff.push(range);
  }
  if (!isOnline) {
    for (const range of reading.isCut ? straysBehind(reading, audits) : []) {
      if (audits.get(range.segment)?.header !== undefined) cutOff.push(range);
      else lost.push(new LostDamage('LOG_SEGMENT_LOST', withoutHeader(range.segment), [range], true));
    }
    for (const segment of missingLinks(cutOff, audits)) missing.set(segment, 'others are chained to it');
    for (const segment of replay.stated?.segments ?? [])
      if (!audits.has(segment) && !missing.has(segment)) missing.set(segment, 'the newest catalog states it');
  }
  // Numbers alone may be those of writes that failed; but what a sealed segment was sealed for came behind it.
  const isSealed = audits.get(tail.segments.at(-1) ?? 0)?.footer === 'whole';
  const synced = Math.max(tail.durable, isSealed ? closedEnd(reading.end, superblock) : 0);
  const isShort = !isOnline && !reading.isCut && reading.end < synced;
  // Where the log is whole, it knows better than the index.
  const inUse = isShort || reading.isCut ? (checked?.view.index.usage.entries() ?? []) : [];
  for (const [segment] of inUse)
    if (!audits.has(segment) && !missing.has(segment)) missing.set(segment, 'chunks live there');
  for (const [segment, why] of missing) {
    const range = { segment, from: 0, until: Number.POSITIVE_INFINITY };
    lost.push(new LostDamage('SEGMENT_MISSING', `segment ${segment} is missing: ${why}`, [range], true));
  }
  if (cutOff.length > 0) {
    const message = `${numbered(cutOff.map(({ segment }) => segment))} cut off from the log`;
    lost.push(new LostDamage('LOG_SEGMENT_LOST', message, cutOff, true));
  }
  if (isShort) {
    const message = `the log ends with record ${reading.end}, and record ${synced} had been synced: its end is gone`;
    const { segment, offset } = tail.end ?? { segment: 0, offset: 0 };
    const range = { segment, from: offset, until: Number.POSITIVE_INFINITY };
    lost.push(new LostDamage('LOG_END_LOST', message, [range], true));
  }
  return lost;
}

function withoutHeader(segment: number): string {
  return `segment ${segment}: both copies of its header are damaged`;
}

/**
 * Where the log ended when the store was closed: it gives back then what it has reserved. 0 if it was not closed, or if only its
 * last number is missing: that of a closing record, which could not be written and holds nothing.
 */
export function closedEnd(end: number, superblock: Superblock | undefined): number {
  const last = (superblock?.appends ?? 0) - 1;
  return last > end + 1 && last - end < RESERVED_APPENDS_MIN ? last : 0;
}

/** Segments that say nothing of what was synced, and stand behind the place where the log is cut off as well. */
function* straysBehind(reading: LogReading, audits: ReadonlyMap<number, SegmentAudit>): Generator<Range> {
  const told = new Set(reading.damage.map(({ segment }) => segment));
  for (const segment of reading.whole.tail.strays) {
    const state = audits.get(segment)?.headerState;
    if (told.has(segment) || state === undefined || state === 'foreign') continue;
    yield { segment, from: 0, until: Number.POSITIVE_INFINITY };
  }
}

/** Predecessors that there are no files of. */
function* missingLinks(
  cutOff: readonly Range[],
  audits: ReadonlyMap<number, SegmentAudit>,
): Generator<number> {
  for (const { segment } of cutOff) {
    const header = audits.get(segment)?.header;
    const predecessor = header?.predecessor ?? 0;
    if (predecessor > 0 && !audits.has(predecessor)) yield predecessor;
  }
}

/** A record stands where one was missed, and is only not chained: the audit says so. */
function isUnchained(audit: SegmentAudit | undefined, offset: number, until: number): boolean {
  return (
    audit?.faults.some(
      (each) => each.kind === 'unchained' && each.offset === until && until - offset < 4096,
    ) === true
  );
}

function numbered(segments: readonly number[]): string {
  const sorted = [...segments].sort((a, b) => a - b);
  const shown = sorted.slice(0, 10).join(', ');
  if (sorted.length === 1) return `segment ${shown} is`;
  return `segments ${shown}${sorted.length > 10 ? ` and ${sorted.length - 10} more` : ''} are`;
}
