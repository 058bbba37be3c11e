/**
 * What the audit of a segment means, once it is known which part of the segment belongs to the log. Pure.
 *
 * What may reach user data is not said here: it becomes a place, and the pointers that lead there tell whom it reaches.
 */

import { CHUNK_BYTES, roundUp } from '../base/units.ts';
import { FIRST_RECORD_OFFSET, SEGMENT_MOVES, SYNC_ALIGN_BYTES } from '../log/format.ts';
import type { Superblock } from '../log/superblock.ts';
import { type Finding, finding } from './finding.ts';
import type { Fault, SegmentAudit } from './segment-audit.ts';

/** What the log makes of a segment. */
export interface SegmentRole {
  /** Where what belongs to the log ends; Infinity if nobody says. */
  readonly end: number;
  /** Nothing is appended to it any more: it has a footer, unless a crash or a failed write ended it. */
  readonly isSealed: boolean;
  /** Its footer is known to have been synced: the process that wrote it synced something behind it. */
  readonly hasFooter?: boolean;
  /** Where what is proven to have been synced ends; default: all of it is. What a crash has torn behind it is no rot. */
  readonly provenEnd?: number;
}

/** Chunks that do not match. */
export interface ChunkFault {
  readonly segment: number;
  readonly fault: Extract<Fault, { kind: 'chunks' }>;
}

/** Damaged chunks of a segment that are told one by one. */
const CHUNK_FINDINGS_MAX = 1000;

/** Damaged chunks of a segment. */
export interface ChunkFaults {
  readonly single: readonly ChunkFault[];
  /** Each a place of one finding. */
  readonly rest: readonly ChunkFault[];
  /** Those that a repair has given up, each a place of one finding. */
  readonly givenUp: readonly ChunkFault[];
}

export function chunkFaults({ segment, faults }: SegmentAudit, { end }: SegmentRole): ChunkFaults {
  const found: ChunkFault[] = [];
  const givenUp: ChunkFault[] = [];
  for (const fault of faults)
    if (fault.kind === 'chunks' && fault.offset < end)
      (fault.givenUp ? givenUp : found).push({ segment, fault });
  return { single: found.slice(0, CHUNK_FINDINGS_MAX), rest: found.slice(CHUNK_FINDINGS_MAX), givenUp };
}

/** Whether reading the log has told of damage at this place already: as it came across it, or one block before. */
export type IsTold = (segment: number, offset: number) => boolean;

/** All but damaged chunks. `superblock` undefined: it is lost. */
export function* segmentFindings(
  audit: SegmentAudit,
  role: SegmentRole,
  superblock: Superblock | undefined,
  isTold: IsTold,
): Generator<Finding> {
  const { segment } = audit;
  const { provenEnd = Number.POSITIVE_INFINITY } = role;
  yield* headerFindings(audit, superblock, provenEnd > FIRST_RECORD_OFFSET);
  for (const fault of audit.faults) {
    const { offset } = fault;
    if (offset >= role.end && fault.kind !== 'footer') continue;
    const at = { segment, offset, mend: 'repair' as const };
    const where = `segment ${segment}, offset ${offset}`;
    switch (fault.kind) {
      case 'lost':
        if (fault.isInFooter) {
          const what = 'header and table of the record cannot be read; the footer tells what they were';
          yield finding('LOG_RECORD_DAMAGED', `${where}: ${what}`, at);
        } else if (!isTold(segment, offset) && role.end !== Number.POSITIVE_INFINITY) {
          const what = `no record can be read in the ${fault.bytes} bytes from there`;
          yield finding('LOG_RECORD_DAMAGED', `${where}: ${what}`, { ...at, mend: 'none' });
        }
        break;
      case 'unchained':
        yield finding('LOG_RECORD_DAMAGED', `${where}: the record is not chained to the one before it`, at);
        break;
      case 'copy': {
        const which = fault.which === 'start' ? 'first' : 'second';
        const what = `the ${which} copy of the record's header and table is damaged; the other one is whole`;
        if (offset < provenEnd) yield finding('RECORD_COPY_DAMAGED', `${where}: ${what}`, at);
        else yield torn(`${where}: ${what}`, at);
        break;
      }
      case 'padding':
        yield finding('PADDING_DAMAGED', `${where}: the unused bytes of the record are not zero`, at);
        break;
      case 'table':
        yield finding('RECORD_UNREADABLE', `${where}: the record has its checksum, but ${fault.reason}`, {
          ...at,
          mend: 'none',
        });
        break;
      case 'footer':
        if (offset < role.end) yield finding('FOOTER_DIFFERS', `${where}: the footer ${fault.reason}`, at);
        break;
      case 'chunks':
        break;
    }
  }
  if (audit.moreFaults > 0) {
    const message = `segment ${segment}: ${audit.moreFaults} more places are damaged`;
    yield finding('LOG_RECORD_DAMAGED', message, { segment, mend: 'none' });
  }
  yield* endFindings(audit, role);
}

function torn(what: string, { segment, offset }: { segment: number; offset: number }): Finding {
  const message = `${what}; it is behind what was synced, and is written again when the store is opened`;
  return finding('UNPROVEN_TORN', message, { segment, offset, mend: 'open' });
}

function* headerFindings(
  audit: SegmentAudit,
  superblock: Superblock | undefined,
  isProven: boolean,
): Generator<Finding> {
  const { segment, header, fileBytes } = audit;
  const details = { segment, offset: 0, mend: 'repair' as const };
  if (audit.damagedCopy !== undefined) {
    const which = audit.damagedCopy === 1 ? 'first' : 'second';
    const message = `segment ${segment}: the ${which} copy of its header is damaged; the other one is used`;
    if (isProven) yield finding('SEGMENT_HEADER_DAMAGED', message, details);
    else yield torn(message, details);
  }
  if (header === undefined) return;
  const { segmentBytes, epoch } = header;
  const wrong: string[] = [];
  if (fileBytes > segmentBytes)
    wrong.push(`its file has ${fileBytes} bytes, its header says ${segmentBytes}`);
  if (superblock !== undefined && (header.flags & SEGMENT_MOVES) === 0) {
    if (segmentBytes !== superblock.segmentBytes)
      wrong.push(`its header says ${segmentBytes} bytes, the superblock ${superblock.segmentBytes}`);
  }
  if (superblock !== undefined && epoch > superblock.epoch)
    wrong.push(`it was begun in epoch ${epoch}, and the superblock knows of ${superblock.epoch}`);
  for (const what of wrong) yield finding('SEGMENT_HEADER_DIFFERS', `segment ${segment}: ${what}`, details);
}

function* endFindings(
  { segment, footer, header, lastEnd }: SegmentAudit,
  role: SegmentRole,
): Generator<Finding> {
  if (!role.isSealed || header === undefined) return;
  // Moves count once they are sealed and synced.
  const isMoves = (header.flags & SEGMENT_MOVES) !== 0;
  if ((isMoves && footer !== 'whole') || (footer === 'damaged' && role.hasFooter === true)) {
    const message = `segment ${segment}: its footer cannot be read; its records can be, one by one`;
    yield finding('FOOTER_DAMAGED', message, { segment, mend: 'repair' });
  } else if (footer === 'damaged' || footer === 'torn') {
    const message = `segment ${segment}: its footer is not whole, as a crash may leave it`;
    yield finding('FOOTER_TORN', message, { segment });
  } else if (footer === 'none') {
    // Segments that a crash or a failed write ended have none; their records were read one by one.
    yield finding('NO_FOOTER', `segment ${segment} has no footer`, { segment });
  }
  if (lastEnd > role.end && role.end >= FIRST_RECORD_OFFSET)
    yield finding(
      'CUT_OFF_RECORDS',
      `segment ${segment}: what stands behind ${role.end} was cut off by a recovery, and is no part of the log`,
      { segment, offset: role.end },
    );
}

/** Damage that reading the log has come across, by place. */
export function toldAt(damage: readonly { segment: number; offset: number }[]): IsTold {
  return (segment, offset) =>
    damage.some(
      (each) =>
        each.segment === segment &&
        (each.offset === offset || roundUp(each.offset, SYNC_ALIGN_BYTES) === offset),
    );
}

/** What to say of chunks of one segment that a repair has given up. */
export function describeGivenUp(faults: readonly ChunkFault[]): string {
  const count = faults.reduce((sum, { fault }) => sum + fault.count, 0);
  const chunks = count === 1 ? 'one chunk is' : `${count} chunks are`;
  return `segment ${faults[0]!.segment}: ${chunks} lost, as a repair has found`;
}

/** What to say of damaged chunks; `of` is the version that they were written to. */
export function describeChunks({ segment, fault }: ChunkFault, of: string): string {
  const { sequence, first, count } = fault;
  const chunks = count === 1 ? `chunk ${first}` : `chunks ${first} to ${first + count - 1}`;
  const [have, what] = count === 1 ? ['has', 'a wrong checksum'] : ['have', 'wrong checksums'];
  return `segment ${segment}, sequence ${sequence}: ${chunks} of ${of} ${have} ${what}`;
}

/** Where they lie: bytes [from, to) of the segment. */
export function extentOf({ fault }: ChunkFault): [from: number, to: number] {
  return [fault.at, fault.at + fault.count * CHUNK_BYTES];
}
