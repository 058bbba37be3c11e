/**
 * What a damaged store is to be: the catalog that all changes that are left have made, and an index of all that is left,
 * pointers into lost places among it. The store is only read; the index is made or put right beside it.
 */

import type { CheckEnvironment } from '../volume/check.ts';
import { ENTRY_CATALOG, ENTRY_CHANGE, type Entry } from '../log/entries.ts';
import { CATALOG_FIRST, CATALOG_LAST } from '../log/entries.ts';
import { entriesOf, type ScannedRecord } from '../log/scan.ts';
import type { LogBase, Superblock } from '../log/superblock.ts';
import { LogTail } from '../log/tail.ts';
import { hasCode } from '../base/errors.ts';
import { Overlay } from '../index/overlay.ts';
import { Catalog } from '../volume/catalog.ts';
import { CheckedReplay } from '../volume/checked-replay.ts';
import type { EndOfLog } from '../volume/log-end.ts';
import { readRemains, type Remains } from '../volume/read-only-recovery.ts';
import { Replay } from '../volume/replay.ts';
import type { LogPlace } from '../volume/whole-log.ts';

/** Findings of a reading of what is left that say that something older may be read, and nobody knows where. */
const UNCERTAIN = new Set(['OLD_DATA_POSSIBLE', 'VERSION_LOST']);

export interface WantedState {
  readonly remains: Remains;
  /** What cannot be known, a sentence each. */
  readonly uncertain: readonly string[];
}

/**
 * `environment` has the store's files, to be read, and an index that may be written. `trustsIndex`: false if the index is
 * known not to be what the log says. @throws CORRUPTION if nobody can say which versions there were, IO, NO_SPACE
 */
export async function readWantedState(
  environment: CheckEnvironment,
  superblock: Pick<Superblock, 'base' | 'appends'>,
  trustsIndex: boolean,
): Promise<WantedState> {
  const end = await endByChanges(environment, superblock.base);
  const remains = await readRemains(environment, superblock, { end, withoutIndex: !trustsIndex });
  const uncertain = remains.findings.filter(({ code }) => UNCERTAIN.has(code)).map(({ message }) => message);
  return { remains, uncertain };
}

/**
 * The catalog as changes have made it, from the base of the log on: where changes are lost the next catalog has what they made, and
 * elsewhere a catalog that is not what they made is not believed. undefined if no catalog can be read there.
 */
async function endByChanges(place: LogPlace, base: LogBase | undefined): Promise<EndOfLog | undefined> {
  const tail = new LogTail(place.storage, place.uuid, base?.append ?? 0, { passesGaps: true });
  const overlays = { active: new Overlay(), frozen: undefined };
  const replay = new Replay(overlays, base === undefined ? new Catalog() : undefined);
  let hasGap = false;
  const checked = new CheckedReplay(replay, () => hasGap || tail.damage.length > 0);
  let begun: LogBase | undefined;
  let newest: LogBase | undefined;
  for await (const record of tail.records(base)) {
    const { segment, offset, append } = record.header;
    const texts = textsOf(record);
    hasGap ||= texts === undefined;
    for (const { flags } of texts?.filter(({ kind }) => kind === ENTRY_CATALOG) ?? []) {
      if ((flags & CATALOG_FIRST) !== 0) begun = { segment, offset, append };
      if ((flags & CATALOG_LAST) !== 0) newest = begun;
    }
    checked.apply({ header: record.header, isKept: false }, texts ?? []);
  }
  const { catalog, newest: stated } = replay;
  if (catalog === undefined || (newest === undefined && tail.damage.length > 0)) return undefined;
  return { catalog, stated, newest, damage: checked.findings.map(({ message }) => message) };
}

type Text = Extract<Entry, { text: string }>;

/** Changes and catalogs of a record; undefined if its table cannot be read. */
function textsOf(record: ScannedRecord): Text[] | undefined {
  try {
    return entriesOf(record).filter(
      (entry): entry is Text => entry.kind === ENTRY_CHANGE || entry.kind === ENTRY_CATALOG,
    );
  } catch (error) {
    if (!hasCode(error, 'CORRUPTION')) throw error;
    return undefined;
  }
}
