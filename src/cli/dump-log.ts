/** `coppice dump` of what the log is made of: superblock, segments, records and entries. */

import { StoreError } from '../base/errors.ts';
import { type Entry, ENTRY_CATALOG, ENTRY_CHANGE, ENTRY_CHUNKS, ENTRY_ZEROS } from '../log/entries.ts';
import {
  RECORD_ALIGN_BYTES,
  RECORD_CLOSING,
  RECORD_COPIED,
  RECORD_FOOTER,
  RECORD_TAIL_REWRITTEN,
  type RecordHeader,
  SEGMENT_REWRITES_TAIL,
} from '../log/format.ts';
import { entriesOf, type ScannedRecord, SegmentScanner } from '../log/scan.ts';
import { isOfMoves, type SegmentSummary, summarizeSegment } from '../log/segment-summary.ts';
import { payloadState, walkSegment } from '../log/segment-walk.ts';
import type { StatedSegments } from '../volume/catalog-parts.ts';
import { formatUuid } from '../volume/listing.ts';
import { readEndOfLog } from '../volume/log-end.ts';
import { type Complain, type DumpPlace, hex32, type LogToDump, orDash } from './dump-place.ts';
import type { Output } from './output.ts';
import { type Column, printRows } from './row-stream.ts';
import { drawTable } from './table.ts';

/** Prints both slots: side by side, or with --json a line each. */
export function dumpSuperblock(output: Output, { slots }: DumpPlace): void {
  const told = slots.map(({ slot, state, revision, block, counts }) => ({
    slot,
    state,
    counts,
    revision,
    generation: block?.generation ?? null,
    uuid: block === undefined ? null : formatUuid(block.uuid),
    segmentBytes: block?.segmentBytes ?? null,
    epoch: block?.epoch ?? null,
    capacityBytes: block === undefined ? null : block.capacityBytes || null,
    sequences: block?.sequences ?? null,
    appends: block?.appends ?? null,
    labels: block?.labels ?? null,
    segments: block?.segments ?? null,
    created: block === undefined ? null : new Date(block.created).toISOString(),
    base: block?.base ?? null,
  }));
  if (output.json) {
    for (const slot of told) output.raw(`${JSON.stringify(slot)}\n`);
    return;
  }
  const fields = Object.keys(told[0]!).slice(1) as (keyof (typeof told)[number])[];
  const cell = (value: (typeof told)[number][(typeof fields)[number]]): string => {
    if (typeof value === 'boolean') return value ? 'yes' : 'no';
    return typeof value === 'object' && value !== null ? JSON.stringify(value) : orDash(value);
  };
  const rows = fields.map((field) => [field, ...told.map((slot) => cell(slot[field]))]);
  output.raw(drawTable(['FIELD', 'SLOT 1', 'SLOT 2'], rows));
}

interface SegmentRow {
  readonly segment: number;
  /** `missing`: the newest catalog states it, and there is no file. */
  readonly kind: 'log' | 'moves' | 'unknown' | 'missing';
  readonly header: string;
  readonly rewritesTail: boolean;
  readonly bytes: number | null;
  /** What the header says of the file's size; null if it says nothing. */
  readonly segmentBytes: number | null;
  readonly epoch: number | null;
  readonly predecessor: { segment: number; end: number; checksum: string } | null;
  readonly records: number | null;
  readonly entries: number | null;
  readonly sealed: string;
  readonly firstAppend: number | null;
  readonly lastAppend: number | null;
  /** Places in which no record can be read; null where a footer tells what there was: `records` looks at each. */
  readonly lost: number | null;
  /** What the newest catalog says; null if none says anything. */
  readonly stated: 'log' | 'retired' | 'no' | null;
}

const SEGMENT_COLUMNS: readonly Column<SegmentRow>[] = [
  ['SEGMENT', (row) => String(row.segment)],
  ['KIND', (row) => (row.rewritesTail ? `${row.kind}, rewrites a tail` : row.kind)],
  ['HEADER', (row) => row.header],
  [
    'BYTES',
    ({ bytes, segmentBytes: of }) => (of === null || of === bytes ? orDash(bytes) : `${bytes} of ${of}`),
  ],
  ['EPOCH', (row) => orDash(row.epoch)],
  ['BEHIND', ({ predecessor }) => (predecessor ? `${predecessor.segment} at ${predecessor.end}` : '-')],
  ['RECORDS', (row) => orDash(row.records)],
  ['ENTRIES', (row) => orDash(row.entries)],
  ['APPENDS', (row) => (row.firstAppend === null ? '-' : `${row.firstAppend} to ${row.lastAppend}`)],
  ['SEALED', (row) => row.sealed],
  ['LOST', (row) => orDash(row.lost)],
  ['STATED', (row) => orDash(row.stated)],
];

export async function dumpSegments(output: Output, log: LogToDump, complain: Complain): Promise<void> {
  const { stated, damage } = await readEndOfLog(log, log.base);
  for (const each of damage) complain(each);
  await printRows(output, SEGMENT_COLUMNS, segmentRows(log, stated), 'the log has no segments yet');
}

async function* segmentRows(log: LogToDump, stated: StatedSegments | undefined): AsyncGenerator<SegmentRow> {
  const files = new Set(log.segments);
  for (const segment of stated?.segments ?? []) files.add(segment);
  for (const segment of [...files].sort((a, b) => a - b)) {
    const summary = await summarizeSegment(log.storage, log.uuid, segment);
    const row = segmentRow(segment, summary, stated);
    // What a store in use has removed since it was listed is not missing.
    if (summary !== undefined || row.stated === 'log') yield row;
  }
}

function segmentRow(
  segment: number,
  summary: SegmentSummary | undefined,
  stated: StatedSegments | undefined,
): SegmentRow {
  const header = summary?.start.header;
  const isForeign = summary?.start.state === 'foreign';
  const isKnown = header !== undefined && !isForeign;
  return {
    segment,
    kind: summary === undefined ? 'missing' : !isKnown ? 'unknown' : isOfMoves(header) ? 'moves' : 'log',
    header: summary?.start.state ?? 'missing',
    rewritesTail: isKnown && (header.flags & SEGMENT_REWRITES_TAIL) !== 0,
    bytes: summary?.start.bytes ?? null,
    segmentBytes: header?.segmentBytes ?? null,
    epoch: header?.epoch ?? null,
    predecessor:
      header === undefined || header.predecessor === 0
        ? null
        : {
            segment: header.predecessor,
            end: header.predecessorEnd,
            checksum: hex32(header.predecessorChecksum),
          },
    records: summary?.records ?? null,
    entries: summary?.entries ?? null,
    sealed: summary?.sealed ?? 'no',
    firstAppend: summary?.firstAppend ?? null,
    lastAppend: summary?.lastAppend ?? null,
    lost: summary?.lost ?? null,
    stated: statedAs(segment, stated),
  };
}

function statedAs(segment: number, stated: StatedSegments | undefined): SegmentRow['stated'] {
  if (stated === undefined) return null;
  if (stated.segments.has(segment)) return 'log';
  return stated.retired.has(segment) ? 'retired' : 'no';
}

interface RecordRow {
  readonly offset: number;
  readonly append: number | null;
  readonly durable: number | null;
  readonly flags: readonly string[];
  readonly entries: number | null;
  readonly tableBytes: number | null;
  readonly payloadBytes: number | null;
  readonly state: string;
}

const RECORD_COLUMNS: readonly Column<RecordRow>[] = [
  ['OFFSET', (row) => String(row.offset)],
  ['APPEND', (row) => orDash(row.append)],
  ['DURABLE', (row) => orDash(row.durable)],
  ['ENTRIES', (row) => orDash(row.entries)],
  ['TABLE', (row) => orDash(row.tableBytes)],
  ['PAYLOAD', (row) => orDash(row.payloadBytes)],
  ['FLAGS', (row) => row.flags.join(',') || '-'],
  ['STATE', (row) => row.state],
];

const STATE_WORDS = {
  whole: 'whole',
  copy: 'start damaged, read from its copy',
  unchained: 'whole, not chained to the one before',
};
const PAYLOAD_WORDS = { damaged: 'payload damaged', table: 'table is none of this revision' };

export async function dumpRecords(output: Output, log: LogToDump, segment: number): Promise<void> {
  await inSegment(log, segment, async (scanner, hasHeader) => {
    await printRows(output, RECORD_COLUMNS, recordRows(scanner, hasHeader), 'no records');
  });
}

async function* recordRows(scanner: SegmentScanner, hasHeader: boolean): AsyncGenerator<RecordRow> {
  for await (const walked of walkSegment(scanner, hasHeader)) {
    if (walked.found === undefined) {
      const { offset, bytes, header } = walked;
      const reason = header === undefined ? 'nothing whole' : 'damaged, the footer knows it';
      yield { offset, ...headerFields(header), state: `${reason}, ${bytes} bytes` };
      continue;
    }
    const { header } = walked.found;
    const payload = await payloadState(scanner, walked.found);
    const words = payload === 'whole' ? [] : [PAYLOAD_WORDS[payload]];
    if (walked.state !== 'whole' || words.length === 0) words.unshift(STATE_WORDS[walked.state]);
    yield { offset: header.offset, ...headerFields(header), state: words.join('; ') };
  }
}

function headerFields(header: RecordHeader | undefined): Omit<RecordRow, 'offset' | 'state'> {
  return {
    append: header?.append ?? null,
    durable: header?.durable ?? null,
    flags: flagWords(header?.flags ?? 0),
    entries: header?.entryCount ?? null,
    tableBytes: header?.tableBytes ?? null,
    payloadBytes: header?.payloadBytes ?? null,
  };
}

function flagWords(flags: number): string[] {
  const words: string[] = [];
  if ((flags & RECORD_FOOTER) !== 0) words.push('footer');
  if ((flags & RECORD_CLOSING) !== 0) words.push('closing');
  if ((flags & RECORD_TAIL_REWRITTEN) !== 0) words.push('tail-rewritten');
  if ((flags & RECORD_COPIED) !== 0) words.push('copied');
  return words;
}

interface EntryRow {
  /** Offset of the record. */
  readonly record: number;
  readonly kind: 'chunks' | 'zeros' | 'change' | 'catalog' | 'damaged';
  readonly sequence: number | null;
  readonly label: number | null;
  readonly first: number | null;
  readonly count: number | null;
  /** Where the first chunk's bytes stand in the segment. */
  readonly offset: number | null;
  readonly checksums: readonly string[];
  readonly text: string | null;
}

const ENTRY_COLUMNS: readonly Column<EntryRow>[] = [
  ['RECORD', (row) => String(row.record)],
  ['KIND', (row) => row.kind],
  ['SEQUENCE', (row) => orDash(row.sequence)],
  ['LABEL', (row) => orDash(row.label)],
  ['FIRST', (row) => orDash(row.first)],
  ['COUNT', (row) => orDash(row.count)],
  ['OFFSET', (row) => orDash(row.offset)],
  ['CHECKSUMS OR TEXT', (row) => row.text ?? row.checksums.join(' ')],
];

/** `offset` is where the record begins; all records of the segment without. @throws NOT_FOUND */
export async function dumpEntries(
  output: Output,
  log: LogToDump,
  segment: number,
  offset: number | undefined,
): Promise<void> {
  await inSegment(log, segment, async (scanner, hasHeader) => {
    const rows = offset === undefined ? allEntries(scanner, hasHeader) : entriesAt(scanner, offset);
    await printRows(output, ENTRY_COLUMNS, rows, 'no entries');
  });
}

async function* allEntries(scanner: SegmentScanner, hasHeader: boolean): AsyncGenerator<EntryRow> {
  for await (const walked of walkSegment(scanner, hasHeader)) {
    if (walked.found !== undefined) yield* entryRows(walked.found);
    else yield damagedEntry(walked.offset, `no record can be read here, ${walked.bytes} bytes`);
  }
}

async function* entriesAt(scanner: SegmentScanner, offset: number): AsyncGenerator<EntryRow> {
  const isPlace = offset % RECORD_ALIGN_BYTES === 0;
  const record = isPlace ? ((await scanner.recordAt(offset)) ?? (await scanner.copyAt([offset]))) : undefined;
  if (record === undefined) {
    const { segment } = scanner.header;
    const advice = `\`coppice dump records --segment ${segment}\` lists those there are`;
    throw new StoreError('NOT_FOUND', `segment ${segment} has no record at ${offset}; ${advice}`);
  }
  yield* entryRows(record);
}

function* entryRows(record: ScannedRecord): Generator<EntryRow> {
  const { header } = record;
  if ((header.flags & RECORD_FOOTER) !== 0) return;
  let entries: Entry[];
  try {
    entries = entriesOf(record);
  } catch (error) {
    if (!(error instanceof StoreError)) throw error;
    yield damagedEntry(header.offset, error.message);
    return;
  }
  const none = { label: null, first: null, count: null, offset: null, checksums: [], text: null };
  for (const entry of entries) {
    const { sequence } = entry;
    const common = { record: header.offset, sequence, ...none };
    switch (entry.kind) {
      case ENTRY_CHUNKS: {
        const { label, first, count, offset } = entry;
        const checksums = Array.from(entry.checksums, hex32);
        yield { ...common, kind: 'chunks', label, first, count, offset, checksums };
        break;
      }
      case ENTRY_ZEROS:
        yield { ...common, kind: 'zeros', label: entry.label, first: entry.first, count: entry.count };
        break;
      case ENTRY_CHANGE:
        yield { ...common, kind: 'change', text: entry.text };
        break;
      case ENTRY_CATALOG:
        yield { ...common, kind: 'catalog', text: entry.text };
        break;
    }
  }
}

function damagedEntry(record: number, text: string): EntryRow {
  const none = { sequence: null, label: null, first: null, count: null, offset: null, checksums: [] };
  return { record, kind: 'damaged', ...none, text };
}

/** @throws NOT_FOUND if there is no such segment */
async function inSegment(
  { storage, uuid }: LogToDump,
  segment: number,
  work: (scanner: SegmentScanner, hasHeader: boolean) => Promise<void>,
): Promise<void> {
  const whole = await SegmentScanner.open(storage, uuid, segment);
  const scanner = whole ?? (await SegmentScanner.openAnyway(storage, uuid, segment));
  if (scanner === undefined) {
    const what = `there is no segment ${segment}; \`coppice dump segments\` lists those there are`;
    throw new StoreError('NOT_FOUND', what);
  }
  try {
    await work(scanner, whole !== undefined);
  } finally {
    await scanner.close();
  }
}
