/**
 * What a segment file is, in a few numbers, whatever state it is in: for who looks at a log that may not be whole.
 */

import { hasCode } from '../base/errors.ts';
import type { Storage } from '../base/storage.ts';
import {
  decodeSegmentHeader,
  decodeTrailer,
  FIRST_RECORD_OFFSET,
  RECORD_FOOTER,
  SEGMENT_HEADER_BYTES,
  SEGMENT_HEADER_COPY_OFFSET,
  SEGMENT_MOVES,
  type SegmentHeader,
  segmentPath,
  TRAILER_BYTES,
  TRAILER_ROOM_BYTES,
  UUID_BYTES,
} from './format.ts';
import { SegmentScanner } from './scan.ts';
import { walkSegment } from './segment-walk.ts';

const UUID_AT = 8;

/** `copy`: one of the two is damaged; `foreign`: of another store, or of another segment. */
export type HeaderState = 'whole' | 'copy' | 'damaged' | 'foreign';

export interface SegmentStart {
  readonly state: HeaderState;
  /** Of this segment, or a foreign one; undefined if both copies are damaged. */
  readonly header: SegmentHeader | undefined;
  /** Where one of the two is damaged: 1 or 2. */
  readonly damagedCopy: number | undefined;
  /** Bytes of the file. */
  readonly bytes: number;
}

/** `uuid` undefined: of whatever store. Answers undefined if there is no such file. @throws IO */
export async function readSegmentStart(
  storage: Storage,
  uuid: Buffer | undefined,
  segment: number,
): Promise<SegmentStart | undefined> {
  const file = await storage.open(segmentPath(segment), 'read').catch((error: unknown) => {
    if (hasCode(error, 'NOT_FOUND')) return undefined;
    throw error;
  });
  if (file === undefined) return undefined;
  try {
    const start = Buffer.alloc(FIRST_RECORD_OFFSET);
    await file.read(start, 0, start.length, 0);
    const bytes = await file.sizeBytes();
    const copies = [0, SEGMENT_HEADER_COPY_OFFSET].map((at) => {
      const copy = start.subarray(at, at + SEGMENT_HEADER_BYTES);
      return decodeSegmentHeader(copy, Buffer.from(copy.subarray(UUID_AT, UUID_AT + UUID_BYTES)));
    });
    const isOurs = (header: SegmentHeader | undefined): boolean =>
      header?.segment === segment && (uuid === undefined || header.uuid.equals(uuid));
    const header = copies.find(isOurs);
    if (header !== undefined) {
      const damaged = copies.findIndex((copy) => !isOurs(copy));
      const damagedCopy = damaged < 0 ? undefined : damaged + 1;
      return { state: damagedCopy === undefined ? 'whole' : 'copy', header, damagedCopy, bytes };
    }
    const foreign = copies.find((copy) => copy !== undefined);
    const state = foreign === undefined ? 'damaged' : 'foreign';
    return { state, header: foreign, damagedCopy: undefined, bytes };
  } finally {
    await file.close();
  }
}

export interface SegmentSummary {
  readonly start: SegmentStart;
  /** The footer not among them. */
  readonly records: number;
  readonly entries: number;
  /** Places where no record can be read; undefined if there is a footer: it tells what there was, and nobody looked. */
  readonly lost: number | undefined;
  /** `damaged`: there is a trailer, and no footer that can be read. */
  readonly sealed: 'yes' | 'no' | 'damaged';
  readonly firstAppend: number | undefined;
  readonly lastAppend: number | undefined;
}

/** From the footer, or where there is none from the records. undefined if there is no such file. @throws IO */
export async function summarizeSegment(
  storage: Storage,
  uuid: Buffer,
  segment: number,
): Promise<SegmentSummary | undefined> {
  const start = await readSegmentStart(storage, uuid, segment);
  const scanner = await SegmentScanner.openAnyway(storage, uuid, segment);
  if (start === undefined || scanner === undefined) {
    await scanner?.close();
    return undefined;
  }
  const isKnown = start.state === 'whole' || start.state === 'copy';
  let records = 0;
  let entries = 0;
  let lost = 0;
  let firstAppend: number | undefined;
  let lastAppend: number | undefined;
  const count = ({ append, entryCount }: { append: number; entryCount: number }): void => {
    records += 1;
    entries += entryCount;
    firstAppend ??= append;
    lastAppend = append;
  };
  try {
    const footer = await scanner.footer();
    for (const { header } of footer ?? []) count(header);
    if (footer === undefined) {
      for await (const { found } of walkSegment(scanner, isKnown)) {
        if (found === undefined) lost += 1;
        else if ((found.header.flags & RECORD_FOOTER) === 0) count(found.header);
      }
    }
    const sealed = footer !== undefined ? 'yes' : (await hasTrailer(scanner, uuid)) ? 'damaged' : 'no';
    const lostPlaces = footer === undefined ? lost : undefined;
    return { start, records, entries, lost: lostPlaces, sealed, firstAppend, lastAppend };
  } finally {
    await scanner.close();
  }
}

async function hasTrailer(scanner: SegmentScanner, uuid: Buffer): Promise<boolean> {
  const { segment, segmentBytes } = scanner.header;
  if (segmentBytes < TRAILER_ROOM_BYTES) return false;
  const bytes = await scanner.bytesAt(segmentBytes - TRAILER_ROOM_BYTES, TRAILER_BYTES);
  return decodeTrailer(bytes, uuid, segment) !== undefined;
}

export function isOfMoves(header: SegmentHeader): boolean {
  return (header.flags & SEGMENT_MOVES) !== 0;
}

/** The UUID that a segment of the log states, for a store whose superblock does not; undefined if none can be read. */
export async function uuidOfSegments(
  storage: Storage,
  segments: readonly number[],
): Promise<Buffer | undefined> {
  for (const segment of segments) {
    const start = await readSegmentStart(storage, undefined, segment);
    if (start?.state === 'whole' || start?.state === 'copy') return start.header!.uuid;
  }
  return undefined;
}
