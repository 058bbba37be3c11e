/** `coppice dump` of what the log and the index say about versions: the catalog, and where chunks live. */

import { StoreError } from '../base/errors.ts';
import { type Catalog, fullName } from '../volume/catalog.ts';
import type { Feed } from '../volume/feeds.ts';
import { openLevel } from '../volume/level-database.ts';
import { readEndOfLog } from '../volume/log-end.ts';
import { lookUpPointers, type PointerRow, type WantedPointers } from '../volume/pointer-lookup.ts';
import { type Complain, hex32, type LogToDump, orDash } from './dump-place.ts';
import type { Output } from './output.ts';
import { type Column, printRows } from './row-stream.ts';

interface VersionRow {
  readonly label: number;
  /** `hidden`: it was deleted; `merged`: it is gone, and another one has what the log holds under its label. */
  readonly kind: 'volume' | 'snapshot' | 'hidden' | 'merged';
  readonly parent: number | null;
  readonly tree: number | null;
  readonly name: string | null;
  readonly sizeBytes: number | null;
  /** Sequence of the change that made it. */
  readonly birth: number | null;
  /** Sequence of the change that hid it. */
  readonly hidden: number | null;
  /** Its pointers are still to be taken out. */
  readonly pending: boolean;
  readonly merged: { into: number; until: number } | null;
}

const VERSION_COLUMNS: readonly Column<VersionRow>[] = [
  ['LABEL', (row) => String(row.label)],
  ['PARENT', (row) => orDash(row.parent)],
  ['TREE', (row) => orDash(row.tree)],
  ['KIND', (row) => row.kind],
  ['BYTES', (row) => orDash(row.sizeBytes)],
  ['BIRTH', (row) => orDash(row.birth)],
  ['HIDDEN', (row) => orDash(row.hidden)],
  ['PENDING', (row) => (row.pending ? 'yes' : '-')],
  ['MERGED', ({ merged }) => (merged ? `into ${merged.into}, up to segment ${merged.until}` : '-')],
  ['NAME', (row) => row.name ?? '-'],
];

/** The catalog as of the end of the log. */
export async function dumpVersions(output: Output, log: LogToDump, complain: Complain): Promise<void> {
  const { catalog, damage } = await readEndOfLog(log, log.base);
  for (const each of damage) complain(each);
  await printRows(output, VERSION_COLUMNS, versionRows(catalog), 'no versions');
}

async function* versionRows(catalog: Catalog): AsyncGenerator<VersionRow> {
  const labels = [...catalog.tree.nodes()].map(({ label }) => label);
  for (const label of [...labels, ...catalog.merged.keys()].sort((a, b) => a - b)) {
    const pending = catalog.pending.has(label);
    const node = catalog.tree.get(label);
    if (node === undefined) {
      const { heir: into, until } = catalog.merged.get(label)!;
      const none = { parent: null, tree: null, name: null, sizeBytes: null, birth: null, hidden: null };
      yield { label, kind: 'merged', ...none, pending, merged: { into, until } };
      continue;
    }
    const named = catalog.at(label);
    yield {
      label,
      kind: named === undefined ? 'hidden' : 'volume' in named ? 'snapshot' : 'volume',
      parent: node.parent || null,
      tree: node.tree,
      name: named === undefined ? null : fullName(named),
      sizeBytes: named?.sizeBytes ?? null,
      birth: node.birth,
      hidden: node.hidden || null,
      pending,
      merged: null,
    };
  }
}

const FEED_COLUMNS: readonly Column<Feed>[] = [
  ['ID', ({ id }) => id],
  ['DIRECTION', ({ direction }) => direction],
  ['ADDRESS', ({ address }) => address],
  ['VOLUME', ({ volume }) => volume],
  ['THERE', ({ peerVolume }) => peerVolume],
  ['EVERY MS', ({ everyMs }) => String(everyMs)],
  ['RATE', ({ rate }) => orDash(rate)],
  ['SNAPSHOTS', ({ snapshots }) => snapshots],
  ['PAUSED', ({ isPaused }) => (isPaused ? 'yes' : '-')],
  ['LAST', ({ last }) => last?.name ?? '-'],
];

/** What is to be replicated, as of the end of the log. A push has the UUID of its volume, a pull the name. */
export async function dumpFeeds(output: Output, log: LogToDump, complain: Complain): Promise<void> {
  const { catalog, damage } = await readEndOfLog(log, log.base);
  for (const each of damage) complain(each);
  await printRows(output, FEED_COLUMNS, oneByOne(catalog.feeds.all()), 'nothing is replicated');
}

async function* oneByOne<T>(items: readonly T[]): AsyncGenerator<T> {
  yield* items;
}

const POINTER_COLUMNS: readonly Column<PointerRow>[] = [
  ['CHUNK', (row) => String(row.chunk)],
  ['KIND', (row) => row.kind],
  ['SOURCE', (row) => row.source ?? '-'],
  ['SEGMENT', (row) => orDash(row.segment ?? null)],
  ['OFFSET', (row) => orDash(row.offset ?? null)],
  ['CHECKSUM', (row) => (row.checksum === undefined ? '-' : hex32(row.checksum))],
  ['SEQUENCE', (row) => orDash(row.sequence ?? null)],
  ['LABEL', (row) => orDash(row.label ?? null)],
  ['VERSION', (row) => row.version ?? '-'],
  ['RECORD', (row) => orDash(row.place?.record ?? null)],
  ['WRITTEN AS', (row) => orDash(row.place?.writtenUnder ?? null)],
  ['MATCHES', (row) => row.damage ?? row.place?.matches ?? '-'],
];

/** @throws LOCKED while somebody has the store open, and what `lookUpPointers` throws */
export async function dumpPointers(
  output: Output,
  log: LogToDump,
  wanted: WantedPointers,
  complain: Complain,
): Promise<void> {
  if (log.owner !== undefined) {
    const what = `the index is open in ${log.owner}`;
    throw new StoreError(
      'LOCKED',
      `${what}, and only one process can read it; stop that one, then try again`,
    );
  }
  const rows = lookUpPointers(log, log.base, openLevel, wanted, complain);
  if (output.json) await printRows(output, [], tellable(rows), '');
  else await printRows(output, POINTER_COLUMNS, rows, 'no chunks');
}

/** As JSON has it: fields that have no value are there, and checksums look as everywhere else. */
async function* tellable(rows: AsyncGenerator<PointerRow>): AsyncGenerator<object> {
  for await (const row of rows) {
    yield {
      chunk: row.chunk,
      kind: row.kind,
      source: row.source ?? null,
      segment: row.segment ?? null,
      offset: row.offset ?? null,
      checksum: row.checksum === undefined ? null : hex32(row.checksum),
      sequence: row.sequence ?? null,
      label: row.label ?? null,
      version: row.version ?? null,
      record: row.place?.record ?? null,
      writtenUnder: row.place?.writtenUnder ?? null,
      matches: row.damage ?? row.place?.matches ?? null,
    };
  }
}
