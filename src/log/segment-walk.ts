/**
 * A segment file from its first record to its last, past all damage, with what is damaged told: for who looks at a log
 * that may not be whole. It decides nothing; what a bad record means, tail.ts says.
 *
 * Where records are lost, the footer still tells which they were, if there is one.
 */

import { hasCode } from '../base/errors.ts';
import { roundUp } from '../base/units.ts';
import { FIRST_RECORD_OFFSET, RECORD_FOOTER, type RecordHeader, SYNC_ALIGN_BYTES } from './format.ts';
import { entriesOf, recordEnd, type ScannedRecord, type SegmentScanner } from './scan.ts';

/** `copy`: its start is damaged, its end tells; `unchained`: whole, and not chained to what stands before it. */
export type FoundState = 'whole' | 'copy' | 'unchained';

/** A record that can be read. The last one may be the footer. */
interface FoundRecord {
  readonly found: ScannedRecord;
  readonly state: FoundState;
}

/** No record can be read there; `header` is what the footer says of one that stood there. */
interface LostRecord {
  readonly found: undefined;
  readonly offset: number;
  readonly bytes: number;
  readonly header: RecordHeader | undefined;
}

export type WalkedRecord = FoundRecord | LostRecord;

/** `hasHeader`: the scanner has read the header of the segment, so that the first record can be held against it. */
export async function* walkSegment(
  scanner: SegmentScanner,
  hasHeader: boolean,
): AsyncGenerator<WalkedRecord> {
  const footer = await scanner.footer();
  let end = FIRST_RECORD_OFFSET;
  let checksum = hasHeader ? scanner.headerChecksum : undefined;
  for (;;) {
    const chained = checksum === undefined ? undefined : await scanner.recordBehind(end, checksum);
    const found = chained ?? (await scanner.findRecord(end));
    if (found === undefined) {
      yield* lostRecords(scanner, footer, end, undefined);
      return;
    }
    const { offset } = found.header;
    let state: FoundState = 'whole';
    if (chained === undefined) {
      const isNext =
        offset === end || (offset === roundUp(end, SYNC_ALIGN_BYTES) && !footerHas(footer, end, offset));
      if (!isNext) yield* lostRecords(scanner, footer, end, offset);
      else if (checksum !== undefined) state = 'unchained';
    } else if ((await scanner.recordAt(offset)) === undefined) {
      state = 'copy';
    }
    yield { found, state };
    if ((found.header.flags & RECORD_FOOTER) !== 0) return;
    end = recordEnd(found.header);
    checksum = found.header.checksum;
  }
}

function footerHas(footer: readonly ScannedRecord[] | undefined, from: number, end: number): boolean {
  return footer?.some(({ header: { offset } }) => offset >= from && offset < end) === true;
}

/** What cannot be read from `from` up to `until`, or up to the end of the segment, where there may be nothing. */
async function* lostRecords(
  scanner: SegmentScanner,
  footer: readonly ScannedRecord[] | undefined,
  from: number,
  until: number | undefined,
): AsyncGenerator<LostRecord> {
  const end = until ?? scanner.header.segmentBytes;
  let isTold = false;
  for (const { header } of footer ?? []) {
    if (header.offset < from || header.offset >= end) continue;
    isTold = true;
    yield { found: undefined, offset: header.offset, bytes: recordEnd(header) - header.offset, header };
  }
  if (isTold || from >= end) return;
  if (until === undefined && !(await scanner.hasBytesBehind(from))) return;
  yield { found: undefined, offset: from, bytes: end - from, header: undefined };
}

/** Whether the payload of a record is whole too; `table`: the table is none that this revision writes. */
export async function payloadState(
  scanner: SegmentScanner,
  record: ScannedRecord,
): Promise<'whole' | 'damaged' | 'table'> {
  if ((record.header.flags & RECORD_FOOTER) !== 0) return 'whole';
  try {
    return (await scanner.payloadIsWhole(entriesOf(record))) ? 'whole' : 'damaged';
  } catch (error) {
    if (hasCode(error, 'CORRUPTION')) return 'table';
    throw error;
  }
}
