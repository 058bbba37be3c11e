/**
 * Which segments stay as they are: those that are whole from their first byte to their last, are known to be on the disk, and
 * say themselves where they end. What lives in all others is moved. Pure.
 */

import type { Finding } from '../check/finding.ts';
import type { SegmentAudit } from '../check/segment-audit.ts';
import { SEGMENT_MOVES } from '../log/format.ts';
import type { LogSurvey } from './log-survey.ts';

/** What is wrong with entries, in segments that have all their checksums. */
const OF_ENTRIES = new Set(['CHANGE_UNUSABLE', 'RECORD_UNREADABLE', 'UNKNOWN_VERSION']);

/**
 * `ofLog`: segments that belong to the log; `segmentBytes`: how long segments of its chain are; `durable`: records up to it are
 * known to be on the disk.
 */
export function keptSegments(
  ofLog: ReadonlySet<number>,
  audits: ReadonlyMap<number, SegmentAudit>,
  survey: LogSurvey,
  findings: readonly Finding[],
  segmentBytes: number,
  durable: number,
): Set<number> {
  const told = new Set(findings.filter(({ code }) => OF_ENTRIES.has(code)).map(({ segment }) => segment));
  const kept = new Set<number>();
  for (const [segment, audit] of audits) {
    if (!ofLog.has(segment) || told.has(segment)) continue;
    if (survey.unusable.has(segment) || !survey.chain.isProven(segment, durable)) continue;
    const end = survey.ends.get(segment);
    const endsThere = end === undefined || end === audit.lastEnd;
    if (isWhole(audit, segmentBytes) && endsThere) kept.add(segment);
  }
  return kept;
}

function isWhole(audit: SegmentAudit, segmentBytes: number): boolean {
  const { headerState, header, footer, faults, moreFaults, fileBytes } = audit;
  if (headerState !== 'whole' || header === undefined || footer !== 'whole') return false;
  const isMoves = (header.flags & SEGMENT_MOVES) !== 0;
  if (fileBytes !== header.segmentBytes || (!isMoves && fileBytes !== segmentBytes)) return false;
  return faults.length === 0 && moreFaults === 0;
}
